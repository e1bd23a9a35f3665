"""The report of a finding's run as plain text: what ought to hold, what was done, what was seen, what that means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chaos.report.layout import command, heading, labelled, paragraph

_INDENT = "  "
_LABEL = 24
_MISSING_SHOWN = 4


def render_finding(run: Mapping[str, Any], plan: Mapping[str, Any], seen: Mapping[str, Any], sentence: str) -> str:
    """Return the report, ending in a line end. The objects of run.json, plan.json and finding.json, and the conclusion.

    Pure: the same run gives the same text.
    """
    expect = plan["expect"]
    affected = f"{plan['subject']} {', '.join(expect['versions'])}"
    known = f"{' and '.join(expect['outcome'])} in {affected}: {expect['reason']}"
    lines = [
        *paragraph(f"{run['experiment']}, seed {run['seed']}, {seen['subject']} {seen['version']}"),
        *paragraph(str(run["hypothesis"])),
        *heading("what was done"),
        *paragraph(_trial(plan), _INDENT),
        *(line for text in seen["evidence"] for line in paragraph(text, _INDENT)),
        *heading("what was seen"),
        *_found(seen),
        *heading("known"),
        *paragraph(known, _INDENT),
        *heading("verdict"),
        *paragraph(sentence, _INDENT),
        "",
        "repeat this run with",
        *command(str(run["repeat"])),
    ]
    return "\n".join(lines) + "\n"


def _trial(plan: Mapping[str, Any]) -> str:
    trial = plan["trial"]
    match trial["kind"]:
        case "undisturbed":
            return "the steps alone, in a plain process"
        case "faulted":
            return f"the steps with {trial['fault']['kind']} in the phase {trial['during']!r}"
    crash = "power loss" if trial["kind"] == "power_loss" else "process crash"
    again = ", and another during the recovery" if trial["again"] else ""
    return f"a {crash} at every operation of the phase {trial['during']!r}{again}"


def _found(seen: Mapping[str, Any]) -> Iterator[str]:
    if not seen["found"]:
        yield from paragraph("nothing was wrong" if seen["note"] is None else seen["note"], _INDENT)
    for one in seen["found"]:
        times = f" ({one['states']} times)" if one["states"] > 1 else ""
        yield from labelled(one["outcome"], f"after {one['crash']}{times}: {one['detail']}", _LABEL, _INDENT)
        for missing in one["missing"][:_MISSING_SHOWN]:
            yield from labelled("", f"without {missing}", _LABEL, _INDENT)
        if one["state"]:
            yield from labelled("", f"state {one['minimal'] or one['state']}", _LABEL, _INDENT)
