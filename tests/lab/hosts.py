# SPDX-License-Identifier: MIT
"""Several hosts on one machine: namespaces with names, addresses, folders and all ports of their own.

    with Hosts(folder) as hosts:
        a = hosts.add("semstreams-a.local", mounts={"/data": folder / "a"})
        a.run("ip", "addr", check=True)

Each host is a process that holds its namespaces (network, mounts, host name) and does nothing else; all are plugged into
a switch, a bridge in a namespace of its own.  There is no way out.  Nothing of the machine is changed, and everything is
gone when the last process is: neither root is needed, if user namespaces are allowed, nor a clean-up after a crash.
"""

import functools
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

NETWORK = "10.77.0."
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# in front of a command: it ends when we do, however we end
WITH_US = ["setpriv", "--pdeathsig", "KILL"]

# A root with everything that is there and the places to mount on; unbindable, or /tmp would come to hold itself.
# Symbolic links of / (bin, lib) stay links.  A directory in which a place is missing gets a layer on top.
SETUP = r"""
set -eu
root=$1 name=$2
shift 2
hostname "$name"
ip link set lo up
mount -t tmpfs -o mode=755 tmpfs "$root"
mount --make-unbindable "$root"
mkdir "$root/.layers"
mount -t tmpfs tmpfs "$root/.layers"
layered=" "
for pair; do
	place=${pair%%=*}
	top=${place#/}
	top=${top%%/*}
	[ -e "$place" ] || ! [ -d "/$top" ] || layered="$layered$top "
done
for entry in /*; do
	at=$root$entry
	if [ -L "$entry" ]; then cp -P "$entry" "$at"
	elif [ -d "$entry" ]; then
		mkdir "$at"
		case $layered in
		*" ${entry#/} "*)
			mkdir -p "$root/.layers$entry/upper" "$root/.layers$entry/work"
			mount -t overlay -o "lowerdir=$entry,upperdir=$root/.layers$entry/upper,workdir=$root/.layers$entry/work" \
				overlay "$at" ;;
		*) mount --rbind "$entry" "$at" ;;
		esac
	fi
done
for pair; do
	at=$root${pair%%=*} from=${pair#*=}
	if ! [ -e "$at" ]; then
		if [ -d "$from" ]; then mkdir -p "$at"; else mkdir -p "${at%/*}"; : >"$at"; fi
	fi
	mount --bind "$from" "$at"
done
exec chroot "$root" sh -c 'echo up; exec cat'
"""

# Makes sockets for us, which stay in its network wherever they are used.
BROKER = """
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as us:
    while kind := us.recv(1):
        with socket.socket(socket.AF_INET, kind[0]) as s:
            socket.send_fds(us, [b"s"], [s.fileno()])
"""


@functools.lru_cache(maxsize=None)
def reason_not():
    """Why there can be no such hosts here; None if there can."""
    for program in ("ip", "unshare", "nsenter", "setpriv", "hostname"):
        if not shutil.which(program, path=PATH):
            return f'the program "{program}" is missing'
    done = subprocess.run([*unshare(), "sh", "-c", "mount -t tmpfs tmpfs /mnt && ip link add br0 type bridge && "
                           "ip link add p0 type veth peer name p1"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return f"no namespaces here: {done.stderr.strip()}" if done.returncode else None


def unshare(*more):
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", "--mount", "--uts", "--propagation", "private", *more]


def enter(pid, *more):
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    return ["nsenter", "--target", str(pid), *user, "--net", "--mount", "--uts", *more]


def environment(folder, env=None):
    """What programs on hosts get: nothing of ours, where SSL_CERT_FILE and its kin may be set."""
    return {"PATH": PATH, "HOME": str(folder), "LANG": "C.UTF-8", **(env or {})}


def hold(command):
    """Start a process that says "up" and then waits for the end of its input."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)  # Ctrl-C is not for it
    if process.stdout.readline() != "up\n":
        process.stdin.close()
        raise RuntimeError(f"no namespace: {process.stderr.read().strip()}")
    return process


def release(process):
    process.stdin.close()
    process.wait()
    process.stdout.close()
    process.stderr.close()


class Host:
    """One of them; .name, .address.  Its servers bind to any address, at their usual ports."""

    bind, shift = "", 0

    def __init__(self, hosts, name, number, mounts):
        self.name, self.address, self._hosts, self._port = name, f"{NETWORK}{number}", hosts, f"p{number}"
        self.folder = hosts.folder / name
        root = self.folder / "root"
        root.mkdir(parents=True, exist_ok=True)
        mounts = {"/etc/hosts": hosts.names, "/etc/resolv.conf": hosts.resolver, **mounts}
        pairs = [f"{place}={Path(source).resolve()}" for place, source in mounts.items()]
        self._broker = None
        self._process = hold([*hosts.inside(), *unshare_again(), "sh", "-c", SETUP, "host", str(root), name, *pairs])
        self.pid = self._process.pid
        hosts.switch(f"ip link add {self._port} type veth peer name eth0 netns {self.pid}",
                     f"ip link set {self._port} master br0 up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0", check=True)
        self.run("ip", "link", "set", "eth0", "up", check=True)

    def command(self, *argv, cwd=None):
        """The command line that runs argv here; to be given environment()."""
        return [*enter(self.pid, "--root"), *WITH_US, "env", "-C", str(cwd or self.folder), *map(str, argv)]

    def popen(self, *argv, cwd=None, env=None, **kwargs):
        """Start a process.  Its pid is that of argv: nothing stands between."""
        kwargs = {"stdin": subprocess.DEVNULL, "start_new_session": True, **kwargs}
        return subprocess.Popen(self.command(*argv, cwd=cwd), env=environment(self.folder, env), **kwargs)

    def run(self, *argv, timeout=60, check=False, **kwargs):
        """Run it to its end; CompletedProcess with text in stdout and stderr."""
        text = kwargs.pop("input", None)
        kwargs["stdin"] = subprocess.DEVNULL if text is None else subprocess.PIPE
        with self.popen(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs) as process:
            try:
                out, err = process.communicate(text, timeout)
            except BaseException:
                process.kill()
                raise
        if check and process.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(map(str, argv))}: {err.strip() or out.strip()}")
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def socket(self, kind=socket.SOCK_STREAM):
        """A new IPv4 socket of this host, for us: it connects and binds as if we were there."""
        if not self._broker:
            ours, theirs = socket.socketpair()
            with theirs:
                self._broker = (ours, self.popen(sys.executable, "-c", BROKER, str(theirs.fileno()),
                                                 pass_fds=[theirs.fileno()]))
        ours = self._broker[0]
        ours.send(bytes([kind]))
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        return socket.socket(fileno=descriptors[0])

    def cut(self):
        """Pull the plug: what is sent is lost, connections do not notice."""
        self._hosts.switch(f"ip link set {self._port} down")

    def plug(self):
        self._hosts.switch(f"ip link set {self._port} up")

    def close(self):
        if self._broker:
            self._broker[0].close()
            self._broker[1].wait()
        release(self._process)


def unshare_again():
    """Namespaces of its own for a process that has come into those of the switch, its user namespace included."""
    return ["unshare", "--net", "--mount", "--uts", "--propagation", "private"]


class Hosts:
    """The switch and what is plugged in.  folder: for hosts' files, removed by nobody."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.names = self.folder / "hosts"
        self.names.write_text("127.0.0.1 localhost\n::1 localhost\n")
        self.resolver = self.folder / "resolv.conf"
        self.resolver.write_text("# nobody to ask: names are in /etc/hosts\noptions timeout:1 attempts:1\n")
        self._members = []
        self._switch = hold([*unshare(), "sh", "-c", "ip link add br0 type bridge && ip link set br0 up && echo up && "
                             "exec cat"])

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __getitem__(self, name):
        return next(host for host in self._members if host.name == name)

    def inside(self):
        return enter(self._switch.pid)

    def switch(self, *commands):
        subprocess.run([*self.inside(), "sh", "-e", "-c", "\n".join(commands)], check=True, stdin=subprocess.DEVNULL)

    def add(self, name, *aliases, mounts=None):
        """A new host, known to all by its names.  mounts: {path on the host: folder or file of the machine}."""
        number = 10 + len(self._members)
        host = Host(self, name, number, mounts or {})
        self._members.append(host)
        self.know(host.address, name, *aliases)
        return host

    def know(self, address, *names):
        """A line of everybody's /etc/hosts; the file is written in place, as it is mounted."""
        with open(self.names, "a") as file:
            print(address, *names, file=file)

    def close(self):
        for host in self._members:
            host.close()
        self._members = []
        if self._switch.poll() is None:
            release(self._switch)
