"""The pytest plugin: `pytest experiments/` runs one item for each experiment and seed.

    partition[seed=0]     passed: every check held · failed: a check is broken, or nothing could be concluded
                          skipped: something the backend needs is not here · error: the harness failed

Loaded in every pytest run of its environment, so nothing but pytest is imported until an experiment is found.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from chaos._declare import Where
    from chaos.checkers.model import Verdict
    from chaos.experiment.experiment import Experiment
    from chaos.experiment.finding import Finding
    from chaos.experiment.loader import Loaded
    from chaos.runner.api import RunResult

_SEEDS = "--chaos-seeds"
_BACKENDS = ("embedded", "docker", "compose")  # as in chaos.experiment.venues, which is not imported before use
_PROXIES = ("embedded", "toxiproxy")
_FILES = ("auto", "preload", "strace")
_SKIPPED = ("_*", "test_*", "conftest.py")
_WITNESSES = 5
_OWNERS: pytest.StashKey[dict[str, Where]] = pytest.StashKey()
"""Where each id of the session was first declared."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and the ini setting."""
    group = parser.getgroup("chaos", "fault injection experiments")
    group.addoption(_SEEDS, default="0", metavar="SEEDS", help="seeds of each experiment: 0, 1,2,3 or 1..5 (default 0)")
    group.addoption("--chaos-backend", default="embedded", choices=_BACKENDS, help="where the stores run")
    group.addoption("--chaos-proxy", default="embedded", choices=_PROXIES, help="what stands before an embedded Redis")
    group.addoption("--chaos-files", default="auto", choices=_FILES, help="how file faults get into a process")
    group.addoption("--chaos-out", default="runs", metavar="DIR", help="folder of run folders, below rootdir")
    group.addoption("--no-chaos", action="store_true", help="collect no experiments")
    parser.addini(
        "chaos_experiments",
        "globs of experiment files, relative to rootdir",
        type="linelist",
        default=["experiments/*.py", "experiments/findings/*.py"],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and read the seeds, so that a bad one ends the session at once."""
    from chaos.experiment.seeds import parse_seeds

    config.addinivalue_line("markers", "chaos: an experiment, collected by the chaos plugin")
    try:
        parse_seeds(config.getoption(_SEEDS))
    except ValueError as error:
        raise pytest.UsageError(f"{_SEEDS}: {error}") from None


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Collect experiment files, in place of whatever other plugins make of them.

    Otherwise pytest would also import a file that is named on the command line as a test module.
    """
    others = yield
    if not _is_experiment(file_path, parent.config):
        return others
    return [ExperimentFile.from_parent(parent, path=file_path)]


def _is_experiment(path: Path, config: pytest.Config) -> bool:
    if path.suffix != ".py" or any(PurePosixPath(path.name).match(glob) for glob in _SKIPPED):
        return False
    try:
        relative = path.relative_to(config.rootpath).as_posix()
    except ValueError:
        return False
    # A leading slash anchors the glob: without it, match() would accept any folder above.
    globs = config.getini("chaos_experiments")
    return any(PurePosixPath(f"/{relative}").match(f"/{glob.strip('/')}") for glob in globs)


class ExperimentFile(pytest.File):
    """A file that declares experiments."""

    def collect(self) -> Iterator[ExperimentItem]:
        """Yield an item for each experiment and seed, or none with --no-chaos.

        All mistakes in the file are one collection error.
        """
        if self.config.getoption("--no-chaos"):
            return
        from chaos.errors import PlanError
        from chaos.experiment.loader import load_file
        from chaos.experiment.seeds import parse_seeds

        try:
            experiments = load_file(self.path)
        except PlanError as error:
            raise self.CollectError(str(error)) from None
        self._claim([loaded.experiment for loaded in experiments])
        for loaded in experiments:
            for seed in parse_seeds(self.config.getoption(_SEEDS)):
                name = f"{loaded.experiment.id}[seed={seed}]"
                yield ExperimentItem.from_parent(self, name=name, loaded=loaded, seed=seed)

    def _claim(self, experiments: Sequence[Experiment | Finding]) -> None:
        """Note the ids in the session; one that another file has already is a collection error, as for `chaos run`.

        Every process of a distributed session collects all files in the same order, so all come to the same answer.
        """
        from chaos.errors import PlanError
        from chaos.experiment.places import refine, short

        owners = self.session.stash.setdefault(_OWNERS, {})
        for experiment in experiments:
            owner = owners.setdefault(experiment.id, experiment.where)
            if owner.file != experiment.where.file:
                text = f"id={experiment.id!r}) must be unique; {short(owner.file)}:{owner.line} has it too"
                problem = experiment.problem(text, "rename one of the two", "id-twice")
                raise self.CollectError(str(PlanError(refine([problem]))))


class ExperimentItem(pytest.Item):
    """One run of one experiment.

    The run takes place in the set-up phase and is judged in the call phase. So what stops the run from taking
    place at all shows as an error, and only a verdict on the system under test as a failure.
    """

    def __init__(self, *, loaded: Loaded, seed: int, **kwargs: object) -> None:
        """Keep what to run; tags can be selected with -k."""
        super().__init__(**kwargs)  # type: ignore[arg-type]  # pytest's own keyword arguments, passed through
        self._loaded = loaded
        self._seed = seed
        self._result: RunResult | None = None
        self.add_marker("chaos")
        self.extra_keyword_matches.update(loaded.experiment.tags)

    def setup(self) -> None:
        """Run the experiment, or skip with the reason why it cannot run here."""
        from chaos.experiment.repeat import repeat_line

        backend, proxy = self.config.getoption("--chaos-backend"), self.config.getoption("--chaos-proxy")
        files = self.config.getoption("--chaos-files")
        plan = self._loaded.plan(self._seed)
        self.user_properties += [("experiment", self._loaded.experiment.id), ("seed", self._seed)]
        self._demand(backend, proxy, files)

        from chaos.runner.api import RunOptions, run_blocking

        out = self.config.rootpath / self.config.getoption("--chaos-out")
        argv = tuple(map(str, self.config.invocation_params.args))
        options = RunOptions(
            seed=self._seed, out=out, backend=backend, proxy=proxy, files=files, argv=("pytest", *argv)
        )
        result = run_blocking(plan, options)
        self.user_properties += [("verdict", result.verdict), ("folder", str(result.folder or ""))]
        self._result = result
        if result.signal is not None:
            _end_session(result.signal, result)
        if result.verdict in ("not_started", "not_healed", "harness_failed"):
            pytest.fail(
                failure_text(result, repeat_line(plan, backend=backend, proxy=proxy, files=files)), pytrace=False
            )

    def runtest(self) -> None:
        """Fail unless the verdict is pass; a run that shows nothing fails too."""
        assert self._result is not None
        if self._result.verdict != "pass":
            pytest.fail(failure_text(self._result, self._result.repeat), pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Place the item at the line of its declaration."""
        return self.path, max(0, self._loaded.experiment.where.line - 1), self.name

    def _demand(self, backend: str, proxy: str, files: str) -> None:
        """Skip what this place cannot do, or lacks something for.

        A lack fails instead when CHAOS_REQUIRE names the thing, or the backend.
        """
        from chaos.errors import EnvironmentUnavailable
        from chaos.experiment.needs import demand
        from chaos.experiment.reach import reach
        from chaos.experiment.validate import STORES
        from chaos.experiment.venues import provider

        try:
            mechanisms = reach(STORES, backend=backend, files=files)
            for problem in self._loaded.refused_by(provider(backend, proxy), mechanisms):
                pytest.skip(str(problem))
            demand(self._loaded.experiment, backend=backend, proxy=proxy, files=files)
        except EnvironmentUnavailable as error:
            demanded = {name.strip() for name in os.environ.get("CHAOS_REQUIRE", "").split(",")}
            if demanded & {backend, error.requirement}:
                pytest.fail(f"CHAOS_REQUIRE={os.environ['CHAOS_REQUIRE']} and yet {error}", pytrace=False)
            pytest.skip(str(error))


def failure_text(result: RunResult, repeat: str) -> str:
    """Return what the failure of a run shows: verdict, broken checks with witnesses, folder, how to repeat it."""
    lines = [f"{result.experiment_id}, seed {result.seed}: {result.verdict.replace('_', ' ')}"]
    if result.message:
        lines.append(result.message)
    lines += [line for verdict in result.verdicts if verdict.valid != "valid" for line in _verdict_lines(verdict)]
    if result.folder is not None:
        lines.append(f"folder: {result.folder}")
    return "\n".join([*lines, f"repeat: {repeat}"])


def _verdict_lines(verdict: Verdict) -> list[str]:
    """Return a broken or undecided check in words, with its first witnesses."""
    word = {"invalid": "broken", "unknown": "cannot tell"}[verdict.valid]
    lines = [f"{verdict.name} ({word}): {verdict.summary}"]
    lines += [f"  {witness.text}" for witness in verdict.witnesses[:_WITNESSES]]
    rest = int(verdict.details.get("witness_count", len(verdict.witnesses))) - _WITNESSES
    return [*lines, f"  and {rest} more, in the folder's checks/{verdict.name}.json"] if rest > 0 else lines


def _end_session(signal_number: int, result: RunResult) -> NoReturn:
    """End the session as the signal would have: pytest's own way for Ctrl-C, its number for the others."""
    if signal_number == signal.SIGINT:
        raise KeyboardInterrupt
    pytest.exit(f"{result.experiment_id}: {result.message}", returncode=result.exit_code)
