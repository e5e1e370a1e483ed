# SPDX-License-Identifier: MIT
"""Each pipeline of docs/cookbook.md, run as it stands there: what goes in must come out as the page says."""

import json
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cookbook.md"


def indented(text):
    return [line[4:] for line in text.splitlines() if line.startswith("    ")]


class Recipe:
    def __init__(self, title, text):
        self.title = title
        self.configs = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.S)]
        parts = re.split(r"^(In:|Out, `.*?`:)$", text, flags=re.M)
        self.events, self.outputs = None, {}
        for head, body in zip(parts[1::2], parts[2::2]):
            if head == "In:":
                self.events = indented(body)
            else:
                self.outputs[head.split("`")[1]] = indented(body)
        assert self.configs and self.events and self.outputs, title


def recipes():
    parts = re.split(r"^## (.*)$", PAGE.read_text(), flags=re.M)
    return [Recipe(title, text) for title, text in zip(parts[1::2], parts[2::2])]


RECIPES = recipes()


def test_there_are_twelve():
    assert len(RECIPES) >= 12


@pytest.mark.parametrize("recipe", RECIPES, ids=[r.title for r in RECIPES])
def test_recipe(recipe, start, send, udp_port, tcp_port, tmp_path, lines, conserved):
    programs = []
    for i, config in enumerate(recipe.configs):
        # ports that are free here; nothing else is changed
        text = json.dumps(config).replace("14550", str(udp_port)).replace("8080", str(tcp_port))
        folder = tmp_path / str(i)
        folder.mkdir()
        programs.append(start(json.loads(text), folder=folder))
    for event in recipe.events:
        send(udp_port, event)
    last = programs[-1]
    for name, expected in recipe.outputs.items():
        last.wait_for(lambda: len(lines(last.folder / name)) >= len(expected), what=name)
    first = programs[0]
    first.wait_metric("semstreams_events_in_total", len(recipe.events), component="udp")
    for name, expected in recipe.outputs.items():
        assert lines(last.folder / name)[:len(expected)] == expected
    for program in programs:
        conserved(program.metrics())
    for program in reversed(programs):
        assert program.terminate() == 0
    for name, expected in recipe.outputs.items():
        more = lines(last.folder / name)[len(expected):]
        # what windows held when it was stopped
        assert all(json.loads(line).get("partial") for line in more), more
