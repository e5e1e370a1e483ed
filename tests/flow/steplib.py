# SPDX-License-Identifier: MIT
"""step-ca with a provisioner of one-time tokens, what makes these tokens, and what stands between a client and it."""

import base64
import json
import secrets
import socket
import threading
import time

from acmelib import until
from lab.servers import StepCa
from pki import Key


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Provisioner:
    """A key that step-ca knows as a provisioner of type JWK; it signs tokens."""

    def __init__(self, folder, name="devices"):
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.kid, self.key = name, secrets.token_hex(8), Key(folder / f"{name}.key")

    def jwk(self):
        point = self.key.spki[-64:]
        return {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": base64url(point[:32]),
                "y": base64url(point[32:])}

    def token(self, ca, *names, path="/1.0/sign", **claims):
        """For these names, the first the subject; claims replace those that are usual."""
        now = int(time.time())
        payload = {"iss": self.name, "aud": f"{ca.origin}{path}", "sub": names[0], "sans": list(names), "iat": now, "nbf": now,
                   "exp": now + 600, "jti": secrets.token_hex(16), **claims}
        text = ".".join(base64url(json.dumps(part).encode())
                        for part in ({"alg": "ES256", "kid": self.kid, "typ": "JWT"}, payload))
        signature, numbers = self.key.sign(text.encode()), b""
        at = 2  # behind the head of the SEQUENCE: two INTEGERs, with a 0 in front or shorter than 32 bytes
        for _ in range(2):
            length = signature[at + 1]
            numbers += signature[at + 2:at + 2 + length].lstrip(b"\0").rjust(32, b"\0")
            at += 2 + length
        return f"{text}.{base64url(numbers)}"


class TokenCa(StepCa):
    """A StepCa with a provisioner of tokens; life: of what it issues for them."""

    def __init__(self, *args, provisioner, life="24h", **options):
        self.provisioner, self.life = provisioner, life
        super().__init__(*args, **options)

    def configure(self, crt, key):
        super().configure(crt, key)
        file = self.folder / "ca.json"
        settings = json.loads(file.read_text())
        settings["authority"]["provisioners"].append({
            "type": "JWK", "name": self.provisioner.name, "key": self.provisioner.jwk(),
            "claims": {"defaultTLSCertDuration": self.life}})
        file.write_text(json.dumps(settings, indent=2))

    def token(self, *names, **claims):
        return self.provisioner.token(self, *names, **claims)

    def answers(self, path):
        """How often it has answered requests for this path, by its log."""
        return self.log.read_text(errors="backslashreplace").count(f"path={path} ")


class Gap:
    """Passes connections on to a CA at bytes' level; kill(when) has a function called once, "before" a request reaches the
    CA or "after" it has answered, and then passes on nothing more."""

    def __init__(self, ca):
        self.ca, self._fault = ca, None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def kill(self, when, path, function):
        self._fault = (when, path, self.ca.answers(path), function)

    def _serve(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(near,), daemon=True).start()

    def _connection(self, near):
        fault, self._fault = self._fault, None
        with near, socket.create_connection(("127.0.0.1", self.ca.port)) as far:
            asked = threading.Event()  # the request is on its way, or what stands before it
            back = threading.Thread(target=self._back, args=(near, far, fault, asked), daemon=True)
            back.start()
            flights = 0
            try:
                while data := near.recv(65536):
                    flights += 1
                    if fault and fault[0] == "before" and flights == 2:  # behind the client's hello
                        fault[3]()
                        break
                    far.sendall(data)
                    if flights == 2:
                        asked.set()
            except OSError:
                pass
            for end in (far, near):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            back.join()

    def _back(self, near, far, fault, asked):
        try:
            while data := far.recv(65536):
                if fault and fault[0] == "after" and asked.is_set():
                    # what comes first may not be the answer yet, and the log comes behind that
                    until(lambda: self.ca.answers(fault[1]) > fault[2], "the CA's answer")
                    fault[3]()
                    return
                near.sendall(data)
        except OSError:
            pass

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
