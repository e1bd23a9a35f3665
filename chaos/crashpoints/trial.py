"""Putting the steps of a finding through its trial, and what was seen. Nothing here knows what is expected."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos._process import PARENT_VARIABLE
from chaos._seeds import stream
from chaos.crashpoints import findings, session, snapshot
from chaos.crashpoints.checker import Checker
from chaos.crashpoints.explorer import Budget, Tell
from chaos.crashpoints.judge import Judgement, Observation, Outcome, judge
from chaos.crashpoints.pool import Pool, Serve
from chaos.crashpoints.promises import promises
from chaos.crashpoints.recording import first_promise, run_recorded
from chaos.crashpoints.scratch import scratch
from chaos.crashpoints.targets.steps import RULE_VARIABLE, StepsTarget
from chaos.crashpoints.victim import FAILED, WRONG
from chaos.errors import HarnessError
from chaos.experiment.finding import FindingPlan
from chaos.experiment.loader import Loaded
from chaos.experiment.trials import Crash, Faulted, PowerLoss
from chaos.faults.disk.oplog import Operation
from chaos.faults.disk.rules import Injected

_FIRST_LOOKS = 4
_WORDS_MAX = 600
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass(frozen=True)
class Tried:
    """What a trial showed.

    found: what went wrong, the gravest first. looks: how often data were looked at, or steps were run. note: why
    nothing can be concluded; None when something can. evidence: lines about what was done to the steps.
    """

    found: Sequence[findings.Finding] = ()
    looks: int = 0
    note: str | None = None
    evidence: Sequence[str] = field(default_factory=tuple)


def put_to_trial(plan: FindingPlan, folder: Path, tell: Tell) -> Tried:
    """Do the steps of a plan and look; evidence goes into `folder`, which is there and empty.

    Blocks, for minutes at most. Everything that was started has ended when this returns. Raises HarnessError.
    """
    target = StepsTarget(Loaded(plan.experiment, plan.source, plan.alone))
    match plan.experiment.trial:
        case Crash() | PowerLoss() as trial:
            return _every_state(plan, trial, target, folder, tell)
        case Faulted() as trial:
            with scratch(folder) as place:
                return _faulted(plan, trial, target, folder, place)
    with scratch(folder) as place:
        return _undisturbed(target, place)


def _every_state(plan: FindingPlan, trial: Crash | PowerLoss, target: StepsTarget, folder: Path, tell: Tell) -> Tried:
    options = session.Options(
        target=target.spelled,
        seed=plan.seed,
        jobs=session.default_jobs(),
        out=folder,
        budget=Budget(states=_FIRST_LOOKS * trial.first if trial.again else trial.looks),
        draws=trial.draws,
        again=(trial.first, -(-trial.looks // trial.first)) if trial.again else (0, 0),
        phase=trial.during,
        crash=None if trial.again and isinstance(trial, PowerLoss) else trial.crash,
        after=trial.after,
    )
    summary = session.run_in(folder, options, tell)
    looks = summary.recovery_states_looked_at if trial.again else sum(summary.looked_at.values())
    if summary.note or not looks:
        nothing = f"no state of a {trial.crash} in the phase {trial.during!r} was there to look at"
        return Tried(note=summary.note or nothing)
    found = [one for one in summary.findings if one.crash == trial.crash + (findings.AGAIN if trial.again else "")]
    evidence = [f"{summary.operations} operations recorded", _looked(summary, trial.crash, trial.during)]
    if trial.again:
        evidence.append(f"{looks} states of {summary.recoveries} recoveries looked at")
    return Tried(found, looks, None, evidence)


def _looked(summary: session.Summary, crash: str, during: str) -> str:
    looked, of = sum(summary.looked_at.values()), sum(summary.unique.values())
    return f"{looked} of {of} different states of a {crash} in the phase {during!r} looked at"


def _faulted(plan: FindingPlan, trial: Faulted, target: StepsTarget, folder: Path, place: Path) -> Tried:
    data = place / "data"
    data.mkdir()
    injected: list[Injected] = []
    rule = {**trial.fault.rule(), "seed": stream(plan.seed, "f0").getrandbits(64)}
    operations, status, _ = run_recorded(
        target.command("work", data),
        data,
        place / "recording",
        limit_s=target.limit_s,
        injected=injected,
        environment={RULE_VARIABLE: json.dumps({"during": trial.during, "rule": rule})},
    )
    words = _words(place / "recording" / "said.txt")
    evidence = [f"{one.call} of {one.path}: {one.action} {one.error or ''}".rstrip() for one in injected]
    if not injected:
        ended = f"status {status}, {words[-200:]}" if words else f"status {status}"
        return Tried(note=f"no call of the phase {trial.during!r} met the fault; the steps ended: {ended}")
    seen = _seen_in_steps(status, words, target.limit_s)
    if seen is None and status == FAILED:
        return Tried(note=f"the steps failed, instead of coping with the fault: {words}", evidence=evidence)
    if seen is None:
        seen = _looked_at(target, data, place, operations)
    (folder / "state").mkdir()
    snapshot.write(snapshot.read(data), folder / "state")
    judgement = judge(seen, promises(operations, first_promise(target))[-1])
    return Tried(_as_findings(judgement, "a failing call"), 1, None, evidence)


def _undisturbed(target: StepsTarget, place: Path) -> Tried:
    """Run the steps in a plain process: none of ours is loaded into it."""
    data = place / "data"
    data.mkdir()
    said = place / "said.txt"
    variables = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    variables[PARENT_VARIABLE] = str(os.getpid())
    with said.open("wb") as output:
        process = subprocess.Popen(
            target.command("work", data),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=variables,
            start_new_session=True,
        )
    try:
        status: int | None = process.wait(target.limit_s)
    except subprocess.TimeoutExpired:
        status = None
    finally:
        _end_group(process)
    words = _words(said)
    if status == FAILED:
        return Tried(note=f"the steps failed by themselves: {words}")
    seen = _seen_in_steps(status, words, target.limit_s)
    judgement = Judgement(outcome=Outcome.OK) if seen is None else judge(seen, first_promise(target))
    return Tried(_as_findings(judgement, "the steps alone"), 1)


def _seen_in_steps(status: int | None, words: str, limit_s: float) -> Observation | None:
    """Return what the end of the steps themselves shows; None when they came to it."""
    if status is None:
        return Observation(hung=f"the steps did not end within {limit_s:g} s")
    if status < 0:
        said = f": {words}" if words else ""
        return Observation(killed=f"the steps ended by {signal.Signals(-status).name}{said}")
    if status == WRONG:
        return Observation(judged=Judgement(outcome=Outcome.WRONG, detail=words))
    return None


def _looked_at(target: StepsTarget, data: Path, place: Path, operations: Sequence[Operation]) -> Observation:
    """Let the check open the data in a fresh process."""
    promise = promises(operations, first_promise(target))[-1]
    tree = snapshot.read(data)

    def _start(_: int) -> Serve:
        target.preload(place / "preload")
        checker = Checker(target, place / "look")
        return lambda _: checker.check(tree, promise)

    with Pool(1, _start) as pool:
        [(_, seen)] = pool.run([None])
    if not isinstance(seen, Observation):
        raise HarnessError(f"looking at the data gave {seen!r}")
    return seen


def _as_findings(judgement: Judgement, crash: str) -> list[findings.Finding]:
    if judgement.outcome is Outcome.OK:
        return []
    return [findings.Finding(outcome=judgement.outcome, detail=judgement.detail, crash=crash, state="", states=1)]


def _words(said: Path) -> str:
    """Return the last line that a process said; of one that a signal ended, where in the steps that was."""
    lines = said.read_text(errors="replace").strip().splitlines() or [""]
    fatal = next((at for at, line in enumerate(lines) if line.startswith("Current thread")), None)
    if fatal is None:
        return lines[-1][-_WORDS_MAX:]
    frames = [match for line in lines[fatal:] if (match := _FRAME.search(line)) and "site-packages" not in match[1]]
    return f"in line {frames[0][2]} of {Path(frames[0][1]).name}" if frames else lines[fatal + 1]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
