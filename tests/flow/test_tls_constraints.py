# SPDX-License-Identifier: MIT
"""A CA that may certify some names only cannot make another location's identity: chains made by the openssl program."""

import signal
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


def test_names_are_read_again_at_sighup(serve, federation):  # noqa: F811
    server = serve()
    b, c = (context(federation, federation.leaves[name]) for name in "bc")
    assert upgrade(server.port, b).startswith("HTTP/1.1 101")
    file = server.program.folder / "config.json"
    text = file.read_text()
    assert text.count(f'"{CNS["b"]}"') == 1
    file.write_text(text.replace(f'"{CNS["b"]}"', '"somebody-else.local"'))
    server.program.process.send_signal(signal.SIGHUP)
    server.program.wait_log("INFO Reloaded allowed_client_cns without downtime role=server names=2")
    server.assert_refused(b, "name", f"client certificate CN '{CNS['b']}' not in allowed list")
    assert upgrade(server.port, c).startswith("HTTP/1.1 101")
    file.write_text(text.replace("allowed_client_cns", "allowed_client_names"))
    server.program.process.send_signal(signal.SIGHUP)
    server.program.wait_log("ERROR Changed configuration cannot be used, keeping the old one .*"
                            "did you mean ..allowed_client_cns")
    server.assert_refused(b, "name", f"client certificate CN '{CNS['b']}' not in allowed list")
    file.write_text(text)
    server.program.process.send_signal(signal.SIGHUP)
    server.program.wait_for(lambda: server.program.log().count("Reloaded allowed_client_cns") == 2, what="names reloaded")
    assert upgrade(server.port, b).startswith("HTTP/1.1 101")
