# SPDX-License-Identifier: MIT
"""Options that a reload changes while a component runs: what is open stays open, and the new value counts at once."""

import json
import os
import socket

import pytest

from conftest import assert_conserved, shared_library, unused_port
from flowlib import Sender, at_rest, event, generate, open_files, pipeline, seqs, sockets, storage, tools, udp, udp_port  # noqa: F401
from test_reload import reload
from wslib import PATH, TEXT, RawPeer, frame


IP_RECVTTL = 12  # linux/in.h


def in_place(program, config, n):
    """Reload: one component changes in place, and the others, of n in all, stay as they are."""
    assert reload(program, config) == (n - 1, 1, 0, 0, 0), program.log()


# ---- links ------------------------------------------------------------------------------------------------------

OUTPUT = {"max_clients": 5, "max_handshakes": 7, "max_address_handshakes": 3, "handshake_timeout": "60s", "ping_interval": "1s",
          "dead_after": "30s", "close_timeout": "5s", "retry_min": "10ms", "retry_max": "20ms", "retry_stable": "1s",
          "down_after": "10s", "allowed_origins": ["https://hub.example"], "buffer": "32MiB", "max_rate": "100MiB",
          "burst": "20MiB", "rate_group": "line", "priority": 3, "max_consumers": 2, "backlog": "2MiB", "gather": "0s"}
INPUT = {**{name: value for name, value in OUTPUT.items() if name in list(OUTPUT)[:12]}, "window_records": 1000,
         "window_bytes": "256KiB", "max_senders": 3, "memory": "32MiB", "max_streams": 2, "trust_origin": ["relay.example"]}


class Pair:
    """Two programs with a link between them: a sender and a receiver, of which one listens."""

    def __init__(self, start, folder, output_listens):
        self.port = unused_port(socket.SOCK_STREAM)
        self.ends = [{"port": self.port, "bind": "127.0.0.1", "path": PATH}, {"url": f"ws://127.0.0.1:{self.port}{PATH}"}]
        if not output_listens:
            self.ends.reverse()
        folders = [folder / name for name in ("sender", "receiver")]
        for one in folders:
            one.mkdir()
        self.sender = start(self.sending(), folder=folders[0])
        self.receiver = start(self.receiving(), folder=folders[1])
        self.file = folders[1] / "file.jsonl"
        self.receiver.wait_metric("semstreams_link_up", 1)
        self.sent = 0
        self.connections = self.rows()

    def sending(self, **options):
        return pipeline(udp(), {"id": "out", "type": "websocket_output", "config": {**self.ends[0], **options}})

    def receiving(self, **options):
        return pipeline({"id": "in", "type": "websocket_input", "config": {**self.ends[1], **options}}, storage())

    def rows(self):
        """Which connections there are, and since when."""
        rows = [json.loads(p.get("/peers")[1])["peers"] for p in (self.sender, self.receiver)]
        return [[(r["component"], r["state"], r["since"], r["address"]) for r in row] for row in rows]

    def send(self, generate, n=500):
        generate(udp_port(self.sender), n, self.sent)
        self.sent += n
        at_rest(self.sender, self.sent)
        self.receiver.wait_metric("semstreams_events_out_total", self.arrived(), component="file")

    def arrived(self):
        return self.sender.metrics().books("udp")["out"]

    def assert_same_link(self):
        """The connection is the one there was at the beginning, and no other was made meanwhile."""
        assert self.rows() == self.connections
        for program in (self.sender, self.receiver):
            assert program.log().count("Link up") == 1
            assert program.metrics().sum("semstreams_ws_connected_total") == 1

    def end(self):
        assert self.sender.terminate() == 0 and self.receiver.terminate() == 0
        numbers = seqs(self.file)
        assert len(numbers) == len(set(numbers))
        return numbers


@pytest.mark.parametrize("output_listens", [True, False], ids=["output_listens", "input_listens"])
def test_a_link_stays_whatever_changes_in_place(start, generate, tmp_path, output_listens):
    """Each option that is marked live, one after the other, at both ends, with events on their way."""
    pair = Pair(start, tmp_path, output_listens)
    changed = {}
    for name, value in OUTPUT.items():
        changed[name] = value
        generate(udp_port(pair.sender), 100, pair.sent)
        pair.sent += 100
        in_place(pair.sender, pair.sending(**changed), 2)
    pair.assert_same_link()
    changed = {}
    for name, value in INPUT.items():
        changed[name] = value
        generate(udp_port(pair.sender), 100, pair.sent)
        pair.sent += 100
        in_place(pair.receiver, pair.receiving(**changed), 2)
    pair.send(generate)
    in_place(pair.receiver, pair.receiving(), 2)
    in_place(pair.sender, pair.sending(), 2)
    pair.send(generate)
    pair.assert_same_link()
    arrived = pair.arrived()
    # what cannot change in place is replaced, together with what could
    assert reload(pair.sender, pair.sending(max_message="2MiB", max_clients=5)) == (1, 0, 1, 0, 0)
    assert len(pair.end()) == arrived


def test_a_window_shrinks_and_grows(start, generate, tmp_path):
    """Far less than what comes at once, down to a record at a time: the link goes on, and is not started anew."""
    pair = Pair(start, tmp_path, True)
    for options in ({"window_records": 64, "window_bytes": "64KiB"}, {"memory": "256KiB", "max_senders": 1}, {}):
        in_place(pair.receiver, pair.receiving(**options), 2)
        for _ in range(3):
            pair.send(generate, 1000)
    pair.assert_same_link()
    arrived = pair.arrived()
    assert len(pair.end()) == arrived


def test_a_window_that_is_too_small_for_an_event(start, tmp_path):
    """The sender was told that it may send one so long, and the window is smaller now: it goes through by itself."""
    ports = [unused_port(socket.SOCK_STREAM) for _ in range(2)]

    def receiving(**options):
        return pipeline({"id": "in", "type": "websocket_input", "config": {"url": f"ws://127.0.0.1:{ports[1]}{PATH}", **options}}, storage())
    folders = [tmp_path / name for name in ("sender", "receiver")]
    for folder in folders:
        folder.mkdir()
    sender = start(pipeline(*({"id": kind, "type": f"websocket_{kind}", "config": {"port": port, "bind": "127.0.0.1", "path": PATH}}
                              for kind, port in zip(("input", "output"), ports))), folder=folders[0])
    receiver = start(receiving(), folder=folders[1])
    receiver.wait_metric("semstreams_link_up", 1)
    in_place(receiver, receiving(window_bytes="64KiB"), 2)
    with RawPeer(ports[0]).upgrade() as peer:
        for n in (150000, 10, 200000, 10):
            peer.send(frame(TEXT, b"x" * n))
        receiver.wait_metric("semstreams_events_out_total", 4, component="file")
        in_place(receiver, receiving(memory="256KiB", max_senders=1), 2)
        for n in (200000, 10, 200000):
            peer.send(frame(TEXT, b"x" * n))
        receiver.wait_metric("semstreams_events_out_total", 7, component="file")
    assert receiver.log().count("Link up") == 1
    assert sender.terminate() == receiver.terminate() == 0


def test_a_rate_changes_for_events_that_wait(start, generate, tmp_path):
    """At a byte a second they would wait for days."""
    pair = Pair(start, tmp_path, True)
    in_place(pair.sender, pair.sending(max_rate=1, burst=1000), 2)
    generate(udp_port(pair.sender), 1000)
    pair.sender.wait_metric("semstreams_link_rate_waits_total", 1)
    pair.sender.wait_for(lambda: pair.arrived() > 500, what="events read")
    assert pair.receiver.metrics().sum("semstreams_events_out_total", component="file") < 100
    in_place(pair.sender, pair.sending(max_rate="1MiB", rate_group="line"), 2)
    at_rest(pair.sender, 1000)
    in_place(pair.sender, pair.sending(), 2)
    arrived = pair.arrived()
    pair.receiver.wait_metric("semstreams_events_out_total", arrived, component="file")
    pair.assert_same_link()
    assert len(pair.end()) == arrived


def test_a_rate_group_has_one_bucket(start, generate, tmp_path):
    """Of two outputs one changes in place and one is replaced: what the one has used up, the other has not got."""
    ports = [unused_port(socket.SOCK_STREAM) for _ in range(2)]

    def sending(burst, **second):
        components = []
        for i, port in enumerate(ports):
            components += [udp(f"udp{i}"), {"id": f"out{i}", "type": "websocket_output", "config": {
                "port": port, "bind": "127.0.0.1", "path": PATH, "max_rate": 1, "burst": burst, "rate_group": "line",
                **(second if i else {})}}]
        return pipeline(*components)

    folders = [tmp_path / name for name in ("sender", "receiver")]
    for folder in folders:
        folder.mkdir()
    sender = start(sending(1), folder=folders[0])
    receiver = start(pipeline(*({"id": f"in{i}", "type": "websocket_input", "inputs": [], "config": {
        "url": f"ws://127.0.0.1:{port}{PATH}", "retry_min": "10ms", "retry_max": "100ms"}} for i, port in enumerate(ports)),
        storage(inputs=["in0", "in1"])), folder=folders[1])
    receiver.wait_metric("semstreams_link_up", 2)
    assert reload(sender, sending(50000, max_message="2MiB")) == (2, 1, 1, 0, 0)
    sender.wait_metric("semstreams_link_up", 2)
    for i in range(2):
        generate(udp_port(sender, f"udp{i}"), 2000)
        m = sender.wait_metric("semstreams_link_rate_waits_total", 1, component=f"out{i}")
    assert m.sum("semstreams_ws_sent_bytes_total", component="out0") > 25000
    assert m.sum("semstreams_ws_sent_bytes_total", component="out1") == 0
    waits = [m.sum("semstreams_link_rate_waits_total", component=f"out{i}") for i in range(2)]
    assert reload(sender, sending(50001, max_message="2MiB")) == (2, 2, 0, 0, 0)
    for i in range(2):  # asked again, and what was used up still is
        m = sender.wait_metric("semstreams_link_rate_waits_total", waits[i] + 1, component=f"out{i}")
    assert m.sum("semstreams_ws_sent_bytes_total", component="out1") == 0


# ---- who may connect --------------------------------------------------------------------------------------------


def hub(port, **options):
    return pipeline(udp(), {"id": "out", "type": "websocket_output", "config": {
        "port": port, "bind": "127.0.0.1", "path": PATH, **options}})


def answer(port, **headers):
    """The status of a request to upgrade, and the peer if it was let in."""
    peer = RawPeer(port)
    peer.request(**headers)
    status = int(peer.head().split()[1])
    if status != 101:
        peer.socket.close()
    return status, peer


def test_max_clients_changes(start, send, tcp_port):
    """More are let in at once; with fewer those who are there stay, and nobody else comes in."""
    program = start(hub(tcp_port, max_clients=1, max_handshakes=2, plain=True))
    peers = [RawPeer(tcp_port).upgrade()]
    assert answer(tcp_port)[0] == 503
    in_place(program, hub(tcp_port, max_clients=300, max_handshakes=2, plain=True), 2)
    peers += [RawPeer(tcp_port).upgrade() for _ in range(299)]
    assert answer(tcp_port)[0] == 503
    in_place(program, hub(tcp_port, max_clients=1, max_handshakes=2, plain=True), 2)
    assert answer(tcp_port)[0] == 503
    send(udp_port(program), "x")
    assert {peer.message()[1] for peer in peers} == {b"x"}
    assert program.metrics().sum("semstreams_ws_connections") == 300
    assert program.terminate() == 0
    for peer in peers:
        peer.socket.close()


def test_a_page_that_is_no_longer_allowed_is_cut_off(start, send, tcp_port):
    good, other = "https://good.example", "https://other.example"
    program = start(hub(tcp_port, allowed_origins=[good]))
    with RawPeer(tcp_port).upgrade() as program_peer, RawPeer(tcp_port).upgrade(Origin=good) as page:
        assert answer(tcp_port, Origin=other)[0] == 403
        in_place(program, hub(tcp_port, allowed_origins=[good, other]), 2)
        with RawPeer(tcp_port).upgrade(Origin=other) as second:
            in_place(program, hub(tcp_port, allowed_origins=[other]), 2)
            assert page.end() == 1008
            assert answer(tcp_port, Origin=good)[0] == 403
            send(udp_port(program), "x")
            assert program_peer.message()[1] == second.message()[1] == b"x"
    program.wait_log("connection cut off, pages of https://good.example are no longer in allowed_origins")
    assert program.terminate() == 0


def test_who_is_silent_is_found_sooner(start, tcp_port):
    """A peer that says nothing: it would be there for an hour."""
    program = start(hub(tcp_port, ping_interval="30m", dead_after="1h"))
    with RawPeer(tcp_port).upgrade():
        program.wait_metric("semstreams_ws_connections", 1)
        in_place(program, hub(tcp_port, ping_interval="1s", dead_after="2s"), 2)
        program.wait_log("no sign of life for 2 s")
    assert program.terminate() == 0


def test_a_dialer_waits_for_less(start, tcp_port):
    """The next attempt would be hours away."""
    def config(wait):
        return pipeline({"id": "in", "type": "websocket_input", "config": {
            "url": f"ws://127.0.0.1:{tcp_port}{PATH}", "retry_min": wait, "retry_max": wait}}, storage())
    program = start(config("1h"))
    program.wait_log("Connection failed")
    with socket.create_server(("127.0.0.1", tcp_port)) as server:
        server.settimeout(60)
        in_place(program, config("10ms"), 2)
        server.accept()[0].close()
    assert program.terminate() == 0


# ---- files ------------------------------------------------------------------------------------------------------


def stored(folder):
    return [n for file in folder.glob("file*.jsonl*") for n in seqs(file)]


def test_the_file_stays_open(start, generate, tmp_path):
    """The new time between two syncs counts at once, and so do a new size and age, for the file that is open."""
    def config(**options):
        return pipeline(udp(), storage(sync="interval", **options))
    program = start(config(sync_interval="1h"))
    generate(udp_port(program), 100)
    program.wait_metric("semstreams_events_held", 100, component="file")
    program.wait_for(lambda: len(seqs(tmp_path / "file.jsonl")) == 100, what="lines written")
    inode = os.stat(tmp_path / "file.jsonl").st_ino
    in_place(program, config(sync_interval="10ms"), 2)
    at_rest(program, 100)
    in_place(program, config(sync_interval="10ms", rotate_size="1MiB", retain_files=50, max_pending="1MiB"), 2)
    generate(udp_port(program), 100, 100)
    at_rest(program, 200)
    assert os.stat(tmp_path / "file.jsonl").st_ino == inode
    assert sum(name.endswith("/file.jsonl") for name in open_files(program)) == 1
    m = program.metrics()
    assert m.sum("semstreams_storage_rotations_total") == m.sum("semstreams_storage_errors_total") == 0
    in_place(program, config(sync_interval="10ms", rotate_size="15KiB"), 2)
    generate(udp_port(program), 1, 200)
    program.wait_metric("semstreams_storage_rotations_total", 1)
    in_place(program, config(sync_interval="10ms", rotate_age="1s"), 2)
    program.wait_metric("semstreams_storage_rotations_total", 2)
    assert sorted(stored(tmp_path)) == list(range(201))
    in_place(program, config(sync_interval="10ms", rotate_age="1h", retain_files=1), 2)
    program.wait_metric("semstreams_storage_removed_total", 1)
    assert program.terminate() == 0


def test_files_change_under_load(start, tmp_path):
    """Limits that come and go while events are written: none is lost, and none is there twice."""
    def config(i):
        return pipeline(udp(), storage(**{"sync": "always", "rotate_size": "100KiB", "retain_bytes": "1GiB", **(
            {}, {"rotate_size": "30KiB", "max_pending": "1MiB"}, {"rotate_age": "1s"}, {"retain_files": 10000}, {"compress": "none"})[i % 5]}))
    program = start(config(0))
    with Sender(udp_port(program)) as sender:
        for i in range(1, 25):
            sent = sender.sent
            changed = reload(program, config(i))
            assert changed == (1, 1, 0, 0, 0) or (changed == (2, 0, 0, 0, 0) and i % 5 == 0)
            program.wait_for(lambda: sender.sent > sent + 100, what="more events")
    m = at_rest(program, sender.sent)
    assert_conserved(m)
    assert program.terminate() == 0
    numbers = stored(tmp_path)
    assert len(numbers) == len(set(numbers)) == m.books("file")["out"]
    assert m.sum("semstreams_storage_rotations_total") > 0


def test_limits_of_many_files(start, tmp_path):
    """As many are open as may be now; who came too late for a file of its own gets one when there may be more."""
    def config(**options):
        return pipeline(udp(), storage(path="data/{address}.jsonl", sync="always", **options))
    program = start(config(max_open_files=4, max_files=20, max_peer_files=100))
    port, senders, sent = udp_port(program), [], 0

    def send_all(n):
        nonlocal sent
        while len(senders) < n:
            senders.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            senders[-1].bind((f"127.0.1.{len(senders)}", 0))
        for sender in senders:
            sender.sendto(event(sent), ("127.0.0.1", port))
            sent += 1
        return at_rest(program, sent)

    m = send_all(30)
    assert m.sum("semstreams_storage_open_files") <= 4
    assert m.sum("semstreams_storage_other_events_total") == 10
    in_place(program, config(max_open_files=100, max_files=1000, max_peer_files=100), 2)
    m = send_all(40)
    assert m.sum("semstreams_storage_open_files") >= 40
    assert m.sum("semstreams_storage_other_events_total") == 10
    in_place(program, config(max_open_files=6, max_files=1000, max_peer_files=100), 2)
    program.wait_for(lambda: sum("/data/" in name and name.endswith(".jsonl") for name in open_files(program)) <= 6, what="files closed")
    m = send_all(40)
    assert m.sum("semstreams_storage_open_files") <= 6
    in_place(program, config(max_open_files=6, max_files=1000, max_peer_files=1), 2)
    assert send_all(45).sum("semstreams_storage_other_events_total") == 15
    assert program.terminate() == 0
    numbers = [n for file in (tmp_path / "data").glob("*.jsonl") for n in seqs(file)]
    assert sorted(numbers) == list(range(sent))
    for sender in senders:
        sender.close()


def test_reloads_while_a_sync_hangs(start, tmp_path):
    """More files may be open once it has ended."""
    stalled = tmp_path / "stalled"

    def config(**options):
        return pipeline(udp(), storage(path="data/{address}.jsonl", sync="always", **options))
    program = start(config(max_open_files=2), env={
        "LD_PRELOAD": str(shared_library("stall_sync", tmp_path)), "STALL_WHILE": str(stalled),
        "ASAN_OPTIONS": "verify_asan_link_order=0"})  # the library comes before the sanitizer's
    port = udp_port(program)
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(8)]
    for i, sender in enumerate(senders):
        sender.bind((f"127.0.1.{i + 1}", 0))
    stalled.touch()
    senders[0].sendto(event(0), ("127.0.0.1", port))
    program.wait_metric("semstreams_events_held", 1, component="file")
    for most in (50, 3, 60, 4, 100):
        in_place(program, config(max_open_files=most), 2)
    for i, sender in enumerate(senders[1:], 1):
        sender.sendto(event(i), ("127.0.0.1", port))
    stalled.unlink()
    m = at_rest(program, 8)
    assert m.books("file")["out"] == 8
    assert program.terminate() == 0
    for sender in senders:
        sender.close()


# ---- datagrams --------------------------------------------------------------------------------------------------


def test_who_may_send_changes(start, tmp_path, lines):
    """The socket is the same, and so is its receive buffer's content."""
    port = unused_port(socket.SOCK_DGRAM)

    def config(**options):
        return pipeline(udp(port=port, bind="0.0.0.0", **options), storage())
    program = start(config())
    before, sent = sockets(program, "udp"), []
    assert len(before) == 1

    def send_both(text):
        for address in ("127.0.0.1", "127.0.0.2"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind((address, 0))
                s.sendto(text.encode(), ("127.0.0.1", port))
        sent.append(text)
        at_rest(program, 2 * len(sent))

    send_both("anybody")
    in_place(program, config(allow=["127.0.0.2"]), 2)
    send_both("second")
    in_place(program, config(allow=["127.0.0.1"], max_datagram=5, truncated="keep"), 2)
    send_both("first")
    send_both("longer")
    in_place(program, config(allow=["127.0.0.0/8"], split="lines", receive_buffer="64KiB"), 2)
    m = program.metrics()
    assert m.sum("semstreams_udp_receive_buffer_bytes") == 65536
    send_both("one\ntwo")
    in_place(program, config(), 2)
    send_both("anybody")
    assert [row[9] for row in sockets(program, "udp")] == [row[9] for row in before]
    assert m.sum("semstreams_events_dropped_total", reason="not_allowed") == 3
    assert program.terminate() == 0
    assert lines(tmp_path / "file.jsonl") == ["anybody"] * 2 + ["second", "first", "longe"] + ["one", "two"] * 2 + ["anybody"] * 2


def test_datagrams_go_on_from_the_same_port(start, send):
    """Of udp_output: the longest that is sent, how many at once, and what the socket can be told."""
    station = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    station.bind(("127.0.0.1", 0))
    station.settimeout(60)
    station.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)

    def config(**options):
        return pipeline(udp(), {"id": "out", "type": "udp_output", "config": {
            "address": "127.0.0.1", "port": station.getsockname()[1], **options}})

    def take():
        data, ancillary, _, address = station.recvmsg(1000, socket.CMSG_SPACE(4))
        return data.decode(), int.from_bytes(ancillary[0][2][:4], "little"), address[1]
    program = start(config())
    port = udp_port(program)
    send(port, "a longer one")
    text, ttl, source = take()
    assert text == "a longer one"
    in_place(program, config(max_datagram=5, ttl=7, batch=1, send_buffer="64KiB", loopback=False), 2)
    send(port, "a longer one", "short")
    assert take() == ("short", 7, source)
    in_place(program, config(batch=1024), 2)
    send(port, *("x" * 100 for _ in range(50)))
    assert [take() for _ in range(50)] == [("x" * 100, ttl, source)] * 50
    assert program.metrics().sum("semstreams_events_dropped_total", component="out", reason="too_long") == 1
    assert program.terminate() == 0
    station.close()


# ---- windows ----------------------------------------------------------------------------------------------------


def results(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_open_windows_keep_what_is_in_them(start, send, tmp_path):
    """Counts before and after a reload add up; a key finds room that there was not before; a window of another size is another one."""
    def config(size="1h", **options):
        return pipeline(udp(), {"id": "sum", "type": "aggregate", "config": {
            "window": {"type": "tumbling", "size": size}, "group_by": "key", "functions": {"n": "count"},
            "when_full": "overflow", **options}}, storage())
    program = start(config(max_groups=2))
    port, sent = udp_port(program), 0

    def send_keys(*keys):
        nonlocal sent
        send(port, *(json.dumps({"key": key}) for key in keys))
        sent += len(keys)
        program.wait_metric("semstreams_udp_datagrams_total", sent)
        program.wait_for(lambda: program.metrics().books("sum")["held"] == 0
                         and program.metrics().books("sum")["in"] == sent, what="counted")

    send_keys("a", "b", "c", "a")
    in_place(program, config(max_groups=10, max_memory="16MiB"), 3)
    send_keys("a", "b", "c", "d")
    assert program.metrics().sum("semstreams_aggregate_overflow_total") == 1
    in_place(program, config(max_groups=10, early="10ms"), 3)
    program.wait_for(lambda: (tmp_path / "file.jsonl").exists() and results(tmp_path / "file.jsonl"), what="early results")
    in_place(program, config(max_groups=10), 3)
    send_keys("a")
    assert program.metrics().sum("semstreams_aggregate_groups") == 5
    (tmp_path / "file.jsonl").rename(tmp_path / "early.jsonl")
    assert reload(program, config("30m", max_groups=10)) == (2, 0, 1, 0, 0)
    assert program.terminate() == 0
    early = results(tmp_path / "early.jsonl")
    final = [r for r in early + results(tmp_path / "file.jsonl") if r.get("final") is not False] \
        if (tmp_path / "file.jsonl").exists() else [r for r in early if r.get("final") is not False]
    assert {(r.get("key"), r.get("overflow", False)): r["n"] for r in final} == {
        ("a", False): 4, ("b", False): 2, ("c", False): 1, ("d", False): 1, (None, True): 1}
    assert any(r.get("final") is False for r in early)
