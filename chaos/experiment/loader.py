"""Read experiments from files: each is executed on its own, under a private name, and leaves no trace behind."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from chaos.errors import NothingSelected, PlanError, Problem
from chaos.experiment.experiment import Experiment
from chaos.experiment.finding import Finding, FindingPlan, resolve_finding
from chaos.experiment.places import refine, selector, short
from chaos.experiment.plan import Plan, resolve
from chaos.experiment.providers import refusals
from chaos.experiment.reach import Reach
from chaos.experiment.validate import problems_of


@dataclass(frozen=True, eq=False)
class Loaded:
    """An experiment or finding, the file it came from (absolute), and whether that file holds others too."""

    experiment: Experiment | Finding
    source: Path
    alone: bool

    @property
    def selector(self) -> str:
        """What to write on a command line for this experiment and no other: "path.py" or "path.py::id"."""
        return selector(self.source, self.experiment.id, alone=self.alone)

    def refused_by(self, provider: str, mechanisms: Reach | None = None) -> list[Problem]:
        """Return why `provider` (see `chaos.experiment.venues`) cannot do this experiment; empty when it can.

        `mechanisms` says how file faults would reach the stores (`chaos.experiment.reach`); None: as the shim does.
        """
        if isinstance(self.experiment, Finding):
            return refine(self.experiment.refused_by(provider))
        return refine(refusals(self.experiment, provider, mechanisms))

    def plan(self, seed: int) -> Plan | FindingPlan:
        """Return the plan for `seed`."""
        if isinstance(self.experiment, Finding):
            return resolve_finding(self.experiment, seed, self.source, alone=self.alone)
        return resolve(self.experiment, seed, self.source, alone=self.alone)


def load(selectors: Iterable[str | Path], *, tags: Sequence[str] = ()) -> tuple[Loaded, ...]:
    """Return the valid experiments that `selectors` name, in the order given, each once.

    A selector is a file, a folder (its *.py that do not start with "_", sorted by name) or "file.py::id".
    With `tags`, only experiments that have all of them. Raises PlanError with every problem of every file,
    NothingSelected when nothing is left. Nothing is started.
    """
    names = tuple(map(str, selectors))
    problems: list[Problem] = []
    files: dict[Path, list[Loaded]] = {}
    chosen: list[Loaded] = []
    for name in names:
        for path, wanted in _files(name, problems):
            if path not in files:
                files[path] = _read(path, problems)
            chosen += [item for item in _named(files[path], path, wanted, problems) if item not in chosen]
    problems += _shared_ids(chosen)
    if problems:
        raise PlanError(refine(problems))
    kept = tuple(item for item in chosen if set(tags) <= set(item.experiment.tags))
    if not kept:
        reason = f"with the tags {', '.join(tags)} " if tags and chosen else ""
        raise NothingSelected(f"no experiment {reason}was found in {', '.join(names)}")
    return kept


def split(
    loaded: Sequence[Loaded], provider: str, selectors: Iterable[str | Path], mechanisms: Reach | None = None
) -> tuple[tuple[Loaded, ...], tuple[tuple[Loaded, list[Problem]], ...]]:
    """Return those that `provider` can do, with file faults by `mechanisms`, and the others with the reasons.

    What a folder brought along may be left out; an experiment whose file is among `selectors` was asked for, so
    PlanError is raised with every such problem.
    """
    refused = tuple((item, problems) for item in loaded if (problems := item.refused_by(provider, mechanisms)))
    named = {Path(str(name).partition("::")[0]).resolve() for name in selectors}
    asked = [problem for item, problems in refused if item.source.resolve() in named for problem in problems]
    if asked:
        raise PlanError(asked)
    left_out = {id(item) for item, _ in refused}
    return tuple(item for item in loaded if id(item) not in left_out), refused


def load_file(path: Path) -> tuple[Loaded, ...]:
    """Return the valid experiments of one file. Raises PlanError with every problem."""
    return load([path])


def execute(path: Path) -> ModuleType:
    """Run the file as a module of a private name and return it; sys.modules and sys.path end as they began.

    While it runs the module is in sys.modules, because dataclasses look there for their annotations. No
    bytecode is written. What it prints goes to stderr, since stdout is for results. Whatever it raises passes through.
    """
    name = f"_chaos_experiment_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    module = ModuleType(name, f"The experiments of {path}.")
    module.__file__ = str(path)
    paths = list(sys.path)
    sys.modules[name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102  # the user's own file
    finally:
        sys.modules.pop(name, None)
        sys.path[:] = paths
    return module


def _files(name: str, problems: list[Problem]) -> list[tuple[Path, str | None]]:
    """Return the files behind a selector, each with the id that is wanted from it, or None for all."""
    file, _, wanted = name.partition("::")
    path = Path(file)
    if path.is_dir():
        return [(file.resolve(), None) for file in sorted(path.glob("*.py")) if not file.name.startswith("_")]
    if not path.exists():
        problems.append(Problem(file, 0, "there is no such file or folder", "correct the path", "no-such-file"))
    elif path.suffix != ".py":
        problems.append(Problem(file, 0, "must be a Python file (*.py)", "name an experiment file", "not-python"))
    else:
        return [(path.resolve(), wanted or None)]
    return []


def _read(path: Path, problems: list[Problem]) -> list[Loaded]:
    """Return what the file holds, adding every problem of it to `problems`."""
    try:
        module = execute(path)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # it is the user's code: anything may come
        problems.append(_raised(path, error))
        return []
    experiments = _declared(path, module, problems)
    for experiment in experiments:
        problems.extend(experiment.problems() if isinstance(experiment, Finding) else problems_of(experiment))
    return [Loaded(experiment, path, alone=len(experiments) == 1) for experiment in experiments]


def _named(loaded: list[Loaded], path: Path, wanted: str | None, problems: list[Problem]) -> list[Loaded]:
    """Return those with the id `wanted`, or all; none of that id is a problem, unless the file has worse ones."""
    if wanted is None or not loaded:
        return loaded
    selected = [item for item in loaded if item.experiment.id == wanted]
    if not selected:
        ids = ", ".join(str(item.experiment.id) for item in loaded)
        problems.append(
            Problem(str(path), 0, f"holds no experiment with id={wanted!r}", f"name one of {ids}", "no-such-id")
        )
    return selected


def _declared(path: Path, module: ModuleType, problems: list[Problem]) -> list[Experiment | Finding]:
    """Return the experiments of a module: EXPERIMENT, or all of EXPERIMENTS."""
    single, several = getattr(module, "EXPERIMENT", None), getattr(module, "EXPERIMENTS", None)
    if isinstance(single, Experiment | Finding) and several is None:
        return [single]
    if isinstance(several, list | tuple) and several and single is None:
        experiments = [item for item in several if isinstance(item, Experiment | Finding)]
        if len(experiments) == len(several):
            return experiments
    problems.append(
        Problem(
            str(path),
            0,
            "must hold EXPERIMENT, one Experiment or Finding, or EXPERIMENTS, a list of them, and not both",
            "assign an Experiment(...) to EXPERIMENT",
            "no-experiment",
        )
    )
    return []


def _shared_ids(loaded: Iterable[Loaded]) -> list[Problem]:
    """Return a problem for every experiment whose id another one of those loaded has already."""
    first: dict[str, Experiment | Finding] = {}
    problems = []
    for item in loaded:
        experiment = item.experiment
        other = first.setdefault(str(experiment.id), experiment)
        if other is not experiment:
            problems.append(
                experiment.problem(
                    f"id={experiment.id!r}) must be unique; {short(other.where.file)}:{other.where.line} has it too",
                    "rename one of the two",
                    "id-twice",
                )
            )
    return problems


def _raised(path: Path, error: BaseException) -> Problem:
    """Return the problem for a file that raised, at the innermost line that is in the file itself."""
    line = 0
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line = error.lineno or 0
    else:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = (lines[-1] if lines else 0) or 0
    text = " ".join(str(error).split())
    return Problem(
        str(path),
        line,
        f"the file raised {type(error).__name__}: {text}" if text else f"the file raised {type(error).__name__}",
        "correct that line; an experiment file must import without errors and without starting anything",
        "file-raises",
    )
