# SPDX-License-Identifier: MIT
"""Completion in real shells: bash and zsh on a terminal, keys pressed; fish, which tells what it would offer."""

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, readable

CONFIG = {"components": [{"id": "udp", "type": "udp_input"},
                         {"id": "hot", "type": "filter", "config": {"where": {"field": "value", "op": "gt", "value": 20}}},
                         {"id": "archive", "type": "storage", "config": {"path": "hot.jsonl"}}]}

# pressed, and the words that come of it
PRESSED = [
    ("che\t", ["check"]),
    ("plug\tdesc\tfilt\t", ["plugins", "describe", "filter"]),
    ("check --conf\tfed\t", ["check", "--config", "federation.json"]),
    ("check fed\t", ["check", "federation.json"]),
    ("graph --form\tmer\t", ["graph", "--format", "mermaid"]),
    ("graph --format=mer\t", ["graph", "--format=mermaid"]),
    ("-c federation.json --log-l\tdeb\t", ["-c", "federation.json", "--log-level", "debug"]),
    ("plug\tnew mine --ki\tproc\t--la\tru\t", ["plugins", "new", "mine", "--kind", "processor", "--lang", "rust"]),
    ("conf\tsh\t--eff\t", ["config", "show", "--effective"]),
    ("pki inter\t", ["pki", "intermediate"]),
    ("pki inspect with\t", ["pki", "inspect", "with blank.pem"]),
    ("pki leaf --key-t\tp3\t", ["pki", "leaf", "--key-type", "p384"]),
    ("spool ch\tsome\t", ["spool", "check", "some-folder/"]),
    ("cert rene\t", ["cert", "renew"]),
    ("tap -c federation.json arch\t", ["tap", "-c", "federation.json", "archive"]),
    ("help gra\t", ["help", "graph"]),
    ("graph --log-l\t", ["graph", "--log-l"]),  # no option of it
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "federation.json").write_text(json.dumps(CONFIG))
    (tmp_path / "with blank.pem").touch()
    (tmp_path / "some-folder").mkdir()
    return tmp_path


def needs(shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is missing; on Debian: apt-get install {shell}")


class Terminal:
    """A shell on a terminal in which `semstreams` only writes its words down; what completion asks is the real one."""

    SHELLS = {
        "bash": (["bash", "--noprofile", "--rcfile", ".rc", "-i"], ".rc",
                 "bind 'set enable-bracketed-paste off'\nbind 'set completion-query-items 0'\nsource {script}\n"),
        "zsh": (["zsh", "-i"], ".zshrc",
                "fpath=({folder} $fpath)\nautoload -Uz compinit && compinit -u -d ./.dump\n"
                "unsetopt beep auto_remove_slash; unset zle_bracketed_paste\n"
                "LISTMAX=10000\n"),
    }

    def __init__(self, shell, semstreams, folder, tree):
        command, rc, text = self.SHELLS[shell]
        scripts = tree / "packaging" / "completion"
        words = "semstreams() { printf '%s\\0' \"$@\" >.words && mv .words words; }\nPS1='ready> '\n"
        (folder / rc).write_text(text.format(script=shlex.quote(str(scripts / "semstreams.bash")),
                                             folder=shlex.quote(str(scripts))) + words)
        self.folder = folder
        env = {"PATH": f"{Path(semstreams).parent}:{os.environ['PATH']}", "HOME": str(folder), "ZDOTDIR": str(folder),
               "TERM": "vt100", "LC_ALL": "C.UTF-8"}
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen(command, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs,
                                        start_new_session=True, close_fds=True)
        os.close(theirs)
        self.fd, self.text = ours, ""

    def read_until(self, done):
        deadline = time.monotonic() + PATIENCE
        while not done():
            left = deadline - time.monotonic()
            assert left > 0, self.text
            if readable([self.fd], min(left, 0.1)):
                try:
                    self.text += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:  # its end has been closed
                    raise AssertionError(f"the shell has ended: {self.text}") from None

    def press(self, keys):
        """The words that the command got."""
        words = self.folder / "words"
        words.unlink(missing_ok=True)
        self.read_until(lambda: self.text.rstrip().endswith("ready>") or "ready> " in self.text)
        self.text = ""
        os.write(self.fd, f"semstreams {keys}\n".encode())
        self.read_until(words.exists)
        self.read_until(lambda: "ready> " in self.text)
        return words.read_text().split("\0")[:-1]

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


@pytest.fixture
def terminal(semstreams, folder, tree):
    made = []

    def start(shell):
        needs(shell)
        made.append(Terminal(shell, semstreams, folder, tree))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_keys_pressed_on_a_terminal(shell, terminal):
    screen = terminal(shell)
    for keys, words in PRESSED:
        assert screen.press(keys) == words, (keys, screen.text)


def offered_by_fish(semstreams, folder, tree, line):
    needs("fish")
    script = tree / "packaging" / "completion" / "semstreams.fish"
    env = {**os.environ, "PATH": f"{Path(semstreams).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(["fish", "--no-config", "-c", 'source $argv[1]; complete -C $argv[2]', "--", str(script), line], cwd=folder,
                          env=env, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return [offer.split("\t")[0] for offer in done.stdout.splitlines()]


def test_keys_pressed_in_fish(semstreams, folder, tree):
    """The first key of a line is completed from what is there before the next."""
    for keys, words in PRESSED:
        line = "semstreams "
        for part in keys.split("\t")[:-1]:
            offers = offered_by_fish(semstreams, folder, tree, line + part)
            last = (line + part).rsplit(" ", 1)[1]
            offers = [o for o in offers if o.startswith(last)] or offers
            if len(offers) == 1:
                line = line + part[:len(part) - len(last)] + offers[0].replace(" ", "\\ ") + " "
            else:
                assert offers == [], (keys, offers)
                line += part
        assert shlex.split(line)[1:] == words, keys


def told(command, *words):
    """Options and commands as help lists them."""
    text = command(*words, "--help").stdout
    return {*re.findall(r"^ +(?:-\w, +)?(--[\w-]+)", text, re.M)}


COMMANDS = ["run", "check", "graph", "plugins list", "plugins describe", "schema", "status", "top", "config show", "test", "cert",
            "pki leaf", "pki verify", "reload", "replay", "spool dump", "tap"]


def test_bash_offers_all_that_help_lists(semstreams, folder, tree, command):
    needs("bash")
    script = tree / "packaging" / "completion" / "semstreams.bash"
    ask = """
    source "$1"; shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _semstreams semstreams "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf '%s\\n' "${COMPREPLY[@]}"
    """

    def offers(*words):
        env = {**os.environ, "PATH": f"{Path(semstreams).parent}:{os.environ['PATH']}"}
        return set(subprocess.run(["bash", "-c", ask, "bash", script, "semstreams", *words], cwd=folder, env=env, check=True,
                                  capture_output=True, text=True).stdout.split("\n")) - {""}

    for name in COMMANDS:
        words = ["spool"] if name.startswith("spool") else name.split()
        assert {o for o in offers(*name.split(), "--") if o != "--"} == told(command, *words), name
    names = {m.split("|")[0] for m in re.findall(r"^  semstreams \[?([a-z]+)", command("help").stdout, re.M)}
    assert offers("") == names and {"run", "check", "pki"} <= names
    assert offers("plugins", "describe", "") == {p["type"] for p in json.loads(command("plugins", "list", "--json").stdout)}
    assert offers("tap", "--config", "federation.json", "") == {"udp", "hot", "archive"}
    assert offers("check", "") == {"federation.json", "some-folder"}


def test_zsh_completes_every_option_that_help_lists(terminal, command):
    screen = terminal("zsh")
    for name in "check", "graph", "plugins describe", "top", "pki verify":
        for option in sorted(told(command, *name.split())):
            assert screen.press(f"{name} {option[:-1]}\t") in ([*name.split(), option], [*name.split(), option[:-1]]), option


def test_fish_offers_all_that_help_lists(semstreams, folder, tree, command):
    for name in COMMANDS:
        words = ["spool"] if name.startswith("spool") else name.split()
        found = {o for o in offered_by_fish(semstreams, folder, tree, f"semstreams {name} --") if o.startswith("--")}
        assert found == told(command, *words), name
    assert set(offered_by_fish(semstreams, folder, tree, "semstreams plugins describe ")) == {
        p["type"] for p in json.loads(command("plugins", "list", "--json").stdout)}
