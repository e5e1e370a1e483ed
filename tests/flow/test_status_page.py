# SPDX-License-Identifier: MIT
"""The status page in Chromium: what it draws is what /metrics says, it changes by itself, and everybody can read it.

Pictures are kept in the folder of the test, and copied to $TEST_PICTURES where that is set.
"""

import json
import re
import signal
import socket
import ssl
import urllib.request

import pytest

from acmelib import acme, cas, hub, pki  # noqa: F401
from browserlib import page
from conftest import TREE
from flowlib import (at_rest, balance, free_disk, generate, half, pipeline, queue, stop_disk, storage, tools, udp,
                     udp_port)
from lab.ports import unused_port
from pki import Pki

FIXTURES = (generate, page, tools, cas)  # used by name
FILES = TREE / "core" / "admin" / "page"
STATES = "Number(document.body.dataset.states)"


def open_page(page, program, **how):
    page.visit(f"http://{program.admin}/", **how)
    page.wait(f"{STATES} >= 1")
    return page


def cells(page, table):
    """{first cell: {head: value}}: what a cell shows, or the number it stands for."""
    return json.loads(page.js(f"""JSON.stringify((() => {{
        const table = document.getElementById("{table}"), heads = [...table.tHead.rows[0].cells].map(c => c.textContent);
        return Object.fromEntries([...table.tBodies[0].rows].map(r => [r.cells[0].textContent,
            Object.fromEntries([...r.cells].map((c, i) => [heads[i],
                c.dataset.value === undefined ? c.textContent : Number(c.dataset.value)]))]));
    }})())"""))


def assert_quiet(page, program):
    """No error on the console, and no request elsewhere."""
    assert page.complaints == []
    assert page.requests
    for url in page.requests:
        assert url.startswith(f"http://{program.admin}/"), url


def test_size_and_headers(start):
    assert sum(file.stat().st_size for file in FILES.iterdir() if file.suffix != ".inc") < 60 << 10
    for file in FILES.iterdir():
        if file.suffix != ".inc":
            text = file.read_text()
            text.encode("ascii")
            assert not re.search(r"https?://(?!www\.w3\.org/)", text), file
    program = start(pipeline(udp(), storage()))
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript"), ("/icon.svg", "image/svg+xml")):
        with urllib.request.urlopen(f"http://{program.admin}{path}") as answer:
            assert answer.headers["Content-Type"].startswith(kind)
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            file = "index.html" if path == "/" else path[1:]
            assert answer.read() == (FILES / file).read_bytes()


def test_numbers_are_those_of_metrics(start, page, generate, tmp_path):
    config = pipeline(udp(), half() | {"inputs": [queue("drop_oldest", events=2)]}, storage(),
                      storage("rest", inputs=["half.rest"]))
    program = start(config)
    open_page(page, program)
    generate(udp_port(program), 4000)
    metrics = at_rest(program, 4000)
    balance(metrics, config)
    page.wait("""document.querySelector('#component-udp td[data-label="Out"]').dataset.value === "4000" &&
        [...document.querySelectorAll('#component-table td[data-label="Held"]')].every(c => c.dataset.value === "0")""")
    shown = cells(page, "component-table")
    assert list(shown) == ["udp", "half", "file", "rest"]
    for name, row in shown.items():
        books = metrics.books(name)
        assert {key: row[key.capitalize()] for key in ("in", "out", "filtered", "dropped", "held")} == {
            key: books[key] for key in ("in", "out", "filtered", "dropped", "held")}
    assert shown["half"]["Why dropped"] == ("queue_full " + f"{shown['half']['Dropped']:,}" if shown["half"]["Dropped"] else "")
    queues = cells(page, "queue-table")
    assert list(queues) == ["udp \u2192 half", "half.match \u2192 file", "half.rest \u2192 rest"]
    for name, row in queues.items():
        source, to = re.fullmatch(r"(\w+)\S* \u2192 (\w+)", name).groups()
        assert row["of"] == metrics.sum("semstreams_queue_capacity_events", **{"from": source, "to": to})
        assert row["Events"] == 0
    assert cells(page, "storage-table")["file"]["Written"] == metrics.sum("semstreams_storage_written_bytes_total", component="file")
    # the graph: each component once, each queue once, from left to right
    assert page.js("document.querySelectorAll('#graph .node').length") == 4
    assert page.js("document.querySelectorAll('#graph .edge').length") == 3
    labels = page.js("[...document.querySelectorAll('#graph .node')].map(n => n.getAttribute('aria-label'))")
    for name, label in zip(shown, labels):
        dropped = shown[name]["Dropped"]
        assert label.startswith(f"{name}, ") and (f"{dropped:,} dropped" in label) == bool(dropped), label
    x = page.js("[...document.querySelectorAll('#graph .node')].map(n => n.getBoundingClientRect().left)")
    assert x[0] < x[1] < x[2] == x[3]
    assert_quiet(page, program)


def test_who_holds_up_whom(start, page, generate, tmp_path):
    config = pipeline(udp(worker="a"), half(worker="b") | {"inputs": [queue(events=64)]},
                      storage(worker="c") | {"inputs": [queue(source="half", events=64)]})
    program = start(config)
    open_page(page, program)
    generate(udp_port(program), 10)
    program.wait_metric("semstreams_events_out_total", 1, component="file")
    assert page.js("document.getElementById('waits').hidden")
    stop_disk(program, program.folder / "file.jsonl")
    sent = 10
    try:
        while page.js("document.getElementById('waits').hidden") or page.js("document.getElementById('troubles').hidden"):
            generate(udp_port(program), 200, sent)
            sent += 200
        page.wait("document.getElementById('waits').textContent.match(/half,? (which )?waits for file: /)")
        assert page.js("document.getElementById('health').textContent") == "Not ready"
        assert page.js("document.querySelectorAll('#graph .edge.waits').length") >= 1
        assert page.js("document.querySelectorAll('#graph .node.broken').length") == 1
        page.picture(tmp_path / "status-trouble.png")
    finally:
        free_disk(program)
    page.wait("document.getElementById('waits').hidden && document.getElementById('health').textContent === 'Ready'")
    assert_quiet(page, program)


def link(kind, port, **more):
    return {"id": kind, "type": f"websocket_{kind}", "config": more | (
        {"port": port, "path": "/e", "bind": "127.0.0.1"} if kind == "output" else {"url": f"ws://127.0.0.1:{port}/e", "consumer": "hub"})}


def test_a_cut_link_appears_live(start, page, generate, tmp_path):
    port = unused_port(socket.SOCK_STREAM)
    edge = start(pipeline(udp(), link("output", port)))
    (tmp_path / "hub").mkdir()
    other = start(pipeline(link("input", port), storage()), folder=tmp_path / "hub")
    open_page(page, edge)
    row = "document.querySelector('#link-table tbody tr')"
    page.wait(f"{row}.cells[2].textContent === 'up' && {row}.cells[1].textContent === 'hub'")
    generate(udp_port(edge), 100)
    page.wait(f"{row}.cells[5].dataset.value === '0' && {row}.cells[6].dataset.value === '0'")
    other.signal(signal.SIGKILL)
    other.wait()
    page.wait(f"{row}.cells[2].textContent === 'away'")
    generate(udp_port(edge), 50, 100)
    page.wait(f"Number({row}.cells[5].dataset.value) >= 50")
    assert page.js(f"{row}.cells[7].textContent")
    assert_quiet(page, edge)


def test_a_renewal_appears_live(start, page, cas, command, tmp_path, tcp_port):  # noqa: F811
    pebble = cas.pebble()
    program = start(hub(acme(pebble, tmp_path / "acme"), tcp_port))
    open_page(page, program)
    item = "document.querySelector('#certificate-list li')"
    page.wait(f"{item}.textContent.includes('CN=semstreams-a.local') && {item}.textContent.includes('next renewal 2')")
    generation = int(page.js(f"{item}.dataset.generation"))
    before = ssl.get_server_certificate(("127.0.0.1", tcp_port))
    assert page.js(f"{item}.textContent.includes('acme by ACME')")
    page.picture(tmp_path / "status-certificate.png")
    done = command("cert", "-c", program.config_file, "renew", "--force")
    assert done.returncode == 0, done.stderr
    page.wait(f"Number({item}.dataset.generation) > {generation}")
    assert ssl.get_server_certificate(("127.0.0.1", tcp_port)) != before
    document = json.loads(program.get("/api/v1/certificates")[1])["certificates"][0]
    assert page.js(f"{item}.textContent.includes('valid {document['not_before']} to {document['not_after']}')")
    pebble.stop()
    done = command("cert", "-c", program.config_file, "renew", "--force")
    assert done.returncode != 0
    assert_quiet(page, program)


def test_a_certificate_that_has_expired(start, page, tmp_path):
    leaf = Pki(tmp_path / "pki").location("a").leaf("edge-7", sans=["edge-7"], days=(-3, -1))
    tls = {"server": {"enabled": True, "cert_file": str(leaf.cert), "key_file": str(leaf.key)}}
    program = start(pipeline(udp(), link("output", 0), security={"tls": tls}))
    open_page(page, program)
    item = "document.querySelector('#certificate-list li')"
    text = page.wait(f"{item}.textContent")
    assert "server: CN=edge-7 expired 1d" in text and "nobody renews it but you" in text
    assert re.search(r"certificate '?edge-7'? expired \d{4}-", page.js(f"{item}.lastChild.textContent"))
    # its whole life lies behind the mark of now
    bars = page.js(f"[...{item}.querySelectorAll('rect')].map(r => [r.getAttribute('class'), Number(r.getAttribute('width'))])")
    widths = dict(map(tuple, bars))
    assert widths["past"] > 600 and widths["late"] == 0 and widths["renewal"] == 0
    assert page.js("document.title").startswith("Not ready")
    page.picture(tmp_path / "status-expired.png")
    assert_quiet(page, program)


# ---- everybody can read it

CONTRAST = r"""JSON.stringify((() => {
  const parse = text => { const n = text.match(/[\d.]+/g).map(Number); return n.length > 3 && n[3] === 0 ? null : n; };
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const box = e.matches("g, a") && e.querySelector(":scope > rect.box");
      const color = parse(box ? getComputedStyle(box).fill : getComputedStyle(e).backgroundColor);
      if (color && !(e instanceof SVGElement && !box))
        return color;
    }
    return [255, 255, 255];
  };
  const seen = {};
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length || e.localName === "title")
      continue;
    const style = getComputedStyle(e), front = parse(e instanceof SVGElement ? style.fill : style.color), back = behind(e);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    const what = `${e.localName}.${e.getAttribute("class") || ""}`;
    if (!(seen[what] <= ratio))
      seen[what] = ratio;
  }
  return seen;
})())"""


def trouble(config):
    """The same with something of every colour: a full disk is not needed, a peer that is not there will do."""
    port = unused_port(socket.SOCK_STREAM)
    config["components"] += [link("input", port), storage("far")]
    return config


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast(start, page, generate, tmp_path, dark):
    program = start(trouble(pipeline(udp(), half() | {"inputs": [queue("drop_oldest", events=2)]}, storage())))
    generate(udp_port(program), 3000)
    open_page(page, program, dark=dark)
    page.wait("document.querySelectorAll('#log .warn').length > 0 && document.querySelectorAll('#link-table tbody tr').length > 0")
    ratios = json.loads(page.js(CONTRAST))
    assert len(ratios) > 15 and "text.id" in ratios and "span.warn" in ratios
    low = {what: ratio for what, ratio in ratios.items() if ratio < 4.5}
    assert not low
    back = page.js("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(13, 17, 23)") == dark
    page.picture(tmp_path / f"status-{'dark' if dark else 'light'}.png")
    assert_quiet(page, program)


def test_picture_of_the_readme(start, page, send, tmp_path):
    """docs/img/status.png is a copy of this one: an edge that watches, sums up, keeps and sends."""
    port = unused_port(socket.SOCK_STREAM)
    (tmp_path / "hub").mkdir()
    start({"components": [link("input", port) | {"id": "from-edge"}, storage("hub")]}, folder=tmp_path / "hub")
    program = start({"components": [
        udp("sensors"),
        {"id": "hot", "type": "filter", "config": {"where": {"field": "value", "op": "gt", "value": 20}}},
        {"id": "seconds", "type": "aggregate", "config": {
            "window": {"type": "tumbling", "size": "1s"}, "functions": {"n": "count", "mean": "mean(value)"}}},
        storage("archive", inputs=["sensors"]),
        link("output", port) | {"id": "to-hub", "inputs": ["hot", "seconds"]}]})
    page.visit(f"http://{program.admin}/", width=1280, height=760)
    page.wait(f"{STATES} >= 1")
    program.wait_metric("semstreams_link_up", 1, component="to-hub")
    readings = [b'{"sensor": "t%d", "value": %d}' % (n % 7, n) for n in range(100)]
    while not page.js("""["to-hub", "archive"].every(id => Number(
            document.querySelector(`#component-${id} td[data-label="In"]`)?.dataset.value) > 3000)"""):
        send(udp_port(program, "sensors"), *readings)
    assert page.js("document.getElementById('health').textContent") == "Ready"
    page.picture(tmp_path / "status.png", whole=False)
    assert_quiet(page, program)


def many():
    """100 components: 20 ways of five, some of which meet."""
    components = []
    for i in range(20):
        components += [udp(f"in{i}"), half(f"odd{i}"), half(f"again{i}") | {"inputs": [f"odd{i}.match"]},
                       storage(f"file{i}", inputs=[f"again{i}.match", f"again{(i + 1) % 20}.rest"]),
                       storage(f"rest{i}", inputs=[f"odd{i}.rest"])]
    return {"components": components}


def test_a_hundred_components(start, page, tmp_path):
    program = start(many())
    open_page(page, program)
    assert page.js("document.querySelectorAll('#graph .node').length") == 100
    assert len(cells(page, "component-table")) == 100
    # no two of them lie on each other
    boxes = page.js("""[...document.querySelectorAll('#graph rect.box')].map(n => {
        const b = n.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; })""")
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    spent = page.js("""(() => {
        const t = performance.now(), s = past[past.length - 1];
        for (let i = 0; i < 10; i++)
            showState({...s, monotonic_seconds: s.monotonic_seconds + i + 1});
        return (performance.now() - t) / 10; })()""")
    assert spent < 500, f"{spent} ms to show a state"
    page.picture(tmp_path / "status-100.png")
    assert_quiet(page, program)


def test_on_a_phone(start, page, generate, tmp_path):
    program = start(trouble(pipeline(udp(), half(), storage())))
    generate(udp_port(program), 300)
    open_page(page, program, width=390, height=844)
    page.wait("document.querySelectorAll('#link-table tbody tr').length > 0")
    # nothing but the graph is wider than the screen
    assert page.js("document.documentElement.scrollWidth") <= 390
    assert page.js("""[...document.querySelectorAll('main td, main th, main li')].filter(e => e.getClientRects().length &&
        !e.closest('thead')).every(e => e.getBoundingClientRect().right <= 391)""")
    y = page.js("[...document.querySelectorAll('#graph .node')].slice(0, 3).map(n => n.getBoundingClientRect().top)")
    assert y[0] < y[1] < y[2]
    page.picture(tmp_path / "status-phone.png")
    assert_quiet(page, program)


def test_keyboard_and_screen_reader(start, page):
    program = start(trouble(pipeline(udp(), half(), storage())))
    open_page(page, program)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {(n["role"]["value"], n["name"]["value"]) for n in nodes if not n["ignored"] and n.get("name", {}).get("value")}
    roles = {role for role, _ in named}
    assert {"heading", "link", "table", "columnheader", "rowheader", "status", "log"} <= roles | {
        n["role"]["value"] for n in nodes if not n["ignored"]}
    assert ("link", "Skip to the components") in named
    assert any(role == "link" and name.startswith("udp, udp_input: ") for role, name in named)
    assert any(role == "table" and name == "Events of each component" for role, name in named)
    # by Tab: the way to the components, the graph, each of its nodes; Enter on one leads to its row
    seen = []
    for _ in range(4):
        for kind in ("keyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        seen.append(page.js("document.activeElement.getAttribute('href') || document.activeElement.id"))
    assert seen[:2] == ["#components", "graph"] and seen[2] == "#component-udp"
    outline = page.js("getComputedStyle(document.activeElement.querySelector('rect')).strokeWidth")
    assert outline == "4px"
    # a state that comes keeps the focus
    states = page.js(STATES)
    page.wait(f"{STATES} > {states} + 1")
    assert page.js("document.activeElement.getAttribute('href')") == "#component-half"
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    page.wait("location.hash === '#component-half'")
    assert_quiet(page, program)


def test_names_are_never_markup(start, page):
    """What peers say of themselves stays text."""
    program = start(pipeline(udp(), storage()))
    open_page(page, program)
    page.js("""showState({...past[past.length - 1], monotonic_seconds: 1e9, host: "<img src=x onerror=alert(1)>",
        links: {peers: [{component: "<b>x</b>", role: "sender", state: "up", name: "<script>alert(1)</script>", verified: false, address: null,
        since: null, stream: null, lag: 0, unacknowledged: 0, rate: 0, last_error: "<i>"}], total: 1, next: null, unanswered: []}}) || 1""")
    assert page.js("document.querySelectorAll('main b, main i, main img, main script').length") == 0
    assert page.js("document.getElementById('host').textContent") == "<img src=x onerror=alert(1)>"


def test_it_comes_back(start, page, tmp_path):
    """When the host is started anew, the page goes on by itself."""
    port = unused_port(socket.SOCK_STREAM)
    config = pipeline(udp(), storage(), admin={"listen": f"127.0.0.1:{port}"})
    program = start(config)
    open_page(page, program)
    assert program.terminate() == 0
    page.wait("document.getElementById('live').textContent.startsWith('Connection lost')")
    states = page.js(STATES)
    start(config)
    page.wait(f"{STATES} > {states} && document.getElementById('live').textContent === 'Live'")
    page.wait("[...document.querySelectorAll('#log li')].filter(l => l.textContent.includes('Pipeline running')).length === 2")
