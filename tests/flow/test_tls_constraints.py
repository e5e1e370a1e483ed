# SPDX-License-Identifier: MIT
"""A CA that may certify some names only cannot make another location's identity: chains made by the openssl program."""

import subprocess
from types import SimpleNamespace

import pytest

from test_link_tls import CNS, context, federation, serve, upgrade  # noqa: F401 (fixtures)


class OpenSSL:
    """Certificates below the root of a federation, by openssl's own commands."""

    def __init__(self, folder, pki):
        self.folder, self.root = folder, SimpleNamespace(cert=pki.root.crt, key=pki.root.key.path)

    def certificate(self, name, subject, issuer, *extensions):
        cert, key, request = (self.folder / f"{name}.{end}" for end in ("crt", "key", "csr"))
        (self.folder / f"{name}.ext").write_text("\n".join(extensions) + "\n")
        for args in (["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject,
                      "-keyout", key, "-out", request],
                     ["x509", "-req", "-in", request, "-CA", issuer.cert, "-CAkey", issuer.key, "-days", "1",
                      "-set_serial", str(hash(name) & 0xffffff), "-extfile", self.folder / f"{name}.ext", "-out", cert]):
            subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)
        return SimpleNamespace(cert=cert, key=key)

    def authority(self, name, constraints):
        return self.certificate(name, "/O=SemStreams/CN=Location C CA", self.root, "basicConstraints=critical,CA:true",
                                "keyUsage=critical,keyCertSign,cRLSign", *constraints)

    def leaf(self, name, issuer, subject, *extensions):
        leaf = self.certificate(name, subject, issuer, "basicConstraints=critical,CA:false",
                                "keyUsage=critical,digitalSignature", "extendedKeyUsage=clientAuth", *extensions)
        leaf.cert.write_text(leaf.cert.read_text() + issuer.cert.read_text())
        return leaf


B = CNS["b"]
PERMITTED = ["nameConstraints=critical,permitted;DNS:loc-c.example"]
EXCLUDED = [f"nameConstraints=critical,excluded;DNS:{B}"]
CASES = {
    "CN beside an allowed DNS name": (PERMITTED, f"/CN={B}", ["subjectAltName=DNS:x.loc-c.example"],
                                      "does not count, as it is not among the DNS names"),
    "CN alone": (PERMITTED, f"/CN={B}", [], "name constraints of CA 'Location C CA' do not allow|certificate .* verify"),
    "second CN": (PERMITTED, f"/CN=x.loc-c.example/CN={B}", [], "do not allow the name|certificate .* verify"),
    "DNS name": (PERMITTED, "/CN=x", [f"subjectAltName=DNS:{B}"], "do not allow the name|certificate .* verify"),
    "excluded CN": (EXCLUDED, f"/CN={B}", [], "do not allow the name|certificate .* verify"),
    "excluded CN in capitals": (EXCLUDED, f"/CN={B.upper()}", [], "do not allow the name|certificate .* verify"),
    "excluded CN that is one of several": (EXCLUDED, f"/CN=free text/CN={B}", [], "do not allow the name|certificate .* verify"),
    "unconstrained, but CN not among its DNS names": ([], f"/CN={B}", ["subjectAltName=DNS:other.local"],
                                                      "does not count, as it is not among the DNS names"),
}


@pytest.mark.parametrize("what", CASES)
def test_name_a_ca_may_not_certify(serve, federation, tmp_path, what):  # noqa: F811
    constraints, subject, extensions, why = CASES[what]
    server = serve()
    made = OpenSSL(tmp_path, federation.pki)
    leaf = made.leaf("leaf", made.authority("ca", constraints), subject, *extensions)
    with pytest.raises(Exception):
        upgrade(server.port, context(federation, leaf))
    server.program.wait_log(why)
    assert server.count("name") + server.count("other") == server.total() == 1
    assert server.program.metrics().sum("semstreams_ws_connected_total") == 0


def test_names_a_ca_may_certify(serve, federation, tmp_path):  # noqa: F811
    server = serve()
    made = OpenSSL(tmp_path, federation.pki)
    wide = made.authority("wide", [f"nameConstraints=critical,permitted;DNS:local,excluded;DNS:{CNS['c']}"])
    for name, subject, extensions in (("cn", f"/CN={B}", []), ("san", "/CN=x", [f"subjectAltName=DNS:other.local,DNS:{B}"]),
                                      ("both", f"/CN={B}", [f"subjectAltName=DNS:{B},DNS:other.local"])):
        leaf = made.leaf(name, wide, subject, *extensions)
        assert upgrade(server.port, context(federation, leaf)).startswith("HTTP/1.1 101"), name
    assert server.total() == 0
