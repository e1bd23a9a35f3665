"""A held lock and lost data, on real stores: each does what it says to the system, and is over when healed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from chaos.backends.embedded import EmbeddedEnvironment

pytestmark = [pytest.mark.requires("redis", "kuzu"), pytest.mark.slow, pytest.mark.timeout(120)]

PLANTED = Path(__file__).parents[1] / "planted" / "systems.py"

EXPERIMENT = """
    from chaos import Experiment, Guards, Limits, Recovery, checks, faults, stores, when, workload

    EXPERIMENT = Experiment(
        id="process-faults",
        hypothesis="It holds.",
        stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
        workload=workload.Transfers(accounts=8, clients=2, rate=40, seconds=2, deadline="500ms"),
        schedule=({rule},),
        recovery=Recovery(budget="10s", hold="200ms"),
        guards=Guards(before=1, during=0, after=1),
        limits=Limits(wall="60s", overtime="20s"),
    )
"""


def between(history: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the entries of the only fault of this kind, and what came between its beginning and its end."""
    edges = [entry["index"] for entry in history if entry["f"] == kind and entry["kind"].startswith("fault_")]
    return history[edges[0] : edges[1] + 1]


def test_a_held_lock_keeps_everybody_from_committing(chaos_command) -> None:
    """No transaction commits while it is held, some are told that the database is locked, and work goes on after it."""
    rule = 'when.next("acknowledged", after=5).do(faults.HoldLock("sqlite")).heal(after="1s")'
    done = chaos_command("run", chaos_command.write(EXPERIMENT.replace("{rule}", rule)), "--seed", "0")
    assert done.code == 0, done.out + done.err
    held = between(done.history(), "process.hold_lock")
    committed = [entry for entry in held if entry["f"] == "sqlite.committed"]
    # A commit that had been made may be told a moment later: by the clock of the worker it was before.
    assert len(committed) <= 2
    assert any("database is locked" in entry.get("error", "") for entry in held if entry["kind"] == "fail")
    assert held[-1]["value"]["evidence"] == {"locks_held": 1}


def test_a_lock_that_the_system_keeps_is_not_taken(chaos_command) -> None:
    """A transaction that stands still with the lock keeps it: the fault has not landed, and the run proves nothing."""
    rule = 'when.next("sqlite.committing", after=5).do(faults.HoldLock("sqlite")).heal(after="500ms")'
    done = chaos_command("run", chaos_command.write(EXPERIMENT.replace("{rule}", rule)), "--seed", "0")
    assert done.code == 3, done.out + done.err
    assert "a transaction of the system has the lock" in done.out


def test_a_graph_that_another_has_opened_is_waited_for(chaos_command) -> None:
    """No child serves the graph while the lock is held, whatever is started; work goes on in the other stores."""
    rule = 'when.next("graph.applied", after=5).do(faults.Kill("graph"), faults.HoldLock("graph")).heal(after="1s")'
    text = EXPERIMENT.replace("{rule}", rule).replace("seconds=2", "seconds=3")
    done = chaos_command("run", chaos_command.write(text), "--seed", "0")
    assert done.code == 0, done.out + done.err
    held = between(done.history(), "process.hold_lock")
    assert held[-1]["value"]["evidence"] == {"locks_held": 1}
    assert held[-1]["time_ns"] - held[0]["time_ns"] >= 0.9e9
    steps = [entry["f"] for entry in held if entry["kind"] == "step"]
    assert "redis.applied" in steps
    assert not {"graph.rebuilding", "graph.rebuilt"} & set(steps)
    assert steps.count("graph.applied") <= 1  # the one at whose moment it came
    after = [entry["f"] for entry in done.history()[held[-1]["index"] :]]
    assert "graph.rebuilt" in after
    assert "graph.applied" in after


def test_a_child_that_serves_keeps_the_lock_of_the_graph(chaos_command) -> None:
    """Without a fault that ends the child it has not landed, and the run proves nothing."""
    rule = 'when.next("acknowledged", after=5).do(faults.HoldLock("graph")).heal(after="500ms")'
    text = EXPERIMENT.replace("{rule}", rule).replace("seconds=2", "seconds=4")
    done = chaos_command("run", chaos_command.write(text), "--seed", "0")
    assert done.code == 3, done.out + done.err
    assert "a child of the system has the lock" in done.out


@pytest.mark.parametrize(("system", "code"), [("systems.Redo()", 0), (f'systems.Own("{PLANTED}:WallClock")', 1)])
def test_a_clock_that_jumps_is_felt_by_who_reads_it(chaos_command, system: str, code: int) -> None:
    """Our coordinator reads the monotonic clock only; one that reads the other takes what it has committed for late."""
    rule = 'when.next("graph.applying", after=5).do(faults.ClockJump(3600)).heal(after="500ms")'
    text = EXPERIMENT.replace("{rule}", rule).replace("stores=(", f"system={system}, stores=(", 1)
    done = chaos_command("run", chaos_command.write(text.replace("import Exp", "import systems, Exp")), "--seed", "0")
    assert done.code == code, done.out + done.err
    jumped = between(done.history(), "process.clock_jump")
    assert jumped[-1]["value"]["evidence"]["clocks_shifted"] == 2
    assert code == 0 or "no_zombie     INVALID" in done.out


@pytest.mark.deep
@pytest.mark.parametrize(
    ("known", "code"), [(", expect=KnownFailure(check='durable', reason='It is damaged.')", 0), ("", 1)]
)
def test_a_damaged_log_is_refused_and_told(chaos_command, known: str, code: int) -> None:
    """The coordinator does not go on without what it had acknowledged, and a run that expects this ends as it should."""
    damage = 'faults.Corrupt("sqlite", "main.db-wal", offset=16384)'
    rule = f'when.next("acknowledged", after=8).do({damage}, faults.Kill("worker"))'
    text = EXPERIMENT.replace("{rule}", rule).replace("import Exp", "import KnownFailure, Exp")
    text = text.replace("after=1)", "after=0)").replace(
        'limits=Limits(wall="60s"', f'checks=(checks.Durable(), checks.Landed()){known}, limits=Limits(wall="150s"'
    )
    done = chaos_command("run", chaos_command.write(text), "--seed", "0")
    assert done.code == code, done.out + done.err
    assert "SQLite's files have lost" in done.out
    history = done.history()
    struck = next(entry["index"] for entry in history if entry["f"] == "process.corrupt")
    asked = {one["token"] for one in history[struck:] if one["kind"] == "invoke" and one["f"] == "transact"}
    assert asked
    assert not [one for one in history[struck:] if one["kind"] == "ok" and one.get("token") in asked]


def test_a_stalled_loop_does_nothing_and_lets_deadlines_pass(chaos_command) -> None:
    """Nothing is told by the worker while it stands still; who waited at the phase is aborted by the late deadline."""
    rule = 'when.next("buffered", after=5).do(faults.Stall("1200ms"))'
    done = chaos_command("run", chaos_command.write(EXPERIMENT.replace("{rule}", rule)), "--seed", "0")
    assert done.code == 0, done.out + done.err
    stalled = between(done.history(), "process.stall")
    begun, ended = stalled[0], stalled[-1]
    assert 1200 <= ended["value"]["evidence"]["stalled_ms"] < 5000
    assert ended["time_ns"] - begun["time_ns"] >= 1.2e9
    # What it had said before may be heard a moment later, and what it says at its end just before that is told.
    still = (begun["time_ns"] + 0.7e9, begun["time_ns"] + 1.2e9)
    assert not [one for one in stalled if still[0] < one["time_ns"] < still[1] and one["kind"] in ("ok", "step")]
    after = done.history()[begun["index"] :]
    assert any("the deadline passed" in entry.get("error", "") for entry in after if entry["kind"] == "fail")


def test_lost_data_are_lost_and_filled_again(chaos_command) -> None:
    """The server's files are gone, another process is there after the heal, and the coordinator fills it."""
    rule = 'when.next("acknowledged", after=5).do(faults.LoseData("redis")).heal(after="300ms")'
    done = chaos_command("run", chaos_command.write(EXPERIMENT.replace("{rule}", rule)), "--seed", "0")
    assert done.code == 0, done.out + done.err
    lost = between(done.history(), "process.lose_data")
    evidence = lost[-1]["value"]["evidence"]
    assert evidence["processes_killed"] == 1
    assert evidence["files_removed"] >= 2
    assert evidence["bytes_lost"] > 0
    assert [entry for entry in done.history() if entry["f"] == "redis.rebuilt"]
    assert [entry for entry in done.history() if entry["f"] == "server_started"]


@pytest.mark.requires("shim")
@pytest.mark.parametrize("together", [True, False])
def test_a_power_loss_knows_that_data_were_lost(chaos_command, together: bool) -> None:
    """The log of file operations has the removal, so the disk can be rebuilt, at once or later; and Redis is empty on it."""
    lost, power = 'faults.LoseData("redis")', "faults.PowerLoss()"
    moment = 'when.next("acknowledged", after=5)'
    first = f"{moment}.do({lost}, {power})" if together else f"{moment}.do({lost})"
    rule = f'{first}.heal(after="300ms")' + ("" if together else f", {moment}.do({power})")
    text = EXPERIMENT.replace("{rule}", rule).replace("seconds=2", "seconds=4").replace("500ms", "1s")
    done = chaos_command("run", chaos_command.write(text), "--seed", "0")
    assert done.code == 0, done.out + done.err
    history = done.history()
    assert between(history, "process.lose_data")[-1]["value"]["evidence"]["files_removed"] >= 2
    evidence = between(history, "disk.power_loss")[-1]["value"]["evidence"]
    assert evidence["folders_rebuilt"] == 3
    assert "refused" not in evidence
    assert [entry for entry in history if entry["f"] == "redis.rebuilt"]


async def test_a_server_that_another_fault_kills_while_it_starts_is_left_to_that_fault(tmp_path: Path) -> None:
    """The first heal has done its part; the second one has the server started again."""
    (tmp_path / "data").mkdir()
    (tmp_path / "logs").mkdir()
    place = EmbeddedEnvironment(
        tmp_path / "data",
        tmp_path / "logs",
        redis={},
        shim_environment={},
        on_child=lambda _: None,
        on_server=lambda *_: None,
    )
    await place.start()
    try:
        first = await place.signal_redis(signal.SIGKILL)
        assert await place.redis_gone(first, 5.0)
        heal = asyncio.create_task(place.revive_redis())
        async with asyncio.timeout(5):
            while (child := place.shimmed()) is None or child.pid == first:
                await asyncio.sleep(0)
        second = await place.signal_redis(signal.SIGKILL)
        await heal
        assert await place.redis_gone(second, 5.0)
        await place.revive_redis()
        child = place.shimmed()
        assert child is not None
        assert child.status is None
    finally:
        assert await place.stop() == []
