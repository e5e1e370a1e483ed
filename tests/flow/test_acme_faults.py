# SPDX-License-Identifier: MIT
"""Every request to a CA x everything that can go wrong with it.

Between "semstreams cert issue" and Pebble stands a proxy that does the harm.  Whatever it is, the command ends in time, with
a bounded number of requests, without a word that makes no sense, and with nothing half in storage_path; what heals is
got over, and when all is well again, the next try gets its certificate.
"""

import concurrent.futures
import contextlib
import datetime
import email.utils
import functools
import itertools
import json
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from acmelib import Cas, pki, stored  # noqa: F401
from ca_proxy import (CaProxy, body, cut_short, document, endless, field, problem, reset_after, reset_before,
                      silent, status, trickle)
from conftest import PATIENCE
from pki import Key, pem
from pki import name as dn

pytestmark = pytest.mark.xdist_group("acme_faults")  # outcomes are found once

ORDER_TIMEOUT = 10  # seconds, the least that can be configured
DEADLINE = ORDER_TIMEOUT + 10
OTHERS_DEADLINE = 70  # of errands without an order: two requests of 30 s
BUDGET = 60  # requests of one try
AT_ONCE = 16  # cells that run beside each other
ISSUE = ["directory", "newNonce", "newAccount", "newOrder", "authz", "challenge", "finalize", "order", "certificate"]
SIGNED = ISSUE[2:]
OK, FAILS, EITHER = "ok", "fails", "either"
ERRORS = ("failed to connect to ACME server", "account registration failed", "challenge failed", "challenge validation failed",
          "failed to obtain certificate from ACME server", "certificate signed by unknown authority",
          "the new certificate expired")


@pytest.fixture(scope="module")
def pebble(tmp_path_factory, pki):
    """One for all cells; each has an address, so that they do not take each other's port for challenges."""
    with contextlib.ExitStack() as stack:
        folder = tmp_path_factory.mktemp("pebble")
        made = Cas(folder, pki, stack)
        server = made.pebble()
        server.proxy_leaf = made.https("localhost")
        yield server


numbers = itertools.count(2)


class Cell:
    """A client of its own: storage_path, name, address, proxy unless it is not proxied."""

    def __init__(self, semstreams, pebble, folder, label, proxied=True):
        n = next(numbers)
        self.semstreams, self.label, self.name = semstreams, label, f"host-{n}.local"
        self.folder = Path(tempfile.mkdtemp(prefix=re.sub(r"\W+", "-", label), dir=folder))
        self.storage = self.folder / "acme"
        address = f"127.1.{n // 250}.{n % 250 + 1}"
        pebble.know(self.name, address)
        self.proxy = proxied and CaProxy(pebble.proxy_leaf, pebble.roots, ("127.0.0.1", pebble.port), pebble.path)
        options = {"enabled": True, "directory_url": (self.proxy or pebble).url, "email": "admin@example.com", "domains": [self.name],
                   "storage_path": str(self.storage), "ca_bundle": str(pebble.roots), "challenge_address": address,
                   "challenge_port": pebble.http_port, "order_timeout": f"{ORDER_TIMEOUT}s"}
        (self.folder / "config.json").write_text(json.dumps({
            "components": [{"id": "udp", "type": "udp_input", "config": {"port": 0}}], "admin": {"listen": "off"},
            "security": {"tls": {"server": {"enabled": True, "mode": "acme", "acme": options}}}}))

    def run(self, *args):
        """One command; (exit status, what it said, seconds)."""
        began = time.monotonic()
        done = subprocess.run([self.semstreams, "cert", *args, "--config", self.folder / "config.json"], cwd=self.folder,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="backslashreplace", timeout=OTHERS_DEADLINE + PATIENCE)
        return done.returncode, done.stdout, time.monotonic() - began

    def certificate(self):
        return stored(self.storage) if self.storage.exists() else None

    def close(self):
        self.proxy.close()


def try_cell(cell, kind, fault, expected, times=None, verb="issue", prepare=None):
    """One cell; the complaints about it."""
    bad = []
    try:
        if prepare:
            prepare(cell)
        since = len(cell.proxy.seen())
        before = cell.certificate()
        cell.proxy.harm(kind, fault, times=times)
        code, said, took = cell.run(verb)
        requests = cell.proxy.seen()[since:]
        if code < 0 or code > 78:
            bad.append(f"ended with {code}")
        if expected == OK and code != 0:
            bad.append("failed")
        if expected == FAILS and code == 0:
            bad.append("did not fail")
        if code != 0 and not (" ERROR " in said and (verb != "issue" or any(words in said for words in ERRORS))):
            bad.append("does not say why")
        if took > (DEADLINE if verb == "issue" else OTHERS_DEADLINE):
            bad.append(f"took {took:.1f} s")
        if len(requests) > BUDGET:
            bad.append(f"made {len(requests)} requests")
        if re.search(r"AddressSanitizer|runtime error:|[^\x09\x0a\x20-\x7e]", said):
            bad.append("said what it should not")
        after = cell.certificate()
        if code == 0 and verb == "issue" and not after:
            bad.append("left no certificate")
        if code != 0 and before and after and after.serial != before.serial and verb == "issue":
            bad.append("took what it complained about")
        cell.proxy.heal()
        if code != 0:
            again, told, _ = cell.run(verb)
            if again != 0:
                bad.append(f"does not recover: {told}")
        return [f"{cell.label}: {what}\n{said}" for what in bad]
    except Exception as error:  # a complaint like others
        return [f"{cell.label}: {error!r}"]


def pebble_is_well(semstreams, pebble, folder):
    """Does a client without a proxy get a certificate, and did no lockup come to light?  Afterwards it is a new one."""
    cell = Cell(semstreams, pebble, folder, "control", proxied=False)
    lockups = len(pebble.lockups)
    code, _, _ = cell.run("issue")
    pebble.stop()
    pebble.start()
    return code == 0 and len(pebble.lockups) == lockups


def run_beside(semstreams, pebble, folder, jobs):
    """Run these functions beside each other, as most of them wait; the complaints that each returns.  The first complaint is
    a reason to look at Pebble: what complained of one that was not well is run again with a new one, up to three times."""
    complaints, chances = [None] * len(jobs), 3
    while left := [n for n, found in enumerate(complaints) if found is None]:
        complained = threading.Event()

        def run(n):
            if not complained.is_set():
                complaints[n] = jobs[n]()
                if complaints[n]:
                    complained.set()

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(run, left))
        if complained.is_set() and not pebble_is_well(semstreams, pebble, folder) and chances:
            chances -= 1
            complaints = [None if found and n in left else found for n, found in enumerate(complaints)]
    return complaints


def run_cells(semstreams, pebble, folder, cells):
    """Cells, as (label, kind, fault, expected, times, verb); the complaints about each."""

    def one(label, kind, fault, expected, times, verb):
        made = Cell(semstreams, pebble, folder, label)
        try:
            return try_cell(made, kind, fault, expected, times, verb, have_one if verb != "issue" else None)
        finally:
            made.close()

    return run_beside(semstreams, pebble, folder, [functools.partial(one, *cell) for cell in cells])


def have_one(cell):
    code, said, _ = cell.run("issue")
    assert code == 0, said


@pytest.fixture(scope="module")
def outcomes(request, semstreams, pebble, tmp_path_factory):
    """{(test, what): complaints} of all tests that were chosen; they run at once, which saves most of the time."""
    chosen = [(item.originalname, item.callspec.params["what"]) for item in request.session.items
              if item.originalname in GROUPS and item.module is request.module]
    cells = [((test, what), (f"{test}-{what}-{n}", *cell)) for test, what in reversed(chosen)  # the slowest come first
             for n, cell in enumerate(cells_of(test, what))]
    found = run_cells(semstreams, pebble, tmp_path_factory.mktemp("cells"), [cell for _, cell in cells])
    sorted_out = {key: [] for key in chosen}
    for (key, cell), complaints in zip(cells, found):
        sorted_out[key] += [f"{cell[1]}: {complaint}" for complaint in complaints]
    return sorted_out


# ---- what any request may meet -----------------------------------------------------------------------------


def http_date(seconds):
    return email.utils.format_datetime(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds),
                                       usegmt=True)


WITH_BODY = [kind for kind in ISSUE if kind != "newNonce"]  # the body of that does not count

COMMON = {
    # what heals by itself within one try
    "bad nonce, three times": (SIGNED, problem("badNonce"), OK, 3),
    "bad nonce without a new one": (SIGNED, problem("badNonce", nonce=False), OK, 1),
    # what does not
    "bad nonce for ever": (SIGNED, problem("badNonce"), FAILS, None),
    "500 in HTML": (ISSUE, status(500), FAILS, None),
    "500 once": (ISSUE, status(500), EITHER, 1),
    "404": (ISSUE, status(404), FAILS, None),
    "server internal": (SIGNED, problem("serverInternal", 500), FAILS, None),
    "unauthorized": (SIGNED, problem("unauthorized", 403), FAILS, None),
    "malformed": (SIGNED, problem("malformed"), FAILS, None),
    "a type nobody knows": (SIGNED, problem("neverHeardOf", 418), FAILS, None),
    "detail full of control characters": (SIGNED, problem("unauthorized", 403, "a\x00b\x1b[31m\nFAKE \u202e" + "x" * 100000), FAILS, None),
    "200 with nonsense": (WITH_BODY, status(200, b"OK", "text/plain"), FAILS, None),
    "204": (WITH_BODY, status(204, b""), FAILS, None),
    "truncated body": (WITH_BODY, body(lambda b: b[:len(b) // 2] or b"{"), FAILS, None),
    "body of deep arrays": (WITH_BODY, body(lambda b: b"[" * 100000), FAILS, None),
    "JSON of other types": (WITH_BODY, body(lambda b: b'{"newNonce":1,"status":[],"authorizations":{},"challenges":"x",'
                                                   b'"identifier":7,"finalize":null,"certificate":true}'), FAILS, None),
    "body without end": (["directory", "authz", "certificate"], endless(100 << 20), FAILS, None),
    "one byte a second": (ISSUE, trickle, FAILS, None),
    "no answer": (ISSUE, silent, FAILS, None),
    "reset before, once": (ISSUE, reset_before, EITHER, 1),
    "reset after, once": (ISSUE, reset_after, EITHER, 1),
    "reset before": (ISSUE, reset_before, FAILS, None),
    "reset after": (ISSUE, reset_after, EITHER, None),
    "cut short": (WITH_BODY, cut_short, EITHER, None),
    "redirect to http": (ISSUE, status(302, location="http://localhost:1/x"), FAILS, None),
    "redirect to another host": (ISSUE, status(307, location="https://192.0.2.1/x"), FAILS, None),
    "redirect to itself": (ISSUE, status(301, location="/dir"), FAILS, None),
    "date of yesterday": (ISSUE, field("Date", http_date(-86400)), OK, None),
    "date that is none": (ISSUE, field("Date", "soon"), OK, None),
    "nonce of strange characters": (SIGNED, field("Replay-Nonce", "a b;c"), EITHER, 1),
    "nonce much too long": (SIGNED, field("Replay-Nonce", "n" * 100000), EITHER, 1),
    "no nonce": (SIGNED, field("Replay-Nonce", None), OK, None),
}


@pytest.mark.parametrize("what", COMMON)
def test_any_request(outcomes, what):
    complaints = outcomes["test_any_request", what]
    assert not complaints, "\n".join(complaints)


RETRY_AFTER = {"seconds": "2", "date": None, "negative": "-5", "huge": "1" + "0" * 20, "garbage": "soon"}


@pytest.mark.parametrize("what", RETRY_AFTER)
@pytest.mark.parametrize("code", [429, 503])
def test_retry_after(semstreams, pebble, tmp_path, what, code):
    """Nobody is asked again before Retry-After says so, whatever it says; nonsense counts as nothing."""

    def fault(x):
        value = RETRY_AFTER[what] or http_date(3)  # whole seconds: two of them at least
        (problem("rateLimited", 429, retry_after=value) if code == 429 else status(503, retry_after=value))(x)

    def one(kind):
        cell = Cell(semstreams, pebble, tmp_path, f"{what}-{kind}")
        try:
            cell.proxy.harm(kind, fault, times=1)
            code, said, took = cell.run("issue")
            asked = cell.proxy.seen(kind)
            bad = []
            if took > DEADLINE or code not in (0, 1, 69, 75):
                bad.append(f"ended with {code} after {took:.1f} s")
            if what in ("seconds", "date", "huge") and len(asked) > 1:
                gap, least = asked[1].time - asked[0].answered, {"seconds": 2, "date": 1.9, "huge": DEADLINE}[what]
                if gap < least:
                    bad.append(f"asked again after {gap:.2f} s")
            cell.certificate()
            return [f"{kind}: {b}\n{said}" for b in bad]
        finally:
            cell.close()

    jobs = [functools.partial(one, kind) for kind in (ISSUE if code == 503 else SIGNED)]
    complaints = [c for found in run_beside(semstreams, pebble, tmp_path, jobs) for c in found]
    assert not complaints, "\n".join(complaints)


# ---- what only some requests can meet ----------------------------------------------------------------------


def links_to(url):
    """Every link of a document leads elsewhere."""

    def change(d):
        for key, value in d.items():
            if isinstance(value, str) and value.startswith("https://"):
                d[key] = url
            elif key == "authorizations":
                d[key] = [url for _ in value]
            elif key == "challenges":
                for challenge in value:
                    challenge["url"] = url
        return d

    return document(change)


def set_status(word):
    return document(lambda d: {**d, "status": word})


def tokens(token):
    def change(d):
        for challenge in d.get("challenges", []):
            challenge["token"] = token
        return d

    return document(change)


def first_challenges(d):
    d["challenges"] = [{"type": "dns-01", "url": d["challenges"][0]["url"], "status": "pending", "token": "a"},
                       {"type": "x-tomorrow-99", "url": d["challenges"][0]["url"], "status": "pending"},
                       *d["challenges"]]
    return d


def only(*types):
    return document(lambda d: {**d, "challenges": [c for c in d["challenges"] if c["type"] in types]})


SPECIAL = {
    "links to another host": (["directory", "newOrder", "authz", "order"], links_to("https://192.0.2.1/x"), FAILS, None),
    "links to this machine": (["directory", "newOrder", "authz", "order"], links_to("https://127.0.0.1:1/x"), FAILS, None),
    "links by http": (["directory", "newOrder", "authz", "order"], links_to("http://localhost/x"), FAILS, None),
    "links that are none": (["directory", "newOrder", "authz"], links_to("https://"), FAILS, None),
    "no newOrder": (["directory"], document(lambda d: d.pop("newOrder") and d), FAILS, None),
    "no keyChange": (["directory"], document(lambda d: d.pop("keyChange") and d), OK, None),
    "terms of service": (["directory"], document(lambda d: {**d, "meta": {"termsOfService": "https://example.com/t"}}), OK, None),
    "meta is no object": (["directory"], document(lambda d: {**d, "meta": [1]}), EITHER, None),
    "no Location": (["newAccount", "newOrder"], field("Location", None), FAILS, None),
    "Location elsewhere": (["newAccount", "newOrder"], field("Location", "https://192.0.2.1/x"), FAILS, None),
    "no authorizations": (["newOrder"], document(lambda d: {**d, "authorizations": []}), FAILS, None),
    "a thousand authorizations": (["newOrder"], document(lambda d: {**d, "authorizations": d["authorizations"] * 1000}), EITHER, None),
    "the same one twice": (["newOrder"], document(lambda d: {**d, "authorizations": d["authorizations"] * 2}), OK, None),
    "names of somebody else": (["newOrder"], document(lambda d: {**d, "identifiers": [{"type": "dns", "value": "other.local"}]}),
                               EITHER, None),
    "order invalid": (["newOrder", "order"], set_status("invalid"), FAILS, None),
    "order valid at once, without a certificate": (["newOrder"], set_status("valid"), FAILS, None),
    "order of unknown status": (["newOrder", "order", "finalize"], set_status("perhaps"), FAILS, None),
    "order processing for ever": (["order"], set_status("processing"), FAILS, None),
    "order processing, says finalize": (["finalize"], set_status("processing"), OK, None),
    "authorization invalid": (["authz"], set_status("invalid"), FAILS, None),
    "authorization expired": (["authz"], set_status("expired"), FAILS, None),
    "authorization of unknown status": (["authz"], set_status("perhaps"), FAILS, None),
    "authorization pending for ever": (["authz"], set_status("pending"), FAILS, None),
    "unknown challenges first": (["authz"], document(first_challenges), OK, None),
    "a challenge of no type": (["authz"], document(lambda d: {**d, "challenges": [{"type": 5}, *d["challenges"]]}), EITHER, None),
    "only challenges we have not": (["authz"], only("dns-01"), FAILS, None),
    "no challenges": (["authz"], only(), FAILS, None),
    "token with a path": (["authz"], tokens("../../../etc/passwd"), FAILS, None),
    "token with a line's end": (["authz"], tokens("a\r\nX: y"), FAILS, None),
    "token much too long": (["authz"], tokens("a" * 100000), FAILS, None),
    "empty token": (["authz"], tokens(""), FAILS, None),
    "challenge invalid": (["challenge"], document(lambda d: {**d, "status": "invalid", "error": {
        "type": "urn:ietf:params:acme:error:connection", "detail": "Connection refused"}}), EITHER, None),
    "chain with a NUL": (["certificate"], body(lambda b: b[:100] + b"\0" + b[100:]), FAILS, None),
    "chain and a private key": (["certificate"], body(
        lambda b: b + b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), FAILS, None),
    "chain with text around": (["certificate"], body(lambda b: b"Subject: x\n" + b + b"\ntext\n"), EITHER, None),
    "chain the wrong way round": (["certificate"], body(lambda b: b"".join(reversed(
        re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", b, re.S)))), EITHER, None),
    "leaf alone": (["certificate"], body(lambda b: re.match(rb".*?-----END CERTIFICATE-----\n", b, re.S)[0]), EITHER, None),
    "empty chain": (["certificate"], body(lambda b: b""), FAILS, None),
    "a thousand certificates": (["certificate"], body(lambda b: b * 1000), FAILS, None),
    "chain as JSON": (["certificate"], body(lambda b: b'{"certificate": "x"}', "application/json"), FAILS, None),
}


@pytest.mark.parametrize("what", SPECIAL)
def test_some_requests(outcomes, what):
    complaints = outcomes["test_some_requests", what]
    assert not complaints, "\n".join(complaints)


# ---- certificates that are not what was asked for ----------------------------------------------------------


def test_other_certificates(semstreams, pebble, tmp_path, pki):
    """The proxy plays CA: another key's, other names', expired ones, a CA's; what is not valid yet waits for its time."""
    location = pki.location("evil")
    def issued(**options):
        def fault(x):
            reply = x.forward()
            shown = subprocess.run(["openssl", "x509", "-noout", "-ext", "subjectAltName"], input=reply.body, check=True,
                                   stdout=subprocess.PIPE).stdout.decode()
            name = re.search(r"DNS:(\S+)", shown)[1]
            spki = subprocess.run(["openssl", "x509", "-noout", "-pubkey"], input=reply.body, check=True,
                                  stdout=subprocess.PIPE).stdout
            der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=spki, check=True,
                                 stdout=subprocess.PIPE).stdout
            leaf = location.certify(dn([("CN", options.get("name", name))]), options.get("spki", der),
                                    options.get("days", (-1, 1)), ca=options.get("ca", False),
                                    sans=options.get("sans", [options.get("name", name)]))
            reply.body = pem(leaf) + pem(location.der)
            x.send(reply)

        return fault

    other = Key(tmp_path / "other.key")
    wanted = {"key of another": ({"spki": other.spki}, FAILS), "name of another": ({"name": "other.local"}, FAILS),
              "one name too many": ({"sans": ["a.local", "b.local"]}, FAILS), "without names": ({"sans": []}, FAILS),
              "expired": ({"days": (-3, -1)}, FAILS), "good": ({}, OK)}
    found = run_cells(semstreams, pebble, tmp_path, [(what, "certificate", issued(**options), expected, None, "issue")
                                                     for what, (options, expected) in wanted.items()])
    complaints = [c for one in found for c in one]
    assert not complaints, "\n".join(complaints)


# ---- other errands -----------------------------------------------------------------------------------------


OTHERS = {
    "500": (status(500), FAILS, None),
    "bad nonce, three times": (problem("badNonce"), OK, 3),
    "bad nonce for ever": (problem("badNonce"), FAILS, None),
    "malformed": (problem("malformed"), FAILS, None),
    "reset before": (reset_before, FAILS, None),
    "reset after": (reset_after, EITHER, None),
    "no answer": (silent, FAILS, None),
    "nonsense": (status(404, b"OK"), FAILS, None),
}


ERRANDS = {"rollover": "keyChange", "revoke": "revokeCert"}


@pytest.mark.parametrize("what", [f"{verb}: {what}" for verb in ERRANDS for what in OTHERS])
def test_other_errands(outcomes, what):
    """A roll-over leaves an account that works, whether the CA has done it or not."""
    complaints = outcomes["test_other_errands", what]
    assert not complaints, "\n".join(complaints)


GROUPS = {"test_any_request": COMMON, "test_some_requests": SPECIAL, "test_other_errands": OTHERS}


def cells_of(test, what):
    """(kind, fault, expected, times, verb) of all cells of a test."""
    if test == "test_other_errands":
        verb, name = what.split(": ", 1)
        return [(ERRANDS[verb], *OTHERS[name], verb)]
    kinds, *rest = GROUPS[test][what]
    return [(kind, *rest, "issue") for kind in kinds]
