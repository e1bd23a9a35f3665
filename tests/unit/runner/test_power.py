"""The power switch: folders rebuilt from the log, everything held down meanwhile, and nothing left held after it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chaos.crashpoints import snapshot
from chaos.errors import EnvironmentUnavailable
from chaos.faults.disk.control import Control
from chaos.faults.disk.oplog import Kind, Operation, encode
from chaos.runner import victims
from chaos.runner.power import OperationLog, Power


class Machine:
    """Stands for the environment and for the supervisor: notes what is asked of it, in order."""

    def __init__(self, *refusals: str) -> None:
        """Each start of the server fails with the next refusal, while there are any."""
        self.asked: list[str] = []
        self.refusals = list(refusals)

    def hold(self) -> None:
        """No worker from now on."""
        self.asked.append("hold worker")

    def release(self) -> None:
        """Workers again."""
        self.asked.append("release worker")

    def keep_redis_down(self) -> None:
        """No server from now on."""
        self.asked.append("hold server")

    async def revive_redis(self) -> None:
        """Start the server."""
        self.asked.append("start server")
        self._refuse()

    async def mend_redis(self) -> dict[str, int]:
        """Cut its log and start it."""
        self.asked.append("mend server")
        self._refuse()
        return {"redis_log_cut_bytes": 12}

    def _refuse(self) -> None:
        if self.refusals:
            raise EnvironmentUnavailable(self.refusals.pop(0), "read its log")


class Scene:
    """A data folder with a control file and a log, and a machine with its power switch."""

    def __init__(self, folder: Path, control: Control, *refusals: str) -> None:
        """Begin the log; the stores' folders are empty."""
        self.folder = folder
        self.data = folder / "data"
        self.log = OperationLog(control, self.data, folder)
        self.log.begin(snapshot.read(self.data))
        self.machine: Any = Machine(*refusals)
        self.power = Power(self.log, self.machine, self.machine)

    def happen(self, number: int, *operations: Operation) -> None:
        """Append what the shim would, to log `number`."""
        with (self.folder / f"operations-{number}.log").open("ab") as file:
            file.write(b"".join(map(encode, operations)))


def _written(name: str, kept: bytes, lost: bytes) -> list[Operation]:
    """Make a file, sync the first bytes of it, and its name; then write more."""
    return [
        Operation(Kind.OPEN, 1, flags=os.O_CREAT | os.O_RDWR, name=name),
        Operation(Kind.WRITE, 2, handle=1, name=name, offset=0, payload=kept),
        Operation(Kind.SYNC, 3, handle=1, name=name),
        Operation(Kind.OPEN, 4, name=f"{name.split('/')[0]}/"),
        Operation(Kind.SYNC, 5, handle=4, name=f"{name.split('/')[0]}/"),
        Operation(Kind.WRITE, 6, handle=1, name=name, offset=len(kept), payload=lost),
    ]


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """A control file over a data folder with one store."""
    (tmp_path / "data" / "sqlite").mkdir(parents=True)
    with Control.create(tmp_path / "control", tmp_path / "data") as one:
        yield one


async def test_two_losses_in_one_run(tmp_path: Path, control: Control) -> None:
    """Each takes what was not synced since the one before; a log is used up and removed, and the next one begun."""
    scene = Scene(tmp_path, control)
    file = scene.data / "sqlite" / "a"
    file.write_bytes(b"kept+lost")
    scene.happen(1, *_written("sqlite/a", b"kept", b"+lost"))
    first = await scene.power.off("f0", "posix", Random(0))
    assert file.read_bytes() == b"kept"
    assert first["folders_rebuilt"] == 1
    assert (first["sqlite_bytes_lost"], first["bytes_lost"], first["names_lost"]) == (5, 5, 0)
    assert await scene.power.on("f0") == {}
    assert scene.machine.asked == ["hold worker", "hold server", "start server", "release worker"]
    assert [path.name for path in tmp_path.glob("operations-*")] == ["operations-2.log"]

    file.write_bytes(b"gone")
    opened = Operation(Kind.OPEN, 7, flags=os.O_TRUNC | os.O_RDWR, name="sqlite/a")
    scene.happen(2, opened, Operation(Kind.WRITE, 8, handle=7, name="sqlite/a", offset=0, payload=b"gone"))
    second = await scene.power.off("f1", "posix", Random(0))
    assert file.read_bytes() == b"kept"
    assert second["bytes_lost"] == 4
    await scene.power.on("f1")
    assert control.recording


async def test_a_log_that_does_not_explain_the_folder_is_refused(tmp_path: Path, control: Control) -> None:
    """The folder stays as it was, the reason is told, and the next log begins with it."""
    scene = Scene(tmp_path, control)
    (scene.data / "sqlite" / "unseen").write_bytes(b"?")
    evidence = await scene.power.off("f0", "posix", Random(0))
    assert "sqlite/unseen differ" in str(evidence["refused"])
    assert "folders_rebuilt" not in evidence
    assert (scene.data / "sqlite" / "unseen").read_bytes() == b"?"
    await scene.power.on("f0")
    again = await scene.power.off("f1", "posix", Random(0))
    assert again["folders_rebuilt"] == 1
    assert (scene.data / "sqlite" / "unseen").read_bytes() == b"?"


async def test_a_log_that_lost_records_is_refused(tmp_path: Path, control: Control) -> None:
    """A full disk under the log ends it for all; what follows is not in it."""
    scene = Scene(tmp_path, control)
    control._file.lost = 1
    control._file.recording = 0
    evidence = await scene.power.off("f0", "posix", Random(0))
    assert "lost 1 records" in str(evidence["refused"])
    assert control.recording


async def test_a_survivor_is_told(tmp_path: Path, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody lives the folders are not touched."""

    async def fell(_: Control) -> tuple[int, tuple[int, ...]]:
        return 3, (4711,)

    monkeypatch.setattr(victims, "fell", fell)
    evidence = await Scene(tmp_path, control).power.off("f0", "posix", Random(0))
    assert evidence["refused"] == "processes 4711 could not be killed"


async def test_the_second_loss_waits_for_the_first(tmp_path: Path, control: Control) -> None:
    """Two rules that strike together take the power one after the other."""
    scene = Scene(tmp_path, control)
    await scene.power.off("f0", "posix", Random(0))
    second = asyncio.ensure_future(scene.power.off("f1", "posix", Random(0)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not second.done()
    assert await scene.power.on("f1") == {}, "it is not off for f1 yet"
    assert not second.done()
    await scene.power.on("f0")
    assert (await second)["folders_rebuilt"] == 1
    await scene.power.on("f1")
    assert scene.machine.asked.count("release worker") == 2


async def test_a_loss_cut_short_is_healed(tmp_path: Path, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while processes die, it starts everything again on the folders as they are, and can be repeated."""
    dying = asyncio.Event()

    async def fell(_: Control) -> tuple[int, tuple[int, ...]]:
        dying.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(victims, "fell", fell)
    scene = Scene(tmp_path, control)
    cut = asyncio.ensure_future(scene.power.off("f0", "posix", Random(0)))
    await dying.wait()
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    await scene.power.on("f0")
    assert scene.machine.asked[-2:] == ["start server", "release worker"]
    assert await scene.power.on("f0") == {}
    assert not scene.power._one_at_a_time.locked()


@pytest.mark.parametrize(
    ("refusals", "evidence", "asked"),
    [
        (
            ("it ended: Bad file format reading the append only file x",),
            {"redis_log_cut_bytes": 12},
            ["start server", "mend server"],
        ),
        (
            ("it ended: Bad file format reading the append only file x", "still"),
            {"server": "did not start: still"},
            ["start server", "mend server"],
        ),
        (("no port",), {"server": "did not start: no port"}, ["start server"]),
    ],
)
async def test_a_server_that_does_not_start(
    tmp_path: Path, control: Control, refusals: tuple[str, ...], evidence: dict[str, Any], asked: list[str]
) -> None:
    """It is mended where its own message asks for that; the worker may start in any case, and what came of it is told."""
    scene = Scene(tmp_path, control, *refusals)
    await scene.power.off("f0", "posix", Random(0))
    told = await scene.power.on("f0")
    assert {
        name: str(value).split(" [")[0].split("; ")[0] if isinstance(value, str) else value
        for name, value in told.items()
    } == evidence
    assert scene.machine.asked[2:] == [*asked, "release worker"]
