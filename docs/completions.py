# SPDX-License-Identifier: MIT
"""The commands as `semstreams help` tells them, and what bash, zsh and fish complete of them."""

import re
from dataclasses import dataclass, field

# the verbs belong to the providers, of which help names the first
VERBS_OF_CERT = ["status", "issue", "renew", "revoke", "rollover"]


@dataclass(frozen=True)
class Option:
    name: str  # with its dashes
    letter: str
    value: str  # what its value is called
    help: str

    def kind(self):
        """How its value is completed."""
        listed = re.match(r"((?:[\w+-]+(?: \([^)]*\))?, )*[\w+-]+(?: \([^)]*\))?) or ([\w+-]+)(?=$|[;,]| \[)", self.help)
        if listed and self.value not in ("FILE", "DIR", "ADDRESS"):
            return "words " + " ".join(re.sub(r" \([^)]*\)", "", ", ".join(listed.groups())).split(", "))
        return "json" if self.name == "--config" else kind_of(self.value)


@dataclass
class Command:
    name: str  # "check", "plugins list", "pki leaf"
    help: str = ""
    parent: str = ""
    usages: list = field(default_factory=list)
    paragraphs: list = field(default_factory=list)
    options: list = field(default_factory=list)
    verbs: list = field(default_factory=list)
    operand: str = "none"


def kind_of(word):
    first = re.split(r"[|.]", word.strip("[]"))[0]
    return {"FILE": "files", "CRT": "files", "KEY": "files", "CSR": "files", "OUT": "files", "REPLY": "files", "ROOT": "files",
            "ADDRESS": "files", "DIR": "folders", "FOLDER": "folders", "TYPE": "types",
            "COMPONENT": "ids"}.get(first, "none")


def options_in(text):
    for letter, name, value, says in re.findall(r"^ +(?:-(\w), +)?(--[\w-]+)(?: ([A-Z][A-Z|=]*))?  +(\S.*)$", text, re.M):
        yield Option(name, letter, value, says)


def described(command, text):
    """What the help of a command says."""
    blocks = text.rstrip().split("\n\n")
    # a usage, and what follows it
    first = [line.strip() for line in blocks[0].splitlines() if re.match(r" *(usage: )?semstreams ", line)]
    command.usages = [re.sub(r"^usage: ", "", line) for line in first]
    for block in blocks[1:]:
        if block.startswith("Exit codes:") or re.match(r" +(-\w, )?--", block):
            continue
        # "  ls    segments" explains a verb
        verbs = re.findall(r"^  ([a-z]+)  +(.*(?:\n {6,}.*)*)", block, re.M)
        plain = re.sub(r"^  .*\n?", "", block, flags=re.M).strip()
        command.paragraphs += [plain] if plain else []
        command.paragraphs += [f"`{verb}`: {' '.join(says.split())}." for verb, says in verbs]
    command.options = list(options_in(text))
    return command


def operand(words):
    """What is completed behind the name: its last word that is no option, as "config show [-c] FILE" has it."""
    names = [w for w in re.sub(r"\[OPTIONS\]|--[\w-]+ [A-Z]+|\[WORDS\]\.*|--[\w-]+ [A-Z]+", "", words).split() if re.search(r"[A-Z]{2}", w)]
    return kind_of(names[-1]) if names else "none"


def read(say):
    """The table of the commands.  say(*words): what the program prints."""
    commands = []
    for words, says in re.findall(r"^  semstreams (\S.*?)  +(\S.*)$", say("help"), re.M):
        words = words.replace("[run]", "run")
        name = re.match(r"[a-z]+(?:-[a-z]+)*(?: [a-z]+(?:-[a-z]+)*(?![a-z|]))*", words)[0]
        command = Command(name, says)
        listed = re.search(r" ([a-z]+(?:\|[a-z]+)+)(?: |$)", words)
        command.verbs = listed[1].split("|") if listed else VERBS_OF_CERT if name == "cert" else []
        if name != "help":
            described(command, say(*name.split(), "--help"))
        else:
            command.usages = ["semstreams help [COMMAND]"]
            command.paragraphs = ["Prints help, in general or for one command."]
        command.operand = operand(words)
        if command.operand == "files" and name not in ("replay", "plugins check"):  # of lines, objects: no documents
            command.operand = "json"
        commands.append(command)
    (pki,) = (c for c in commands if c.name == "pki")
    text = say("pki", "--help")
    for line in re.findall(r"^  semstreams pki .*$", text, re.M):
        verb = line.split()[2]
        command = Command(f"pki {verb}", parent="pki")
        if verb == "help":
            command.usages = [line.strip()]
        else:
            described(command, say("pki", "help", verb))
            command.help = command.paragraphs[0].split(". ")[0].rstrip(".") if command.paragraphs else ""
        command.operand = operand(line.split(verb, 1)[1])
        commands.append(command)
        pki.verbs.append(verb)
    pki.usages = ["semstreams pki VERB [WORDS]... [OPTIONS]"]
    pki.paragraphs = ["Makes and keeps certificates: see `semstreams-pki`(1), and `semstreams pki help` VERB."]
    pki.options = list(options_in(text))
    return commands


# ---- the table of what may stand where ----------------------------------------------------------------------


def places(commands):
    """{words before: ({next word: help}, options, kind of operand)}; "" is the begin of the line."""
    table = {"": ({}, next(c.options for c in commands if c.name == "run"), "none"), "help": ({}, [], "none")}
    for c in commands:
        table[c.name] = ({verb: "" for verb in c.verbs}, c.options, c.operand)
    for c in commands:
        words = c.name.split()
        for i, word in enumerate(words):
            before = " ".join(words[:i])
            table.setdefault(before, ({}, [], "none"))
            last = i == len(words) - 1
            if last or word not in table[before][0]:
                table[before][0][word] = c.help if last else ""
    table["help"] = (dict(table[""][0]), [], "none")
    # "plugins" and "config" are no commands by themselves
    for name in [name for name in table if name and " " not in name]:
        if not any(c.name == name for c in commands) and name != "help":
            table[""][0][name] = ", ".join(table[name][0])
            table[f"help {name}"] = ({word: "" for word in table[name][0]}, [], "none")
    table["help pki"] = ({}, [], "none")
    return {name: (words, sorted(set(options), key=lambda o: o.name), of) for name, (words, options, of) in table.items()}


def values(table):
    """{option, with its dashes: how its value is completed}, by place where that differs."""
    found = {}
    for place, (_, options, _) in table.items():
        for option in options:
            if option.value:
                for name in filter(None, (option.name, option.letter and f"-{option.letter}")):
                    found.setdefault(name, {})[place] = option.kind()
    for name, by_place in sorted(found.items()):
        kinds = sorted(set(by_place.values()), key=list(by_place.values()).count)
        for kind in kinds[:-1]:
            yield [f"{place} {name}" for place, k in sorted(by_place.items()) if k == kind], kind
        yield [f"*{name}"], kinds[-1]


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def first_word(options):
    return sorted({w for o in options for w in (o.name, o.letter and f"-{o.letter}") if w})


HEAD = """\
# {shell} completion for semstreams(1)
# SPDX-License-Identifier: MIT
# made by docs/generate.py (make docs)
"""

BASH = r"""
# the next words, the options and the kind of the operand behind the words $1
__semstreams_at()
{
    case $1 in
@PLACES@
        *) return 1 ;;
    esac
}

# how the value of an option is completed; $1: the words before, and the option
__semstreams_value()
{
    case $1 in
@VALUES@
        *) return 1 ;;
    esac
}

# what fits, of kind $1, to $cur
__semstreams_complete()
{
    local IFS=$'\n' line
    case $1 in
        words*) line=${1#words } && line=$(compgen -W "${line// /$'\n'}" -- "$cur") ;;
        json) line=$(compgen -f -X '!*.json' -- "$cur"; compgen -d -- "$cur") ;;
        files) line=$(compgen -f -- "$cur") ;;
        folders) line=$(compgen -d -- "$cur") ;;
        types) line=$(compgen -W "$(command "$program" plugins list "${given[@]}" 2>/dev/null | cut -d ' ' -f 1)" -- "$cur") ;;
        ids) line=$(compgen -W "$(command "$program" config show "${given[@]}" 2>/dev/null |
            sed -n 's/^      "id": "\([^"]*\)".*/\1/p')" -- "$cur") ;;
        *) return ;;
    esac
    case $1 in json | files | folders) compopt -o filenames 2>/dev/null ;; esac
    mapfile -t COMPREPLY <<<"$line"
    [[ $line ]] || COMPREPLY=()
}

_semstreams()
{
    local cur=$2 prev=$3 program=${COMP_WORDS[0]} words='' before='' option='' word i next options operand kind
    local given=()
    COMPREPLY=()
    # "--option=" comes in pieces
    [[ $cur != '=' ]] || cur=''
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == '=' && $option ]]; then
            continue
        elif [[ $option ]]; then
            [[ $option != @(-c|--config|--admin|--plugins) ]] || given+=("$option" "$word")
            option=
        elif [[ $word == -* ]]; then
            ! __semstreams_value " $word" || option=$word
        else
            words+=${words:+ }$word
        fi
    done
    before=$words
    until __semstreams_at "$before"; do
        [[ $before == *' '* ]] && before=${before% *} || before=''
    done
    if [[ $option ]]; then
        __semstreams_value "$before $option" && __semstreams_complete "$kind"
        return
    fi
    if [[ $cur == -* ]]; then
        __semstreams_complete "words $options"
        return
    fi
    # a word that is none of the next ones is an operand
    [[ $next && $words == "$before" ]] && __semstreams_complete "words $next" || __semstreams_complete "$operand"
} && complete -F _semstreams semstreams
"""


def bash(table):
    lines = [f"        {quote(name)}) next={quote(' '.join(words))} options={quote(' '.join(first_word(options)))} operand={of} ;;"
             for name, (words, options, of) in table.items()]
    kinds = [f"        {' | '.join(p if p.startswith('*') else quote(p) for p in where)}) kind={quote(kind)} ;;"
             for where, kind in values(table)]
    kinds = [line.replace("*-", "*' '-") for line in kinds]
    return HEAD.format(shell="bash") + BASH.replace("@PLACES@", "\n".join(lines)).replace("@VALUES@", "\n".join(kinds))


ZSH = r"""
# the next words, the options and the kind of the operand behind the words $1
__semstreams_at() {
  case $1 in
@PLACES@
    (*) return 1 ;;
  esac
}

# how the value of an option is completed; $1: the words before, and the option
__semstreams_value() {
  case $1 in
@VALUES@
    (*) return 1 ;;
  esac
}

__semstreams_complete() {
  local -a found
  case $1 in
    (words*) compadd -- ${=1#words } ;;
    (json) _files -g '*.json(-.)' ;;
    (files) _files ;;
    (folders) _files -/ ;;
    (types) found=(${(f)"$(command $program plugins list $given 2>/dev/null | cut -d ' ' -f 1)"}) && compadd -a found ;;
    (ids) found=(${(f)"$(command $program config show $given 2>/dev/null | sed -n 's/^      "id": "\([^"]*\)".*/\1/p')"})
      compadd -a found ;;
    (*) return 1 ;;
  esac
}

_semstreams() {
  local program=$words[1] said='' before='' option='' word kind operand i
  local -a given next options
  for ((i = 2; i < CURRENT; i++)); do
    word=${(Q)words[i]}
    if [[ -n $option ]]; then
      [[ $option != (-c|--config|--admin|--plugins) ]] || given+=($option $word)
      option=
    elif [[ $word == -*=* ]]; then
      continue
    elif [[ $word == -* ]]; then
      ! __semstreams_value " $word" || option=$word
    else
      said+=${said:+ }$word
    fi
  done
  before=$said
  until __semstreams_at $before; do
    [[ $before == *' '* ]] && before=${before% *} || before=''
  done
  if [[ -z $option && $PREFIX == --*=* ]]; then
    option=${PREFIX%%=*}
    compset -P 1 '*='
  fi
  if [[ -n $option ]]; then
    __semstreams_value "$before $option" && __semstreams_complete $kind
  elif [[ $PREFIX == -* ]]; then
    _describe -o option options
  elif (( $#next )) && [[ $said == $before ]]; then
    _describe command next
  else
    __semstreams_complete $operand
  fi
}

_semstreams "$@"
"""


def zsh(table):
    def listed(pairs):
        return " ".join(quote(name.replace(":", "\\:") + (f":{says}" if says else "")) for name, says in pairs)

    lines = []
    for name, (words, options, of) in table.items():
        pairs = [(n, o.help) for o in options for n in (o.name, o.letter and f"-{o.letter}") if n]
        lines.append(f"    ({quote(name)}) next=({listed(words.items())}) operand={of}\n      options=({listed(pairs)}) ;;")
    kinds = [f"    ({'|'.join(p if p.startswith('*') else quote(p) for p in where)}) kind={quote(kind)} ;;"
             for where, kind in values(table)]
    kinds = [line.replace("*-", "*' '-") for line in kinds]
    return "#compdef semstreams\n" + HEAD.format(shell="zsh") + ZSH.replace("@PLACES@", "\n".join(lines)).replace(
        "@VALUES@", "\n".join(kinds))


FISH = r"""
# the words of the command: neither options nor the values of any
function __semstreams_words
    set -l skip
    for word in (commandline -opc)[2..-1]
        if test -n "$skip"
            set skip
        else if contains -- $word @TAKES@
            set skip 1
        else if not string match -q -- '-*' $word
            echo $word
        end
    end
end

# whether the longest of the known places that the words begin with is $argv[1]
function __semstreams_in
    set -l words (__semstreams_words)
    while set -q words[1]
        contains -- "$words" @PLACES@; and break
        set -e words[-1]
    end
    test "$words" = $argv[1]
end

# whether the words are $argv[1], so that another one may follow
function __semstreams_at
    test (string join ' ' -- (__semstreams_words) | string collect -a) = $argv[1]
end

# the options of the line that say where to look
function __semstreams_given
    set -l option
    for word in (commandline -opc)[2..-1]
        if test -n "$option"
            echo $option
            echo $word
            set option
        else if contains -- $word -c --config --admin --plugins
            set option $word
        end
    end
end

function __semstreams_types
    command semstreams plugins list (__semstreams_given) 2>/dev/null | string replace -r ' .*' ''
end

function __semstreams_ids
    command semstreams config show (__semstreams_given) 2>/dev/null | string replace -rf '^      "id": "([^"]*)".*' '$1'
end

complete -c semstreams -f
"""


def fish(table):
    def quoted(text):
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    arguments = {"json": "-k -a '(__fish_complete_suffix .json)'", "files": "-F", "folders": "-a '(__fish_complete_directories)'",
                 "types": "-a '(__semstreams_types)'", "ids": "-a '(__semstreams_ids)'", "none": ""}
    takes = sorted({w for _, options, _ in table.values() for o in options if o.value
                    for w in (o.name, o.letter and f"-{o.letter}") if w})
    lines = [HEAD.format(shell="fish") + FISH.replace("@TAKES@", " ".join(takes)).replace(
        "@PLACES@", " ".join(quoted(name) for name in table if name))]
    for name, (words, options, of) in table.items():
        inside, here = (f"complete -c semstreams -n {quoted(f'{test} {quoted(name)}')}" for test in ("__semstreams_in", "__semstreams_at"))
        lines += [f"{here} -a {word}" + (f" -d {quoted(says)}" if says else "") for word, says in words.items()]
        if of != "none":
            lines.append(f"{inside} {arguments[of]}")
        for o in options:
            kind = o.kind()
            value = "" if not o.value else f" -x -a {quoted(kind[6:])}" if kind.startswith("words") else \
                " -r -F" if kind == "files" else " -x " + arguments[kind]
            lines.append(f"{inside} -l {o.name[2:]}" + (f" -s {o.letter}" if o.letter else "") + value.rstrip() + f" -d {quoted(o.help)}")
    return "\n".join(lines) + "\n"


def scripts(commands):
    """File name -> script."""
    table = places(commands)
    return {"semstreams.bash": bash(table), "_semstreams": zsh(table), "semstreams.fish": fish(table)}
