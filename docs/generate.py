#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The manual pages and the shell completions, from what the program says of itself.

    docs/generate.py PROGRAM [--plugins FOLDER]... [--beside PROGRAM]... [--check]

--beside names programs that "semstreams NAME" would run, for a build that is not installed.

The tables are those of `semstreams help`, `schema` and `plugins describe`; in docs/man/semstreams.1 only what stands between
.\\" <NAME> and .\\" </NAME> is replaced, all other files are written as a whole.  With --check nothing is written: it
prints which files are out of date, and fails if there are any.
"""

import argparse
import email.utils
import json
import pathlib
import re
import subprocess
import sys
import textwrap

import completions

TOP = pathlib.Path(__file__).resolve().parent.parent
SECTION_1, SECTION_5 = "User Commands", "File Formats"


class Program:
    def __init__(self, path, folders, beside):
        self.path, self.folders = path, folders
        self.beside = {pathlib.Path(p).name.replace("semstreams-", ""): p for p in beside}

    def say(self, *words, plugins=False):
        n = 2 if "-".join(words[:2]) in self.beside else 1  # "plugins check" is a program by itself
        program = self.beside.get("-".join(words[:n]))
        if program:
            return subprocess.run([program, *words[n:]], check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
        folders = [w for folder in self.folders for w in ("--plugins", folder)] if plugins else []
        return subprocess.run([self.path, *words, *folders], check=True, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True).stdout


# ---- roff ---------------------------------------------------------------------------------------------------


def escape(text, literal=False):
    text = text.replace("\\", "\\e").replace("\N{EN DASH}", "-")
    return text.replace("-", "\\-").replace("'", "\\(aq").replace('"', "\\(dq") if literal else text


def lines_of(text):
    """Of a paragraph, in which `words` are literal."""
    parts = re.split(r"`([^`]+)`", " ".join(text.split()))
    words = "".join(f"\\fB{escape(p, True)}\\fR" if i % 2 else escape(p) for i, p in enumerate(parts))
    for line in textwrap.wrap(words, 78, break_long_words=False, break_on_hyphens=False):
        yield "\\&" + line if line[0] in ".'" else line


def head(name, section, title):
    changes = (TOP / "packaging" / "debian" / "changelog").read_text()
    day = email.utils.parsedate_to_datetime(re.search(r"^ -- .*>  (.*)$", changes, re.M)[1])
    return [r'.\" SPDX-License-Identifier: MIT', r'.\" made by docs/generate.py (make docs)',
            f'.TH {name.upper()} {section} "{day:%Y-%m-%d}" "semstreams" "{title}"']


def entry(term, text, more=()):
    return [".TP", term, *lines_of(text), *more]


def prose(markdown):
    """Paragraphs, lists and blocks of code of a page in Markdown."""
    for n, block in enumerate(re.findall(r"^```.*?^```$|(?:^(?!```)[^\n]+\n?)+", markdown, re.S | re.M)):
        if block.startswith("```"):
            code = block.split("\n")[1:-1]
            yield from [".PP", ".in +4n", ".EX"]
            yield from (("\\&" if line[:1] in (".", "'") else "") + escape(line, True) for line in code)
            yield from [".EE", ".in"]
            continue
        plain = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", block)
        if block.startswith("- "):
            for item in re.split(r"^- ", plain, flags=re.M)[1:]:
                yield from [r".IP \(bu 2", *lines_of(item)]
        else:
            yield from [*([".PP"] if n else []), *lines_of(plain)]


# ---- semstreams(1), semstreams-pki(1) ----------------------------------------------------------------------


def usage(text):
    """.SY and what follows it, from a line such as "semstreams check [-c] FILE [OPTIONS]"."""
    name, *rest = text.split(" ")
    literal = []
    while rest and re.fullmatch(r"[a-z-]+", rest[0]):
        literal.append(rest.pop(0))
    yield f".SY {name}"
    if literal:
        yield f".B {escape(' '.join(literal), True)}"
    if rest:
        words = re.sub(r"[A-Z]{2,}", lambda m: f"\\fI{m[0].lower()}\\fR", escape(" ".join(rest), True))
        yield ("\\&" if words[0] in ".'" else "") + words


def option_entry(option, note=""):
    names = [f"\\-{option.letter}"] if option.letter else []
    names.append(escape(option.name, True))
    value = f" \\fI{escape(option.value.lower(), True)}\\fR" if option.value else ""
    text = re.sub(r"'([^']+)'", r"`\1`", option.help)
    return entry(f"\\fB{', '.join(names)}\\fR{value}", text[:1].upper() + text[1:].rstrip(".") + "." + note)


def options_of(commands, everywhere):
    """Each option once; where the help of two commands differs, both."""
    told = {}
    for option, name in ((o, c.name) for c in commands for o in c.options):
        same = next((o for o in told if (o.name, o.value, o.help) == (option.name, option.value, option.help)), option)
        told.setdefault(same, []).append(name)
    for option, names in sorted(told.items(), key=lambda pair: pair[0].name.lstrip("-")):
        every = len(names) >= everywhere
        yield from option_entry(option, "" if every else " With " + " and ".join(
            filter(None, [", ".join(f"`{n}`" for n in names[:-1]), f"`{names[-1]}`"])) + ".")


def command_entry(command):
    yield from [".TP", f".B {escape(command.name, True)}"]
    for n, paragraph in enumerate(command.paragraphs or [command.help]):
        text = re.sub(r"'([^']+)'", r"`\1`", paragraph)
        yield from [*([".IP"] if n else []), *lines_of(text)]
    if command.name == "cert":
        yield from [".IP", *lines_of("What may follow: " + ", ".join(f"`{v}`" for v in command.verbs) + ".")]


def semstreams_1(commands):
    page = (TOP / "docs" / "man" / "semstreams.1").read_text()
    page = re.sub(r'^\.TH .*$', lambda _: head("semstreams", 1, SECTION_1)[2], page, flags=re.M)
    ours = [c for c in commands if c.parent != "pki"]
    parts = {
        "synopsis": [line for c in ours for u in c.usages for line in usage(u)] + [".YS"],
        "commands": [line for c in ours for line in command_entry(c)],
        "options": list(options_of(ours, len(ours) - 3)),
    }
    for name, lines in parts.items():
        begin, end = f'.\\" <{name}>\n', f'.\\" </{name}>\n'
        page, found = re.subn(re.escape(begin) + ".*?" + re.escape(end),
                              lambda _: begin + "\n".join(lines) + "\n" + end, page, flags=re.S)
        if found != 1:
            raise SystemExit(f"docs/man/semstreams.1 has {found} places for its {name}")
    return page


def pki_1(commands):
    pki = [c for c in commands if c.parent == "pki"]
    lines = [*head("semstreams-pki", 1, SECTION_1), ".SH NAME",
             r"semstreams\-pki \- make, verify and renew certificates of your own", ".SH SYNOPSIS"]
    lines += [line for c in pki for u in c.usages for line in usage(u)] + [".YS", ".SH DESCRIPTION"]
    lines += lines_of("Makes and keeps certificates: roots, CAs, services and devices. A private key is never written where "
                      "others can read it, and a file that is there is kept unless `--force` is given.")
    lines.append(".SH COMMANDS")
    for command in pki:
        lines += [".TP", f".B {escape(command.name.split(' ')[1], True)}"]
        for n, paragraph in enumerate(command.paragraphs or ["Explains one command."]):
            lines += [*([".IP"] if n else []), *lines_of(paragraph)]
    lines += [".SH OPTIONS", *options_of(pki, len(pki) - 1), ".SH EXIT STATUS"]
    for status, meaning in (("0", "Success."), ("2", "Wrong usage."),
                            ("1", "Failure, or a certificate that is wrong or expires soon.")):
        lines += entry(f".B {status}", meaning)
    return "\n".join([*lines, ".SH SEE ALSO", ".BR semstreams (1)"]) + "\n"


# ---- section 5 --------------------------------------------------------------------------------------------


def kind(schema, of):
    """What a value may be, in a word or two."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return {"duration": "duration", "size": "size", "id": "string", "source": "string", "variable": "",
                "from_elsewhere": ""}.get(name) if name in ("duration", "size", "id", "source", "variable", "from_elsewhere") \
            else kind(of[name], of)
    if "anyOf" in schema and "type" not in schema:
        kinds = []
        for one in schema["anyOf"]:
            word = "" if "env:" in one.get("pattern", "") else kind(one, of)
            if word and word not in kinds:
                kinds.append(word)
        return " or ".join(kinds)
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(v)}`" for v in schema["enum"])
    word = schema.get("type", "")
    if word == "array":
        items = kind(schema.get("items", {}), of)
        return "list" + (f" of {items}" if items and " " not in items else "")
    if "minimum" in schema and "maximum" in schema:
        return f"{word} from {schema['minimum']} to {schema['maximum']}"
    return word


def keys(schema, of, where, required=()):
    """An entry for each key below an object, named by its way from the top."""
    for name, value in schema.get("properties", {}).items():
        path = f"{where}.{name}" if where else name
        target = of[value["$ref"].rsplit("/", 1)[1]] if "$ref" in value else value
        if path == "$schema" or (where == "components[]" and name == "config"):
            facts = ""
        else:
            facts = kind(value, of)
        default = value.get("default", target.get("default"))
        facts += "" if default is None else f"; default `{json.dumps(default)}`"
        facts += "; required" if name in required or name in schema.get("required", ()) else ""
        says = value.get("description") or target.get("description") or ""
        provider = re.search(r"settings_of_(\w+)$", value.get("$ref", ""))
        if provider:
            says, facts = f"Settings of the provider; see `semstreams-{provider[1]}_tls`(5)", "object"
        text = ". ".join(filter(None, [says.rstrip("."), facts[:1].upper() + facts[1:].lstrip("; ")])) + "."
        yield from entry(f".B {escape(path, True)}", text)
        if not provider:
            yield from keys(target, of, path)
        if target.get("type") == "array":
            item = target.get("items", {})
            yield from keys(of[item["$ref"].rsplit("/", 1)[1]] if "$ref" in item else item, of, path + "[]")


def json_5(program, types):
    schema = json.loads(program.say("schema", plugins=True))
    lines = [*head("semstreams.json", 5, SECTION_5), ".SH NAME", r"semstreams.json \- the configuration of semstreams",
             ".SH DESCRIPTION"]
    example = (TOP / "examples" / "udp-to-file.json").read_text()
    lines += prose(f"""\
A file in JSON that says which stages a pipeline has, how they are set, and who feeds whom; `/etc/semstreams/config.json`
where none is named. This one stores the events of a UDP port whose value is over 20:

```
{example.rstrip()}
```

`semstreams check` `FILE` reports everything that is wrong with such a file, `semstreams schema` prints a JSON Schema of it for editors.

An unknown key, or the same key twice, is an error. A duration is a string such as `"8h"` or `"1m30s"` (units ns, us, ms, s, m, h, d); a
size is a number of bytes or a string such as `"64MiB"`. A string may hold `${{env:NAME}}`, and in place of most strings
`{{"file": "PATH"}}` reads it from a file, `{{"credential": "NAME"}}` from a credential of the systemd unit.
""")
    lines += [".SH KEYS", *keys(schema, schema["$defs"], "")]
    pages = sorted(f"semstreams-{t}" for t in types)
    also = [".BR semstreams (1),", *(f".BR {escape(p, True)} (5)," for p in pages)]
    also[-1] = also[-1].rstrip(",")
    return "\n".join([*lines, ".SH SEE ALSO", *also]) + "\n"


def rows(markdown, name):
    """The cells of one of the tables that "plugins describe --markdown" prints."""
    table = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", markdown, re.S)
    for line in table[1].splitlines()[2:] if table else ():
        yield [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def plugin_5(program, name):
    described = json.loads(program.say("plugins", "describe", name, "--json", plugins=True))
    markdown = program.say("plugins", "describe", name, "--markdown", plugins=True)
    page = (TOP / "plugins" / name / f"{name}.md").read_text()
    begin = re.split(r"^## |^<!-- ", page.split("\n", 1)[1], maxsplit=1, flags=re.M)[0]
    summary = described["summary"].rstrip(".")
    lines = [*head(f"semstreams-{name}", 5, SECTION_5), ".SH NAME",
             f"semstreams\\-{escape(name, True)} \\- {escape(summary[:1].lower() + summary[1:])}", ".SH DESCRIPTION",
             *prose(begin)]
    if described["options"]:
        lines.append(".SH OPTIONS")
    for key, values, default, text in rows(markdown, "options"):
        if default == "required":
            values += "; required"
        elif default:
            values += f"; default {default}"
        marks, text = re.match(r"((?:(?:Secret|Live)\. )*)(.*)", text).groups()
        values += "; secret" if "Secret" in marks else ""
        values += "; a reload changes it in place" if "Live" in marks else ""
        lines += entry(f".B {escape(key.strip('`'), True)}", f"{text.rstrip('.')}. {values[:1].upper() + values[1:]}.")
    if described["outputs"]:
        lines += [".SH OUTPUTS", *lines_of("Read one of them with ID`.`OUTPUT in `inputs`: " +
                                           ", ".join(f"`{o}`" for o in described["outputs"]) + ".")]
    if described["metrics"]:
        lines.append(".SH METRICS")
    for metric, _, text in rows(markdown, "metrics"):
        lines += entry(f".B {escape(metric.strip('`'), True)}", text)
    reasons = re.search(r"<!-- drop reasons -->\n(.*?)<!-- end -->", markdown, re.S)
    if reasons:
        lines += [".SH DROP REASONS", *lines_of(reasons[1])]
    lines += [".SH SEE ALSO", ".BR semstreams (1),", ".BR semstreams.json (5)", ".PP",
              *lines_of(f"The whole page, with examples: `plugins/{name}/{name}.md` in the folder of the documents.")]
    return "\n".join(lines) + "\n"


# ---- all of it ----------------------------------------------------------------------------------------------


def files(program):
    """path -> text of each generated file; of a build that lacks plugins or programs, the pages of the plugins it has"""
    types = sorted(p.parent.name for p in TOP.glob("plugins/*/*.md") if p.stem == p.parent.name)
    built = {t["type"] for t in json.loads(program.say("plugins", "list", "--json", plugins=True))}
    made = {f"plugins/{name}/semstreams-{name}.5": plugin_5(program, name) for name in types if name in built}
    lacking = [t for t in types if t not in built]
    try:
        commands = completions.read(program.say)
    except subprocess.CalledProcessError as error:
        lacking.append(" ".join(map(str, error.cmd[:2])))
    if lacking:
        print(f"not built: {', '.join(lacking)}; pages about the whole program stay as they are", file=sys.stderr)
        return made
    made = {"docs/man/semstreams.1": semstreams_1(commands), "docs/man/semstreams-pki.1": pki_1(commands),
            "docs/man/semstreams.json.5": json_5(program, types), **made}
    for shell, text in completions.scripts(commands).items():
        made[f"packaging/completion/{shell}"] = text
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--plugins", action="append", default=[], metavar="FOLDER")
    parser.add_argument("--beside", action="append", default=[], metavar="PROGRAM")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = 0
    for name, text in files(Program(args.program, args.plugins, args.beside)).items():
        file = TOP / name
        if file.exists() and file.read_text() == text:
            continue
        stale += 1
        if args.check:
            print(f"{name} is out of date; run: make docs")
        else:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
