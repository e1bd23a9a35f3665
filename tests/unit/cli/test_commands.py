"""The real program in a process of its own: what it prints where, and with which code it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = """
from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="{id}",
    hypothesis="It holds.",
    tags=("net",),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(seconds=2),
    schedule=(when.random(between=("0.5s", "1s")).do(faults.Kill("worker")),),
)
"""
KILL = 'do(faults.Kill("worker"))'
EMBEDDED_ONLY = 'do(faults.Refuse("redis", cut=False)).heal(after="100ms")'
THREE_MISTAKES = """
from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="Three Mistakes",
    hypothesis="It holds.",
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(clients=0),
    schedule=(
        when.phase("sqlite.comitted").do(faults.Kill("worker")),
    ),
)
"""


def chaos(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m chaos` in `cwd`, away from the sources, with the package on its path."""
    import os

    root = str(Path(__file__).resolve().parents[3])
    return subprocess.run(
        [sys.executable, "-m", "chaos", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": root, "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a good file, a bad one, one that raises, and an empty folder."""
    (tmp_path / "good.py").write_text(GOOD.format(id="good"))
    (tmp_path / "bad.py").write_text(THREE_MISTAKES)
    (tmp_path / "raises.py").write_text("import json\n\nVALUE = json.loads('{')\n")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_help_names_every_verb(files: Path) -> None:
    """--help succeeds and lists the verbs; without any argument the same help is wrong usage."""
    asked, not_asked = chaos("--help", cwd=files), chaos(cwd=files)
    assert (asked.returncode, not_asked.returncode) == (0, 2)
    for verb in ("run", "list", "validate", "plan", "check", "doctor"):
        assert f" {verb} " in asked.stdout
    assert asked.stdout == not_asked.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "PATH"),
        (("run", "good.py", "--sed", "3"), "--seed"),
        (("run", "good.py", "--seed", "-1"), "--seed"),
        (("run", "good.py", "--seeds", "9..1"), "rising range"),
        (("run", "good.py", "--seed", "1", "--seeds", "1..2"), "exclude each other"),
        (("run", "good.py", "--graph", "neo4j"), "--graph"),
        (("jump",), "jump"),
        (("check",), "RUN"),
        (("check", "nowhere"), "nowhere"),
    ],
)
def test_wrong_usage_is_code_2(files: Path, words: tuple[str, ...], said: str) -> None:
    """Wrong usage says what is wrong on stderr, prints nothing on stdout and starts nothing."""
    done = chaos(*words, cwd=files)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (files / "runs").exists()


@pytest.mark.parametrize("verb", ["run", "validate", "plan", "list"])
def test_three_mistakes_are_all_told(files: Path, verb: str) -> None:
    """Each of three mistakes is told with its line and slug, whatever the verb; nothing is started."""
    done = chaos(verb, "bad.py", cwd=files)
    assert done.returncode == 2
    lines = [line.partition(" ")[0] for line in done.stderr.splitlines()]
    assert lines[:3] == ["bad.py:5:", "bad.py:8:", "bad.py:10:"]
    assert [line.rpartition("[")[2] for line in done.stderr.splitlines()[:3]] == [
        "bad-id]",
        "out-of-range]",
        "unknown-phase]",
    ]
    assert "nothing was started" in done.stderr
    assert done.stdout == ""
    assert not (files / "runs").exists()


def test_problems_as_json(files: Path) -> None:
    """With --json stdout is one document with the same problems and the exit code."""
    done = chaos("validate", "bad.py", "raises.py", "gone.py", "--json", cwd=files)
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"]) == (2, 2)
    found = [(problem["file"], problem["line"], problem["slug"]) for problem in document["problems"]]
    assert found == [
        ("bad.py", 5, "bad-id"),
        ("bad.py", 8, "out-of-range"),
        ("bad.py", 10, "unknown-phase"),
        ("gone.py", 0, "no-such-file"),
        ("raises.py", 3, "file-raises"),
    ]


@pytest.mark.parametrize("verb", ["run", "list", "plan", "validate"])
def test_nothing_selected_is_code_5(files: Path, verb: str) -> None:
    """A folder without experiments has nothing to run, which is not the same as all is well."""
    done = chaos(verb, "empty", cwd=files)
    assert done.returncode == 5
    assert "no experiment was found in empty" in done.stderr


def test_tag_that_none_has_is_code_5(files: Path) -> None:
    """Filters that remove every experiment select nothing."""
    done = chaos("run", "good.py", "--tag", "disk", "--json", cwd=files)
    assert done.returncode == 5
    assert json.loads(done.stdout)["exit_code"] == 5


def test_a_named_experiment_that_the_backend_cannot_do_is_code_2(files: Path) -> None:
    """The problem names the fault, the line and the backends that can; nothing is started."""
    text = (files / "good.py").read_text()
    (files / "shape.py").write_text(text.replace('"good"', '"shape"').replace(KILL, EMBEDDED_ONLY))
    done = chaos("run", "shape.py", "--backend", "docker", cwd=files)
    assert done.returncode == 2
    assert "shape.py:" in done.stderr
    assert "--backend embedded" in done.stderr
    assert "[provider-cannot]" in done.stderr
    assert not (files / "runs").exists()
    validated = chaos("validate", "shape.py", "--proxy", "toxiproxy", cwd=files)
    assert (validated.returncode, chaos("validate", "shape.py", cwd=files).returncode) == (2, 0)


def test_a_proxy_beside_containers_is_wrong_usage(files: Path) -> None:
    """Containers bring their own Toxiproxy."""
    done = chaos("run", "good.py", "--backend", "docker", "--proxy", "toxiproxy", cwd=files)
    assert done.returncode == 2
    assert "brings its own" in done.stderr


def test_frames_are_not_asked_of_a_toxiproxy(files: Path) -> None:
    """It reads none, so the wish is refused before anything starts."""
    done = chaos("run", "good.py", "--proxy", "toxiproxy", "--wire", cwd=files)
    assert (done.returncode, "reads no frames" in done.stderr) == (2, True)


def test_a_folder_of_which_nothing_can_take_place_here(files: Path) -> None:
    """Not one run is not a pass."""
    (files / "only").mkdir()
    text = (files / "good.py").read_text()
    (files / "only" / "shape.py").write_text(text.replace('"good"', '"shape"').replace(KILL, EMBEDDED_ONLY))
    done = chaos("run", "only", "--proxy", "toxiproxy", cwd=files)
    assert (done.returncode, "no experiment is left" in done.stderr) == (5, True), done.stderr


def test_list_shows_what_there_is(files: Path) -> None:
    """The list has file, id, tags and hypothesis, for people and as JSON."""
    shown, as_json = chaos("list", "good.py", cwd=files), chaos("list", "good.py", "--json", cwd=files)
    assert (shown.returncode, as_json.returncode) == (0, 0)
    assert shown.stdout.splitlines() == ["good.py  good  [net]", "    It holds."]
    (row,) = json.loads(as_json.stdout)["experiments"]
    assert (row["id"], row["path"], row["tags"]) == ("good", "good.py", ["net"])


def test_validate_says_how_many(files: Path) -> None:
    """A good file is told to be one."""
    done = chaos("validate", "good.py", cwd=files)
    assert (done.returncode, done.stdout) == (0, "1 valid: good\n")


def test_plan_is_decided_by_the_seed(files: Path) -> None:
    """The same seed gives the same output in two processes, another one another moment."""
    first, again, other = (chaos("plan", "good.py", "--seed", seed, cwd=files) for seed in ("3", "3", "4"))
    assert first.returncode == 0
    assert first.stdout == again.stdout
    assert "chaos run good.py --seed 3" in first.stdout
    assert _moment(first.stdout) != _moment(other.stdout)


def _moment(text: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith("f0"))


def test_plan_draws_a_seed_and_tells_it(files: Path) -> None:
    """Without a seed one is drawn, and the plan says which, so that it can be had again."""
    (drawn,) = json.loads(chaos("plan", "good.py", "--json", cwd=files).stdout)["plans"]
    (again,) = json.loads(chaos("plan", "good.py", "--json", "--seed", str(drawn["seed"]), cwd=files).stdout)["plans"]
    assert again == drawn


def test_check_of_a_folder_that_is_no_run_is_code_2(files: Path) -> None:
    """A folder without the files of a run is named, with what to name instead."""
    done = chaos("check", "empty", cwd=files)
    assert done.returncode == 2
    assert "empty/run.json" in done.stderr
    assert "[not-a-run]" in done.stderr


def test_check_of_an_object_that_no_run_wrote(files: Path) -> None:
    """An empty object in run.json is no run; that nothing was started goes without saying here."""
    (files / "empty" / "run.json").write_text("{}")
    done = chaos("check", "empty", cwd=files)
    assert done.returncode == 2
    told, count = done.stderr.splitlines()
    assert told.startswith("empty/run.json: is not written by a run: it lacks experiment, verdict; ")
    assert told.endswith("[not-a-run]")
    assert count == "1 problem"


def test_a_missing_line_of_a_history_is_told_once(files: Path) -> None:
    """One line that is gone puts all later indexes out of place, which is one problem and not twenty."""
    gold = Path(__file__).resolve().parents[2] / "gold" / "text" / "partition"
    lines = (gold / "history.jsonl").read_text().splitlines(keepends=True)
    probe = next(number for number, line in enumerate(lines) if '"f":"probe"' in line)
    run = files / "cut"
    run.mkdir()
    (run / "run.json").write_text('{"experiment": "partition", "verdict": "pass"}')
    (run / "plan.json").write_text((gold / "plan.json").read_text())
    (run / "history.jsonl").write_text("".join(lines[:probe] + lines[probe + 1 :]))
    done = chaos("check", "cut", cwd=files)
    assert done.returncode == 2
    first, count = done.stderr.splitlines()
    assert first.startswith(f"cut/history.jsonl:{probe + 1}: index={probe + 1} must be {probe}")
    assert count == "1 problem"


def test_doctor_refuses_a_program_that_is_no_server(files: Path) -> None:
    """A program that answers --version is not yet a server."""
    done = chaos("doctor", "--json", cwd=files, CHAOS_REDIS_SERVER="/bin/sleep")
    (server,) = [one for one in json.loads(done.stdout)["findings"] if one["name"] == "Redis-compatible server"]
    assert (done.returncode, server["state"]) == (4, "broken")
    assert "CHAOS_REDIS_SERVER" in server["remedy"]


def test_doctor_tells_what_is_missing(files: Path) -> None:
    """Without a server that can be started the embedded default cannot run: code 4, with the remedy."""
    done = chaos("doctor", "--json", cwd=files, CHAOS_REDIS_SERVER=str(files / "no-such-server"))
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"]) == (4, 4)
    (server,) = [finding for finding in document["findings"] if finding["name"] == "Redis-compatible server"]
    assert (server["state"], server["needed"]) == ("absent", True)
    assert str(files / "no-such-server") in server["detail"]
    assert all(finding["remedy"] for finding in document["findings"] if finding["state"] != "ok")


@pytest.mark.requires("redis", "kuzu")
def test_doctor_is_content(files: Path) -> None:
    """Where server and default engine are here the code is 0, and both are named with their versions."""
    done = chaos("doctor", cwd=files)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "the embedded default can run"
    assert not (files / "runs").exists()


def test_doctor_notices_an_unwritable_run_folder(files: Path) -> None:
    """A run folder below a file cannot be made; the finding names the place."""
    done = chaos("doctor", "--json", "--out", "good.py/runs", cwd=files)
    assert done.returncode == 4
    (place,) = [finding for finding in json.loads(done.stdout)["findings"] if finding["name"] == "run folder"]
    assert place["state"] == "broken"
    assert str(files / "good.py") in place["detail"]


def test_doctor_notices_another_chaos(files: Path) -> None:
    """A program of the same name earlier on PATH is told, with the name that works all the same."""
    stranger = files / "bin" / "chaos"
    stranger.parent.mkdir()
    stranger.write_text("#!/bin/sh\n")
    stranger.chmod(0o755)
    done = chaos("doctor", "--json", cwd=files, PATH=f"{stranger.parent}:/usr/bin:/bin")
    findings = [finding for finding in json.loads(done.stdout)["findings"] if finding["name"] == "name chaos"]
    assert [finding["state"] for finding in findings] == ["broken"]
    assert str(stranger) in findings[0]["detail"]
    assert "chaos-harness" in findings[0]["remedy"]


def test_a_closed_reader_is_no_finding(files: Path) -> None:
    """When the reader of stdout is gone the command ends as SIGPIPE would, not with the code of a failed check."""
    import os

    reader, writer = os.pipe()
    os.close(reader)
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "list", "good.py"],
        cwd=files,
        env={**os.environ, "PYTHONPATH": root},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("streams", [">/dev/full", ">&-", ">&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full"])
@pytest.mark.parametrize(("words", "code"), [("list good.py", 0), ("--help", 0), ("run", 2), ("validate bad.py", 2)])
def test_streams_that_cannot_be_written_change_no_code(files: Path, streams: str, words: str, code: int) -> None:
    """A full disk or a closed stream below stdout and stderr is no finding and no failure of the harness."""
    import os

    done = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m chaos {words} {streams}'],
        cwd=files,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert "report it" not in done.stderr
    assert "Traceback" not in done.stderr


def test_help_to_a_closed_reader_is_no_finding(files: Path) -> None:
    """The help, which click prints itself, ends with the same code as a verb whose reader is gone."""
    import os

    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "--help"],
        cwd=files,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_files_of_the_working_folder_are_not_imported(files: Path) -> None:
    """A json.py beside the experiments does not take the place of Python's own."""
    (files / "json.py").write_text("raise RuntimeError('the wrong json')\n")
    done = chaos("list", "good.py", cwd=files)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_loads_nothing_heavy() -> None:
    """What a verb works with is imported when it works, or `chaos --help` would take long."""
    code = (
        "import sys; from chaos.cli.verbs import VERBS, chaos; [chaos.load(verb) for verb in VERBS];"
        "print(*{'asyncio', 'docker', 'redis', 'msgspec', 'kuzu'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_list_of_verbs_loads_no_verb() -> None:
    """`chaos --help` knows a sentence of each verb, and leaves their modules alone."""
    code = (
        "import sys; from chaos.cli.main import main; main(['--help']);"
        "print('loaded:', *(name for name in sys.modules if name in ('chaos.cli.run', 'chaos.cli.options')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "loaded:"
