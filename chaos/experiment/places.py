"""Where in a file a value was written, to the line: a call may span many, and each argument has its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from chaos.errors import Problem

_SUBJECT = re.compile(r"(?:\w+\.)?(\w+)\((\w+)=")


def refine(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems, each once, sorted, at the line of the argument it names, with short file names.

    A declared value knows the line on which its call begins. The text of a problem begins with the call and
    the argument ("Latency(jitter="), so the source tells where that argument is. What cannot be found keeps
    the line it had.
    """
    trees: dict[str, ast.Module | None] = {}
    refined = set()
    for problem in problems:
        if problem.file not in trees:
            trees[problem.file] = _parse(problem.file)
        line = _argument_line(trees[problem.file], problem) or problem.line
        refined.add(replace(problem, file=short(problem.file), line=line))
    return sorted(refined)


def short(file: str | Path) -> str:
    """Return `file` relative to the current folder when it is below it, else unchanged."""
    try:
        return str(Path(file).absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(file)


def selector(source: Path, experiment_id: str, *, alone: bool) -> str:
    """Return what a command line calls an experiment: its file, followed by "::id" unless it is alone in there."""
    return short(source) if alone else f"{short(source)}::{experiment_id}"


def _parse(file: str) -> ast.Module | None:
    try:
        return ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _argument_line(tree: ast.Module | None, problem: Problem) -> int | None:
    """Return the line of the argument that `problem` names, within the innermost call around its line."""
    match = _SUBJECT.match(problem.text)
    if tree is None or match is None:
        return None
    calls = [call for call in _calls(tree, match[1]) if call.lineno <= problem.line <= (call.end_lineno or call.lineno)]
    if not calls:
        return None
    call = min(calls, key=lambda call: (call.lineno != problem.line, (call.end_lineno or 0) - call.lineno))
    return next((keyword.value.lineno for keyword in call.keywords if keyword.arg == match[2]), None)


def _calls(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    """Yield every call of something named `name`, however it is qualified."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
            if word == name:
                yield node
