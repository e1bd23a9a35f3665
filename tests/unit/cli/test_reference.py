"""The reference pages say everything there is: commands, options, slugs, exit codes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from chaos.cli.verbs import VERBS, chaos
from chaos.exit_codes import PRECEDENCE, ExitCode

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / "docs" / "reference"
SLUG_AT = {"problem": 2, "Problem": 4, "bad_choice": 2}
"""Position of the slug among the arguments of each call that makes a problem."""


def sections(page: str) -> dict[str, str]:
    """Return the text below each second-level heading."""
    parts = re.split(r"^## (.+)$", (REFERENCE / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(group: click.Group = chaos, before: str = "") -> dict[str, click.Command]:
    """Return every command by its words, those of sub-groups too."""
    found: dict[str, click.Command] = {}
    for verb in VERBS:
        chaos.load(verb)
    for name, command in group.commands.items():
        found |= commands(command, f"{name} ") if isinstance(command, click.Group) else {before + name: command}
    return found


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_list_of_verbs_says_what_each_says_of_itself(verb: str) -> None:
    """The sentence that `chaos --help` has without loading the verb is the first paragraph of the verb's own help."""
    chaos.load(verb)
    own = chaos.commands[verb].help or ""
    assert " ".join(own.split("\n\n")[0].split()) == VERBS[verb][1]


@pytest.mark.parametrize("verb", sorted(commands()))
def test_every_command_and_option_is_on_the_page(verb: str) -> None:
    """Each verb has its section, and each of its options a row there; no row is left of an option that went."""
    section = sections("commands.md")[f"`chaos {verb}`"]
    options = [option for option in commands()[verb].params if isinstance(option, click.Option)]
    assert options
    written = set(re.findall(r"^\| `(--[a-z-]+)", section, flags=re.MULTILINE))
    assert written == {option.opts[0] for option in options}


def test_every_section_is_a_command() -> None:
    """The page names no command that is gone."""
    assert {name for name in sections("commands.md") if name.startswith("`")} == {
        f"`chaos {verb}`" for verb in commands()
    }


def test_options_of_the_plugin_are_on_the_page() -> None:
    """What the plugin adds to pytest has its rows."""
    source = (ROOT / "chaos" / "pytest_plugin.py").read_text(encoding="utf-8")
    added = set(re.findall(r'"(--[a-z-]*chaos[a-z-]*)"', source))
    assert len(added) == 6
    rows = sections("commands.md")["pytest"]
    assert {name for name in added if f"| `{name}" not in rows} == set()
    assert "`chaos_experiments`" in rows


def slugs() -> Iterator[tuple[str, str]]:
    """Yield every slug in the package's source with its place, and "" where it cannot be read off."""
    for path in sorted((ROOT / "chaos").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for slug in _slugs_of(function):
                passed_on = isinstance(slug, ast.Name) and slug.id == "slug"
                if not passed_on:
                    text = slug.value if isinstance(slug, ast.Constant) else ""
                    yield str(text), f"{path.relative_to(ROOT)}:{getattr(slug, 'lineno', 0)}"


def _slugs_of(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expression of the slug in a call that makes a problem, and the default of a parameter `slug`."""
    if isinstance(node, ast.Call):
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name in SLUG_AT and len(node.args) > SLUG_AT[name]:
            yield node.args[SLUG_AT[name]]
        yield from (keyword.value for keyword in node.keywords if keyword.arg == "slug" and name in SLUG_AT)
    if isinstance(node, ast.FunctionDef):
        defaults = node.args.defaults
        named = node.args.args[len(node.args.args) - len(defaults) :]
        yield from (default for argument, default in zip(named, defaults, strict=True) if argument.arg == "slug")


def test_every_slug_is_explained_once() -> None:
    """The messages page explains each slug of the source, each once, and no slug that is gone."""
    found = dict(slugs())
    assert len(found) > 40
    assert "" not in found, f"a slug that is no literal at {found['']}"
    explained = re.findall(
        r"^\| `([a-z-]+)` \|", (REFERENCE / "messages.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert sorted(explained) == sorted(set(explained))
    assert {slug: place for slug, place in found.items() if slug not in explained} == {}
    assert set(explained) - set(found) == set()


def test_every_exit_code_is_on_the_page() -> None:
    """The page has a row for each code, by number and name, and the order in which they win."""
    page = (REFERENCE / "exit-codes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", page, flags=re.MULTILINE))
    assert rows == {str(int(code)): code.name for code in ExitCode}
    order = ", ".join(str(int(code)) for code in PRECEDENCE)
    assert f"The first of {order} that occurred" in page
