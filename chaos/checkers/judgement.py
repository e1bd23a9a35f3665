"""From a history to verdicts, and from verdicts to one conclusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from chaos.checkers.model import Check, Context, Expectation, Validity, Verdict
from chaos.checkers.words import listed
from chaos.errors import HarnessError
from chaos.exit_codes import ExitCode
from chaos.history.view import History


@dataclass(frozen=True)
class Conclusion:
    """The end of it: one word, the exit code, and one sentence that says why."""

    verdict: Literal["pass", "fail", "inconclusive"]
    exit_code: int
    sentence: str


def judge(history: History, checks: Sequence[Check], context: Context) -> tuple[Verdict, ...]:
    """Return one verdict for each check, in the order of `checks`.

    A check that raises is a mistake in the check and no verdict on the stores: HarnessError names it.
    """
    return tuple(_judge_one(history, check, context) for check in checks)


def _judge_one(history: History, check: Check, context: Context) -> Verdict:
    try:
        verdict = check.judge(history, context)
    except Exception as error:
        text = f"check {check.name} failed on {history.source}: {type(error).__name__}: {error}"
        raise HarnessError(text) from error
    if not isinstance(verdict, Verdict):
        raise HarnessError(f"check {check.name} must return a Verdict, not {type(verdict).__name__}")
    return verdict


def merge(validities: Iterable[Validity]) -> Validity:
    """Return invalid if any is, else unknown if any is, else valid. Nothing at all is unknown."""
    seen = set(validities)
    for validity in ("invalid", "unknown", "valid"):
        if validity in seen:
            return validity
    return "unknown"


def conclude(verdicts: Sequence[Verdict], expect: Expectation | Mapping[str, Any] | None = None) -> Conclusion:
    """Return the conclusion of a run.

    expect None: pass when all are valid, fail when one is invalid, otherwise inconclusive.

    With an expectation, in this order: a check that is invalid and was not expected to be is a fail; a check
    that is unknown makes the run inconclusive; every named check invalid is a pass; a named check that is valid
    is a fail, because the known failure is gone and the expectation must go too. Checks named in `also` may be
    invalid or valid.
    """
    if not verdicts:
        return Conclusion("inconclusive", ExitCode.INCONCLUSIVE, "inconclusive: no check was asked for.")
    if expect is None:
        return _plain(verdicts)
    expectation = expect if isinstance(expect, Expectation) else msgspec.convert(dict(expect), Expectation)
    return _expected(verdicts, expectation)


def _plain(verdicts: Sequence[Verdict]) -> Conclusion:
    match merge(verdict.valid for verdict in verdicts):
        case "invalid":
            return _fail(_named(verdicts, "invalid"))
        case "unknown":
            return _inconclusive(_named(verdicts, "unknown"))
        case _:
            holds = "the check holds" if len(verdicts) == 1 else f"all {len(verdicts)} checks hold"
            return Conclusion("pass", ExitCode.PASS, f"pass: {holds}.")


def _expected(verdicts: Sequence[Verdict], expect: Expectation) -> Conclusion:
    validity = {verdict.name: verdict.valid for verdict in verdicts}
    allowed = {*expect.names, *expect.also}
    surprises = [verdict for verdict in _named(verdicts, "invalid") if verdict.name not in allowed]
    if surprises:
        return _fail(surprises, f", which is not the known failure ({listed(expect.names)})")
    unknown = _named(verdicts, "unknown")
    if unknown:
        return _inconclusive(unknown)
    absent = [name for name in expect.names if name not in validity]
    if absent:
        text = f"inconclusive: {listed(absent)} is expected to fail but was not among the checks."
        return Conclusion("inconclusive", ExitCode.INCONCLUSIVE, text)
    held = [name for name in expect.names if validity[name] != "invalid"]
    if held:
        text = f"fail: {listed(held)} was expected to be broken and holds; if that lasts, drop the expectation."
        return Conclusion("fail", ExitCode.CHECK_FAILED, text)
    reason = expect.reason.strip().rstrip(".")
    return Conclusion("pass", ExitCode.PASS, f"pass: {listed(expect.names)} is broken, as known: {reason}.")


def _named(verdicts: Sequence[Verdict], validity: Validity) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.valid == validity]


def _fail(broken: Sequence[Verdict], aside: str = "") -> Conclusion:
    names = listed(verdict.name for verdict in broken)
    first = broken[0]
    found = f"is broken{aside}: " if len(broken) == 1 else f"are broken{aside}; {first.name}: "
    text = f"fail: {names} {found}{first.summary}."
    return Conclusion("fail", ExitCode.CHECK_FAILED, text)


def _inconclusive(unknown: Sequence[Verdict]) -> Conclusion:
    names = listed(verdict.name for verdict in unknown)
    first = unknown[0]
    found = "could not be judged: " if len(unknown) == 1 else f"could not be judged; {first.name}: "
    text = f"inconclusive: {names} {found}{first.summary}. A check without an answer is no pass."
    return Conclusion("inconclusive", ExitCode.INCONCLUSIVE, text)
