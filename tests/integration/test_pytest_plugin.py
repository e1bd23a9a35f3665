"""The plugin in real pytest processes, with real runs wherever a run is what decides."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
from chaos import Experiment, checks, stores, workload

EXPERIMENT = Experiment(
    id="{id}",
    hypothesis="It holds.",
    tags=("quick",),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(seconds={seconds}),
    checks=(checks.Atomic(), checks.Durable()),
)
"""
FORGETS = """
from chaos import Experiment, checks, stores, systems, workload
from chaos.transactions.redo import RedoSystem
from chaos.transactions.system import Committed


class Forgets(RedoSystem):
    async def transact(self, request):
        return Committed(csn=1)


EXPERIMENT = Experiment(
    id="forgets",
    hypothesis="It holds.",
    system=systems.Own("Forgets"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(seconds=0.5),
    checks=(checks.Durable(), checks.Atomic()),
)
"""
NOT_STEADY = GOOD.replace("checks=(", 'steady_state=(probes.Commits(at_least=9999, within="0.2s"),), checks=(').replace(
    "import Experiment, checks,", "import Experiment, checks, probes,"
)
STAND_IN = """
import chaos.runner.api as api

def run_blocking(plan, options, progress=None):
    return api.RunResult(
        plan.experiment.id, plan.seed, "{verdict}", {code}, None, (), "said why", api.repeat_command(plan, options)
    )

api.run_blocking = run_blocking
"""

needs_stores = pytest.mark.requires("redis", "kuzu")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with a good experiment, run with this package and strict settings."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("CHAOS_REQUIRE", raising=False)
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib --strict-markers --strict-config\n")
    put(pytester, "good", GOOD.format(id="good", seconds=0.5))
    return pytester


def put(pytester: pytest.Pytester, name: str, text: str) -> Path:
    """Write a file into the folder of experiments."""
    path = pytester.path / "experiments" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def words() -> list[str]:
    """Load the plugin by name where the package is only on the path; installed, pytest finds it by itself."""
    found = importlib.metadata.entry_points(group="pytest11", name="chaos")
    return [] if found else ["-p", "chaos.pytest_plugin"]


def run(pytester: pytest.Pytester, *more: str) -> pytest.RunResult:
    """Run pytest with the plugin in a process of its own."""
    return pytester.runpytest_subprocess(*words(), "-p", "no:cacheprovider", *more, timeout=100)


def test_one_item_for_each_experiment_and_seed(project: pytest.Pytester) -> None:
    """Experiments and seeds give items in a fixed order; other files of the folder are left alone."""
    two = GOOD.format(id="a", seconds=1).replace("EXPERIMENT =", "A =")
    two += GOOD.format(id="b", seconds=1).replace("EXPERIMENT =", "B =") + "EXPERIMENTS = [B, A]\n"
    put(project, "more", two)
    put(project, "_helper", "raise RuntimeError('not an experiment')\n")
    put(project, "conftest", "")
    put(project, "test_ordinary", "def test_ordinary():\n    assert True\n")
    done = run(project, "--collect-only", "-q", "--chaos-seeds", "3,1..2", "experiments")
    assert [line for line in done.outlines if "::" in line] == [
        *(f"experiments/good.py::good[seed={seed}]" for seed in (3, 1, 2)),
        *(f"experiments/more.py::{name}[seed={seed}]" for name in "ba" for seed in (3, 1, 2)),
        "experiments/test_ordinary.py::test_ordinary",
    ]


def test_a_named_file_is_not_imported_as_a_test_module_too(project: pytest.Pytester) -> None:
    """Pytest imports any file named on the command line; an experiment is collected once, and by us."""
    put(project, "counts", "print('executed')\n" + GOOD.format(id="counts", seconds=1) + "\ntest_nothing = print\n")
    done = run(project, "--collect-only", "-q", "-s", "experiments/counts.py")
    assert [line for line in done.outlines if "::" in line] == ["experiments/counts.py::counts[seed=0]"]
    assert [*done.outlines, *done.errlines].count("executed") == 1


def test_globs_choose_the_files(project: pytest.Pytester) -> None:
    """The ini setting names the files, relative to rootdir and not to any folder of that name below it."""
    (project.path / "deep" / "experiments").mkdir(parents=True)
    (project.path / "deep" / "experiments" / "other.py").write_text(GOOD.format(id="other", seconds=1))
    default = run(project, "--collect-only", "-q")
    assert [line for line in default.outlines if "::" in line] == ["experiments/good.py::good[seed=0]"]
    project.makeini("[pytest]\nchaos_experiments =\n    deep/*/*.py\n    none/*.py\n")
    changed = run(project, "--collect-only", "-q")
    assert [line for line in changed.outlines if "::" in line] == ["deep/experiments/other.py::other[seed=0]"]


def test_no_chaos_collects_nothing(project: pytest.Pytester) -> None:
    """With --no-chaos no experiment is collected, not even as an ordinary file, nor is a broken one read."""
    put(project, "broken", "raise RuntimeError\n")
    assert run(project, "--no-chaos", "experiments").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert run(project, "--no-chaos", "experiments/good.py").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_tags_are_keywords(project: pytest.Pytester) -> None:
    """-k selects by tag, -m by the plugin's marker, which strict markers know."""
    put(project, "slow", GOOD.format(id="slow", seconds=1).replace('"quick"', '"long"'))
    tagged = run(project, "--collect-only", "-q", "-k", "long", "-m", "chaos", "experiments")
    assert [line for line in tagged.outlines if "::" in line] == ["experiments/slow.py::slow[seed=0]"]


def test_bad_seeds_are_wrong_usage(project: pytest.Pytester) -> None:
    """Seeds that cannot be read end the session at once, with the accepted forms."""
    done = run(project, "--chaos-seeds", "5..1", "experiments")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*--chaos-seeds*rising range*"])


def test_an_id_that_two_files_share_is_a_collection_error(project: pytest.Pytester) -> None:
    """The second file with an id is refused with the place of the first, and a file named twice is not."""
    put(project, "later", GOOD.format(id="good", seconds=0.5))
    done = run(project, "--collect-only", "-q", "experiments")
    done.stdout.fnmatch_lines(["*later.py:5:*experiments/good.py:4 has it too*id-twice*"])
    assert [line for line in done.outlines if "::" in line] == ["experiments/good.py::good[seed=0]"]
    assert done.ret == pytest.ExitCode.INTERRUPTED
    same = run(project, "--collect-only", "-q", "experiments/good.py", "experiments/good.py::good[seed=0]")
    assert same.ret == pytest.ExitCode.OK


def test_a_broken_file_is_a_collection_error(project: pytest.Pytester) -> None:
    """All mistakes of a file are told at collection, with their lines, and without a traceback of ours."""
    broken = GOOD.format(id="Broken One", seconds=0)
    put(project, "broken", broken)
    done = run(project, "experiments")
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.stdout.fnmatch_lines(["*experiments/broken.py:5:*bad-id*", "*experiments/broken.py:9:*out-of-range*"])
    done.stdout.no_fnmatch_line("*Traceback*")


def test_an_absent_environment_is_a_skip(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server the item is skipped and says how to get one; nothing is left behind."""
    monkeypatch.setenv("CHAOS_REDIS_SERVER", "/nonexistent/server")
    done = run(project, "-rs", "experiments")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["*CHAOS_REDIS_SERVER=/nonexistent/server is not a program*"])
    assert not (project.path / "runs").exists()


def test_a_required_environment_is_no_skip(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With CHAOS_REQUIRE naming the backend, its absence breaks the session."""
    monkeypatch.setenv("CHAOS_REDIS_SERVER", "/nonexistent/server")
    monkeypatch.setenv("CHAOS_REQUIRE", "toxiproxy, embedded")
    done = run(project, "experiments")
    done.assert_outcomes(errors=1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(
    ("requirement", "variable", "options"),
    [
        ("redis", "CHAOS_REDIS_SERVER", ()),
        ("toxiproxy", "CHAOS_TOXIPROXY", ("--chaos-proxy", "toxiproxy")),
        ("docker", "DOCKER_HOST", ("--chaos-backend", "docker")),
    ],
)
def test_each_thing_can_be_required_by_name(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, requirement: str, variable: str, options: tuple[str, ...]
) -> None:
    """CHAOS_REQUIRE may name what lacks and not only the backend; then its absence breaks the session."""
    monkeypatch.setenv(variable, "unix:///nonexistent" if requirement == "docker" else "/nonexistent")
    monkeypatch.setenv("CHAOS_REQUIRE", f"shim, {requirement}")
    run(project, *options, "experiments").assert_outcomes(errors=1)
    monkeypatch.setenv("CHAOS_REQUIRE", "kuzu")
    run(project, *options, "experiments").assert_outcomes(skipped=1)


def test_an_absent_daemon_is_a_skip(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Docker daemon the item is skipped, and says which socket did not answer."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    done = run(project, "-rs", "--chaos-backend", "docker", "experiments")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["*/nonexistent/docker.sock*"])


@pytest.mark.requires("docker")
def test_an_absent_stack_is_a_skip(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compose stack to attach to the item is skipped and says which one is not up."""
    monkeypatch.setenv("CHAOS_COMPOSE_PROJECT", "nobody-has-this")
    done = run(project, "-rs", "--chaos-backend", "compose", "experiments")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["*no compose stack 'nobody-has-this'*"])


def test_what_a_proxy_cannot_do_is_a_skip(project: pytest.Pytester) -> None:
    """An experiment with a fault that a Toxiproxy cannot do is skipped there, with the names of those that can."""
    refused = 'schedule=(when.at("100ms").do(faults.Refuse("redis", cut=False)).heal(after="100ms"),), checks=('
    text = GOOD.format(id="good", seconds=1).replace("checks=(", refused).replace("checks,", "checks, faults, when,")
    put(project, "good", text)
    done = run(project, "-rs", "--chaos-proxy", "toxiproxy", "experiments")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["*provider-cannot*"])


@pytest.mark.parametrize(
    ("verdict", "code", "outcome"),
    [
        ("pass", 0, "passed"),
        ("fail", 1, "failed"),
        ("inconclusive", 3, "failed"),
        ("not_started", 4, "errors"),
        ("not_healed", 6, "errors"),
        ("harness_failed", 70, "errors"),
    ],
)
@needs_stores
def test_every_verdict_has_its_outcome(project: pytest.Pytester, verdict: str, code: int, outcome: str) -> None:
    """Only a verdict on the system is a failure; what prevented one is an error; nothing but a pass is green.

    The runner is stood in for, because a harness that fails cannot be had on demand.
    """
    project.makeconftest(STAND_IN.format(verdict=verdict, code=code))
    done = run(project, "experiments")
    done.assert_outcomes(**{outcome: 1})
    if outcome != "passed":
        done.stdout.fnmatch_lines(
            [f"good, seed 0: {verdict.replace('_', ' ')}", "said why", "repeat: chaos run experiments/good.py --seed 0"]
        )


@needs_stores
def test_a_good_run_passes_and_is_recorded(project: pytest.Pytester) -> None:
    """A real run passes; the report for machines names experiment, seed, verdict and folder."""
    done = run(project, "--junit-xml=junit.xml", "--chaos-seeds", "5", "--chaos-out", "kept", "experiments/good.py")
    done.assert_outcomes(passed=1)
    tree = ET.parse(project.path / "junit.xml")
    found = {node.get("name"): node.get("value") for node in tree.iter("property")}
    assert (found["experiment"], found["seed"], found["verdict"]) == ("good", "5", "pass")
    manifest = json.loads((Path(str(found["folder"])) / "run.json").read_text())
    assert Path(str(found["folder"])).is_relative_to(project.path / "kept")
    assert (manifest["seed"], manifest["verdict"], manifest["argv"][0]) == (5, "pass", "pytest")


@needs_stores
def test_a_failure_shows_check_witness_and_repeat_line(project: pytest.Pytester) -> None:
    """A system that acknowledges and forgets fails, and the failure says which promise was broken and how to see it."""
    put(project, "forgets", FORGETS)
    done = run(project, "--chaos-seeds", "2", "experiments/forgets.py")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "forgets, seed 2: fail",
            "durable (broken): *",
            "  *",
            "  and * more, in the folder's checks/durable.json",
            "folder: *",
            "repeat: chaos run experiments/forgets.py --seed 2",
        ]
    )
    done.stdout.no_fnmatch_line("*atomic (broken)*")
    done.stdout.no_fnmatch_line("*pytest_plugin.py*")


@needs_stores
def test_a_missing_steady_state_is_an_error(project: pytest.Pytester) -> None:
    """A system that is not well before the first fault is not skipped: nothing green may hide it."""
    put(project, "unsteady", NOT_STEADY.format(id="unsteady", seconds=0.5))
    done = run(project, "experiments/unsteady.py")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["unsteady, seed 0: not started", "*no steady state before the faults*"])


@needs_stores
@pytest.mark.slow
def test_runs_side_by_side(project: pytest.Pytester) -> None:
    """Under xdist two runs at once keep out of each other's way, and their properties reach the controller."""
    done = run(project, "-n", "2", "--chaos-seeds", "1,2", "--junit-xml=junit.xml", "experiments")
    done.assert_outcomes(passed=2)
    tree = ET.parse(project.path / "junit.xml")
    folders = {node.get("value") for node in tree.iter("property") if node.get("name") == "folder"}
    assert len(folders) == 2


@needs_stores
def test_ctrl_c_ends_the_session_and_the_run(project: pytest.Pytester) -> None:
    """SIGINT heals and finishes the run first, then ends pytest as interrupted, without starting the next run."""
    put(
        project,
        "good",
        GOOD.format(id="good", seconds=60)
        .replace("checks=", "limits=Limits(wall=90), checks=")
        .replace("import Experiment,", "import Experiment, Limits,"),
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        *words(),
        "-p",
        "no:cacheprovider",
        "--chaos-seeds",
        "1,2",
        "experiments",
    ]
    process = subprocess.Popen(command, cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for_load(project.path / "runs" / "good")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    (folder,) = (project.path / "runs" / "good").iterdir()
    assert json.loads((folder / "run.json").read_text())["verdict"] == "interrupted"


def wait_for_load(folder: Path) -> None:
    """Wait until the only run below `folder` has started its clients."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for history in folder.glob("*/history.jsonl"):
            if '"load_started"' in history.read_text():
                return
        time.sleep(0.02)
    raise AssertionError("no load within 30 s")
