"""The frames that rules hit in a run, as an experiment file that hits the same ones again.

The file takes the run's own experiment and puts, in the place of its rules on commands, one rule for each hit: the
same point, and the frame by its transaction, its command and its number among those; where no transaction is known,
the planned moment and the hit's own number. All other faults stay.

A rule that waits for a transaction is armed when the load starts, so a heal that was planned some time behind the
injection would come too early. It comes when it came in the run; and not before the load's end where it does nothing
to a frame that was hit, since a slower machine would otherwise miss the frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chaos.history.view import NS_PER_S, History
from chaos.report.wire import Line, Wire

_ACTIONS = {"cut": "Cut", "drop": "Drop", "delay": "Delay", "duplicate": "Duplicate", "forge": "Forge", "hold": "Hold"}
ON_COMMAND = "network.on_command"
_ARMED_S = 0.001
_NOT_HEALED = ("rst", "fin")
"""Cuts that leave a heal nothing to do."""


def render(run: Mapping[str, Any], plan: Mapping[str, Any], wire: Wire, history: History) -> str:
    """Return the file's text."""
    experiment = plan["experiment"]
    hits: dict[str, list[Line]] = {}
    for line in wire.hits:
        hits.setdefault(str(line.get("fault")), []).append(line)
    ends = _ends_s(history)
    rules = [
        rule
        for planned in plan["rules"]
        for rule in _rules(planned, hits.get(planned["id"], []), wire, ends.get(planned["id"]))
    ]
    body = "\n".join(f"    {line}" for rule in rules for line in rule)
    return f'''"""What the rules on commands hit in {run["folder"]}.

Hit the same frames again with: chaos run THIS_FILE --seed {plan["seed"]}
"""

from dataclasses import fields
from pathlib import Path

from chaos import Experiment, faults, systems, when
from chaos.experiment.loader import load

SOURCE = Path({experiment["file"]!r})
ORIGINAL = next(one for one in load([SOURCE]) if one.experiment.id == {experiment["id"]!r}).experiment
OTHERS = tuple(rule for rule in ORIGINAL.schedule if not any(fault.kind == {ON_COMMAND!r} for fault in rule.faults))
SETTINGS = {{one.name: getattr(ORIGINAL, one.name) for one in fields(ORIGINAL) if one.init}}
if isinstance(ORIGINAL.system, systems.Own):
    SETTINGS["system"] = systems.Own(ORIGINAL.system.location(SOURCE))

HITS = (
{body}
)

EXPERIMENT = Experiment(**{{**SETTINGS, "schedule": (*OTHERS, *HITS)}})
'''


def _rules(planned: Mapping[str, Any], hits: Sequence[Line], wire: Wire, ended_s: float | None) -> Iterator[list[str]]:
    """Yield the lines of one rule for each hit of a planned one, which was healed `ended_s` into the load."""
    fault = planned["fault"]
    if fault["kind"] != ON_COMMAND:
        return
    for hit in hits:
        arguments = dict(fault["arguments"])
        token = wire.token(hit)
        told = f", transaction {token}" if token else ""
        key = f" {hit['key']}" if hit.get("key") else ""
        when, end = _moment(planned["trigger"]), _end(planned["until"])
        arguments["nth"] = hit["nth"]
        if token:
            # Which transaction comes first is not the seed's to say; which frame of a transaction it was is known.
            arguments.update(command=hit["command"], key=None, transaction=token, nth=wire.ordinal(hit, token))
            when, end = f"at({_ARMED_S!r})", _end_of_known(planned, ended_s)
        yield [
            f"# {planned['id']}: connection {hit['connection']}, frame {hit['frame']}: {hit['command']}{key}{told}",
            f"when.{when}.do(",
            f"    {_fault(arguments)}",
            f"){end},",
        ]


def _fault(arguments: Mapping[str, Any]) -> str:
    words = [repr(arguments["store"]), repr(arguments["command"])]
    names = ("key", "client", "transaction", "nth", "at")
    words += [f"{name}={arguments[name]!r}" for name in names if arguments[name] is not None]
    words += [f"byte={arguments['byte']}"] if arguments["byte"] is not None else []
    return f"faults.OnCommand({', '.join(words)}, do={_action(arguments['do'])})"


def _action(do: Mapping[str, Any]) -> str:
    values = [value for name, value in do.items() if name != "action"]
    if values and isinstance(values[0], Mapping):
        seen = {name: value for name, value in values[0].items() if name != "command" and value is not None}
        named = "".join(f", {name}={value!r}" for name, value in seen.items())
        return f"faults.Hold(until=faults.Seen({values[0]['command']!r}{named}))"
    return f"faults.{_ACTIONS[do['action']]}({', '.join(repr(value) for value in values)})"


def _moment(moment: Mapping[str, Any]) -> str:
    if "phase" in moment:
        return f"phase({moment['phase']!r}, nth={moment['nth']})"
    if "next" in moment:
        return f"next({moment['next']!r}, after={moment['after']})"
    return f"at({moment['at_s']!r})"


def _ends_s(history: History) -> dict[str, float]:
    """Return when each fault was healed, in seconds since the load started; nothing where that is not known."""
    started = history.events("load_started")
    if not started:
        return {}
    return {
        fault.id: (fault.end_ns - started[0].time_ns) / NS_PER_S for fault in history.faults if fault.end_ns is not None
    }


def _end_of_known(planned: Mapping[str, Any], ended_s: float | None) -> str:
    """Return the end of a rule that waits, from the start of the load, for a frame that is known."""
    do, until = planned["fault"]["arguments"]["do"], planned["until"]
    heals = do["action"] in ("hold", "delay") or (do["action"] == "cut" and do["how"] not in _NOT_HEALED)
    if not heals or ("after_s" in until and ended_s is None):
        return ".never()"
    if "after_s" in until and ended_s is not None:
        return f".heal(after={max(_ARMED_S, round(ended_s - _ARMED_S, 3))!r})"
    return _end(until)


def _end(until: Mapping[str, Any]) -> str:
    if "after_s" in until:
        return f".heal(after={until['after_s']!r})"
    if "phase" in until or "next" in until:
        return f".heal(at=when.{_moment(until)})"
    return ".never()"
