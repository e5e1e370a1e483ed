# SPDX-License-Identifier: MIT
"""The packages that packaging/build makes: judged by the distributions' own tools, made twice, and in a Debian of their own.

As root, with apt's network for what is missing and for debootstrap; each test skips where it cannot.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
PATIENCE = 120  # s, for what a command in the root has to come to
BUILD = 3600  # s, beside whatever else the machine builds
# the maintainer has no address that the world can write to
ALLOWED = "bogus-mail-host"


def needs(*programs):
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"needs {program}")


def run(*command, timeout=BUILD, **kwargs):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, **kwargs)
    assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}{done.stderr[-3000:]}"
    return done.stdout


def build(kind, out=None):
    """The unit tests of the package's build are those of the other stages."""
    if out is None and "PACKAGES" in os.environ:  # built before: PACKAGES/deb, PACKAGES/rpm
        return Path(os.environ["PACKAGES"]).resolve() / kind
    out = out or TREE / "build" / "packages" / kind
    run(TREE / "packaging" / "build", kind, "--no-check", "--out", out)
    return out


@pytest.fixture(scope="session")
def deb():
    needs("dpkg-buildpackage", "dh")
    return build("deb")


@pytest.fixture(scope="session")
def rpm():
    needs("rpmbuild")
    return build("rpm")


def findings(text):
    return [line for line in text.split("\n") if re.match(r"[EWIP]: |\S+: [EWI]: ", line) and not re.search(ALLOWED, line)]


def test_lintian(deb):
    needs("lintian")
    changes = next(deb.glob("*.changes"))
    done = subprocess.run(["lintian", "--pedantic", "--display-info", "--allow-root", changes], capture_output=True, text=True, timeout=BUILD)
    assert done.returncode in (0, 2), done.stderr
    assert not findings(done.stdout), done.stdout


def test_rpmlint(rpm):
    needs("rpmlint")
    spec = TREE / "packaging" / "rpm" / "semstreams.spec"
    done = subprocess.run(["rpmlint", "--rpmlintrc", spec.with_name("rpmlintrc"), spec, *rpm.glob("*.rpm")],
                          capture_output=True, text=True, timeout=BUILD)
    assert not findings(done.stdout), done.stdout + done.stderr


def test_hardening(deb, tmp_path):
    needs("blhc", "hardening-check")
    # --all: not only what Debian demands.  The compiler's lines are those of a silent make's opposite, dh's default
    done = subprocess.run(["blhc", "--all", "--debian", deb / "build.log"], capture_output=True, text=True, timeout=BUILD)
    assert done.returncode == 0, done.stdout
    programs = []
    for file in deb.glob("*.deb"):
        if "-dbgsym" in file.name or "_all" in file.name:
            continue
        run("dpkg-deb", "-x", file, tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.open("rb").read(4) == b"\x7fELF":
            programs.append(path)
    assert len(programs) > 10
    # plugins may call nothing that could be fortified; and where the start files of the C library have no mark of control flow
    # integrity, nothing linked with them has
    for path in programs:
        options = ["--nopie"] if path.suffix == ".so" else []  # not a program
        run("hardening-check", "--nofortify", "--nocfprotection", *options, path)


def test_licence_of_every_file():
    needs("reuse")
    run("reuse", "lint", cwd=TREE)


def digests(folder, pattern):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob(pattern)}


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_the_same_bytes_twice(kind, request, tmp_path):
    """At another time; those of Debian in another folder, too, while a source rpm names its own."""
    first = request.getfixturevalue(kind)
    found = digests(first, f"*.{kind}")
    again = build(kind, tmp_path / "another" if kind == "deb" else first)
    assert found and found == digests(again, f"*.{kind}")


class Root:
    """A minimal Debian, made by debootstrap from apt's own mirror."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *command, network=False, timeout=BUILD):
        own = [] if network else ["--net"]
        return run("unshare", "--mount", "--pid", "--fork", "--mount-proc=" + str(self.path / "proc"), *own, "chroot", self.path,
                   *command, timeout=timeout, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                                                   "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"})

    def files(self):
        out = self("find", "/", "-xdev", "(", "-path", "/proc", "-o", "-path", "/dev", "-o", "-path", "/packages", ")", "-prune", "-o", "-print")
        return set(out.split("\n"))


def mirror():
    """URI and suite that apt has here."""
    lines = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages").split("\n")
    found = [line.split() for line in lines if line.endswith(" main") and not re.search("security|updates|backports", line)]
    if not found:
        pytest.skip("apt knows no mirror")
    return found[0][0], found[0][1]


@pytest.fixture(scope="module")
def root(deb, tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    needs("debootstrap", "unshare", "chroot")
    path = tmp_path_factory.mktemp("debian") / "root"
    uri, suite = mirror()
    done = subprocess.run(["debootstrap", "--variant=minbase", suite, path, uri], capture_output=True, text=True, timeout=BUILD)
    if done.returncode:
        pytest.skip(f"debootstrap cannot: {done.stdout[-300:]}")
    (path / "usr" / "sbin" / "policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (path / "usr" / "sbin" / "policy-rc.d").chmod(0o755)
    for conf in Path("/etc/apt/apt.conf.d").glob("*proxy*"):
        shutil.copy(conf, path / "etc" / "apt" / "apt.conf.d")
    for name in "resolv.conf", "hosts":
        shutil.copy(Path("/etc") / name, path / "etc" / name)
    packages = path / "packages"
    packages.mkdir()
    for file in deb.glob("*.deb"):
        if "-dbgsym" not in file.name:
            shutil.copy(file, packages)
    yield Root(path)
    shutil.rmtree(path, ignore_errors=True)


# what is apt's, dpkg's and the system's own account of a package that was there
ACCOUNTS = r"/var/(lib/(dpkg|apt|systemd)|cache|log)(/|$)|/etc/(passwd|group|shadow|gshadow|subuid|subgid|ld\.so\.cache)|/(run|tmp)(/|$)"


def strange(before, after):
    return sorted(path for path in after - before if not re.match(ACCOUNTS, path))


def plugin(folder, deb):
    """sample.so: made by the installed program's templates, built outside with what semstreams-dev has."""
    for name in "semstreams", "semstreams-dev":
        run("dpkg-deb", "-x", next(deb.glob(f"{name}_*.deb")), folder / "sdk")
    usr = folder / "sdk" / "usr"
    template = usr / "share" / "semstreams" / "sdk" / "template"
    assert template.is_dir()
    host = TREE / "build" / "inst" / "bin" / "semstreams"
    run(host, "plugins", "new", "sample", "--kind", "processor", "--dir", folder)
    base = next(usr.glob("lib/*/libsemstreams-base.a"))
    run("cc", "-std=gnu11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fvisibility=hidden", "-fPIC", "-shared", "-Wl,--exclude-libs,ALL",
        f"-I{usr}/include", "-o", folder / "sample.so", folder / "sample" / "sample.c", base, "-pthread")
    return folder / "sample.so"


RUN = """
cd /root && semstreams run --config /etc/semstreams/config.json & host=$!
i=0
until test -s /root/out.jsonl || test $i = 600; do
	bash -c 'echo "{\\"n\\": 1}" >/dev/udp/127.0.0.1/14599' 2>/dev/null
	i=$((i + 1)); sleep 0.1
done
kill -TERM $host && wait $host && test -s /root/out.jsonl
"""


def test_install_run_remove_purge(root, deb, tmp_path):
    """In a minimal Debian: installed, a stranger's plugin seen and run, removed and purged without a trace but data."""
    # what the packages need stays: it is not theirs
    wanted = run("sh", "-c", f"for f in {root.path}/packages/*.deb; do dpkg-deb -f $f Depends; done")
    names = {re.split(r"[ (|]", part.strip())[0] for part in wanted.replace("\n", ",").split(",") if part.strip()}
    names = sorted(name for name in names if not name.startswith("semstreams"))
    root("apt-get", "-q", "update", network=True)
    root("apt-get", "-q", "install", "-y", "--no-install-recommends", "adduser", "systemd", *names, network=True)
    before = root.files()

    # no network from here on
    root("sh", "-c", "dpkg -i /packages/*.deb")
    assert {line.split()[0] for line in root("semstreams", "plugins", "list").split("\n") if line} >= {
        "udp_input", "udp_output", "filter", "storage", "websocket_input", "websocket_output", "acme_tls", "step_tls", "aggregate"}
    folder = next(root.path.glob("usr/lib/*/semstreams/plugins"))
    shutil.copy(plugin(tmp_path, deb), folder)
    assert re.search(r"^sample\b", root("semstreams", "plugins", "list"), re.M)
    (root.path / "etc" / "semstreams").mkdir(exist_ok=True)
    (root.path / "etc" / "semstreams" / "config.json").write_text(json.dumps({"components": [
        {"id": "in", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": 14599}},
        {"id": "mine", "type": "sample"},
        {"id": "out", "type": "storage", "config": {"path": "/root/out.jsonl"}}]}))
    root("sh", "-c", "ip link set lo up 2>/dev/null || true; " + RUN, network=True, timeout=PATIENCE)

    packages = [file.name.split("_")[0] for file in (root.path / "packages").glob("*.deb")]
    (folder / "sample.so").unlink()
    root("dpkg", "--remove", *packages)
    assert not (root.path / "usr" / "bin" / "semstreams").exists()
    root("dpkg", "--purge", *packages)
    left = strange(before, root.files())
    assert set(left) <= {"/root/out.jsonl", "/etc/semstreams", "/etc/semstreams/config.json"}, left
    assert "/root/out.jsonl" in left
