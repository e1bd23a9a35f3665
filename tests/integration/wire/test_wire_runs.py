"""Rules on commands in whole runs: the journal, what `chaos show` makes of it, and the replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaos.report.wire import read_wire

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.requires("redis", "kuzu"), pytest.mark.slow]

LOST = """
    from chaos import Experiment, Recovery, faults, probes, stores, when, workload

    EXPERIMENT = Experiment(
        id="lost",
        hypothesis="A lost reply is no lost transaction.",
        stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
        steady_state=(probes.PingAll("10s"), probes.Commits(within="20s")),
        workload=workload.Transfers(accounts=8, clients=3, rate=60, seconds=3, deadline="2s", reads_redis=False),
        recovery=Recovery(budget="10s", hold="200ms"),
        schedule=(
            when.{when}
            .do(faults.OnCommand("redis", "{command}", at="before_reply", do=faults.{do}))
            .heal({heal}),
        ),
    )
"""
PHASES = {"do": 'Cut("rst")', "heal": 'at=when.phase("acknowledged", nth=14)'}


def wire(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return the lines of a kind of a run's journal."""
    lines = [json.loads(line) for line in (folder / "wire.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def hit_tokens(folder: Path) -> list[str | None]:
    """Return the transactions of the frames that rules hit."""
    journal = read_wire(folder / "wire.jsonl")
    assert journal is not None
    return [journal.token(line) for line in journal.hits]


def test_a_run_with_a_rule_can_be_read_and_replayed(chaos_command: Any) -> None:
    """The timeline tells the hit; the script hits the same transaction's frame again, whatever comes first."""
    path = chaos_command.write(LOST.format(when='phase("redis.applying", nth=8)', command="EVALSHA", **PHASES))
    outcome = chaos_command("run", path, "--seed", "5")
    assert outcome.code == 0, outcome.out + outcome.err
    (token,) = hit_tokens(outcome.folder)
    (rule,) = wire(outcome.folder, "rule")
    first, history = wire(outcome.folder, "open")[0], outcome.history()
    assert history[0]["time_ns"] <= first["time_ns"] <= rule["time_ns"] <= history[-1]["time_ns"]

    shown = chaos_command("show", outcome.folder)
    assert shown.code == 0
    assert f"TRANSACTION {token}" in shown.out
    for text in ("HIT EVALSHA", "CUT (rst)", "begins network.on_command", "graph.applied", "is told: committed"):
        assert text in " ".join(shown.out.split())
    document = json.loads(chaos_command("show", outcome.folder, "--transaction", token, "--json").out)
    times = [moment["time_ns"] for moment in document["transactions"][token]]
    assert times == sorted(times)
    assert {moment["who"] for moment in document["transactions"][token]} >= {"client", "system", "nemesis", "proxy"}

    script = chaos_command("show", outcome.folder, "--script")
    assert script.code == 0
    again = chaos_command("run", chaos_command.write(script.out, "again.py"), "--seed", "5")
    assert again.code == 0, again.out + again.err
    assert hit_tokens(again.folder) == [token]
    (repeated,) = wire(again.folder, "rule")
    assert (repeated["command"], repeated["at"], repeated["action"]) == (rule["command"], rule["at"], rule["action"])


@pytest.mark.parametrize(
    ("when", "do"), [('at("1500ms")', 'Cut("rst")'), ('phase("redis.applying", nth=30)', 'Delay("50ms")')]
)
def test_a_rule_that_time_heals_is_replayed(chaos_command: Any, when: str, do: str) -> None:
    """The script waits for the frame from the load's start, so it must not be healed so soon after its beginning."""
    path = chaos_command.write(LOST.format(when=when, command="EVALSHA", do=do, heal='after="400ms"'))
    outcome = chaos_command("run", path, "--seed", "5")
    assert outcome.code == 0, outcome.out + outcome.err
    (token,) = hit_tokens(outcome.folder)
    script = chaos_command("show", outcome.folder, "--script")
    again = chaos_command("run", chaos_command.write(script.out, "again.py"), "--seed", "5")
    assert again.code == 0, again.out + again.err
    assert hit_tokens(again.folder) == [token]


def test_a_rule_that_hits_nothing_makes_the_run_inconclusive(chaos_command: Any) -> None:
    """The system never sends EXEC: the run proves nothing, and has nothing to replay."""
    path = chaos_command.write(LOST.format(when='phase("redis.applying", nth=3)', command="EXEC", **PHASES))
    outcome = chaos_command("run", path, "--seed", "5")
    assert outcome.code == 3, outcome.out + outcome.err
    assert "did nothing" in outcome.json("checks/landed.json")["summary"]
    assert wire(outcome.folder, "rule") == []
    assert chaos_command("show", outcome.folder, "--script").code == 5


def test_wire_asks_for_frames_without_a_rule(chaos_command: Any, trivial: Any) -> None:
    """Frames of every transaction are in the journal; without --wire only connections are."""
    path = chaos_command.write(trivial())
    with_frames = chaos_command("run", path, "--seed", "1", "--wire")
    assert with_frames.code == 0, with_frames.out + with_frames.err
    sent = {entry["token"] for entry in with_frames.history() if entry["kind"] == "ok" and entry.get("token")}
    assert sent <= {line.get("token") for line in wire(with_frames.folder, "request")}
    without = chaos_command("run", path, "--seed", "1")
    assert wire(without.folder, "open")
    assert wire(without.folder, "request") == []
    assert "run with --wire" in chaos_command("show", without.folder).out


@pytest.mark.requires("toxiproxy")
def test_a_toxiproxy_reads_no_frames(chaos_command: Any, trivial: Any) -> None:
    """A rule on commands and a wire journal are refused before anything starts."""
    path = chaos_command.write(LOST.format(when='phase("redis.applying", nth=8)', command="EVALSHA", **PHASES))
    refused = chaos_command("run", path, "--proxy", "toxiproxy")
    assert (refused.code, "provider-cannot" in refused.err) == (2, True), refused.err
    unwired = chaos_command("run", chaos_command.write(trivial()), "--proxy", "toxiproxy", "--wire")
    assert (unwired.code, "reads no frames" in unwired.err) == (2, True), unwired.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("show", "nowhere"), 2, "not-a-run"),
        (("show", "{run}", "--transaction", "c9.9"), 2, "no transaction of this run"),
    ],
)
def test_wrong_questions(chaos_command: Any, trivial: Any, words: tuple[str, ...], code: int, told: str) -> None:
    """What is not there is told, with what is."""
    run = chaos_command("run", chaos_command.write(trivial()), "--seed", "1").folder if "{run}" in words else ""
    outcome = chaos_command(*(word.replace("{run}", str(run)) for word in words))
    assert (outcome.code, told in outcome.err) == (code, True), outcome.err


def test_a_client_that_repeats_in_silence_is_shown(chaos_command: Any) -> None:
    """The control is caught as it must be, and the timeline has both of its requests for one transaction."""
    outcome = chaos_command("run", ROOT / "experiments" / "redis_client_retries.py", "--seed", "11")
    assert outcome.code == 0, outcome.out + outcome.err
    (token,) = hit_tokens(outcome.folder)
    shown = chaos_command("show", outcome.folder, "--transaction", token)
    assert shown.out.count("HIT EXEC") == 1
    assert shown.out.count(" EXEC (14 bytes)") == 2
    assert "2 TIMES" in shown.out
