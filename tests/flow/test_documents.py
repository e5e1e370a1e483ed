# SPDX-License-Identifier: MIT
"""What is installed to be read: its links, the example of three locations, and the first commands of README.md."""

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from lab import servers
from lab.ports import unused_port

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")  # and pictures


@pytest.fixture
def pages(semstreams):
    """The installed folder of documents."""
    folder = Path(semstreams).resolve().parents[1] / "share" / "doc" / "semstreams"
    if not folder.is_dir():
        pytest.skip(f"no documents in {folder}")
    return folder


def anchors(page):
    """What the headings of a page are called in links."""
    for line in page.read_text().splitlines():
        if re.match(r"#+ ", line):
            title = re.sub(r"[`*]", "", line.lstrip("#").strip().lower())
            yield re.sub(r"[^\w\- ]", "", title).replace(" ", "-")


def broken(folder):
    for page in sorted(folder.rglob("*.md")):
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
        for target in LINK.findall(text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or folder.resolve() not in [file, *file.parents]:
                yield f"{page.relative_to(folder)}: {target}: no such file"
            elif anchor and anchor not in anchors(file):
                yield f"{page.relative_to(folder)}: {target}: no such heading"


def test_no_installed_document_has_a_broken_link(pages):
    assert len(list(pages.rglob("*.md"))) > 15
    assert not list(broken(pages))


def test_a_broken_link_is_found(pages, tmp_path):
    shutil.copytree(pages, tmp_path / "doc")
    before = len(list(broken(tmp_path / "doc")))
    page = tmp_path / "doc" / "README.md"
    page.write_text(page.read_text() + "[a](docs/nothing.md) [b](docs/tls.md#nothing) [c](../../etc/passwd) ![d](docs/img/no.png)\n")
    assert len(list(broken(tmp_path / "doc"))) == before + 4


def test_every_page_is_installed(pages, tree):
    for page in [*tree.glob("docs/*.md"), *tree.glob("plugins/*/*.md"), *tree.glob("examples/*.md")]:
        assert (pages / page.relative_to(tree)).read_text() == page.read_text(), page


def test_readme_leads_to_every_page(tree):
    readme = (tree / "README.md").read_text()
    for page in [*tree.glob("docs/*.md"), *tree.glob("plugins/*/*.md")]:
        assert f"]({page.relative_to(tree)})" in readme, page


def test_the_federation_is_installed(pages, tree):
    there = {str(p.relative_to(tree)) for p in (tree / "examples" / "federation").rglob("*")
             if p.is_file() and "__pycache__" not in p.parts}
    here = {str(p.relative_to(pages)) for p in (pages / "examples" / "federation").rglob("*") if p.is_file()}
    assert here == there
    run = pages / "examples" / "federation" / "run"
    assert "three locations" in subprocess.run([run, "--help"], check=True, capture_output=True, text=True).stdout.lower()
    # all that the program imports is there, too
    said = subprocess.run(["/usr/bin/python3", "-B", run.parent / "federation.py", "--help"], check=True, capture_output=True,
                          text=True)
    assert "--semstreams" in said.stdout


def test_the_fan_in_is_installed(pages, tree, semstreams, tmp_path):
    """And runs from where it is installed."""
    folder = pages / "examples" / "fan-in"
    assert {p.name for p in folder.iterdir()} == {p.name for p in (tree / "examples" / "fan-in").iterdir()}
    done = subprocess.run([folder / "run", "--no-install", "--edges", "2", "--readings", "4", "--port", str(unused_port(socket.SOCK_STREAM))],
                          cwd=tmp_path, env={**os.environ, "PATH": f"{Path(semstreams).parent}:{os.environ['PATH']}", "SEMSTREAMS": ""},
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert "readings: 8 sent, 8 in the hub's files, 0 lost, 0 twice" in done.stdout
    assert (tmp_path / "fan-in" / "hub" / "data" / "readings" / "edge-02.jsonl").exists()


def test_options_in_the_table_of_limits_exist(tree, command):
    """Each option in the last column belongs to a plugin, the queue, the host, or the command line."""
    table = re.search(r"^\| limit \|.*?\n\n", (tree / "docs" / "security.md").read_text(), re.S | re.M)[0]
    types = [p.name for p in (tree / "plugins").iterdir() if (p / f"{p.name}.md").exists()]
    known = {"inputs[].queue", "watchdog", "held_watch", "--shutdown-timeout"}
    for kind in types:
        said = command("plugins", "describe", kind)
        known |= set(re.findall(r"^  (\w+) +\w", said.stdout, re.M))
    positions = json.loads(command("schema").stdout)["properties"]["positions"]["properties"]
    known |= {f"positions.{name}" for name in positions}
    named = set(re.findall(r"`([^`]+)`", "".join(line.rsplit("|", 2)[1] for line in table.splitlines() if line)))
    assert len(named) > 15
    assert {name.split(".")[0] if name.startswith("spool.") else name for name in named} <= known


def test_packages_leave_the_pages_as_they_are(tree):
    """debhelper would compress them: then links and imports lead nowhere."""
    assert "dh_compress -X.md -X.py" in (tree / "packaging" / "debian" / "rules").read_text()


def netcat(package, tmp_path):
    """A folder for the PATH in which nc is the package's."""
    try:
        unpack = servers.TREE / "tests" / "lab" / "unpack"
        subprocess.run([unpack, package], check=True, capture_output=True, text=True, timeout=120)
    except (subprocess.SubprocessError, OSError) as why:
        pytest.skip(f"{package} is not to be had: {why}")
    (nc,) = (servers.cache() / package).glob("bin/nc.*")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nc").symlink_to(nc)
    return folder


def test_first_screen(semstreams, tree, tmp_path, start, send, udp_port, tcp_port):
    """What README.md says first, in an empty folder: its JSON, pasted, and its two commands."""
    text = (tree / "README.md").read_text()
    screen = text[:text.index("\n## ")]
    assert len(screen.splitlines()) < 40
    picture = re.search(r"!\[[^\]]{20,}\]\((.*?)\)", screen)[1]
    assert (tree / picture).read_bytes().startswith(b"\x89PNG")
    name = re.search(r"Save this as `(.*?)`", screen)[1]
    config = re.search(r"```json\n(.*?)```", screen, re.S)[1]
    assert len(config.splitlines()) <= 10
    commands = [line.split("#")[0].split() for line in re.search(r"```sh\n(.*?)```", screen, re.S)[1].splitlines()]
    assert commands == [["semstreams", "check", name], ["semstreams", "-c", name]]
    config = config.replace("14550", str(udp_port)).replace("9600", str(tcp_port))
    (tmp_path / name).write_text(config)
    done = subprocess.run([semstreams, *commands[0][1:]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "ok: 3 components" in done.stdout, done.stdout + done.stderr
    (tmp_path / name).unlink()
    program = start(config)
    assert program.admin.endswith(f":{tcp_port}")
    send(udp_port, '{"value": 72.5}', '{"value": 12.5}')
    program.wait_for(lambda: (tmp_path / "data" / "hot.jsonl").exists() and (tmp_path / "data" / "hot.jsonl").read_text())
    program.wait_metric("semstreams_events_in_total", 2, component="hot")
    assert (tmp_path / "data" / "hot.jsonl").read_text() == '{"value": 72.5}\n'


def block(page):
    return re.search(r"^## Try it\n.*?^```sh\n(.*?)```", page.read_text(), re.S | re.M)[1]


@pytest.mark.parametrize("package", ["netcat-openbsd", "netcat-traditional"])
def test_first_example_pasted_as_one_block(package, semstreams, tree, tmp_path, udp_port, tcp_port):
    path = netcat(package, tmp_path)
    (tmp_path / "examples").mkdir()
    config = json.loads((tree / "examples" / "udp-to-file.json").read_text())
    config["components"][0]["config"]["port"] = udp_port
    config["admin"] = {"listen": f"127.0.0.1:{tcp_port}"}
    (tmp_path / "examples" / "udp-to-file.json").write_text(json.dumps(config))
    text = block(tree / "README.md").replace("14550", str(udp_port)).replace("9600", str(tcp_port))
    env = {**os.environ, "PATH": f"{path}:{Path(semstreams).parent}:{os.environ['PATH']}"}
    # as a terminal does it: all lines at once on the shell's standard input
    said = subprocess.run(["bash", "--norc", "-s"], input=text, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    assert '{"sensor": "temperature", "value": 72.5}\n' in said.stdout
    assert "12.5" not in said.stdout
    assert (tmp_path / "data" / "hot.jsonl").read_text() == '{"sensor": "temperature", "value": 72.5}\n'
    assert re.search(r'semstreams_events_in_total\{component="udp"\} 2', said.stdout), said.stdout


@pytest.mark.parametrize("package", ["netcat-openbsd", "netcat-traditional"])
def test_no_datagram_of_netcat_is_lost(package, tmp_path, start, udp_port):
    """The command of the pages, a hundred times."""
    path = netcat(package, tmp_path)
    program = start({"admin": {"listen": "127.0.0.1:0"}, "components": [
        {"id": "udp", "type": "udp_input", "config": {"port": udp_port}},
        {"id": "file", "type": "storage", "config": {"path": "all.jsonl"}}]})
    subprocess.run(["sh", "-ec", f"for i in $(seq 100); do echo $i | {path}/nc -u -q0 127.0.0.1 {udp_port}; done"], check=True,
                   timeout=120)
    program.wait_metric("semstreams_events_in_total", 100, component="file")


def test_pages_use_no_other_netcat(tree):
    for page in [tree / "README.md", *tree.glob("docs/*.md"), *tree.glob("examples/**/*.py"), *tree.glob("plugins/*/*.md")]:
        for line in page.read_text().splitlines():
            for options in re.findall(r"\bnc (-\S+(?: -\S+)*)", line):
                assert options == "-u -q0", f"{page}: {line}"
