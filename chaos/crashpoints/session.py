"""One run of the explorer from the command to its folder: record or resume, explore, conclude, report."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from chaos.crashpoints import explorer, findings, ledger, recipes, recording, snapshot, targets
from chaos.crashpoints.bench import Recording, Result
from chaos.crashpoints.content import digest
from chaos.crashpoints.explorer import Budget, Counts, Plan, Tell
from chaos.crashpoints.ledger import Header, Ledger
from chaos.crashpoints.scratch import scratch
from chaos.crashpoints.targets.base import Target
from chaos.crashpoints.targets.command import CommandTarget
from chaos.errors import PlanError, Problem
from chaos.exit_codes import ExitCode
from chaos.faults.disk.oplog import Kind, read_log, write_log

AGAIN_STATES = 24
"""How many states of each recovery are looked at."""

_LOG, _START, _SUMMARY = "operations.log", "start", "explore.json"


@dataclass(frozen=True)
class Options:
    """What the command was given. `command`, `check` and `data` belong to the target of a user's own program.

    phase, crash, after: which part of the workload is looked at, see `explorer.Plan`; all of it by default.
    """

    target: str
    seed: int
    jobs: int
    out: Path
    budget: Budget = Budget()  # noqa: RUF009  # frozen
    draws: int = 6
    again: tuple[int, int] = (4, AGAIN_STATES)
    limit_s: float | None = None
    ignore_syncs: bool = False
    command: tuple[str, ...] = ()
    check: str | None = None
    data: Path | None = None
    phase: str | None = None
    crash: str | None = None
    after: str = "*"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it; written to explore.json. `note` says why there is no verdict, when there is none.

    told: what recoveries had to do beyond the ordinary, and in how many states. recovered_s_max: the longest recovery,
    for a target that measures it.
    """

    target: str
    seed: int
    folder: str
    verdict: str
    exit_code: int
    note: str = ""
    operations: int = 0
    acknowledged: int = 0
    made: dict[str, int] = {}
    unique: dict[str, int] = {}
    looked_at: dict[str, int] = {}
    recoveries: int = 0
    recovery_states: int = 0
    recovery_states_looked_at: int = 0
    states_per_second: float = 0.0
    told: dict[str, int] = {}
    recovered_s_max: float = 0.0
    findings: list[findings.Finding] = []


def run(options: Options, tell: Tell) -> Summary:
    """Record the workload and explore it. Raises PlanError, EnvironmentUnavailable or HarnessError."""
    header = header_of(options)
    target = target_of(header)
    target.demand()
    recording.demand_shim()
    return run_in(new_folder(options, target), options, tell)


def run_in(folder: Path, options: Options, tell: Tell) -> Summary:
    """Do the same with a folder that is there already; what it needs is known to be here."""
    header = header_of(options)
    target = target_of(header)
    with scratch(folder) as place:
        try:
            recorded = _record(header, target, folder, place)
        except recording.NoVerdict as error:
            return _without_verdict(options, header, folder, str(error))
        header = msgspec.structs.replace(header, log_digest=digest((folder / _LOG).read_bytes()).hex())
        book = Ledger(folder / ledger.NAME)
        book.begin(header)
        return _explore(options, header, recorded, (folder, place), [], book, tell)


def resume(folder: Path, options: Options, tell: Tell) -> Summary:
    """Go on with an exploration that ended early, with the same recording and a new budget."""
    header, known = ledger.read(folder)
    target = target_of(header)
    target.demand()
    recorded = _stored(folder, header, target)
    with scratch(folder) as place:
        return _explore(options, header, recorded, (folder, place), known, Ledger(folder / ledger.NAME), tell)


def look_again(folder: Path, state: str, limit_s: float | None) -> tuple[int, list[str]]:
    """Make one state of an exploration again, look at it, and say what it showed: an exit code and lines."""
    header, _ = ledger.read(folder)
    target = target_of(header)
    target.demand()
    try:
        chain = recipes.parse(state)
    except ValueError as error:
        raise PlanError([Problem(str(folder), 0, str(error), "copy the line from a finding", "bad-state")]) from error
    recorded = _stored(folder, header, target)
    if chain[0].boundary > len(recorded.operations):
        why = f"state={state!r} lies beyond the {len(recorded.operations)} operations"
        raise PlanError([Problem(str(folder), 0, why, "copy the line from a finding", "bad-state")])
    with scratch(folder) as place:
        options = Options(target="", seed=0, jobs=1, out=folder, limit_s=limit_s)
        plan = _plan(options, header, recorded, (folder, place))
        seen, judgement, missing = explorer.look_again(plan, state)
    text = f"{judgement.outcome}: {judgement.detail}" if judgement.detail else str(judgement.outcome)
    lines = [
        f"{state}: {text}",
        *(f"  lacks {line}" for line in missing),
        f"  seen: {msgspec.json.encode(seen).decode()}",
    ]
    return int(ExitCode.PASS if judgement.outcome == "ok" else ExitCode.CHECK_FAILED), lines


def target_of(header: Header) -> Target:
    """Return the target that a header names. Raises PlanError when it names none."""
    if header.target == CommandTarget.name:
        return CommandTarget(tuple(header.command), header.check, header.data)
    return targets.make(header.target)


def header_of(options: Options) -> Header:
    """Return what a ledger remembers of the options. Raises PlanError for a bad target."""
    return Header(
        target=options.target if options.command else targets.make(options.target).spelled,
        seed=options.seed,
        draws=options.draws,
        ignore_syncs=options.ignore_syncs,
        check=options.check,
        data=None if options.data is None else str(options.data),
        command=list(options.command),
        phase=options.phase,
        crash=options.crash,
        after=options.after,
    )


def _record(header: Header, target: Target, folder: Path, place: Path) -> Recording:
    """Run the workload and store the log and the folder it began with."""
    data = place / "data"
    data.mkdir()
    target.prepare(data)
    start = snapshot.read(data)
    command = target.command("work", data)
    everything, status, words = recording.run_recorded(command, data, place / "recording")
    write_log(folder / "raw.log", everything)
    operations = recording.relevant(everything, target.ignored)
    if status != 0:
        raise recording.NoVerdict(f"the workload ended with status {status}: {words}")
    recorded = recording.trusted(start, operations, data, target)
    write_log(folder / _LOG, operations)
    (folder / "raw.log").unlink()
    (folder / _START).mkdir()
    snapshot.write(start, folder / _START)
    shutil.rmtree(data)
    return _with_lies(recorded, header)


def _stored(folder: Path, header: Header, target: Target) -> Recording:
    operations = read_log(folder / _LOG)
    if digest((folder / _LOG).read_bytes()).hex() != header.log_digest:
        why = "is not the recording that the ledger belongs to"
        raise PlanError([Problem(str(folder / _LOG), 0, why, "explore anew", "malformed-log")])
    return _with_lies(Recording(snapshot.read(folder / _START), operations, recording.first_promise(target)), header)


def _with_lies(recorded: Recording, header: Header) -> Recording:
    if not header.ignore_syncs:
        return recorded
    return Recording(recorded.start, recording.without_syncs(recorded.operations), recorded.first)


def _explore(
    options: Options,
    header: Header,
    recorded: Recording,
    folders: tuple[Path, Path],
    known: Sequence[Result],
    book: Ledger,
    tell: Tell,
) -> Summary:
    folder = folders[0]
    plan = _plan(options, header, recorded, folders)
    told = [one.name for one in recorded.operations if one.kind is Kind.MARKER]
    acknowledged = sum(text.startswith("acknowledged ") for text in told)
    tell(f"recorded {len(recorded.operations)} operations, {acknowledged} transactions acknowledged")
    try:
        counts, results = explorer.explore(plan, known, book, tell)
    finally:
        book.close()
    gathered = explorer.conclude(plan, results, lambda state: repeat_line(folder, state))
    summary = _summary(header, folder, recorded, acknowledged, counts, gathered)
    remade = Counter(text for result in results for text in dict.fromkeys(result.seen.told))
    slowest_s = max((result.seen.recovered_s or 0.0 for result in results), default=0.0)
    summary = msgspec.structs.replace(summary, told=dict(remade.most_common()), recovered_s_max=round(slowest_s, 3))
    (folder / _SUMMARY).write_bytes(msgspec.json.format(msgspec.json.encode(summary)) + b"\n")
    return summary


def _plan(options: Options, header: Header, recorded: Recording, folders: tuple[Path, Path]) -> Plan:
    """Put together what is explored. `folders`: where the evidence goes, and where states are opened."""
    return Plan(
        recording=recorded,
        target=target_of(header),
        seed=header.seed,
        draws=header.draws,
        jobs=options.jobs,
        budget=options.budget,
        again=options.again,
        limit_s=options.limit_s,
        folder=folders[0],
        scratch=folders[1],
        phase=header.phase,
        crash=header.crash,
        after=header.after,
    )


def _summary(
    header: Header,
    folder: Path,
    recorded: Recording,
    acknowledged: int,
    counts: Counts,
    gathered: list[findings.Finding],
) -> Summary:
    looked = sum(counts.looked.values())
    verdict, code = ("violations", ExitCode.CHECK_FAILED) if gathered else ("clean", ExitCode.PASS)
    if not looked and not gathered:
        verdict, code = "nothing explored", ExitCode.INCONCLUSIVE
    return Summary(
        target=header.target,
        seed=header.seed,
        folder=str(folder),
        verdict=verdict,
        exit_code=int(code),
        operations=len(recorded.operations),
        acknowledged=acknowledged,
        made=counts.made,
        unique=counts.unique,
        looked_at=counts.looked,
        recoveries=counts.recoveries,
        recovery_states=counts.again_unique,
        recovery_states_looked_at=counts.again_looked,
        states_per_second=round(counts.fresh / counts.seconds, 1) if counts.seconds else 0.0,
        findings=gathered,
    )


def _without_verdict(options: Options, header: Header, folder: Path, note: str) -> Summary:
    return Summary(
        target=header.target,
        seed=options.seed,
        folder=str(folder),
        verdict="no verdict",
        exit_code=int(ExitCode.INCONCLUSIVE),
        note=note,
    )


def repeat_line(folder: Path, state: str) -> str:
    """Return the command that makes one state of an exploration again."""
    return shlex.join(["chaos", "explore", "--resume", str(folder), "--state", state])


def new_folder(options: Options, target: Target) -> Path:
    """Make and return the folder of a run."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())  # a name for people; nothing is decided by it
    base = options.out / f"explore-{target.name}"
    base.mkdir(parents=True, exist_ok=True)
    for number in range(1000):
        name = f"{stamp}-s{options.seed}" + (f"-{number}" if number else "")
        try:
            (base / name).mkdir(mode=0o700)
        except FileExistsError:
            continue
        return base / name
    raise AssertionError(base)


def default_jobs() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
