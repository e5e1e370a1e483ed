# SPDX-License-Identifier: MIT
"""storage in the real program: kills, full disks, rotation; what was sent is what is stored."""

import gzip
import json
import os
import signal
import socket
import subprocess
import threading

import pytest


def pipeline(port, path, udp=None, queue=None, **options):
    source = {"id": "udp", "type": "udp_input", "config": {"port": port, "bind": "127.0.0.1", **(udp or {})}}
    sink = {"id": "out", "type": "storage", "config": {"path": str(path), **options}}
    if queue:
        sink["inputs"] = [{"from": "udp", "queue": queue}]
    return {"components": [source, sink]}


def event(seq):
    return json.dumps({"seq": seq, "sensor": "temperature", "location": "a", "value": 72.5, "pad": "x" * 40}).encode()


class Load:
    """Sends numbered events as fast as it can, from a thread, until it is stopped."""

    def __init__(self, port, first=0):
        self.next = first
        self._stop = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            try:
                self._socket.send(event(self.next))
            except ConnectionRefusedError:  # nobody listens any more
                pass
            self.next += 1

    def stop(self):
        self._stop.set()
        self._thread.join()
        self._socket.close()


def read_events(text):
    """Every line must be JSON, in the order it was sent; the sequence numbers."""
    assert text == "" or text.endswith("\n")
    seqs = [json.loads(line)["seq"] for line in text.split("\n")[:-1]]
    assert all(a < b for a, b in zip(seqs, seqs[1:]))
    return seqs


def test_lines(start, send, udp_port, tmp_path, conserved):
    file = tmp_path / "deep" / "er" / "data.jsonl"
    program = start(pipeline(udp_port, file))
    send(udp_port, '{"a":1}', '{"b":2}\n', '{"c":3}\r\n', '{\n"d":4\n}', "\n")
    metrics = program.wait_metric("semstreams_events_out_total", 4, component="out")
    assert file.read_text() == '{"a":1}\n{"b":2}\n{"c":3}\n{ "d":4 }\n'
    metrics = program.wait_metric("semstreams_events_dropped_total", 1, component="out", reason="empty")
    conserved(metrics)
    assert file.stat().st_mode & 0o777 == 0o640
    assert program.terminate() == 0
    assert file.read_text().count("\n") == 4


def test_sigterm_under_load(start, udp_port, tmp_path):
    file = tmp_path / "data.jsonl"
    program = start(pipeline(udp_port, file))
    load = Load(udp_port)
    try:
        program.wait_metric("semstreams_events_out_total", 5000, component="out")
        assert program.terminate() == 0
    finally:
        load.stop()
    stored = len(read_events(file.read_text()))
    assert program.stopped("udp")["out"] == stored
    assert program.stopped("out")["out"] == stored


@pytest.mark.parametrize("sync", ["always", "relaxed"])
def test_kill_under_load(start, udp_port, tmp_path, sync):
    file = tmp_path / "data.jsonl"
    torn = tmp_path / "data.jsonl.torn"
    config = pipeline(udp_port, file, sync=sync)
    first = 0

    def start_anew():
        folder = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"  # with a log of its own
        folder.mkdir()
        return start(config, folder=folder)

    for _ in range(3):
        program = start_anew()
        before = file.read_bytes().count(b"\n")
        load = Load(udp_port, first)
        try:
            out = program.wait_metric("semstreams_events_out_total", 3000, component="out")
            program.signal(signal.SIGKILL)
            assert program.wait() == -signal.SIGKILL
        finally:
            load.stop()
        first = load.next
        delivered = int(out.sum("semstreams_events_out_total", component="out"))
        assert file.read_bytes().count(b"\n") - before >= delivered
        # the kernel finishes most writes of the killed; so that there is a torn line in any case:
        with open(file, "ab") as f:
            f.write(b'{"seq":99')
        whole = file.read_bytes().rpartition(b"\n")[0] + b"\n"
        program = start_anew()
        metrics = program.metrics()
        assert metrics.sum("semstreams_storage_repaired_total", component="out") == 1
        assert file.read_bytes() == whole
        assert torn.read_text().endswith('{"seq":99\n')
        program.wait_log(r"WARN Moved an unfinished last line")
        assert program.terminate() == 0
    read_events(file.read_text())


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 4 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", str(folder)], capture_output=True,
                          text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, leave):
    """Take all room but leave bytes, which are a multiple of the page size."""
    free = os.statvfs(folder)
    filler = folder / "filler"
    filler.write_bytes(b"\0" * (free.f_bavail * free.f_frsize - leave))
    return filler


@pytest.mark.parametrize("sync", ["always", "relaxed"])
def test_disk_full(start, send, udp_port, small_disk, conserved, sync):
    file = small_disk / "data.jsonl"
    config = pipeline(udp_port, file, sync=sync, write_buffer="16KiB", max_pending="1MiB",
                      udp={"receive_buffer": "64KiB"}, queue={"events": 500})
    program = start(config)
    assert program.get("/readyz")[0] == 200
    filler = fill(small_disk, 128 * 1024)
    sent = 0
    while "Cannot write" not in program.log():
        send(udp_port, *(event(sent + i) for i in range(100)))
        sent += 100
    assert program.wait_log(r"ERROR .*data\.jsonl.*No space left on device")
    status, text = program.wait_for(lambda: (a := program.get("/readyz"))[0] == 503 and a, what="not ready")
    assert "No space left on device" in text and "data.jsonl" in text
    # what comes now waits, and when there is no more room to wait, the kernel counts
    for _ in range(50):
        send(udp_port, *(event(sent + i) for i in range(100)))
        sent += 100
    read_events(file.read_text())  # no half line

    filler.unlink()
    program.wait_log(r"INFO .*Writing again")
    program.wait_for(lambda: program.get("/readyz")[0] == 200, what="ready")

    def accounted():
        # the kernel tells of losses with the next datagram that it delivers
        nonlocal sent
        send(udp_port, event(sent))
        sent += 1
        m = program.metrics()
        lost = m.sum("semstreams_udp_kernel_dropped_total", component="udp")
        return m.sum("semstreams_events_out_total", component="out") + lost == sent and m

    metrics = program.wait_for(accounted, what="sent = stored + kernel drops")
    conserved(metrics)
    lost = int(metrics.sum("semstreams_udp_kernel_dropped_total", component="udp"))
    assert lost > 0
    assert metrics.sum("semstreams_events_dropped_total", component="out") == 0
    assert len(read_events(file.read_text())) + lost == sent
    assert program.terminate() == 0
    assert program.log().count("Cannot write") == 1


def test_start_on_full_disk(start, send, udp_port, small_disk):
    file = small_disk / "data.jsonl"
    file.write_text('{"seq":0}\n{"seq":1')  # and a torn line that there is no room to keep
    filler = fill(small_disk, 0)
    program = start(pipeline(udp_port, file))
    assert program.get("/readyz")[0] == 503
    send(udp_port, '{"seq":2}')
    filler.unlink()
    program.wait_log("Writing again")
    program.wait_metric("semstreams_events_out_total", 1, component="out")
    assert file.read_text() == '{"seq":0}\n{"seq":2}\n'
    assert (small_disk / "data.jsonl.torn").read_text() == '{"seq":1\n'


def test_rotate_and_compress(start, udp_port, tmp_path, command):
    described = json.loads(command("plugins", "describe", "storage", "--json").stdout)
    if "gzip" not in json.dumps(described):
        pytest.skip("built without zlib")
    file = tmp_path / "data" / "data.jsonl"
    program = start(pipeline(udp_port, file, rotate_size="200KiB", compress="gzip"))
    load = Load(udp_port)
    try:
        program.wait_metric("semstreams_storage_compressed_total", 5, component="out")
    finally:
        load.stop()

    def at_rest():
        m = program.metrics()
        read = m.sum("semstreams_udp_datagrams_total")
        return (read + m.sum("semstreams_udp_kernel_dropped_total") >= load.next
                and m.sum("semstreams_events_out_total", component="out") == read
                and m.sum("semstreams_storage_compressed_total") == m.sum("semstreams_storage_rotations_total"))

    program.wait_for(at_rest, what="all that was sent in files, and those that were rotated compressed")
    assert program.terminate() == 0
    closed = sorted(p for p in file.parent.iterdir() if p.name.startswith("data.jsonl."))
    assert [p for p in closed if p.suffix != ".gz"] == []
    seqs = []
    for p in closed:
        seqs += read_events(gzip.decompress(p.read_bytes()).decode())
    seqs += read_events(file.read_text())
    assert len(seqs) == len(set(seqs)) == program.stopped("out")["out"]


def test_one_writer_per_file(start, udp_port, tmp_path):
    config = pipeline(udp_port, tmp_path / "data.jsonl")
    config["components"].append({**config["components"][1], "id": "second", "inputs": ["udp"]})
    program = start(config, ready=False)
    assert program.wait() != 0
    assert '"out" and ' in program.log() and " would both use the file " in program.log()


def test_one_process_per_file(start, udp_port, tmp_path):
    file = tmp_path / "data.jsonl"
    first = start(pipeline(udp_port, file))
    folder = tmp_path / "second"
    folder.mkdir()
    second = start(pipeline(0, file), folder=folder, ready=False)
    assert second.wait() != 0
    assert "is in use by another component or process" in second.log()
    assert first.terminate() == 0
    assert str(file) in second.log()


def test_moved_by_logrotate(start, send, udp_port, tmp_path):
    file = tmp_path / "data.jsonl"
    program = start(pipeline(udp_port, file))
    send(udp_port, '{"seq":1}')
    program.wait_metric("semstreams_events_out_total", 1, component="out")
    file.rename(tmp_path / "data.jsonl.1")
    program.wait_log("moved or deleted")
    send(udp_port, '{"seq":2}')
    program.wait_metric("semstreams_events_out_total", 2, component="out")
    assert file.read_text() == '{"seq":2}\n'
    assert (tmp_path / "data.jsonl.1").read_text() == '{"seq":1}\n'
