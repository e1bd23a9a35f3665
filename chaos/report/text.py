"""The report of one run as plain text: report.txt, and the end of `chaos run` on a terminal.

It is written for someone who did not see the run: what was claimed, what was done to the system, what came of
the transactions, how long recovery took, what each check found and where, and how to see it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chaos.checkers.judgement import Conclusion
from chaos.checkers.model import Context, Verdict
from chaos.checkers.words import count_of
from chaos.history.view import History
from chaos.report.ends import unexplained_ends
from chaos.report.layout import command, heading, labelled, paragraph
from chaos.report.measured import measured
from chaos.report.rebuilt import rebuilt
from chaos.report.sections import injected, recovery, transactions

WITNESSES = 5
_VALIDITY = {"valid": "valid", "invalid": "INVALID", "unknown": "unknown"}
_LABEL = 12


def render(
    run: Mapping[str, Any],
    plan: Mapping[str, Any],
    verdicts: Sequence[Verdict],
    conclusion: Conclusion,
    history: History,
) -> str:
    """Return the report, at most 100 columns wide (a path longer than that stays whole), ending in a line end.

    run: run.json's object, of which experiment, hypothesis, seed, repeat, started, seconds, folder and versions
    are shown when present, `file_faults` where strace reaches a store, `stopped`, the reason why a run ended early,
    `not_judged`, and `stray_processes`, what the system under test left behind. plan: plan.json's object. Raises
    PlanError when the plan has no checker context. Pure: the same run gives the same text.
    """
    context = Context.from_plan(plan)
    lines = [
        *_head(run),
        *injected(history, context, plan),
        *unexplained_ends(history),
        *transactions(history, context),
        *rebuilt(history),
        *_recovery(verdicts, context),
        *measured(history),
        *_checks(verdicts),
        *_witnesses(verdicts),
        *_end(run, conclusion, history),
    ]
    return "\n".join(lines) + "\n"


def _head(run: Mapping[str, Any]) -> Iterator[str]:
    yield from paragraph(f"{run.get('experiment', 'experiment')}, seed {run.get('seed', 'unknown')}")
    if run.get("hypothesis"):
        yield from paragraph(str(run["hypothesis"]))
    yield ""
    if run.get("started"):
        length = f", {run['seconds']:.1f} s" if isinstance(run.get("seconds"), int | float) else ""
        yield from labelled("started", f"{run['started']}{length}", _LABEL)
    if run.get("folder"):
        yield f"{'folder':<{_LABEL}}{run['folder']}"
    files = run.get("file_faults") or {}
    if any(text.startswith("strace") for text in files.values()):
        yield from labelled("file faults", "; ".join(f"{store}: {text}" for store, text in files.items()), _LABEL)
    versions = run.get("versions") or {}
    if versions:
        yield from labelled("versions", ", ".join(f"{name} {text}" for name, text in versions.items()), _LABEL)


def _recovery(verdicts: Sequence[Verdict], context: Context) -> Iterator[str]:
    for verdict in verdicts:
        if verdict.name == "recovered":
            yield from recovery(verdict.details, context.budget_s)


def _checks(verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield from heading("Checks")
    if not verdicts:
        yield "  none was judged"
    width = max((len(verdict.name) for verdict in verdicts), default=0) + 2
    for verdict in verdicts:
        yield from labelled(f"{verdict.name:<{width}}{_VALIDITY[verdict.valid]}", verdict.summary, width + 9, "  ")


def _witnesses(verdicts: Sequence[Verdict]) -> Iterator[str]:
    for verdict in verdicts:
        if not verdict.witnesses:
            continue
        yield from heading(f"Witnesses of {verdict.name}")
        for witness in verdict.witnesses[:WITNESSES]:
            yield from paragraph(witness.text, "  - ", "    ")
        more = int(verdict.details.get("witness_count", len(verdict.witnesses))) - WITNESSES
        if more > 0:
            yield f"    and {count_of(more, 'other')}, in checks/{verdict.name}.json"


def _end(run: Mapping[str, Any], conclusion: Conclusion, history: History) -> Iterator[str]:
    yield from heading("Verdict")
    if run.get("stopped"):
        yield from paragraph(f"the run ended early: {run['stopped']}", "  ")
    if history.torn:
        yield from paragraph(f"the end of the history is missing: {history.torn}", "  ")
    for name, reason in (run.get("not_judged") or {}).items():
        yield from paragraph(f"not judged: {name} ({reason})", "  ")
    for stray in run.get("stray_processes") or ():
        yield from paragraph(f"left behind by the system under test, and killed: {stray}", "  ")
    yield from paragraph(conclusion.sentence, "  ")
    if run.get("repeat"):
        yield ""
        yield "repeat this run with"
        yield from command(str(run["repeat"]))
