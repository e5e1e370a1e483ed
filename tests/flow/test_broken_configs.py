# SPDX-License-Identifier: MIT
"""Broken configurations: each mistake is told with its place and reason, all of them at once, and nothing else.

The files are in broken/; what a text file cannot hold is made here.  Places are line:column, columns in bytes.
"""

import json
import os
import re
import stat
import subprocess

import pytest

BROKEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "broken")
EXIT_CONFIG = 78

# name of the file: every problem it has, as (place, pointer, piece of the text)
CASES = {
    "comment-line": [("3:68", "/components", "comments are not allowed in JSON")],
    "comment-block": [("2:3", "", "comments are not allowed in JSON")],
    "comment-hash": [("1:1", "", "comments are not allowed in JSON")],
    "trailing-comma-array": [("4:91", "/components", "trailing comma before ]")],
    "trailing-comma-object": [("4:62", "/components/1/config", "trailing comma before }")],
    "comma-missing": [("3:66", "/components", "a comma is missing here")],
    "comma-missing-member": [("4:18", "/components/1", "a comma is missing here")],
    "comma-twice": [("3:67", "/components/1", "unexpected \",\"; expected a value")],
    "colon-missing": [("4:11", "/components/1/id", "expected a colon (:)")],
    "equals-sign": [("4:11", "/components/1/id", "a colon (:) between name and value")],
    "value-missing": [("4:58", "/components/1/config/path", "expected a value")],
    "single-quotes-name": [("3:6", "/components/0", "not single quotes")],
    "single-quotes-value": [("3:12", "/components/0/id", "not single quotes")],
    "typographic-quotes": [("3:12", "/components/0/id", "typographic quotation mark")],
    "name-unquoted": [("3:6", "/components/0", "is a double quote (\") missing?")],
    "value-unquoted": [("3:12", "/components/0/id", "a string needs double quotes")],
    "quote-missing-end": [("3:12", "/components/0/id", "this string is not closed")],
    "quote-missing-name": [("3:12", "/components/0/id: ", "is a double quote (\") missing?")],
    "dots": [("4:5", "/components", "\"...\" is a placeholder")],
    "tab-in-string": [("4:63", "/components/1/config/path", "control character 0x09 in a string: write \\u0009 or \\t")],
    "escape-unknown": [("4:63", "/components/1/config/path", "a backslash itself is written \\\\")],
    "escape-nul": [("4:64", "/components/1/config/path", "\\u0000 (NUL) is not allowed")],
    "surrogate-half": [("4:64", "/components/1/config/path", "unpaired surrogate")],
    "bracket-wrong": [("5:3", "/components", "expected a comma or ]")],
    "bracket-missing": [("6:1", "", "the object that starts at 1:1 is not closed")],
    "bracket-array-missing": [("6:1", "/components", "expected a comma or ]")],
    "bracket-too-many": [("7:1", "", "one closing bracket too many?")],
    "two-documents": [("7:1", "", "text after the end of the document")],
    "cut-off": [("4:39", "/components/1", "the object that starts at 4:5 is not closed")],
    "not-an-object": [("1:1", "", "expected an object, got an array")],
    "just-a-string": [("1:1", "", "expected an object, got \"components\"")],
    "nothing-but-blanks": [("4:1", "", "the file is empty")],
    "yaml": [("1:1", "", "a string needs double quotes")],
    "number-leading-zero": [("3:59", "/components/0/config/port", "must not start with 0")],
    "number-plus": [("3:59", "/components/0/config/port", "no plus sign")],
    "number-hex": [("3:59", "/components/0/config/port", "hexadecimal")],
    "number-point": [("3:59", "/components/0/config/port", "write 0 before the point")],
    "number-unit": [("4:79", "/components/1/config/rotate_size", "write values with a unit in double quotes")],
    "number-nan": [("3:59", "/components/0/config/port", "NaN is not a JSON number")],
    "word-python": [("3:58", "/components/0/config/gro", "write true in lower case")],
    "word-yes": [("3:58", "/components/0/config/gro", "write true")],
    "components-missing": [("1:1", "", "\"components\" is missing")],
    "components-empty": [("1:16", "/components", "at least one component")],
    "components-object": [("1:16", "/components", "expected an array, got an object")],
    "top-key-unknown": [("6:3", "/plugin", "unknown key \"plugin\"; did you mean \"plugins\"?")],
    "top-key-twice": [("7:3", "/log", "duplicate key \"log\", first at 6:3")],
    "security-string": [("6:15", "/security", "expected an object, got \"tls\"")],
    "plugins-paths-string": [("6:24", "/plugins/paths", "expected an array, got \"/opt/plugins\"")],
    "admin-port-number": [("6:23", "/admin/listen", "expected a string, got 9600; put it in double quotes")],
    "admin-no-port": [("6:23", "/admin/listen", "expected \"host:port\"")],
    "admin-port-large": [("6:23", "/admin/listen", "expected \"host:port\"")],
    "log-level": [("6:20", "/log/level", "expected \"error\", \"warn\", \"info\" or \"debug\", got \"warnings\"")],
    "log-format": [("6:21", "/log/format", "did you mean \"json\"?")],
    "log-key": [("6:11", "/log/lvl", "unknown key \"lvl\"; known: level, format")],
    "component-string": [("4:5", "/components/1", "expected an object, got \"storage\"")],
    "component-null": [("4:5", "/components/1", "expected an object, got null")],
    "id-missing": [("3:5", "/components/0", "\"id\" is missing")],
    "id-number": [("3:12", "/components/0/id", "expected a string, got 1")],
    "id-empty": [("3:12", "/components/0/id", "expected 1 to 63 letters")],
    "id-blank": [("3:12", "/components/0/id", "expected 1 to 63 letters")],
    "id-umlaut": [("3:12", "/components/0/id", "expected 1 to 63 letters")],
    "id-long": [("3:12", "/components/0/id", "expected 1 to 63 letters")],
    "id-duplicate": [("5:12", "/components/2/id", "duplicate id \"udp\", first at 3:12")],
    "type-missing": [("3:5", "/components/0", "\"type\" is missing")],
    "type-unknown": [
        ("3:27", "/components/0/type", "unknown type \"udp_inputs\"; did you mean \"udp_input\"?"),
        ("3:41", "/components/0/config", "not checked")],
    "type-path": [("3:27", "/components/0/type", "lower-case letters, digits")],
    "type-capitals": [("3:27", "/components/0/type", "lower-case letters, digits")],
    "worker-list": [("3:77", "/components/0/worker", "expected a string, got an array")],
    "config-array": [("3:50", "/components/0/config", "expected an object, got an array")],
    "component-key-unknown": [("3:40", "/components/0/options", "unknown key \"options\"; known: id, type, config, inputs, worker, queue")],
    "component-key-twice": [("3:40", "/components/0/id", "duplicate key \"id\", first at 3:6")],
    "input-unknown": [("4:103", "/components/1/inputs/0", "unknown component \"upd\"; did you mean \"udp\"?")],
    "input-number": [("4:103", "/components/1/inputs/0", "expected the id of a component, got 0")],
    "input-no-from": [("4:103", "/components/1/inputs/0", "\"from\" is missing")],
    "input-key": [("4:119", "/components/1/inputs/0/queues", "did you mean \"queue\"?")],
    "input-twice": [("4:110", "/components/1/inputs/1", "this output is listed twice")],
    "input-itself": [("4:110", "/components/1/inputs/1", "\"disk\" reads from itself")],
    "input-port": [("4:103", "/components/1/inputs/0", "one output, without a name: write \"udp\"")],
    "input-of-source": [("3:67", "/components/0/inputs", "\"udp\" takes no input: it is a source")],
    "input-from-sink": [("5:52", "/components/2/inputs/0", "\"disk\" has no output: it is a sink")],
    "cycle-two": [("5:46", "/components/2/inputs/0", "the inputs form a cycle: a -> b -> a")],
    "cycle-by-order": [("4:46", "/components/1/inputs/0", "reads from the one before it")],
    "queue-events-zero": [("4:112", "/components/1/queue/events", "expected an integer from 1 to 1000000000, got 0")],
    "queue-bytes-negative": [("4:111", "/components/1/queue/bytes", "expected a size from 1 to 1TiB")],
    "queue-overflow": [("4:141", "/components/1/inputs/0/queue/overflow", "did you mean \"drop_oldest\"?")],
    "queue-number": [("4:101", "/components/1/queue", "expected an object, got 1000")],
    "option-unknown": [("3:51", "/components/0/config/prot", "unknown key \"prot\"; did you mean \"port\"?")],
    "option-twice": [("3:62", "/components/0/config/port", "duplicate key \"port\"")],
    "option-missing": [("4:49", "/components/1/config", "\"path\" is missing")],
    "option-missing-config": [("4:5", "/components/1", "\"path\" is missing")],
    "option-string-for-int": [("3:59", "/components/0/config/port", "write numbers without quotes")],
    "option-null": [("3:59", "/components/0/config/port", "leave the key out for its default")],
    "option-fraction": [("3:59", "/components/0/config/port", "an integer has no decimal point")],
    "option-exponent": [("3:59", "/components/0/config/port", "an integer has no exponent")],
    "option-too-large": [("3:59", "/components/0/config/port", "expected an integer from 0 to 65535, got 65536")],
    "option-negative": [("3:59", "/components/0/config/port", "expected an integer from 0 to 65535, got -1")],
    "option-huge": [("3:59", "/components/0/config/port", "expected an integer from 0 to 65535, got 18446744073709566166")],
    "option-huge-size": [("4:79", "/components/1/config/rotate_size", "expected a size")],
    "option-bool-number": [("3:58", "/components/0/config/gro", "expected true or false, got 1")],
    "option-bool-string": [("3:58", "/components/0/config/gro", "write true and false without quotes")],
    "option-enum": [("4:72", "/components/1/config/sync", "did you mean \"always\"?")],
    "option-duration-number": [("4:78", "/components/1/config/retain_age", "a duration is a string with a unit")],
    "option-duration-blank": [("4:78", "/components/1/config/retain_age", "expected a duration")],
    "option-size-unit": [("4:79", "/components/1/config/rotate_size", "expected a size")],
    "option-path-number": [("4:58", "/components/1/config/path", "expected a string, got 17")],
    "option-nested": [("4:82", "/components/1/config/where/op", "did you mean \"gt\"?")],
    "env-unset": [("4:58", "/components/1/config/path", "environment variable SEMSTREAMS_TEST_UNSET is not set")],
    "env-form": [("4:58", "/components/1/config/path", "a reference is written ${env:NAME}")],
    "env-open": [("4:58", "/components/1/config/path", "a reference is written ${env:NAME}")],
    "file-missing": [("4:67", "/components/1/config/path/file", "cannot take \"/nonexistent/secret\": No such file or directory")],
    "file-folder": [("4:67", "/components/1/config/path/file", "cannot take \"/\": Is a directory")],
    "file-for-number": [("3:59", "/components/0/config/port", "got an object")],
    "security-env-unset": [("6:47", "/security/tls/server/key_file", "environment variable ")],
    "many-at-once": [
        ("3:59", "/components/0/config/port", "expected an integer"),
        ("3:64", "/components/0/config/prot", "unknown key"),
        ("4:12", "/components/1/id", "duplicate id"),
        ("4:27", "/components/1/type", "did you mean \"filter\"?"),
        ("4:48", "/components/1/inputs/0", "did you mean \"udp\"?"),
        ("5:49", "/components/2/config", "\"path\" is missing"),
        ("5:58", "/components/2/config/sync", "got true"),
        ("5:65", "/components/2/woker", "did you mean \"worker\"?"),
        ("5:77", "/components/2", "trailing comma before }"),
        ("7:20", "/log/level", "got 5"),
        ("8:3", "/admn", "did you mean \"admin\"?")],
}

UDP = '{"id": "udp", "type": "udp_input"}'
DISK = '{"id": "disk", "type": "storage", "config": {"path": "/var/lib/semstreams/x"}}'
GOOD = f'{{"components": [\n{UDP},\n{DISK}]}}\n'

# Not for a text file: content, and its one problem.
BYTES = {
    "empty": (b"", "1:1", "", "the file is empty"),
    "nul-in-string": (GOOD.replace('"udp"', '"u\0p"').encode(), "2:10", "/components/0/id", "a NUL byte in a string"),
    "nul-outside": (GOOD.replace(",\n", "\0,\n").encode(), "2:35", "/components", "a NUL byte"),
    "zeros": (b"\0" * 512, "1:1", "", "a NUL byte"),
    "latin-1": (GOOD.replace('"udp"', '"gerät"').encode("latin-1"), "2:12", "/components/0/id",
                "not UTF-8: byte 0xe4 at offset 28; save the file as UTF-8"),
    "overlong": (GOOD.encode().replace(b'"udp"', b'"\xc0\xafetc"'), "2:9", "/components/0/id", "not UTF-8: byte 0xc0"),
    "utf-16": (GOOD.encode("utf-16"), "1:1", "", "this looks like UTF-16; save the file as UTF-8"),
    "utf-16-without-bom": (GOOD.encode("utf-16-le"), "1:1", "", "this looks like UTF-16; save the file as UTF-8"),
    "bom": (GOOD.encode("utf-8-sig"), "1:1", "", "byte order mark (BOM)"),
    "binary": (b"\x7fELF\x02\x01\x01" + bytes(64), "1:1", "", 'unexpected "\\x7f"'),
    "deep": (b'{"components": ' + b"[" * 64 + b"]" * 64 + b"}", "1:79", "/components" + "/0" * 62, "nested deeper than 64"),
    "very-deep": (b"[" * 1000000, "1:65", "/0" * 63, "nested deeper than 64"),
    "huge-number": (GOOD.replace('"udp_input"', '"udp_input", "config": {"port": ' + "9" * 100000 + "}").encode(), "2:55",
                    "/components/0/config/port", "expected an integer from 0 to 65535, got 999"),
    "huge-exponent": (GOOD.replace('"udp_input"', '"udp_input", "config": {"port": 1e999999999}').encode(), "2:55",
                      "/components/0/config/port", "an integer has no exponent"),
    "long-key": (GOOD.replace('"type"', f'"{"k" * 100000}": 1, "type"', 1).encode(), "2:15",
                 "/components/0/" + "k" * (2048 - 14) + "...", "unknown key \"" + "k" * 40 + "..."),
    "many-values": (b'{"components": [' + b"1," * 600000 + b"1]}", "1:1000013", "", "more than 500000 values"),
    "many-components": (b'{"components": [\n' + b",\n".join(
        b'{"id": "c%d", "type": "udp_input", "config": {"port": 0}}' % i for i in range(257)) + b"]}", "258:1", "/components/256",
        "more than 256 components"),
    "carriage-returns": (b'{\r\n"components": [\r\n' + UDP.encode() + b",\r\n" + DISK.encode() + b",\r\n]}", "4:79",
                         "/components", "trailing comma before ]"),
}


def problems(stderr, file):
    """The errors, and checks left out, of one file: (place, rest of the line)."""
    assert "Sanitizer" not in stderr and "runtime error" not in stderr, stderr
    found = []
    for line in stderr.splitlines():
        m = re.fullmatch(rf"(?:error|skipped) {re.escape(str(file))}(?::(\d+:\d+))?( .*)", line)
        if m:
            found.append((m[1], m[2]))
        else:
            assert not line.startswith("error"), stderr
    return found


def is_told(problem, place, pointer, text):
    return problem[0] == place and problem[1].startswith(f" {pointer}  " if pointer else "  ") and text in problem[1]


def assert_told(result, file, expected):
    """These problems and no others."""
    assert result.returncode == EXIT_CONFIG, result
    found = problems(result.stderr, file)
    for place, pointer, text in expected:
        assert [p for p in found if is_told(p, place, pointer, text)], (place, pointer, text, found)
    assert len(found) == len(expected), found


@pytest.fixture
def environment():
    return {key: value for key, value in os.environ.items() if key != "SEMSTREAMS_TEST_UNSET"}


def test_collection_is_complete():
    assert sorted(name for name in os.listdir(BROKEN)) == sorted(f"{name}.json" for name in CASES)
    assert len(CASES) + len(BYTES) >= 60


@pytest.mark.parametrize("name", CASES)
def test_broken(command, environment, name):
    file = os.path.join(BROKEN, f"{name}.json")
    assert_told(command("check", file, env=environment), file, CASES[name])
    assert_told(command("--config", file, "--validate", env=environment), file, CASES[name])


@pytest.mark.parametrize("name", BYTES)
def test_broken_bytes(command, tmp_path, name):
    content, *expected = BYTES[name]
    file = tmp_path / "config.json"
    file.write_bytes(content)
    assert_told(command("check", file), file, [expected])


def test_start_refuses_too(command, tmp_path):
    """What check says, start says: and it ends before anything is opened."""
    file = os.path.join(BROKEN, "many-at-once.json")
    assert_told(command("run", "--config", file), file, CASES["many-at-once"])


def test_not_a_file(command, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    large = tmp_path / "large"
    with open(large, "wb") as f:
        f.truncate((16 << 20) + 1)
    for file, text in ((tmp_path, "cannot read: Is a directory"), (tmp_path / "none", "cannot read: No such file or directory"),
                       (fifo, "cannot read: not a regular file"), (tmp_path / "large" / "x", "cannot read: Not a directory"),
                       (large, "cannot read: the file is too large (at most 16 MiB)")):
        assert_told(command("check", file), file, [(None, "", text)])


def test_unreadable(semstreams, command, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(GOOD)
    file.chmod(0)
    if os.geteuid() == 0:  # root reads everything unless these two are taken away
        check = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", semstreams, "check", str(file)]
        result = subprocess.run(check, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=tmp_path)
    else:
        result = command("check", file)
    assert_told(result, file, [(None, "", "cannot read: Permission denied")])


def test_secrets_are_not_told(command, tmp_path, environment):
    """Neither a variable's value nor a file's gets into a message."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(stat.S_IRUSR)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({
        "components": [
            {"id": "udp", "type": {"file": "secret"}},
            {"id": "disk", "type": "storage", "worker": "${env:SECRET} ",
             "inputs": ["${env:SECRET}", {"from": {"file": "secret"}}],
             "config": {"path": "x", "sync": "${env:SECRET}", "retain_age": {"file": "secret"}}}],
        "log": {"level": "${env:SECRET}"}}))
    result = command("check", file, env={**environment, "SECRET": "hunter2"})
    assert result.returncode == EXIT_CONFIG
    assert len(problems(result.stderr, file)) == 7, result.stderr
    assert "hunter2" not in result.stdout + result.stderr


# ---- each key of the examples, misspelt ----------------------------------------------------------------------

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples")
KEY = re.compile(r'"(\w+)"(?=\s*:)')


def examples():
    return sorted(name for name in os.listdir(EXAMPLES) if name.endswith(".json"))


def misspell(key):
    """Two neighbours in the middle change places; a key of equal letters loses one."""
    middle = len(key) // 2
    swapped = key[:middle - 1] + key[middle] + key[middle - 1] + key[middle + 1:]
    return swapped if swapped != key else key[:-1]


@pytest.mark.parametrize("name", examples())
def test_misspelt_keys(command, tmp_path, name):
    with open(os.path.join(EXAMPLES, name), encoding="utf-8") as f:
        text = f.read()
    keys = list(KEY.finditer(text))
    assert keys
    file = tmp_path / "config.json"
    for m in keys:
        wrong = misspell(m[1])
        file.write_text(text[:m.start(1)] + wrong + text[m.end(1):])
        result = command("check", file)
        assert result.returncode == EXIT_CONFIG, (wrong, result)
        line = text.count("\n", 0, m.start()) + 1
        start = text.rfind("\n", 0, m.start()) + 1
        # A plugin that checks nested settings itself can point to the value only, and suggests what it likes.
        value = re.compile(r'"\w+"\s*:\s*').match(text, m.start()).end() + len(wrong) - len(m[1])
        places = [f"{line}:{m.start() - start + 1}", f"{line}:{value - start + 1}"]
        suggestion = f'did you mean "{m[1]}"?'
        nested = re.compile(r" /components/\d+/config/\w+/")
        found = problems(result.stderr, file)
        told = [p for p in found if p[0] in places and f"/{wrong}  unknown key" in p[1]
                and (suggestion in p[1] or nested.match(p[1]))]
        assert told, (wrong, places, found)


def test_as_many_as_the_screen_takes(command, tmp_path):
    """A thousand problems are listed, the rest is counted."""
    file = tmp_path / "config.json"
    file.write_text('{"components": [], ' + ", ".join(f'"k{i}": 1' for i in range(5000)) + "}")
    result = command("check", file)
    assert result.returncode == EXIT_CONFIG
    assert len(result.stderr.splitlines()) <= 1002
    assert "error  4001 more problems are not shown" in result.stderr
