#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The reference of the SDK, made from its public headers: docs/sdk/*.md, one manual page of section 3 each, and docs/sdk/Makefile.inc.

docs/sdk.py writes what differs from the tree; docs/sdk.py --check names it instead, and each symbol whose comment lacks something,
with the line.  docs/sdk.py --check HEADER... only looks at those.

What it demands of a header, beyond that it can read it:

- Each function, struct, macro, enum and variable has a comment of its own, in front of it or behind it on its line; so has each
  member, and each value of an enum that takes more than a line.  struct_size and reserved explain themselves, and so do the
  members of a struct whose comment says "Its members are private".  A comment in front of a blank line is about all that follows.
- Domain: the comment of a function begins with [ctl], [inst] or [any], unless the header says "All functions are [...]".
- Rules: the header states the rules of ownership and units, or says "rules are those of semstreams/plugin.h".
- Ownership: a function that returns a pointer or hands one out (TYPE **) says whose it is or how long it is valid; so does a
  pointer in a struct, or the comment of the struct for all of them.
- Errors: a function that returns int, int32_t, int64_t or ssize_t says which values.
- Callbacks: a function that takes a function says in which domain that is called.
- Units: a number whose name is about time or a rate says its unit, unless the name does (_ns, _ms).
"""

import argparse
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from generate import TOP, escape, head, lines_of

DOMAIN = r"\[(ctl|inst|any)\]"
LIFETIME = re.compile(r"\b(borrow\w*|own(s|ed|er|ership)?|free[ds]?|valid|cop(y|ied|ies)|\w+'s|until|as long|lasts?|constant|in place"
                      r"|points? into|pointers? into|malloced|during|lives?|never freed|literal|json_decref|opaque|Returns buf)\b")
ERRORS = re.compile(r"-E[A-Z0-9]{2,}|-errno|negative errno|-1, 0, 1|\b1\b.*\b0\b|\b0\b.*\b1\b|-1\b|SS_DONE|exit status|cannot fail"
                    r"|its result|[Hh]ow many", re.S)
CALLED = re.compile(r"(called|runs?|calls?)\b[^.]*" + DOMAIN + r"|(called|runs?|calls?|run)\b[^.]*\bthread|before (it|this) returns", re.S)
UNIT = re.compile(r"\b(ns|ms|seconds?|nanoseconds|clock|bytes?|thousandths|events)\b")
TIMED = re.compile(r"(^|_)(time|since|until|before|after|delay|timeout|rate|burst|lag|age|span)(_|$)")
SELF_EXPLAINING = ("struct_size", "reserved")


class Fault(Exception):
    """Something in a header that is not understood."""


@dataclass
class Item:
    kind: str  # function, struct, opaque, enum, macro, variable, text; in a struct: member, callback
    name: str
    line: int
    code: str = ""
    text: str = ""
    returns: str = ""
    params: list = field(default_factory=list)  # (type, name)
    items: list = field(default_factory=list)
    wide: bool = False  # an enum of several lines


# ---- reading ------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"(?P<comment>/\*.*?\*/)|(?P<directive>^[ \t]*#(?:[^\n\\]|\\.|\\\n)*)|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"
                   r"|(?P<blank>\s+)|(?P<word>\w+)|(?P<other>.)", re.S | re.M)


@dataclass
class Token:
    kind: str
    text: str
    line: int


def comment_text(comment):
    first, *rest = comment[2:-2].split("\n")
    lines = [first.strip()]
    for line in rest:
        star = re.match(r"\s*\*( ?)(.*)$", line)
        lines.append((star[2] if star[1] else star[2].lstrip(" ") if star[2][:1] != "\t" else star[2]) if star else line.strip())
    return "\n".join(lines).strip("\n").rstrip()


def tokens_of(source):
    """Without the include guard, what C++ alone sees, and the includes; of #else to __cplusplus, the C."""
    tokens, line, skipped, depth = [], 1, [], 0
    for match in TOKEN.finditer(source):
        kind, text = match.lastgroup, match[0]
        at = line
        line += text.count("\n")
        if kind == "directive":
            word = re.match(r"\s*#\s*(\w+)\s*(.*)", text, re.S)
            if word[1] in ("ifdef", "ifndef", "if"):
                skipped.append(word[1] == "ifdef" and word[2].strip() == "__cplusplus")
                depth += 1
            elif word[1] == "else":
                skipped[-1] = not skipped[-1]
            elif word[1] == "endif":
                skipped.pop()
            elif word[1] == "define" and not any(skipped) and not re.match(r"SEMSTREAMS_\w+_H$", word[2].strip()):
                tokens.append(Token("directive", text.strip(), at))
            elif word[1] not in ("define", "include", "pragma"):
                raise Fault(f"{at}: #{word[1]} is not expected in a public header")
            continue
        if any(skipped) or kind == "comment" and "clang-format o" in text:
            continue
        if kind == "blank" and tokens and tokens[-1].kind == "blank":
            tokens[-1].text += text
        else:
            tokens.append(Token(kind, text, at))
    return tokens


def flat(code):
    """A declaration in one line, as clang-format spaces it."""
    code = re.sub(r"\s+", " ", code).strip()
    return re.sub(r"\* (?=\w)", "*", re.sub(r"\s*([,;)\]])", r"\1", re.sub(r"([(\[])\s*", r"\1", code))).replace("*const", "*const")


class Reader:
    """Statements of one nesting level with the comments that belong to them."""

    def __init__(self, tokens):
        self.tokens, self.at = tokens, 0

    def blank_lines(self):
        if self.at < len(self.tokens) and self.tokens[self.at].kind == "blank":
            self.at += 1
            return self.tokens[self.at - 1].text.count("\n")
        return 0

    def trailing(self):
        """A comment that begins on the line where the statement ended."""
        at = self.at
        if at < len(self.tokens) and self.tokens[at].kind == "blank" and "\n" not in self.tokens[at].text:
            at += 1
        if at < len(self.tokens) and self.tokens[at].kind == "comment":
            self.at = at + 1
            return comment_text(self.tokens[at].text)
        return ""

    def statement(self, end):
        """Tokens up to end at depth 0, or behind the closing brace of a function's body."""
        got, depth = [], 0
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if depth == 0 and token.text == end:
                self.at += 1
                return got
            self.at += 1
            got.append(token)
            depth += (token.text in "([{" if token.kind == "other" else 0) - (token.text in ")]}" if token.kind == "other" else 0)
            if token.text == "}" and depth == 0 and is_body(got):
                return got
        if end == "," or not any(t.kind not in ("blank", "comment") for t in got):
            return got
        raise Fault(f"{got[0].line}: '{end}' is missing behind: {flat(plain(got))[:60]}")

    def statements(self, end):
        """(comment or "", tokens, trailing comment); tokens None for a comment about what follows."""
        pending, line = None, 0
        while self.at < len(self.tokens):
            newlines = self.blank_lines()
            if pending is not None and newlines > 1:
                yield pending, None, "", line
                pending = None
            if self.at == len(self.tokens):
                break
            token = self.tokens[self.at]
            if token.kind == "comment":
                if pending is not None:
                    yield pending, None, "", line
                pending, line = comment_text(token.text), token.line
                self.at += 1
            elif token.kind == "directive":
                self.at += 1
                yield pending or "", [token], self.trailing(), token.line
                pending = None
            else:
                got = self.statement(end)
                yield pending or "", got, self.trailing(), token.line
                pending = None
        if pending is not None:
            yield pending, None, "", line


def is_body(tokens):
    """Is it a function with its body, not a struct or enum?"""
    code = flat(plain(tokens))
    return bool(re.match(r"(__attribute__\(\(.*?\)\)\) )?static inline ", code))


def plain(tokens):
    return "".join(" " if t.kind == "comment" else t.text for t in tokens if t.kind != "directive")


def split(text):
    """At commas outside of parentheses."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [p.strip() for p in parts if p.strip()]


def parameter(text, line):
    if text in ("void", "..."):
        return text, ""
    call = re.fullmatch(r"(.+?)\(\*(\w+)\)\((.*)\)", text)
    if call:
        return f"{call[1].strip()} (*)({call[3]})", call[2]
    found = re.fullmatch(r"((?:const )?(?:struct |enum |unsigned )?\w+(?: const)?)((?: ?\*(?:const ?)?)*) ?"
                         r"(\w+)?((?:\[(?:\d+|[A-Z]\w+)\])?)", text)
    if not found:
        raise Fault(f"{line}: the parameter '{text}' is not understood")
    return found[1] + (" " + found[2].strip() if found[2] else "") + found[4], found[3] or ""


def function(code, line):
    code = re.sub(r"^(__attribute__\(\(.*?\)\)\) )?static inline ", "", re.sub(r" ?__attribute__\(\(.*\)\)\)?$", "", code))
    found = re.fullmatch(r"([\w ]+?[ *]+)(\w+)\((.*)\)", code)
    if not found:
        return None
    return Item("function", found[2], line, code + ";", returns=found[1].strip(),
                params=[parameter(p, line) for p in split(found[3])])


def member(code, line):
    call = re.fullmatch(r"(.+?)\(\*(\w+)\)\((.*)\)", code)
    if call:
        return [Item("callback", call[2], line, code + ";", returns=call[1].strip(),
                     params=[parameter(p, line) for p in split(call[3])])]
    found = re.fullmatch(r"((?:const )?(?:struct |enum |unsigned )?\w+)((?: ?\*(?:const ?)?)*) ?"
                         r"(\w+(?:\[[\w +]+\])?(?:, ?\*?\w+(?:\[\w+\])?)*)", code)
    if not found:
        raise Fault(f"{line}: the member '{code}' is not understood")
    items = []
    for name in split(found[3]):
        stars, word, array = re.fullmatch(r"(\*?)(\w+)((?:\[[\w +]+\])?)", name).groups()
        star = found[2].strip() if not items else stars
        items.append(Item("member", word, line, flat(f"{found[1]} {star}{word}{array};"), returns=f"{found[1]} {star}".strip()))
    return items


def body(tokens):
    """What stands between the outer braces."""
    begin = next(i for i, t in enumerate(tokens) if t.text == "{")
    end = max(i for i, t in enumerate(tokens) if t.text == "}")
    return tokens[begin + 1:end]


def about(before, behind, line):
    if before and behind:
        raise Fault(f"{line}: one comment in front and one behind: which is it?")
    return before or behind


def members(tokens):
    for before, got, behind, line in Reader(tokens).statements(";"):
        if got is None:
            yield Item("text", "", line, text=before)
            continue
        for item in member(flat(plain(got)), line):
            item.text = about(before, behind, line)
            yield item


def values(tokens):
    for before, got, behind, line in Reader(tokens).statements(","):
        if got is None:
            yield Item("text", "", line, text=before)
            continue
        inner = [comment_text(t.text) for t in got if t.kind == "comment"]
        code = " ".join(plain(got).split())
        found = re.fullmatch(r"(\w+)(?: = (.+))?", code)
        if not found or len(inner) > 1:
            raise Fault(f"{line}: the value '{code}' is not understood")
        yield Item("value", found[1], line, code, about(before, behind or "".join(inner), line))


def read(tokens):
    for before, got, behind, line in Reader(tokens).statements(";"):
        if got is None:
            yield Item("text", "", line, text=before)
            continue
        text = about(before, behind, line)
        if got[0].kind == "directive":
            name, args = re.match(r"#define (\w+)(\([^)]*\))?", got[0].text).groups()
            body_of = got[0].text[len(f"#define {name}{args or ''}"):].strip()
            code = f"#define {name}{args or ''}" + (f" {body_of}" if "\n" not in body_of and len(body_of) < 60 else "")
            if not name.endswith("_"):
                yield Item("macro", name, line, code, text)
            continue
        code = flat(plain(got))
        named = re.match(r"(struct|enum) ?(\w*) ?(\{)?", code)
        if named and named[3]:
            inside = body(got)
            item = Item(named[1], named[2], line, text=text, items=list((members if named[1] == "struct" else values)(inside)))
            item.wide = any("\n" in t.text for t in inside)
            yield item
        elif named and re.fullmatch(r"struct \w+", code):
            if code.startswith("struct ss_"):
                yield Item("opaque", named[2], line, code + ";", text)
        elif code.startswith("extern "):
            yield Item("variable", code.split(" ")[-1], line, code.replace("SS_EXPORT ", "") + ";", text)
        else:
            item = function(code.split(" {")[0].split("{")[0].strip() if is_body(got) else code, line)
            if not item:
                raise Fault(f"{line}: '{code[:70]}' is not understood")
            item.text = text
            yield item


@dataclass
class Header:
    name: str  # below semstreams/
    summary: str
    text: str  # the comment at the head, without the name
    items: list

    @property
    def page(self):
        return self.name.replace("/", "-").removesuffix(".h")

    @property
    def manual(self):
        return "semstreams_" + Path(self.name).stem.replace("-", "_")


def header(path, name):
    try:
        items = list(read(tokens_of(path.read_text())))
        first = [i for i in items[:2] if i.kind == "text" and i.text.startswith(f"semstreams/{name} - ")]
        if not first:
            raise Fault(f"1: the comment at the head does not begin with 'semstreams/{name} - '")
        items = [i for i in items if i is not first[0] and not i.text.startswith("SPDX")]
        text = first[0].text.split(" - ", 1)[1]
    except Fault as fault:
        raise Fault(f"{path}:{fault}") from None
    summary = re.split(r"[.:](?:\s|$)", " ".join(text.split()), maxsplit=1)[0]
    return Header(name, summary, text, items)


def public():
    """The headers that are installed, in the order of a reader."""
    lists = (TOP / "sdk" / "Makefile.inc").read_text().replace("\\\n", " ")
    names = re.findall(r"include/semstreams/([\w/-]+\.h)", " ".join(re.findall(r"^sdk\w*include_HEADERS = .*", lists, re.M)))
    return sorted(names, key=lambda n: (n.count("/"), n.startswith("base"), n != "plugin.h", n))


# ---- judging ------------------------------------------------------------------------------------------------


def lacks_of_call(item, context, domain):
    text = " ".join(item.text.split())
    said = text + "\n" + context
    if not re.match(DOMAIN, item.text) and not domain:
        yield "has no domain: begin its comment with [ctl], [inst] or [any]"
    if not re.sub(DOMAIN, "", item.text).strip(" ."):
        yield "does not say what it does"
    returned = item.returns.replace("const", "").strip()
    if "*" in returned and not LIFETIME.search(text):
        yield "does not say whose its result is, or how long it is valid"
    elif returned in ("int", "int32_t", "int64_t", "ssize_t") and not ERRORS.search(text):
        yield "does not say which values it returns, and on which errors"
    for kind, name in item.params:
        if re.search(r"(?<!const) \*\*$| \*const \*\*$", kind) and not LIFETIME.search(text):
            yield f"does not say whose *{name or kind} is, or how long it is valid"
        if "(*)" in kind and not CALLED.search(said):
            yield f"does not say where {name} is called"
        if TIMED.search(name) and "*" not in kind and not UNIT.search(text) and not re.search("_[nm]s$", name):
            yield f"does not say the unit of {name}"


def lacks_of_member(item, owner):
    if item.name in SELF_EXPLAINING:
        return
    if item.kind == "callback":
        return
    if not item.text:
        yield "has no comment"
    if "*" in item.returns and not LIFETIME.search(item.text) and not LIFETIME.search(owner.text):
        yield "does not say whose it is, or how long it is valid"
    if TIMED.search(item.name) and "int" in item.returns and not UNIT.search(item.text) and not re.search("_[nm]s$", item.name):
        yield "does not say its unit"


def lacks(one):
    """(line, symbol, what is missing)"""
    prose = "\n".join([one.text, *(i.text for i in one.items if i.kind in ("text", "macro"))])
    domain = re.search(r"[Aa]ll functions are " + DOMAIN, " ".join(prose.split()))
    if not re.search(r"rules\s+are\s+those\s+of\s+semstreams/plugin\.h", one.text) and not re.search(r"^Ownership\.", one.text, re.M):
        yield 1, one.name, "states no rules: end its head with 'Tags and rules are those of semstreams/plugin.h.'"
    for item in one.items:
        if item.kind == "text":
            continue
        name = item.name or "enum of " + item.items[0].name
        if not item.text:
            yield item.line, name, "has no comment"
        elif item.kind == "function":
            yield from ((item.line, name, lack) for lack in lacks_of_call(item, prose, domain))
        if item.kind == "struct" and "members are private" in " ".join(item.text.split()):
            continue
        for inner in item.items:
            if inner.kind == "text":
                continue
            if inner.kind == "value":
                if item.wide and not inner.text:
                    yield inner.line, inner.name, "has no comment"
            elif inner.kind == "callback":
                if not inner.text:
                    yield inner.line, f"{name}.{inner.name}", "has no comment"
                else:
                    yield from ((inner.line, f"{name}.{inner.name}", lack) for lack in lacks_of_call(inner, prose, domain))
            else:
                yield from ((inner.line, f"{name}.{inner.name}", lack) for lack in lacks_of_member(inner, item))


# ---- writing ------------------------------------------------------------------------------------------------

CODE = re.compile(r"(?<![\w`/])(semstreams_entry_v1|ss_\w+(?:\.\w+)*(?:\(\))?|SS_\w+(?:\.\.\.\w*)?|-E[A-Z0-9]{2,}|-errno|NULL"
                  r"|\*[a-z]\w*|[a-z]\w*\(\))")


def blocks(text):
    """("text", words), ("item", words) and ("code", lines) of a comment."""
    kind, lines = "text", []

    def ready():
        if lines:
            yield kind, list(lines) if kind == "code" else " ".join(" ".join(lines).split())
        lines.clear()

    for line in text.split("\n") + [""]:
        now = "item" if re.match(r" {2,}- ", line) else "code" if re.match(r"\t| {2,}\S", line) else "text"
        if not line.strip():
            yield from ready()
            kind = "text"
            continue
        if now != kind or now == "item":
            if not (kind == "item" and line.startswith("     ")):
                yield from ready()
                kind = now
        lines.append(line.strip()[2:] if now == "item" else line.strip() if kind != "code" else
                     line[1:] if line[0] == "\t" else line[2:])
    yield from ready()


def marked(text):
    """With symbols and values in backquotes, if they are not within some."""
    return "".join(p if p.startswith("`") else CODE.sub(r"`\1`", p) for p in re.split(r"(`[^`]+`)", text))


def markdown_words(text, cell=False):
    parts = re.split(r"(`[^`]+`)", marked(text))
    text = "".join(p if p.startswith("`") else re.sub(r"([*<\[\]\\]|(?<!\w)_|_(?!\w))", r"\\\1", p) for p in parts)
    return text.replace("|", "\\|") if cell else text


def heading(text):
    """Of a ruler, as in "---- events ----"; else None."""
    found = re.fullmatch(r"-{4} (.*?) -+", text)
    return found and found[1][:1].upper() + found[1][1:]


def markdown_text(text):
    before = None
    for kind, words in blocks(text):
        if kind == "code":
            yield from ["", "```text", *words, "```"]
        else:
            yield from ([] if kind == before == "item" else [""]) + [("- " if kind == "item" else "") + markdown_words(words)]
        before = kind


def cell(text):
    return markdown_words(" ".join(text.split()), True)


def sentence(text, tag=True):
    """A comment with its domain in bold."""
    return re.sub(r"^\\\[(ctl|inst|any)\\\] ?", r"**\\[\1\\]** ", text) if tag else text


def markdown_item(item):
    if item.kind == "text":
        title = heading(item.text)
        yield from ["", "---", "", f"**{title}**"] if title else markdown_text(item.text)
        return
    title = item.name or ", ".join(i.name for i in item.items if i.kind == "value")
    title = {"struct": "struct ", "opaque": "struct ", "enum": "enum " if item.name else ""}.get(item.kind, "") + title
    yield from ["", "## " + (title if len(title) < 90 else item.items[0].name + " and so on")]
    if item.code:
        yield from ["", "```c", item.code, "```"]
    yield from (sentence(line) for line in markdown_text(item.text))
    rows = [i for i in item.items if i.kind in ("member", "value")]
    if rows and "members are private" not in " ".join(item.text.split()):
        yield from ["", "| " + ("member" if item.kind == "struct" else "value") + " | |", "|---|---|"]
        for row in rows:
            yield f"| `{row.code.rstrip(';')}` | {cell(row.text) or ('size of the struct, in bytes' if row.name == 'struct_size' else '')} |"
    for call in item.items:
        if call.kind == "text":
            yield from markdown_text(call.text)
        elif call.kind == "callback":
            yield from ["", f"### {item.name}.{call.name}", "", "```c", call.code, "```"]
            yield from (sentence(line) for line in markdown_text(call.text))


MADE = "made by docs/sdk.py (make docs)"


def markdown(one):
    lines = [f"<!-- {MADE} -->", f"# semstreams/{one.name}", "", "```c", f"#include <semstreams/{one.name}>", "```"]
    lines += markdown_text(one.text[:1].upper() + one.text[1:])
    for item in one.items:
        lines += markdown_item(item)
    lines += ["", f"In the manual: `man 3 {one.manual}`. [All headers](README.md)"]
    return "\n".join(lines) + "\n"


def roff_text(text):
    for n, (kind, words) in enumerate(blocks(text)):
        if kind == "code":
            yield from [".PP", ".in +4n", ".EX",
                        *(("\\&" if w[:1] in (".", "'") else "") + escape(w, True).replace("\t", "    ") for w in words), ".EE", ".in"]
        else:
            # .PP would end the list of members
            yield from [*([r".IP \(bu 2"] if kind == "item" else [".PP"] if n else []), *lines_of(marked(words))]


def roff_code(code):
    return [".nf", *(("\\&" if line[:1] in (".", "'") else "") + f"\\fB{escape(line, True)}\\fR" for line in code.split("\n")), ".fi"]


def roff_flat(text):
    return lines_of(" ".join(marked(text).split())) if text else ()


def roff_item(item):
    if item.kind == "text":
        title = heading(item.text)
        yield from [".PP", f"\\fB{escape(title)}:\\fR"] if title else [".PP", *roff_text(item.text)]
        return
    title = item.name or item.items[0].name + ", ..."
    what = {"struct": "struct ", "opaque": "struct ", "enum": "enum " if item.name else ""}.get(item.kind, "")
    yield ".SS " + escape(what + title, True)
    if item.code:
        yield from [*roff_code(item.code), ".PP"]
    yield from roff_text(item.text)
    if "members are private" in " ".join(item.text.split()):
        return
    for inner in item.items:
        if inner.kind == "text":
            yield from [".PP", *roff_flat(inner.text)]
        elif inner.name not in SELF_EXPLAINING:
            yield from [".TP", f"\\fB{escape(inner.code.rstrip(';'), True)}\\fR", *(roff_flat(inner.text) or [r"\&"])]


def names_of(one):
    return [i.name for i in one.items if i.kind in ("function", "macro", "struct", "opaque", "variable") and i.name]


def roff(one, headers):
    lines = head(one.manual, 3, "Plugins of semstreams")
    lines[1] = rf'.\" {MADE}'
    names = list(dict.fromkeys([one.manual, *names_of(one)]))
    lines += [".SH NAME", ",\n".join(escape(n, True) for n in names) + r" \- " + escape(one.summary[:1].lower() + one.summary[1:]),
              ".SH SYNOPSIS", ".nf", f"\\fB#include <semstreams/{escape(one.name, True)}>\\fR", ".fi", ".SH DESCRIPTION"]
    lines += roff_text(one.text[:1].upper() + one.text[1:])
    for item in one.items:
        lines += roff_item(item)
    others = sorted({h.manual for h in headers if h.name != one.name and f"semstreams/{h.name}" in whole(one)} | {"semstreams_plugin"})
    others = [o for o in others if o != one.manual]
    also = [*(f".BR {escape(o, True)} (3)," for o in others), ".BR semstreams (1)"]
    return "\n".join([*lines, ".SH SEE ALSO", *also]) + "\n"


def whole(one):
    texts = [one.text]
    for item in one.items:
        texts += [item.text, *(i.text for i in item.items)]
    return " ".join(" ".join(texts).split())


PARTS = {"": "The core", "ext": "Services of the host", "base": "The base library"}


def index(headers):
    yield from [f"<!-- {MADE} -->", "# Reference of the SDK", "",
                "What a plugin is built against, header by header, as their comments have it. [Writing a plugin](../plugins.md) is where to "
                "begin; the rules that hold everywhere (domains, ownership, errors, units, growth) are at the head of "
                "[semstreams/plugin.h](plugin.md)."]
    for part, title in PARTS.items():
        yield from ["", f"## {title}", "", "| header | what for |", "|---|---|"]
        for one in headers:
            if one.name.rpartition("/")[0] == part:
                yield f"| [semstreams/{one.name}]({one.page}.md) | {cell(one.summary)} |"
    yield from ["", "## Symbols", ""]
    where = sorted({(name, one.page, one.name) for one in headers for name in names_of(one)})
    for name, page, file in where:
        yield f"- `{name}`: [{file}]({page}.md)"


def build_lists(headers):
    yield f"# {MADE}"
    yield "dist_man_MANS += \\"
    manuals = sorted(f"docs/man/man3/{one.manual}.3" for one in headers)
    yield from (f"\t{name}" + (" \\" if name != manuals[-1] else "") for name in manuals)
    yield "nobase_dist_doc_DATA += \\"
    pages = sorted(["docs/sdk/README.md", *(f"docs/sdk/{one.page}.md" for one in headers)])
    yield from (f"\t{name}" + (" \\" if name != pages[-1] else "") for name in pages)


def files(headers):
    made = {"docs/sdk/README.md": "\n".join(index(headers)) + "\n",
            "docs/sdk/Makefile.inc": "\n".join(build_lists(headers)) + "\n"}
    for one in headers:
        made[f"docs/sdk/{one.page}.md"] = markdown(one)
        made[f"docs/man/man3/{one.manual}.3"] = roff(one, headers)
    return made


def stale(made):
    """What differs, and what is left of headers that are gone."""
    for name, text in made.items():
        file = TOP / name
        if not file.exists() or file.read_text() != text:
            yield name
    for folder in "docs/sdk", "docs/man/man3":
        yield from (str(f.relative_to(TOP)) for f in sorted((TOP / folder).glob("*")) if str(f.relative_to(TOP)) not in made)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("header", nargs="*", type=Path)
    args = parser.parse_args()
    folder = TOP / "sdk" / "include" / "semstreams"
    bad = 0
    try:
        if args.header:
            headers = {path: header(path, path.name) for path in args.header}
        else:
            headers = {folder / name: header(folder / name, name) for name in public()}
    except Fault as fault:
        raise SystemExit(str(fault)) from None
    for path, one in headers.items():
        for line, name, lack in lacks(one):
            bad += 1
            print(f"{path}:{line}: {name} {lack}")
    if args.header:
        return 1 if bad else 0
    made = files(list(headers.values()))
    for name in stale(made):
        if args.check:
            bad += 1
            print(f"{name} is out of date; run: make docs")
        elif name in made:
            (TOP / name).parent.mkdir(exist_ok=True)
            (TOP / name).write_text(made[name])
        else:
            (TOP / name).unlink()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
