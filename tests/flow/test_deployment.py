# SPDX-License-Identifier: MIT
"""Files for containers and clusters: parsed, checked against what they are for, and run on hosts instead of in containers.

tests/containers runs them with podman.  What is not covered: docker and Kubernetes themselves, and the image of step-ca.
"""

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from acmelib import HostProgram, Pki, hosts, servers, until  # noqa: F401
from conftest import TREE
from lab import ports

yaml = pytest.importorskip("yaml")

FEDERATION = TREE / "examples" / "federation"
COMPOSE = FEDERATION / "compose" / "docker-compose.federation.yml"
CONTAINERFILE = FEDERATION / "compose" / "Containerfile"
LETTERS = "abc"


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(COMPOSE.read_text())


def mounts(service):
    """[(source, place, options)] of a service."""
    return [(*volume.split(":"), "")[:3] for volume in service["volumes"]]


def config_of(service):
    source = next(source for source, place, _ in mounts(service) if place == "/etc/semstreams/config.json")
    return json.loads((COMPOSE.parent / source).read_text())


def acmes(config):
    tls = config["security"]["tls"]
    return [tls[side]["acme"] for side in ("server", "client") if side in tls]


def test_pki(tmp_path):
    """The PKI script: the guide's names, sizes and lives, all under one root; nothing is overwritten."""
    pki = lambda *args: subprocess.run([FEDERATION / "pki", args[0], tmp_path, *args[1:]], capture_output=True, text=True,
                                       stdin=subprocess.DEVNULL)
    for args in (["root"], ["location", "a"], ["location", "a", "--new"], ["location", "d"]):
        done = pki(*args)
        assert done.returncode == 0, done.stderr
    names = ["federation-root-ca", "location-a-intermediate-ca", "location-a-intermediate-ca-new", "location-d-intermediate-ca"]
    assert {f.name for f in tmp_path.iterdir()} == {n + end for n in names for end in (".crt", "-key.pem")} | {
        "metadata.json", "federation-root-ca.index"}
    for name, bits, days, length in zip(names, (4096, 2048, 2048, 2048), (1825, 365, 365, 365), (2, 0, 0, 0)):
        crt = tmp_path / f"{name}.crt"
        text = subprocess.run(["openssl", "x509", "-in", crt, "-noout", "-text"], check=True, text=True,
                              stdout=subprocess.PIPE).stdout
        assert f"Public-Key: ({bits} bit)" in text and f"CA:TRUE, pathlen:{length}" in text
        assert "Certificate Sign, CRL Sign" in text
        at = [subprocess.run(["openssl", "x509", "-in", crt, "-noout", "-checkend", str(seconds)]).returncode
              for seconds in (days * 86400 - 3600, days * 86400 + 3600)]
        assert at == [0, 1]
        subprocess.run(["openssl", "verify", "-CAfile", tmp_path / "federation-root-ca.crt", crt], check=True)
        assert (tmp_path / f"{name}-key.pem").stat().st_mode & 0o777 == 0o600
    before = {f: f.read_bytes() for f in tmp_path.iterdir()}
    for args in (["root"], ["location", "a"], ["location"], ["location", "../x"], ["nonsense"]):
        assert pki(*args).returncode != 0
    assert {f: f.read_bytes() for f in tmp_path.iterdir()} == before
    assert "Fingerprint=" in pki("show").stdout


def test_where_the_guides_err(tmp_path):
    """docs/guides.md on openssl and csplit: what the guides' commands do, and what those given instead do."""
    run = lambda *args, **more: subprocess.run(args, cwd=tmp_path, capture_output=True, text=True,  # noqa: E731
                                               stdin=subprocess.DEVNULL, timeout=60, **more)
    for args in (["root", "."], ["location", ".", "a"]):
        assert run(FEDERATION / "pki", *args).returncode == 0
    root, ca = "federation-root-ca.crt", "location-a-intermediate-ca"
    assert run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "leaf.key", "-out", "leaf.csr",
               "-subj", "/CN=localhost").returncode == 0
    assert run("openssl", "x509", "-req", "-in", "leaf.csr", "-CA", f"{ca}.crt", "-CAkey", f"{ca}-key.pem", "-CAcreateserial",
               "-out", "leaf.pem").returncode == 0
    (tmp_path / "chain.pem").write_text((tmp_path / "leaf.pem").read_text() + (tmp_path / f"{ca}.crt").read_text())
    for wrong in ("leaf.pem", "chain.pem"):
        assert "unable to get local issuer" in run("openssl", "verify", "-CAfile", root, wrong).stderr
        assert run("openssl", "verify", "-CAfile", root, "-untrusted", "chain.pem", wrong).returncode == 0

    def connect(*options):
        """What client and server say of a handshake with a certificate asked for."""
        port = ports.unused_port()
        server = subprocess.Popen(["openssl", "s_server", "-accept", str(port), "-cert", "chain.pem", "-key", "leaf.key",
                                   "-cert_chain", f"{ca}.crt", "-CAfile", root, "-Verify", "2", "-verify_return_error", "-tls1_2",
                                   "-www"], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
        try:
            assert any("ACCEPT" in line for line in server.stdout)
            client = run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", root, "-showcerts", "-cert",
                         "chain.pem", "-key", "leaf.key", *options)
            return client.returncode, client.stdout
        finally:
            server.kill()
            server.communicate()

    assert connect()[0] != 0
    code, shown = connect("-cert_chain", "chain.pem")
    assert code == 0, shown
    (tmp_path / "shown.pem").write_text(shown)
    assert run("csplit", "-z", "-f", "cert-", "shown.pem", "/-----BEGIN CERTIFICATE-----/", "{*}").returncode == 0
    subjects = [run("openssl", "x509", "-in", f"cert-0{i}", "-noout", "-subject").stdout for i in range(3)]
    assert subjects[0] == "" and "localhost" in subjects[1] and "Intermediate CA" in subjects[2]
    assert not (tmp_path / "cert-03").exists()


# ---- compose -----------------------------------------------------------------------------------------------


def test_compose_is_complete(compose):
    """What is named is there, and what is there is used."""
    services = compose["services"]
    assert sorted(services) == sorted([f"{kind}-{letter}" for kind in ("semstreams", "step-ca") for letter in LETTERS])
    named = {source for service in services.values() for source, _, _ in mounts(service) if not source.startswith(".")}
    assert named == set(compose["volumes"])
    for name, service in services.items():
        assert set(service.get("depends_on", [])) <= set(services)
        assert service["networks"]["semstreams-federation"]["aliases"] == [f"{name}.local"] == [service["hostname"]]
        for source, place, options in mounts(service):
            if source.startswith("./pki/"):
                assert options == "ro" and re.fullmatch(
                    r"\./pki/(federation-root-ca\.crt|location-[abc]-intermediate-ca(\.crt|-key\.pem))", source)
            elif source.startswith(".") and source != "./data":
                assert (COMPOSE.parent / source).is_file(), source
    assert "14550:14550/udp" in services["semstreams-a"]["ports"]
    assert not any("DOCKER_STEPCA_INIT" in str(service.get("environment")) for service in services.values())


def test_compose_keeps_what_must_be_kept(compose):
    """All that a location writes lies on a volume, the client's state too."""
    for letter in LETTERS:
        service = compose["services"][f"semstreams-{letter}"]
        config = config_of(service)
        kept = [place for _, place, options in mounts(service) if options != "ro"]
        written = [acme["storage_path"] for acme in acmes(config)]
        for component in config["components"]:
            options = component["config"]
            written += [options["spool"]["path"]] if "spool" in options else []
            written += [options["path"]] if component["type"] == "storage" else []
        for path in written:
            assert any(path == place or path.startswith(f"{place}/") for place in kept), (letter, path)
        for acme in acmes(config):
            ca = json.loads((COMPOSE.parent / f"step-ca-{letter}.json").read_text())
            host, provisioner = re.fullmatch(r"https://([^:]+):9000/acme/([^/]+)/directory", acme["directory_url"]).groups()
            assert host in ca["dnsNames"] and "localhost" in ca["dnsNames"]  # the second for the health check
            assert {"type": "ACME", "name": provisioner} in ca["authority"]["provisioners"]


def test_compose_runs_on_hosts(compose, hosts, semstreams, tmp_path):
    """Each service on a host, with its mounts, names and ports; a reading goes from A's port to C's folder."""
    if not servers.has_step_ca():
        pytest.skip("step-ca's packages are not here")
    place = tmp_path / "compose"
    shutil.copytree(FEDERATION, tmp_path, dirs_exist_ok=True)
    (place / "data").mkdir()
    for args in (["root", place / "pki"], *(["location", place / "pki", letter] for letter in LETTERS)):
        subprocess.run([tmp_path / "pki", *args], check=True)
    running = []
    try:
        for name in sorted(compose["services"], reverse=True):  # CAs first
            service = compose["services"][name]
            at = {}
            for source, target, _ in mounts(service):
                file = place / source if source.startswith(".") else tmp_path / "volumes" / source
                if not source.startswith("."):
                    file.mkdir(parents=True)
                at[target] = file
            folders = sorted(at.items())  # what is mounted below something comes after it
            host = hosts.add(service["hostname"], name, mounts=dict(folders))
            if name.startswith("step-ca"):
                assert service["command"][0] == "step-ca"
                with open(tmp_path / f"{name}.log", "wb") as log:
                    ca = host.popen(servers.step_ca(), *service["command"][1:], stdout=log, stderr=log,
                                    env={"STEPPATH": "/home/step"})
                running.append(ca)
                until(lambda: host.run("curl", "-sf", "--cacert", "/home/step/certs/root_ca.crt",
                                       "https://localhost:9000/health").stdout == '{"status":"ok"}\n', name)
            else:
                folder = tmp_path / name
                folder.mkdir()
                running.append(HostProgram(host, semstreams, folder, None, name="/etc/semstreams/config.json"))
        a = hosts["semstreams-a.local"]
        records = place / "data" / "data.jsonl"
        reading = '{"sensor": "temperature", "value": 72.5}\n'

        def arrived():
            with a.socket(socket.SOCK_DGRAM) as s:
                s.sendto(reading.encode(), (a.address, 14550))
            return records.exists() and reading in records.read_text()

        until(arrived, "the reading")
    finally:
        for process in reversed(running):
            if isinstance(process, HostProgram):
                process.close()
            else:
                process.kill()
                process.wait()


# ---- image -------------------------------------------------------------------------------------------------


def stages():
    """[(instructions, text of the stage)] of the Containerfile."""
    text = CONTAINERFILE.read_text().replace("\\\n", " ")
    return ["FROM" + stage for stage in re.split(r"^FROM", text, flags=re.M)[1:]]


def test_image_has_the_libraries(semstreams):
    """The packages that the program's libraries are in, and no other libraries; it is built without NATS."""
    if not shutil.which("dpkg-query"):
        pytest.skip("no dpkg here")
    described = subprocess.run([semstreams, "plugins", "list", "--json"], check=True, stdout=subprocess.PIPE, text=True)
    helpers = Path(semstreams).resolve().parents[1] / "libexec" / "semstreams"
    files = {semstreams, *map(str, helpers.glob("*")),
             *(plugin["file"] for plugin in json.loads(described.stdout) if "file" in plugin and not plugin["type"].startswith("nats_"))}
    libraries = set()
    for file in files:
        ldd = subprocess.run(["ldd", file], check=True, stdout=subprocess.PIPE, text=True).stdout
        needed = re.findall(r"NEEDED\s+(\S+)", subprocess.run(["objdump", "-p", file], check=True, stdout=subprocess.PIPE,
                                                              text=True).stdout)
        libraries |= {path for name, path in re.findall(r"(\S+) => (\S+)", ldd) if name in needed}
    owners = set()
    for library in libraries:
        for path in (library, str(Path(library).resolve()), library.replace("/lib/", "/usr/lib/", 1)):
            found = subprocess.run(["dpkg-query", "-S", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            if found.returncode == 0:
                owners.add(found.stdout.split(":")[0])
                break
    installed = set(re.findall(r"[a-z0-9+.-]+", stages()[1].split("install -y")[1].split("&&")[0]))
    assert owners - {"libc6", "libgcc-s1"} <= installed, "missing in the image"
    # libwebsockets loads its event loop by itself
    extra = {"bind9-dnsutils", "ca-certificates", "curl", "iputils-ping", "net-tools", "openssl",
             "no-install-recommends", "--no-install-recommends", "libwebsockets-evlib-ev", "libev4"}
    assert installed - owners <= extra, "not needed in the image"


def test_image_is_built_from_the_tree():
    build, run = stages()
    wanted = set(re.findall(r"lib\S+-dev\S*", build))
    readme = (TREE / "README.md").read_text()
    assert wanted - set(re.findall(r"lib\S+-dev\S*", readme)) <= {"libcurl4-openssl-dev"}
    assert "/data/acme-certs" in run and "USER semstreams" in run and "ln -s output/data.jsonl /data/output.jsonl" in run
    assert "9600/readyz" in run


# ---- cluster -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    documents = [d for name in ("step-ca.yaml", "semstreams.yaml")
                 for d in yaml.safe_load_all((FEDERATION / "k8s" / name).read_text())]
    found = {(d["kind"], d["metadata"]["name"]): d for d in documents}
    assert len(found) == len(documents)
    return found


def test_cluster_fits_together(cluster):
    """Labels, ports, volumes and names that must agree."""
    workloads = [d for (kind, _), d in cluster.items() if kind in ("Deployment", "StatefulSet")]
    for workload in workloads:
        spec, pod = workload["spec"], workload["spec"]["template"]["spec"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == labels
        container = pod["containers"][0]
        volumes = {v["name"] for v in pod["volumes"]} | {c["metadata"]["name"] for c in spec.get("volumeClaimTemplates", [])}
        assert {m["name"] for m in container["volumeMounts"]} == volumes
        for volume in pod["volumes"]:
            if "configMap" in volume and volume["configMap"]["name"] not in ("step-ca-certs", "federation-root"):
                assert ("ConfigMap", volume["configMap"]["name"]) in cluster
        ports = {p["name"] for p in container["ports"]}
        for probe in ("readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] in ports
        services = [d for (kind, _), d in cluster.items() if kind == "Service" and d["spec"]["selector"] == labels]
        assert services
        for service in services:
            assert service["metadata"]["namespace"] == workload["metadata"]["namespace"]
            assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports
    assert all(("Namespace", d["metadata"].get("namespace", d["metadata"]["name"])) in cluster for d in cluster.values())


def test_cluster_configurations(cluster, hosts, command, tmp_path, semstreams):
    """The configurations in the manifests are good ones, and fit each other."""
    ca = json.loads(cluster["ConfigMap", "step-ca-config"]["data"]["ca.json"])
    config = cluster["ConfigMap", "semstreams-a"]["data"]["config.json"]
    acme = acmes(json.loads(config))[0]
    host = re.fullmatch(r"https://([^:]+):9000/acme/acme/directory", acme["directory_url"])[1]
    assert host in ca["dnsNames"] and host == "step-ca.semstreams-pki.svc.cluster.local"
    assert acme["domains"] == ["semstreams-a.semstreams.svc.cluster.local"]
    service = cluster["Service", "semstreams-a"]["spec"]
    assert service["publishNotReadyAddresses"] and 80 in [p["port"] for p in service["ports"]]
    file, root = tmp_path / "config.json", tmp_path / "certs"
    file.write_text(config)
    root.mkdir()
    shutil.copy(Pki(tmp_path / "pki").ca_file, root / "federation-root-ca.crt")
    (tmp_path / "data").mkdir()
    place = hosts.add("pod", mounts={"/certs": root, "/data": tmp_path / "data"})
    done = place.run(semstreams, "check", "--config", file)
    assert done.returncode == 0, done.stderr
