"""The worker: the process that hosts the system under test. `python -m chaos.runner.worker --fd N`.

It holds no state that matters: whatever it was doing when it dies is in the history already, since the
harness writes an invocation down before it sends it. It ends when the harness does (parent-death signal, and
the end of the channel), and a crash, a segfault or a hang of the system under test is an observation.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import socket
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from chaos._channel import Channel
from chaos._process import die_with_parent
from chaos.errors import HarnessError
from chaos.faults.disk.control import Control
from chaos.history.model import StoreImage
from chaos.runner import wall_clock
from chaos.runner.sampling import Sampler
from chaos.transactions.loading import load_system
from chaos.transactions.system import Outcome, Request, Resolution, SiteConfig, System

SYNC_WATCH = "watch:commit-log"
"""Id of the shim rule that counts successful syncs of the commit log (see `checkers.synced`)."""


class WorkerSite:
    """The `Site` that a system sees: tells phases and children to the harness."""

    def __init__(self, channel: Channel, config: SiteConfig, armed: frozenset[str]) -> None:
        """`armed` names the phases at which the harness wants to act, and is therefore waited for."""
        self._channel = channel
        self._config = config
        self._armed = armed
        control = os.environ.get("CHAOS_SHIM_CONTROL")
        self._control = Control.attach(Path(control)) if control else None
        self.children: dict[str, int] = {}

    @property
    def config(self) -> SiteConfig:
        """Where the stores are."""
        return self._config

    async def phase(self, name: str, token: str | None = None, store: str | None = None) -> None:
        """Tell a phase; wait for the harness only when a rule of the schedule names it."""
        syncs = self._control.fired(SYNC_WATCH) if self._control is not None else None
        message = {"name": name, "token": token, "store": store, "syncs": syncs}
        if name in self._armed:
            await self._channel.call("phase", message)
        else:
            self._channel.tell("phase", message)

    def arm(self, phases: Iterable[str]) -> None:
        """Wait for the harness at these phases from now on, and at no others."""
        self._armed = frozenset(phases)

    def child(self, target: str, pid: int | None) -> None:
        """Tell the pid of a child process."""
        if pid is None:
            self.children.pop(target, None)
        else:
            self.children[target] = pid
        self._channel.tell("child", {"target": target, "pid": pid})


class Worker:
    """Answers the harness's calls by calling the system."""

    def __init__(self) -> None:
        """Nothing is loaded yet; `load` is the first call."""
        self.channel: Channel | None = None
        self._system: System | None = None
        self._site: WorkerSite | None = None
        self._sampler: Sampler | None = None

    async def handle(self, op: str, args: dict[str, Any]) -> Any:
        """Answer one call of the harness; exceptions go into the log, and back to it by class name and text."""
        try:
            return await self._answer(op, args)
        except Exception:
            traceback.print_exc()
            raise

    def listen(self, op: str, args: dict[str, Any]) -> None:
        """Hear of what is only told: the phases that a rule waits for now."""
        if op == "armed" and self._site is not None:
            self._site.arm(args["phases"])

    async def _answer(self, op: str, args: dict[str, Any]) -> Any:
        if op == "load":
            return self._load(args)
        if op == "stall":
            return _stall(args["seconds"])
        if op == "shift_clock":
            return wall_clock.shift(args["seconds"])
        if self._system is None or self._site is None:
            raise HarnessError(f"{op} before load")
        match op:
            case "set_up":
                await self._system.set_up(self._site)
            case "open":
                await self._system.open(self._site)
                self._start_sampling(self._site)
            case "transact":
                return _checked(op, await self._system.transact(msgspec.convert(args, Request)), Outcome)
            case "recover":
                return _checked(op, await self._system.recover(args["tokens"]), dict[str, Resolution])
            case "read_back":
                return _checked(op, await self._system.read_back(), dict[str, StoreImage])
            case "ping":
                return _checked(op, await self._system.ping(), dict[str, bool])
            case "close":
                await self._system.close()
            case _:
                raise HarnessError(f"the worker knows no {op}")
        return None

    def _start_sampling(self, site: WorkerSite) -> None:
        assert self.channel is not None
        channel = self.channel
        self._sampler = Sampler(self._system, site.config, site.children, lambda sample: channel.tell("sample", sample))
        self._sampler.start()

    def _load(self, args: dict[str, Any]) -> dict[str, int]:
        assert self.channel is not None
        config = msgspec.convert(args["config"], SiteConfig)
        self._site = WorkerSite(self.channel, config, frozenset(args["armed"]))
        self._system = load_system(args["location"])
        return {"pid": os.getpid()}


def _stall(duration_s: float) -> float:
    """Keep the event loop from running for so long, but no other thread; return how long it was."""
    begun_s = time.monotonic()
    time.sleep(duration_s)
    return time.monotonic() - begun_s


class ProtocolMistake(Exception):
    """A method of the system under test returned something that the protocol does not know."""


def _checked(method: str, answer: Any, form: Any) -> Any:
    """Return `answer` as plain JSON values; raises ProtocolMistake, naming the method, unless it has the form."""
    try:
        plain = msgspec.to_builtins(answer)
        msgspec.convert(plain, form)
    except (TypeError, msgspec.ValidationError) as error:
        raise ProtocolMistake(f"{method} returned {answer!r:.80}, see chaos.transactions.system: {error}") from error
    return plain


async def serve(descriptor: int) -> None:
    """Serve until the harness closes its end, then leave at once: nothing here is worth a tidy exit."""
    worker = Worker()
    worker.channel = await Channel.open(socket.socket(fileno=descriptor), worker.handle, worker.listen)
    await worker.channel.wait_closed()
    os._exit(0)


def main() -> None:
    """Entry point of the process."""
    die_with_parent()
    faulthandler.enable()
    parser = argparse.ArgumentParser(description="hosts the system under test; started by the harness")
    parser.add_argument("--fd", type=int, required=True)
    asyncio.run(serve(parser.parse_args().fd))


if __name__ == "__main__":
    main()
