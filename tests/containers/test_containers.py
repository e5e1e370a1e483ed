# SPDX-License-Identifier: MIT
"""The image and the compose file's six services in containers, with podman, as root and without an engine of Docker.

The image of step-ca is not to be had everywhere: one of Debian with the step-ca of tests/lab takes its place.  Debian's
own image is made by debootstrap.  What lasts, images and layers, is kept in $LAB_CACHE or build/lab.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests"))
from lab import ports, servers  # noqa: E402

yaml = pytest.importorskip("yaml")

COMPOSE = TREE / "examples" / "federation" / "compose"
CLUSTER = TREE / "examples" / "federation" / "k8s"
CACHE = Path(os.environ.get("LAB_CACHE") or TREE / "build" / "lab") / "containers"
LETTERS = "abc"
PATIENCE = 300  # s, for whatever a container has to come to
BUILD = 3600  # s, for the image, beside whatever else the machine builds
DEBIAN = "localhost/debian:12-slim"

STEP_CA = """FROM debian:12-slim
COPY step-ca step /usr/bin/
RUN useradd --uid 1000 --create-home --home-dir /home/step step && mkdir /home/step/config /home/step/certs /home/step/secrets \\
    && chown -R step /home/step
USER step
ENV STEPPATH=/home/step
"""
# step ca health --ca-url URL --root FILE
STEP = """#!/bin/bash
exec 3<>/dev/tcp/localhost/9000
"""


class Engine:
    """podman with storage, networks and state of its own."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        run = Path("/run/semstreams-test-containers")
        (folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=10000:10000", "nproc=20000:20000"]\n'
            f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{folder}/networks"\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "runc"\nevents_logger = "file"\n')
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "{os.environ.get("STORAGE_DRIVER", "overlay")}"\nrunroot = "{run}"\n'
            f'graphroot = "{folder}/graph"\n')
        self.command = ["podman"]
        self.env = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf"),
                    "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf")}

    def try_(self, *args, timeout=PATIENCE, **kwargs):
        return subprocess.run([*self.command, *map(str, args)], env=self.env, capture_output=True, text=True,
                              stdin=kwargs.pop("stdin", subprocess.DEVNULL), timeout=timeout, **kwargs)

    def __call__(self, *args, **kwargs):
        done = self.try_(*args, **kwargs)
        assert done.returncode == 0, f"podman {' '.join(map(str, args))}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def wait(self, condition, name):
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < deadline, f"gave up on {name}:\n{self.try_('logs', name).stderr[-4000:]}"
            time.sleep(0.2)  # between two commands, each of which is an answer of its own
        return found

    def is_healthy(self, name):
        return self.try_("healthcheck", "run", name).returncode == 0


@pytest.fixture(scope="module")
def engine():
    """With Debian's image; skips where containers cannot be."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    for program in ("podman", "runc", "debootstrap", "conmon"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    if not servers.has_step_ca():
        pytest.skip("step-ca's packages are not here")
    engine = Engine(CACHE)
    if engine.try_("image", "exists", DEBIAN).returncode != 0:
        root = CACHE / "debian"
        shutil.rmtree(root, ignore_errors=True)
        made = subprocess.run(["debootstrap", "--variant=minbase", "bookworm", root], capture_output=True, text=True,
                              timeout=BUILD)
        if made.returncode != 0:
            pytest.skip(f"debootstrap cannot: {made.stdout[-200:]}")
        archive = CACHE / "debian.tar"
        subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True, timeout=BUILD)
        engine("import", archive, DEBIAN, timeout=BUILD)
        shutil.rmtree(root)
        archive.unlink()
    tried = engine.try_("run", "--rm", "--network", "none", DEBIAN, "true")
    if tried.returncode != 0:
        pytest.skip(f"containers do not run here: {tried.stderr.strip()[-300:]}")
    yield engine
    engine.try_("rm", "-f", "-a", "-t", "0")
    engine.try_("volume", "prune", "-f")
    engine.try_("network", "prune", "-f")


def build(engine, folder, tag, containerfile):
    engine("build", "--isolation=oci", "--network=host", "--format", "docker", "-t", tag, "-f", containerfile, folder,
           timeout=BUILD)


@pytest.fixture(scope="module")
def images(engine, tmp_path_factory):
    """semstreams:latest from the Containerfile and what git knows of this tree, and a stand-in for step-ca's."""
    context = tmp_path_factory.mktemp("context")
    listed = subprocess.run(["git", "-C", TREE, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("needs git, to know what belongs to the tree")
    for name in filter(None, listed.stdout.split("\0")):
        if (TREE / name).is_file():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TREE / name, context / name)
    build(engine, context, "semstreams:latest", context / "examples/federation/compose/Containerfile")
    ca = tmp_path_factory.mktemp("step-ca")
    shutil.copy(servers.step_ca(), ca / "step-ca")
    (ca / "step").write_text(STEP)
    (ca / "step").chmod(0o755)
    (ca / "Containerfile").write_text(STEP_CA)
    build(engine, ca, "localhost/smallstep/step-ca:latest", ca / "Containerfile")
    return engine


class Compose:
    """What `docker compose up` would do, for the keys that the file uses."""

    def __init__(self, engine, folder, published):
        self.engine, self.folder, self.published = engine, folder, published
        self.document = yaml.safe_load((folder / "docker-compose.federation.yml").read_text())
        for network in self.document["networks"]:
            engine("network", "create", network)

    def start(self, name):
        service, options = self.document["services"][name], []
        for network, settings in service["networks"].items():
            options += ["--network", network + ":" + ",".join(f"alias={a}" for a in [*settings["aliases"], name])]
        for port in service.get("ports", []):
            if name.startswith("semstreams"):
                options += ["-p", port.replace(port.split(":")[0], f"127.0.0.1:{self.published[port]}", 1)]
        for volume in service["volumes"]:
            source, rest = volume.split(":", 1)
            options += ["-v", f"{(self.folder / source).resolve() if source[0] == '.' else source}:{rest}"]
        for key, value in service.get("sysctls", {}).items():
            options += ["--sysctl", f"{key}={value}"]
        health = service["healthcheck"]
        assert health["test"][0] == "CMD"
        options += ["--health-cmd", json.dumps(health["test"][1:]), "--health-interval", "disable",
                    "--health-timeout", health["timeout"], "--health-retries", str(health["retries"])]
        if "stop_grace_period" in service:
            options += ["--stop-timeout", service["stop_grace_period"].rstrip("s")]
        self.engine("run", "-d", "--name", service["container_name"], "--hostname", service["hostname"], *options,
                    service["image"], *service.get("command", []))
        self.engine.wait(lambda: self.engine.is_healthy(name), name)


def test_image(images):
    """The program runs, as nobody in particular, with all of its plugins, and so do the tools of the guide's commands."""
    run = lambda *args: images("run", "--rm", "--network", "none", *args)  # noqa: E731
    listed = run("semstreams:latest", "plugins", "list")
    assert all(plugin in listed for plugin in ("udp_input", "filter", "aggregate", "storage", "websocket_output", "acme_tls"))
    assert run("--entrypoint", "id", "semstreams:latest", "-u").strip() == "10001"
    for tool in ("curl", "openssl", "nslookup", "ping", "netstat"):
        assert run("--entrypoint", "/bin/sh", "semstreams:latest", "-c", f"command -v {tool}").strip(), tool


def test_three_locations(images, tmp_path):
    """A reading from outside goes through A, B and C to a file; new containers on the same volumes go on with it."""
    shutil.copytree(TREE / "examples" / "federation", tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "compose"
    for args in (["root"], *(["location", letter] for letter in LETTERS)):
        subprocess.run([tmp_path / "pki", args[0], folder / "pki", *args[1:]], check=True, timeout=PATIENCE)
    (folder / "data").mkdir()
    os.chown(folder / "data", 10001, 10001)
    for letter in LETTERS:
        os.chown(folder / "pki" / f"location-{letter}-intermediate-ca-key.pem", 1000, 1000)
    for place in (tmp_path, *tmp_path.parents):
        if place.stat().st_uid == 0 and place != Path("/") and place.is_relative_to("/tmp") and place != Path("/tmp"):
            place.chmod(0o755)
    port = ports.unused_port(socket.SOCK_DGRAM)
    compose = Compose(images, folder, {"14550:14550/udp": port, "8080:8080": ports.unused_port(), "8081:8081": ports.unused_port()})
    for name in [f"{kind}-{letter}" for kind in ("step-ca", "semstreams") for letter in LETTERS]:
        compose.start(name)
    records = folder / "data" / "data.jsonl"

    def send(number):
        reading = json.dumps({"sensor": "temperature", "value": 72.5, "n": number})

        def arrived():
            with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as s:
                s.sendto(reading.encode(), ("127.0.0.1", port))
            return records.exists() and reading in records.read_text()

        images.wait(arrived, "semstreams-c")

    def serials():
        found = [images("exec", f"semstreams-{letter}", "semstreams", "cert", "status", "--config",
                        "/etc/semstreams/config.json") for letter in LETTERS]
        return [re.findall(r"(?i)serial\S*\s+(\S+)", text) for text in found]

    send(1)
    before = serials()
    for letter in reversed(LETTERS):
        images("rm", "-f", f"semstreams-{letter}")
    for letter in LETTERS:
        compose.start(f"semstreams-{letter}")
    send(2)
    assert serials() == before and all(before), "the certificates are those of before"
    assert '"n": 1' in records.read_text()


def test_cluster(images, tmp_path):
    """The pod of the cluster's files, with `podman kube play`: it knows no StatefulSet, so a Deployment with its claim."""
    documents = [d for d in yaml.safe_load_all((CLUSTER / "semstreams.yaml").read_text()) if d["kind"] in
                 ("ConfigMap", "StatefulSet")]
    workload = next(d for d in documents if d["kind"] == "StatefulSet")
    pod = workload["spec"]["template"]["spec"]
    subprocess.run([TREE / "examples" / "federation" / "pki", "root", tmp_path], check=True, timeout=PATIENCE)
    documents.insert(0, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "federation-root"},
                         "data": {"federation-root-ca.crt": (tmp_path / "federation-root-ca.crt").read_text()}})
    claim = workload["spec"].pop("volumeClaimTemplates")[0]
    documents.insert(0, {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim})
    pod["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}})
    workload["kind"] = "Deployment"
    pod["containers"][0]["image"] = "localhost/semstreams:latest"
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    images("kube", "play", file)
    name = next(n for n in images("ps", "-a", "--format", "{{.Names}}").split() if n.endswith("-semstreams"))
    try:
        live = lambda: images.try_("exec", name, "curl", "-sf", "http://127.0.0.1:9600/livez").returncode == 0  # noqa: E731
        images.wait(live, name)
        ready = images.try_("exec", name, "curl", "-s", "http://127.0.0.1:9600/readyz").stdout
        assert json.loads(ready)  # without a CA it is not ready, and says so
    finally:
        images.try_("kube", "down", file)
