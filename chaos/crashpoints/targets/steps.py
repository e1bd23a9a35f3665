"""The steps of a finding as target: the same few lines are tried, explored with `chaos explore`, and confirmed by hand.

The name is `steps:FILE` or `steps:FILE::ID`. A trial may have a file fault held during a phase: its rule comes in the
environment, and the process of the steps arms it itself, at the very moment at which they tell the phase.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from chaos._declare import seconds
from chaos.crashpoints.judge import Observation
from chaos.crashpoints.promises import Promise, Teller
from chaos.crashpoints.targets.base import BuiltIn, text_of
from chaos.errors import PlanError, Problem
from chaos.experiment.finding import Finding
from chaos.experiment.loader import Loaded, load
from chaos.experiment.subjects import version_of
from chaos.faults.disk.control import Control
from chaos.faults.disk.library import CONTROL

RULE_VARIABLE = "CHAOS_TRIAL_RULE"
RULE_ID = "trial"

_WORDS_MAX = 300
_MEMORY_BYTES = 6 * 1024**3


class StepsTarget(BuiltIn):
    """One finding, from its file. `prepare` makes nothing: steps begin in an empty folder."""

    name: ClassVar[str] = "steps"
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    memory_bytes: int | None = _MEMORY_BYTES

    def __init__(self, loaded: Loaded) -> None:
        """Keep the finding. Raises PlanError when what was loaded is another kind of experiment."""
        if not isinstance(loaded.experiment, Finding):
            text = "holds an experiment, and steps: takes the file of a finding"
            raise PlanError([Problem(str(loaded.source), 0, text, "use `chaos run`", "bad-target")])
        super().__init__({})
        self.finding = loaded.experiment
        self.limit_s = seconds(self.finding.limit)
        self._source = loaded.source

    @property
    def spelled(self) -> str:
        """The name with the file, as `load_steps` reads it."""
        return f"{self.name}:{self._source}::{self.finding.id}"

    def demand(self) -> None:
        """Raise EnvironmentUnavailable when the subject is not here."""
        version_of(self.finding.subject)

    def work(self, data: Path, teller: Teller) -> None:
        """Do the steps, under the fault that the environment names, if it does."""
        rule = os.environ.get(RULE_VARIABLE)
        self.finding.steps(data, teller if rule is None else _Arming(data, json.loads(rule)))

    def recover(self, data: Path, teller: Teller) -> None:
        """Open what a crash left as the check does."""
        assert self.finding.check is not None
        self.finding.check(data)

    def observe(self, data: Path, promise: Promise, *, thorough: bool) -> Observation:
        """Let the check look."""
        assert self.finding.check is not None
        try:
            found = self.finding.check(data)
        except AssertionError as error:
            return Observation(problems=(" ".join(str(error).split())[:_WORDS_MAX] or "an assertion does not hold",))
        except Exception as error:  # noqa: BLE001  # engines raise RuntimeError, MemoryError, IndexError and others
            return Observation(refused=text_of(error).replace(f"{data}/", ""))
        whole = tuple(name for name, good in found.items() if good)
        return Observation(found=whole, partial={name: "in part" for name, good in found.items() if not good})


class _Arming(Teller):
    """Arms a rule of the shim when a phase begins, and takes it back when the next one does."""

    def __init__(self, data: Path, trial: Mapping[str, Any]) -> None:
        """Take {"during": phase, "rule": rule}."""
        super().__init__(data)
        self._during, self._rule = trial["during"], trial["rule"]

    def phase(self, name: str) -> None:
        """Tell it, then arm or disarm."""
        super().phase(name)
        with Control.attach(os.environ[CONTROL]) as control:
            control.disarm(RULE_ID)
            if name == self._during:
                control.arm(RULE_ID, self._rule)


def load_steps(rest: str) -> StepsTarget:
    """Return the target of FILE or FILE::ID. Raises PlanError for a file without exactly one such finding."""
    path, _, wanted = rest.partition("::")
    loaded = load([f"{Path(path).absolute()}::{wanted}" if wanted else Path(path).absolute()])
    if len(loaded) > 1:
        ids = ", ".join(str(item.experiment.id) for item in loaded)
        raise PlanError([Problem(path, 0, f"holds several: {ids}", f"name one, as in steps:{path}::ID", "bad-target")])
    return StepsTarget(loaded[0])


def say_wrong(error: AssertionError) -> None:
    """Print what the steps found wrong, as the last line of stderr."""
    sys.stderr.write(f"\n{' '.join(str(error).split()) or 'an assertion of the steps does not hold'}\n")
