"""Holding what a trial showed against what is known: strict both ways, and by version. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from chaos.checkers.words import listed
from chaos.crashpoints.findings import Finding
from chaos.exit_codes import ExitCode

GONE = "fixed upstream, or the shim went blind"
GONE_WITHOUT_SHIM = "fixed upstream, or the steps no longer show it"


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan.json says is known."""

    outcome: Sequence[str]
    versions: Sequence[str]
    reason: str
    says: str = ""
    also: Sequence[str] = ()


class Strict(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict in one word, its exit code, and the sentence that says why."""

    verdict: str
    exit_code: int
    sentence: str


def conclude(plan: Mapping[str, Any], version: str, found: Sequence[Finding], *, note: str | None = None) -> Strict:
    """Return the conclusion for a plan.json, the version that ran, and what was seen; `note`: why nothing was."""
    if note is not None:
        return _conclusion("inconclusive", f"inconclusive: {note}. A trial that shows nothing is no pass.")
    known = msgspec.convert(plan["expect"], Known)
    here = f"{plan['subject']} {version}"
    if version not in known.versions:
        return _of_another_version(known, here, found)
    surprises = [one for one in found if one.outcome not in {*known.outcome, *known.also}]
    if surprises:
        return _fail(f"{_told(surprises[0])}, which is not what is known of {here} ({listed(known.outcome)})")
    missing = [name for name in known.outcome if name not in {str(one.outcome) for one in found}]
    if missing:
        gone = GONE if plan["trial"]["kind"] != "undisturbed" else GONE_WITHOUT_SHIM
        return _fail(f"{here} passes unexpectedly, without {listed(missing)}: {gone}")
    example = next((one for one in found if one.outcome in known.outcome and known.says in one.detail), None)
    if example is None:
        return _fail(f"{_told(found[0])}, and nowhere the words {known.says!r}, by which {here} is known")
    return _conclusion("pass", f"pass: fails as known of {here}, {_told(example)}: {known.reason.strip().rstrip('.')}.")


def _of_another_version(known: Known, here: str, found: Sequence[Finding]) -> Strict:
    listed_versions = listed(known.versions)
    if found:
        return _fail(f"{_told(found[0])} in {here}, which is not among the affected versions ({listed_versions})")
    return _conclusion(
        "pass", f"pass: {here} is not among the affected versions ({listed_versions}), and does not fail."
    )


def _told(one: Finding) -> str:
    return f"{one.outcome} after {one.crash} ({one.detail[:160].rstrip('. ')})"


def _fail(text: str) -> Strict:
    return _conclusion("fail", f"fail: {text}.")


def _conclusion(verdict: str, sentence: str) -> Strict:
    codes = {"pass": ExitCode.PASS, "fail": ExitCode.CHECK_FAILED, "inconclusive": ExitCode.INCONCLUSIVE}
    return Strict(verdict=verdict, exit_code=int(codes[verdict]), sentence=sentence)
