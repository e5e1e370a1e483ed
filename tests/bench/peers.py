# SPDX-License-Identifier: MIT
"""The programs that are compared: how each is configured to put UDP datagrams into a file."""
import json
import os
import shutil


class Peer:
    """One way to run one program.  command(port, out, keep) writes its files into self.dir."""

    def __init__(self, name, directory, tools):
        self.name, self.dir, self.tools = name, directory, tools
        os.makedirs(directory, exist_ok=True)

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def available(self):
        return True


class Limit(Peer):
    def command(self, port, out, keep):
        return [self.tools["udp_limit"], str(port), out] + (["temperature"] if keep else [])


class Semstreams(Peer):
    """program: its path; options: of udp_input; shared: all components on one thread by name, else as the program likes."""

    def __init__(self, name, directory, tools, program, options=None, shared=False):
        super().__init__(name, directory, tools)
        self.program, self.options, self.shared = program, options or {}, shared

    def command(self, port, out, keep):
        worker = {"worker": "all"} if self.shared else {}
        components = [{"id": "udp", "type": "udp_input", **worker,
                       "config": {"port": port, "bind": "127.0.0.1", **self.options}}]
        if keep:
            components.append({"id": "hot", "type": "filter", **worker,
                               "config": {"where": {"field": "sensor", "op": "eq", "value": "temperature"}}})
        components.append({"id": "file", "type": "storage", **worker,
                           "config": {"path": out, "sync": "relaxed"}})
        config = {"components": components, "admin": {"listen": "127.0.0.1:0"}, "log": {"level": "warn"}}
        return [self.program, "--config", self.write("config.json", json.dumps(config, indent=2))]


class Rsyslog(Peer):
    def available(self):
        return shutil.which("rsyslogd", path="/usr/sbin:/usr/bin") is not None

    def command(self, port, out, keep):
        write = f'action(type="omfile" file="{out}" template="raw")'
        if keep:
            rules = ('action(type="mmjsonparse" cookie="" useRawMsg="on")\n'
                     f'if $!sensor == "temperature" then {write}')
        else:
            rules = write
        text = f'''
global(workDirectory="{self.dir}" maxMessageSize="64k")
module(load="imudp" batchSize="128" timeRequery="8")
{'module(load="mmjsonparse")' if keep else ''}
template(name="raw" type="string" string="%rawmsg%\\n")
ruleset(name="r") {{
{rules}
}}
input(type="imudp" address="127.0.0.1" port="{port}" ruleset="r" rcvbufSize="8m")
'''
        return ["/usr/sbin/rsyslogd", "-n", "-f", self.write("rsyslog.conf", text),
                "-i", os.path.join(self.dir, "pid")]


class SyslogNg(Peer):
    """From the PATH, or from an unpacked package below $SYSLOG_NG_ROOT."""

    def __init__(self, *args):
        super().__init__(*args)
        self.root = os.environ.get("SYSLOG_NG_ROOT", "")

    def binary(self):
        return (self.root or "") + "/usr/sbin/syslog-ng"

    def available(self):
        return os.path.exists(self.binary())

    def environment(self):
        if not self.root:
            return {}
        lib = self.root + "/usr/lib"
        return {"LD_LIBRARY_PATH": f"{lib}/syslog-ng:{lib}/x86_64-linux-gnu"}

    def command(self, port, out, keep):
        parse = 'parser { json-parser(prefix(".json.")); };\n  filter { "${.json.sensor}" eq "temperature" };' if keep else ""
        include = f'@define scl-root "{self.root}/usr/share/syslog-ng/include/scl"\n'
        text = f'''@version: 3.38
{include}options {{ stats-freq(0); create-dirs(no); log-msg-size(65536); flush-lines(100); }};
source s {{ network(transport("udp") ip("127.0.0.1") port({port}) so-rcvbuf(8388608) flags(no-parse)
                   log-fetch-limit(1000) log-iw-size(10000)); }};
destination d {{ file("{out}" template("${{MSG}}\\n")); }};
log {{
  source(s);
  {parse}
  destination(d);
}};
'''
        command = [self.binary(), "-F", "--no-caps", "-f", self.write("syslog-ng.conf", text),
                   "-p", f"{self.dir}/pid", "-R", f"{self.dir}/persist", "-c", f"{self.dir}/ctl"]
        if self.root:
            command += ["--module-path", self.root + "/usr/lib/syslog-ng/3.38"]
        return command
