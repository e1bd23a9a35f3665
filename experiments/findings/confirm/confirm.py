"""Confirm findings without the file shim: by real SIGKILL, by calls that the kernel fails, by a copied ext4 image.

    python experiments/findings/confirm/confirm.py [FILE...] [--moments N]

Without a FILE all findings are confirmed. Each is done to a process into which nothing of ours is loaded:

- undisturbed: the steps alone, as in the experiment
- crash: strace ends the process with SIGKILL at calls of the phase, spread over it; a second time in the recovery
- faulted: strace lets the call fail; for a full disk setrlimit(2) cuts the write short
- power loss: the same kill on an ext4 file system in a file, which is copied at that moment and mounted (root only)

The exit status is 0 when every finding that can be confirmed here was, and 1 otherwise. What cannot is told with the
reason, and is no success.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import image
import msgspec
import watched

from chaos._declare import seconds
from chaos.crashpoints.judge import Judgement, Observation, Outcome, judge
from chaos.crashpoints.promises import Promise
from chaos.errors import EnvironmentUnavailable
from chaos.experiment.finding import Finding
from chaos.experiment.loader import Loaded, load
from chaos.experiment.subjects import version_of
from chaos.experiment.trials import Crash, Faulted, PowerLoss, Undisturbed
from chaos.faults.disk.failing import DiskError
from chaos.faults.disk.space import DiskFull

HERE = Path(__file__).resolve().parent
NOT_SHOWN = {
    "kuzu-commit-torn": "a file system writes whole pages, and what tears here are sectors within one",
}
"""Findings that no means of this folder can show, with the reason."""


class Confirmation:
    """Confirms one finding in a folder of its own, and gathers what was seen, by outcome."""

    def __init__(self, loaded: Loaded, place: Path, moments: int) -> None:
        """Nothing runs yet. `moments`: how many kills are tried."""
        assert isinstance(loaded.experiment, Finding)
        self.finding = loaded.experiment
        self.name = f"{loaded.source}::{loaded.experiment.id}"
        self.place, self.moments = place, moments
        self.limit_s = 4 * seconds(self.finding.limit) + 20  # strace slows a process down
        self.seen: Counter[tuple[str, str]] = Counter()
        self.tried = 0

    def run(self) -> str:
        """Do it, and return by what means it was done."""
        match self.finding.trial:
            case Undisturbed():
                status, said = self._child("steps", self._fresh())
                self._note_end(status, said)
                return "the steps alone"
            case Faulted() as trial:
                return self._faulted(trial)
            case Crash() as trial if trial.again:
                return self._killed_twice(trial)
            case Crash() as trial:
                for data, moment in self._killed(trial.during, trial.after):
                    self._look(data, moment.promise)
                return f"SIGKILL at {self.tried} calls of the phase {trial.during!r}"
            case PowerLoss() as trial:
                return self._power_lost(trial)
        raise AssertionError(self.finding.trial)

    def _faulted(self, trial: Faulted) -> str:
        data = self._fresh()
        match trial.fault:
            case DiskFull(budget_bytes=budget):
                status, said = self._child("steps", data, trial.during, str(budget))
                means = f"setrlimit(RLIMIT_FSIZE) in the phase {trial.during!r}"
            case DiskError(error=error):
                moments = watched.within(self._recorded(data), trial.during)
                kinds = watched.SYNCS if trial.fault.call == "sync" else watched.WRITES
                moment = next(one for one in moments if one.call in kinds)
                words = moment.words(self._fresh(), f"error={error}")
                status, said = self._straced(words, "steps", data)
                means = f"strace {words[-1]}"
            case other:
                raise NotImplementedError(other.kind)
        if not self._note_end(status, said):
            self._look(data, Promise())
        return means

    def _killed_twice(self, trial: Crash) -> str:
        """Kill at the first moment after the point of no return, then kill the recovery at each of its calls."""
        first = next(iter(self._killed(trial.during, trial.after)))
        kept = self.place / "kept"
        shutil.copytree(first[0], kept)
        data = self.place / "data"

        def again() -> None:
            shutil.rmtree(data)
            shutil.copytree(kept, data)

        self._look(data, first[1].promise)
        if self.seen and set(self.seen) != {(str(Outcome.OK), "")}:
            return "a kill whose recovery fails by itself"
        again()
        command = [sys.executable, "-P", str(HERE / "child.py"), "recover", self.name, str(data)]
        recovery = watched.record(command, data, self.place / "strace.log", limit_s=self.limit_s)
        moments = watched.within(recovery, "")
        for moment in moments[-self.moments :]:
            again()
            status, said = self._straced(moment.words(data, "signal=KILL"), "recover", data)
            assert status == -9, (status, said[-300:])
            self._look(data, first[1].promise)
        return f"SIGKILL in the phase {trial.during!r}, and at {len(moments[-self.moments :])} calls of the recovery"

    def _power_lost(self, trial: PowerLoss) -> str:
        whole = image.Image(self.place / "disk.img")
        for data, moment in self._killed(trial.during, trial.after, disk=whole):
            self._look(data, moment.promise)
        return f"an ext4 image copied at {self.tried} calls of the phase {trial.during!r}, and mounted"

    def _killed(
        self, during: str, after: str, disk: image.Image | None = None
    ) -> Iterator[tuple[Path, watched.Moment]]:
        """Kill the steps at moments of the phase, one after the other, and yield what each leaves."""
        moments = self._recorded(self._fresh())
        chosen = watched.spread(watched.within(moments, during, after), self.moments)
        for moment in chosen:
            self.tried += 1
            if disk is None:
                data = self._fresh()
                self._kill(moment, data)
                yield data, moment
                continue
            disk.make()
            with disk.mounted(self.place / "data"):
                data = self.place / "data" / "steps"
                data.mkdir()
                subprocess.run(["sync", "-f", str(data)], check=True)
                self._kill(moment, data)
                left = disk.copy(self.place / "left.img")
            with left.mounted(self.place / "left"):
                yield self.place / "left" / "steps", moment

    def _kill(self, moment: watched.Moment, data: Path) -> None:
        status, said = self._straced(moment.words(data, "signal=KILL"), "steps", data)
        assert status == -9, f"{self.name} was not killed at {moment}: status {status}, {said[-300:]}"

    def _recorded(self, data: Path) -> list[tuple[str, watched.Moment]]:
        command = [sys.executable, "-P", str(HERE / "child.py"), "steps", self.name, str(data)]
        return watched.record(command, data, self.place / "strace.log", limit_s=self.limit_s)

    def _straced(self, words: list[str], act: str, data: Path) -> tuple[int | None, str]:
        """Run a child under strace, which injects what the words say."""
        command = [sys.executable, "-P", str(HERE / "child.py"), act, self.name, str(data)]
        traced = ["-o", "/dev/null", "-e", f"trace={','.join(watched.CALLS)}"]
        return watched.strace([*traced, *words], command, limit_s=self.limit_s)

    def _child(self, act: str, data: Path, *more: str) -> tuple[int | None, str]:
        """Run a child without strace."""
        command = [sys.executable, "-P", str(HERE / "child.py"), act, self.name, str(data), *more]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds(self.finding.limit),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, ""
        return done.returncode, done.stdout + done.stderr

    def _note_end(self, status: int | None, said: str) -> bool:
        """Note how the steps ended when that is what is wrong; return whether it was."""
        lines = said.strip().splitlines() or [""]
        if status is None:
            self._note(Judgement(outcome=Outcome.HANGS, detail="the steps do not end"))
        elif status < 0:
            self._note(Judgement(outcome=Outcome.CRASHES, detail=f"ended by signal {-status}"))
        elif status == 76:
            self._note(Judgement(outcome=Outcome.WRONG, detail=lines[-1]))
        else:
            return False
        return True

    def _look(self, data: Path, promise: Promise) -> None:
        status, said = self._child("look", data)
        if status is None:
            seen = Observation(hung="the opening does not end")
        elif status != 0:
            seen = Observation(killed=f"ended by signal {-status}")
        else:
            seen = msgspec.json.decode(said.strip().splitlines()[-1], type=Observation)
        self._note(judge(seen, promise))

    def _note(self, judgement: Judgement) -> None:
        self.seen[str(judgement.outcome), judgement.detail[:120]] += 1

    def _fresh(self) -> Path:
        data = self.place / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        return data

    @property
    def confirmed(self) -> bool:
        """Whether every outcome that is known was seen."""
        return set(self.finding.expect.names) <= {outcome for outcome, _ in self.seen}


def confirm(loaded: Loaded, moments: int) -> bool | None:
    """Confirm one finding and print what was seen; None when that cannot be done here."""
    finding = loaded.experiment
    assert isinstance(finding, Finding)
    reason = _impossible(finding)
    if reason is not None:
        print(f"{finding.id}: not possible: {reason}", flush=True)
        return None
    with tempfile.TemporaryDirectory(prefix="chaos-confirm-") as place:
        confirmation = Confirmation(loaded, Path(place), moments)
        means = confirmation.run()
    print(f"{finding.id}: {'confirmed' if confirmation.confirmed else 'NOT CONFIRMED'} by {means}")
    for (outcome, detail), count in sorted(confirmation.seen.items()):
        print(f"  {count:>3} x {outcome}{': ' if detail else ''}{detail}", flush=True)
    return confirmation.confirmed


def _impossible(finding: Finding) -> str | None:
    if finding.id in NOT_SHOWN:
        return NOT_SHOWN[finding.id]
    try:
        version = version_of(finding.subject)
    except EnvironmentUnavailable as error:
        return str(error)
    if version not in finding.expect.versions:
        return f"{finding.subject} {version} is here, and is not among the affected versions"
    if not isinstance(finding.trial, Undisturbed) and shutil.which("strace") is None:
        return "strace is not installed"
    return image.missing() if isinstance(finding.trial, PowerLoss) else None


def main() -> int:
    """Confirm what the command line names."""
    parser = argparse.ArgumentParser(description="confirms findings without the file shim")
    parser.add_argument("files", nargs="*", default=[str(HERE.parent)], help="files, or file.py::id; all by default")
    parser.add_argument("--moments", type=int, default=12, help="kills per finding")
    arguments = parser.parse_args()
    results = {item.experiment.id: confirm(item, arguments.moments) for item in load(arguments.files)}
    counts = Counter(
        {True: "confirmed", False: "not confirmed", None: "not possible here"}[one] for one in results.values()
    )
    print(json.dumps(counts))
    return 0 if counts["not confirmed"] == 0 and counts["confirmed"] else 1


if __name__ == "__main__":
    sys.exit(main())
