# SPDX-License-Identifier: MIT
"""A PKI for tests: a root, an intermediate per location, and leaves with any names, uses and times, hostile ones too.

Certificates are put together here byte by byte, so that nothing stands between a test and a wrong certificate; keys and
signatures come from the openssl program.

    pki = Pki(tmp_path)                       # root.crt, and the folder
    a = pki.location("a")                     # an intermediate CA
    leaf = a.leaf("semstreams-a.local")       # files leaf.cert (with the intermediate) and leaf.key (0600), as paths
    a.leaf("b.local", sans=[], uses=[CLIENT], days=(-10, -3))    # a client's, expired three days ago
    a.leaf(b"good\\0.evil"), a.leaf(None, subject=[("O", "x/CN=good")]), a.leaf(["one", "two"])
"""

import base64
import datetime
import ipaddress
import os
import subprocess
from pathlib import Path

SERVER, CLIENT, CODE_SIGNING, ANY = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.3", "2.5.29.37.0"
DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, CERT_SIGN, CRL_SIGN = 0x80, 0x20, 0x04, 0x02
OIDS = {"CN": "2.5.4.3", "O": "2.5.4.10", "OU": "2.5.4.11", "C": "2.5.4.6", "UID": "0.9.2342.19200300.100.1.1"}


# ---- DER

def tlv(tag, *parts):
    body = b"".join(parts)
    n = len(body)
    if n < 0x80:
        return bytes([tag, n]) + body
    size = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def sequence(*parts):
    return tlv(0x30, *parts)


def integer(n):
    return tlv(0x02, n.to_bytes(n.bit_length() // 8 + 1, "big"))


def oid(text):
    numbers = [int(x) for x in text.split(".")]
    out = bytearray()
    for n in [numbers[0] * 40 + numbers[1]] + numbers[2:]:
        part = [n & 0x7f]
        while n := n >> 7:
            part.append(0x80 | n & 0x7f)
        out += bytes(reversed(part))
    return tlv(0x06, bytes(out))


def utc(when):
    if when.year < 2050:
        return tlv(0x17, when.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, when.strftime("%Y%m%d%H%M%SZ").encode())


def raw(text):
    return text if isinstance(text, bytes) else text.encode()


def name(pairs):
    """A distinguished name of (short name or OID, value[, string tag]) in order."""
    return sequence(*(tlv(0x31, sequence(oid(OIDS.get(pair[0], pair[0])),
                                         tlv(pair[2] if len(pair) > 2 else 0x0c, raw(pair[1])))) for pair in pairs))


def general_name(san):
    """A dNSName, or an iPAddress if it is text that looks like one."""
    if isinstance(san, bytes):
        return tlv(0x82, san)
    try:
        return tlv(0x87, ipaddress.ip_address(san).packed)
    except ValueError:
        return tlv(0x82, san.encode())


def extension(which, value, critical=False):
    return sequence(oid(which), tlv(0x01, b"\xff") if critical else b"", tlv(0x04, value))


# ---- openssl

def openssl(*args, data=None):
    return subprocess.run(["openssl", *map(str, args)], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=True).stdout


SIGNATURE = sequence(oid("1.2.840.10045.4.3.2"))  # ecdsa-with-SHA256


class Key:
    """A P-256 key, or another openssl can make, in a file of mode 0600."""

    def __init__(self, path, *algorithm):
        self.path = Path(path)
        pem = openssl("genpkey", *(algorithm or ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")))
        with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
            f.write(pem)
        self.spki = openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER")

    def sign(self, data):
        return openssl("dgst", "-sha256", "-sign", self.path, data=data)


def pem(der):
    return openssl("x509", "-inform", "DER", data=der)


def crl_pem(der):
    return b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(der) + b"-----END X509 CRL-----\n"


# ---- certificates

class Issued:
    """A certificate: .der, .serial; with files .cert (the chain without the root) and .key."""

    def __init__(self, der, key, chain, cert, serial):
        self.der, self.chain, self.cert, self.key, self.serial = der, chain, Path(cert), key.path, serial
        self.cert.write_bytes(b"".join(map(pem, chain)))

    def settings(self, **more):
        """For "security.tls.server" or "client"."""
        return {"cert_file": str(self.cert), "key_file": str(self.key), **more}


class Authority:
    serial = 1000

    def __init__(self, pki, cn, issuer=None, days=(-1, 365), path_length=None, usage=None):
        self.pki, self.issuer, self.n = pki, issuer or self, 0
        self.subject = name([("O", "SemStreams"), ("CN", cn)])
        file = cn.lower().replace(" ", "-")
        self.key = Key(pki.folder / f"{file}-key.pem")
        self.der = self.issuer.certify(self.subject, self.key.spki, days, ca=True, path_length=path_length, usage=usage)
        self.serial = Authority.serial
        self.crt = pki.folder / f"{file}.crt"
        self.crt.write_bytes(pem(self.der))

    def certify(self, subject, spki, days, ca=False, path_length=None, usage=None, uses=(), sans=(), extra=()):
        """DER of a certificate signed by this CA; days = (from, to), from now, fractions allowed."""
        Authority.serial += 1
        now = datetime.datetime.now(datetime.timezone.utc)
        start, end = (now + datetime.timedelta(days=d) for d in days)
        if usage is None:
            usage = CERT_SIGN | CRL_SIGN if ca else DIGITAL_SIGNATURE
        extensions = list(extra)
        if ca is not None:
            basic = (tlv(0x01, b"\xff") + (b"" if path_length is None else integer(path_length))) if ca else b""
            extensions.append(extension("2.5.29.19", sequence(basic), critical=True))
        if usage:
            unused = (usage & -usage).bit_length() - 1
            extensions.append(extension("2.5.29.15", tlv(0x03, bytes([unused, usage])), critical=True))
        if uses:
            extensions.append(extension("2.5.29.37", sequence(*map(oid, uses))))
        if sans:
            extensions.append(extension("2.5.29.17", sequence(*map(general_name, sans))))
        body = sequence(tlv(0xa0, integer(2)), integer(Authority.serial), SIGNATURE, self.subject,
                        sequence(utc(start), utc(end)), subject, spki,
                        tlv(0xa3, sequence(*extensions)) if extensions else b"")
        return sequence(body, SIGNATURE, tlv(0x03, b"\0", self.key.sign(body)))

    def leaf(self, cn, subject=(), sans=None, uses=(SERVER, CLIENT), days=(-1, 1), usage=None, ca=False, key=None,
             file=None, extra=()):
        """A leaf.  cn: text or bytes, a list of several, or None for none; sans: dNSNames and addresses, by default the
        CNs; ca=True makes a CA's certificate, None leaves basic constraints out."""
        cns = [] if cn is None else cn if isinstance(cn, list) else [cn]
        self.n += 1
        file = self.pki.folder / (file or f"{self.crt.stem}-leaf-{self.n}")
        key = key or Key(f"{file}.key")
        whole = name(list(subject) + [("CN", c) for c in cns])
        der = self.certify(whole, key.spki, days, ca=ca, usage=usage, uses=uses, sans=cns if sans is None else sans,
                           extra=extra)
        serial, chain, issuer = Authority.serial, [der], self
        while issuer.issuer is not issuer:
            chain.append(issuer.der)
            issuer = issuer.issuer
        return Issued(der, key, chain, f"{file}.crt", serial)

    def crl(self, *revoked, days=(-1, 1), number=1, extra=(), entry_extra=(), key=None):
        """DER of a revocation list of this CA; revoked are certificates or serials."""
        now = datetime.datetime.now(datetime.timezone.utc)
        start, end = (now + datetime.timedelta(days=d) for d in days)
        inside = sequence(*(extension(*e) for e in entry_extra)) if entry_extra else b""
        entries = [sequence(integer(r if isinstance(r, int) else r.serial), utc(start), inside) for r in revoked]
        extensions = [extension("2.5.29.20", integer(number)), *(extension(*e) for e in extra)]
        body = sequence(integer(1), SIGNATURE, self.subject, utc(start), utc(end),
                        sequence(*entries) if entries else b"", tlv(0xa0, sequence(*extensions)))
        return sequence(body, SIGNATURE, tlv(0x03, b"\0", (key or self.key).sign(body)))


class Pki:
    def __init__(self, folder, cn="SemStreams Federation Root CA"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.root = Authority(self, cn, days=(-1, 3650))

    @property
    def ca_file(self):
        return str(self.root.crt)

    def location(self, letter, **options):
        """The intermediate CA of a location."""
        return Authority(self, f"Location {letter.upper()} Intermediate CA", issuer=self.root, **options)

    def hostile(self, authority, good):
        """Certificates of authority that must not pass for good, by what is wrong with them."""
        return {
            "nul_in_cn": authority.leaf(raw(good) + b"\0.evil", sans=[]),
            "nul_in_san": authority.leaf(None, sans=[raw(good) + b"\0.evil"]),
            "cn_in_organization": authority.leaf(None, subject=[("O", f"x/CN={good}")], sans=[]),
            "cn_in_unit": authority.leaf("evil", subject=[("OU", good)], sans=[]),
            "cn_comma": authority.leaf(f"evil,CN={good}", sans=[]),
            "cn_prefix": authority.leaf(good[:-1], sans=[]),
            "cn_longer": authority.leaf(good + "x", sans=[]),
            "cn_wildcard": authority.leaf("*", sans=["*." + good.partition(".")[2]]),
            "none": authority.leaf(None, sans=[]),
            "uid": authority.leaf(None, subject=[("UID", good)], sans=[]),
            "address": authority.leaf("evil", sans=["127.0.0.1"]),
        }
