"""Puts a history together from its entries, and refuses one that is not well-formed.

A checker that is fed nonsense answers nonsense, usually "valid". So the form is checked first and as a whole,
and every mistake is reported with its line: indexes without gaps, times that do not go back, each operation
an invoke and then exactly one completion by the same process with the same token, no process used again after
an info, each token sent once, each fault begun once and ended at most once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from chaos.errors import PlanError, Problem
from chaos.history import values
from chaos.history.model import Entry
from chaos.history.view import Agreement, FaultInterval, History, Operation, Probe, ReadBack, Resolution

PROBLEM_LIMIT = 20
"""How many mistakes are reported; a file that is no history at all would otherwise name every line."""

_REMEDY = "a run writes this file by itself: take an unedited copy, or run the experiment again"
_COMPLETIONS = ("ok", "fail", "info")


def assemble(entries: Sequence[Entry], *, source: str = "history", torn: str | None = None) -> History:
    """Return the typed view of `entries`, in one pass.

    source: the file's name, for messages; the entry with index i is taken to be line i + 1. torn: passed on.
    Raises PlanError with at most PROBLEM_LIMIT problems when the entries are not a well-formed history.
    """
    assembly = _Assembly(source)
    for position, entry in enumerate(entries):
        assembly.take(position, entry)
        if len(assembly.problems) >= PROBLEM_LIMIT:
            break
    if assembly.problems:
        raise PlanError(assembly.problems)
    return assembly.history(tuple(entries), torn)


class _Assembly:
    """The state of one pass. Every `_take` method handles one kind of entry and reports, never raises."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.position = 0
        self.last_time_ns = 0
        self.gap = False
        self.open: dict[tuple[int | None, str | None], tuple[int, Entry]] = {}
        self.retired: dict[int, int] = {}
        self.tokens: dict[str, int] = {}
        self.marks: dict[str, str] = {}
        self.operations: list[tuple[Entry, Entry | None, values.Acknowledged | None]] = []
        self.steps: defaultdict[str, list[Entry]] = defaultdict(list)
        self.faults: dict[str, tuple[Entry, values.FaultBegan]] = {}
        self.ends: dict[str, tuple[Entry, values.FaultEnded]] = {}
        self.read_backs: list[ReadBack] = []
        self.resolutions: defaultdict[str, list[Resolution]] = defaultdict(list)
        self.agreements: list[Agreement] = []
        self.probes: list[Probe] = []

    def report(self, text: str) -> None:
        """Note a mistake in the line at hand."""
        self.problems.append(Problem(self.source, self.position + 1, text, _REMEDY, "malformed-history"))

    def take(self, position: int, entry: Entry) -> None:
        """Add the next entry."""
        self.position = position
        if entry.index != position and not self.gap:
            self.gap = True  # told once: a line that is missing puts every later one out of place
            self.report(f"index={entry.index} must be {position}, one more than the line above")
        if entry.time_ns < self.last_time_ns:
            self.report(f"time_ns={entry.time_ns} must be at least {self.last_time_ns}, the time of the line above")
        self.last_time_ns = max(self.last_time_ns, entry.time_ns)
        try:
            self._dispatch(entry)
        except msgspec.ValidationError as error:
            self.report(f"the value of {entry.f} ({entry.kind}) does not fit: {error}")

    def _dispatch(self, entry: Entry) -> None:
        """Branch by kind; the leaves do the work."""
        if entry.kind == "step":
            if entry.token is not None:
                self.steps[entry.token].append(entry)
        elif entry.f == "resolve":
            self._take_resolution(entry)
        elif entry.kind == "invoke":
            self._take_invoke(entry)
        elif entry.kind in _COMPLETIONS:
            self._take_completion(entry)
        elif entry.kind == "fault_begin":
            self._take_fault_begin(entry)
        elif entry.kind == "fault_end":
            self._take_fault_end(entry)
        else:
            self._take_event(entry)

    def _slot(self, entry: Entry) -> tuple[int | None, str | None]:
        """Return what may hold one open operation at a time: a process, or one kind of work of the harness."""
        return (entry.process, None if entry.process is not None else entry.f)

    def _take_invoke(self, entry: Entry) -> None:
        slot = self._slot(entry)
        if slot in self.open:
            self.report(f"{_who(entry)} invokes {entry.f} while its entry {self.open[slot][1].index} is still open")
        if entry.process in self.retired:
            ended = self.retired[entry.process]
            self.report(f"{_who(entry)} ended info in entry {ended} and must never be used again")
        if entry.f == "transact":
            self._take_token(entry)
        self.open[slot] = (len(self.operations), entry)
        self.operations.append((entry, None, None))

    def _take_token(self, entry: Entry) -> None:
        if entry.token is None:
            self.report("a transact must have a token")
            return
        if entry.token in self.tokens:
            self.report(f"token={entry.token!r} was sent before, in entry {self.tokens[entry.token]}")
        self.tokens[entry.token] = entry.index
        self.marks[entry.token] = values.value_of(entry, values.Sent).mark

    def _take_completion(self, entry: Entry) -> None:
        position, invoke = self.open.pop(self._slot(entry), (None, None))
        if position is None or invoke is None:
            self.report(f"{_who(entry)} ends {entry.f} ({entry.kind}) without an open invoke")
            return
        if (entry.f, entry.token) != (invoke.f, invoke.token):
            self.report(
                f"{_who(entry)} ends {entry.f} of token {entry.token}, "
                f"but entry {invoke.index} began {invoke.f} of token {invoke.token}"
            )
        if entry.kind == "info" and entry.process is not None:
            self.retired[entry.process] = entry.index
        answer: values.Acknowledged | None = None
        if entry.kind == "ok" and entry.f == "transact":
            answer = values.value_of(entry, values.Acknowledged)
        elif entry.kind == "ok" and entry.f == "read_back":
            self._take_reading(invoke, entry)
        self.operations[position] = (invoke, entry, answer)

    def _take_reading(self, invoke: Entry, entry: Entry) -> None:
        value = values.value_of(entry, values.Images)
        self.read_backs.append(ReadBack(entry.index, invoke.index, entry.time_ns, value.occasion, value.stores))

    def _take_resolution(self, entry: Entry) -> None:
        if entry.kind != "ok":
            return
        if entry.token not in self.tokens or entry.token is None:
            self.report(f"resolve of token={entry.token!r}, which no entry above sent")
            return
        outcome = values.value_of(entry, values.Resolved).outcome
        self.resolutions[entry.token].append(Resolution(entry.index, entry.time_ns, entry.token, outcome))

    def _take_fault_begin(self, entry: Entry) -> None:
        if entry.fault is None:
            self.report("fault_begin must name its fault")
        elif entry.fault in self.faults:
            self.report(f"fault={entry.fault!r} began before, in entry {self.faults[entry.fault][0].index}")
        else:
            self.faults[entry.fault] = (entry, values.value_of(entry, values.FaultBegan))

    def _take_fault_end(self, entry: Entry) -> None:
        if entry.fault is None or entry.fault not in self.faults:
            self.report(f"fault_end of fault={entry.fault!r}, which did not begin")
        elif entry.fault in self.ends:
            self.report(f"fault={entry.fault!r} ended before, in entry {self.ends[entry.fault][0].index}")
        else:
            self.ends[entry.fault] = (entry, values.value_of(entry, values.FaultEnded))

    def _take_event(self, entry: Entry) -> None:
        if entry.f == "probe":
            probed = values.value_of(entry, values.Probed)
            self.probes.append(
                Probe(entry.index, entry.time_ns, probed.ok, probed.occasion, probed.stores, entry.error, entry.fault)
            )
        elif entry.f == "agreement":
            agreed = values.value_of(entry, values.Agreed)
            self.agreements.append(Agreement(entry.index, entry.time_ns, agreed.agreed, agreed.phase, agreed.digests))

    def history(self, entries: tuple[Entry, ...], torn: str | None) -> History:
        """Return the finished view."""
        operations = tuple(
            Operation(
                invoke,
                completion,
                tuple(self.steps.get(invoke.token, ())) if invoke.token is not None else (),
                self.marks.get(invoke.token) if invoke.token is not None else None,
                answer is not None and answer.applied,
                () if answer is None else tuple(answer.reads),
            )
            for invoke, completion, answer in self.operations
        )
        return History(
            source=self.source,
            entries=entries,
            torn=torn,
            operations=operations,
            transactions={one.token: one for one in operations if one.token is not None and one.mark is not None},
            faults=tuple(_interval(*begun, self.ends.get(name)) for name, begun in self.faults.items()),
            read_backs=tuple(self.read_backs),
            resolutions={token: tuple(words) for token, words in self.resolutions.items()},
            agreements=tuple(self.agreements),
            probes=tuple(self.probes),
        )


def _who(entry: Entry) -> str:
    """Name the process of an entry."""
    return "the harness" if entry.process is None else f"process {entry.process}"


def _interval(begin: Entry, began: values.FaultBegan, end: tuple[Entry, values.FaultEnded] | None) -> FaultInterval:
    """Join the two entries of a fault; `end` is None when it has none."""
    return FaultInterval(
        id=begin.fault or "",
        kind=begin.f,
        begin_ns=begin.time_ns,
        begin_index=begin.index,
        end_ns=end[0].time_ns if end else None,
        end_index=end[0].index if end else None,
        landed=end[1].landed if end else None,
        evidence=end[1].evidence if end else {},
        store=began.store or _aim(began),
        arguments=began.arguments,
        lasting=began.lasting,
        stops_work=began.stops_work,
        severs=began.severs,
        bounded=began.bounded,
        well_before=began.well_before,
        end_came=end[1].end_came if end else True,
        error=end[0].error if end else None,
    )


def _aim(began: values.FaultBegan) -> str | None:
    """Return what the fault's own parameters say it acts on."""
    aim = began.arguments.get("store", began.arguments.get("target"))
    return aim if isinstance(aim, str) else None
