"""What earlier runs left behind: found by their marks, removed when their harness is dead, and only then.

Ordinary ends leave nothing, and a killed harness has its guardian. This is for what is left when that was killed
too, or the machine, or a daemon that was down when it was asked. Nothing is ever guessed from its look: a process
has its owner in its environment, a container in its labels, a proxy and a toxic in their names, a run folder in a
file. What carries no such mark is not ours; what carries that of a living harness, or of one that cannot be looked
for from here, stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from chaos.backends.docker import stack, sweep
from chaos.backends.docker.sweep import start_time
from chaos.backends.ownership import CLOSED, OWNER_FILE, OWNER_VARIABLE, Owner, owner_in, owner_of
from chaos.backends.toxiproxy import Toxiproxy, ToxiproxyError, ToxiproxyProxy
from chaos.errors import EnvironmentUnavailable
from chaos.runner.folder import STACK_FILE
from chaos.runner.guardian import note_killed

_GONE_S = 5.0
_POLL_S = 0.01
_COMMAND_CHARS_MAX = 120

Removal = Callable[[], Coroutine[Any, Any, list[str]]]
"""Removes one thing and returns why it could not, in words; empty when it is gone."""


@dataclass(frozen=True)
class Leftover:
    """One thing that a run left: its kind, its name for people, and the run's folder or owner."""

    kind: str
    name: str
    run: str

    def __str__(self) -> str:
        """Say it in a few words."""
        return f"{self.kind} {self.name}" + (f" of {self.run}" if self.run else "")


@dataclass
class Found:
    """What was found: things with the way to remove them; things that stay, each with the reason; remarks."""

    things: list[tuple[Leftover, Removal]] = field(default_factory=list)
    kept: list[tuple[Leftover, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, thing: Leftover, owner: Owner | None, removal: Removal) -> None:
        """Sort a thing by what became of its owner; None: it is ours, but says not whose."""
        state = owner.state if owner is not None else "unknown"
        if state == "dead":
            self.things.append((thing, removal))
        else:
            self.kept.append((thing, _WHY_KEPT[state]))


@dataclass
class Healed:
    """What was done: removed, and what could not be removed, each with the reason."""

    removed: list[Leftover] = field(default_factory=list)
    stuck: list[tuple[Leftover, str]] = field(default_factory=list)


_WHY_KEPT = {
    "alive": "its run is going on",
    "elsewhere": "it belongs to another machine or container, whose processes cannot be seen from here",
    "unknown": "it does not say whose it is",
}
_HELD = "another run, which is going on, has the stack now"
_WHY_SPARED = "the run may not have made it"


async def find(
    out: Path | None, *, daemon: bool, toxiproxies: Sequence[Toxiproxy] = (), manifests: bool = False
) -> Found:
    """Look for what runs left; changes nothing.

    Processes are always looked for; `out` is a folder of run folders, `manifests` reads every run.json below it;
    `daemon` asks the docker daemon, whose absence is a remark. A Toxiproxy that does not answer raises
    EnvironmentUnavailable: somebody named it.
    """
    found = Found()
    await asyncio.to_thread(_find_processes, found)
    if out is not None:
        await asyncio.to_thread(_find_folders, found, out, manifests)
    if daemon:
        await asyncio.to_thread(_find_in_daemon, found)
    for client in toxiproxies:
        await _find_in_toxiproxy(found, client)
    return found


async def remove(found: Found) -> Healed:
    """Remove all that was found, one thing after the other; one that resists keeps no other from its removal."""
    healed = Healed()
    for thing, removal in found.things:
        try:
            reasons = await removal()
        except Exception as error:  # noqa: BLE001  # told as stuck; the others must still be removed
            reasons = [f"{type(error).__name__}: {error}"]
        if reasons:
            healed.stuck.append((thing, "; ".join(reasons)))
        else:
            healed.removed.append(thing)
    return healed


async def clear(out: Path, *, daemon: bool) -> list[str]:
    """Look and remove, as every run does when it begins; return a line for each thing. Never raises."""
    try:
        healed = await remove(await find(out, daemon=daemon))
    except Exception as error:  # noqa: BLE001  # looking for the past must not keep a run from beginning
        return [f"leftovers of earlier runs could not be looked for: {type(error).__name__}: {error}"]
    return [f"removed {thing}" for thing in healed.removed] + [
        f"could not remove {thing}: {reason}" for thing, reason in healed.stuck
    ]


def _find_processes(found: Found) -> None:
    """Find what carries an owner in its environment; where there is no /proc there is none to be found."""
    own = set(_ancestors())
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            variables = dict(
                part.partition(b"=")[::2] for part in (entry / "environ").read_bytes().split(b"\0") if part
            )
            mark = variables.get(OWNER_VARIABLE.encode())
            started = start_time(pid)
            if mark is None or started is None or pid in own:
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            run = variables.get(b"CHAOS_RUN", b"").decode(errors="replace")
            thing = Leftover("process", f"{pid} ({command[:_COMMAND_CHARS_MAX]})", run)
            found.add(thing, Owner.parse(mark.decode(errors="replace")), partial(_kill, pid, started))


def _ancestors() -> Iterator[int]:
    """Yield this process and those above it: a shell of the system under test may have started us."""
    pid = os.getpid()
    while pid > 0:
        yield pid
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return


async def _kill(pid: int, started: str) -> list[str]:
    """Kill a process that is still the one that was found, and wait until it is gone."""
    if start_time(pid) == started:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return []
        except PermissionError as error:
            return [str(error)]
    try:
        async with asyncio.timeout(_GONE_S):
            while start_time(pid) == started:
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        return [f"it did not end within {_GONE_S:g}s of SIGKILL"]
    return []


def _find_folders(found: Found, out: Path, manifests: bool) -> None:
    """Find the live data of runs, and with `manifests` also runs that still say that they are running."""
    for live in _below(out, "live"):
        owner = owner_in(live)
        note = live / STACK_FILE
        if note.is_file():
            lent = Leftover("borrowed compose stack", "", str(live.parent))
            if owner is not None and owner.state == "dead" and _is_held(note):
                found.kept += [(lent, _HELD), (Leftover("live data", str(live), ""), _HELD)]
                continue
            found.add(lent, owner, partial(_restore_stack, found, lent, note))
        if (live / OWNER_FILE).exists() or (live.parent / "run.json").exists():
            found.add(Leftover("live data", str(live), ""), owner, partial(_remove_live, live))
    if manifests:
        for path in _below(out, "run.json"):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                run = json.loads(path.read_text())
                owner = Owner.parse(run.get("harness") or "")
                if run.get("verdict") == "running" and owner is not None and not (path.parent / "live").exists():
                    found.add(Leftover("unfinished record", str(path), ""), owner, partial(_note, path))


def _below(out: Path, name: str) -> Iterator[Path]:
    """Yield what has a name in a run folder; links, such as `latest`, are not followed."""
    for path in sorted(out.absolute().glob(f"*/*/{name}")):
        if not any(one.is_symlink() for one in (path, path.parent, path.parent.parent)):
            yield path


async def _remove_live(live: Path) -> list[str]:
    def work() -> list[str]:
        if (live / STACK_FILE).exists():
            return ["the compose stack that its run had borrowed is not given back yet"]
        # The owner's file goes last: what is left of a removal that was cut short must still say whose it is.
        for entry in sorted(live.iterdir(), key=lambda one: one.name == OWNER_FILE):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        live.rmdir()
        note_killed_if_running(live.parent / "run.json")
        return []

    try:
        return await asyncio.to_thread(work)
    except FileNotFoundError:
        return []  # the guardian was quicker
    except OSError as error:
        return [str(error)]


async def _note(manifest: Path) -> list[str]:
    note_killed_if_running(manifest)
    return []


def note_killed_if_running(manifest: Path) -> None:
    """Note in a run.json that says its run is running that it was killed."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if json.loads(manifest.read_text()).get("verdict") == "running":
            note_killed(manifest)


def _is_held(note: Path) -> bool:
    """Tell whether a living run has the stack by now: its own end gives back what it has changed, and not before."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return stack.holder(json.loads(note.read_text())) is not None
    return False


async def _restore_stack(found: Found, lent: Leftover, note: Path) -> list[str]:
    def work() -> list[str]:
        if not note.exists():
            return []  # the guardian was quicker
        try:
            swept = stack.restore(json.loads(note.read_text()))
        except (OSError, ValueError, KeyError) as error:
            return [f"{type(error).__name__}: {error}"]
        for keys in swept.spared:
            found.kept.append((Leftover("data", f"in the compose stack: {keys}", lent.run), _WHY_SPARED))
        if not swept.stuck:
            note.unlink(missing_ok=True)
        return swept.stuck

    return await asyncio.to_thread(work)


def _find_in_daemon(found: Found) -> None:
    """Find containers, networks and volumes; those of one run are removed together, in the order that works."""
    try:
        there = sweep.leftovers()
    except (OSError, ValueError) as error:
        found.remarks.append(f"containers were not looked for, no docker daemon answers: {error}")
        return
    removals: dict[str, Removal] = {}
    for one in there:
        thing = Leftover(one.kind, one.name, one.run)
        if one.owner == "dead":
            removal = removals.setdefault(one.run, _once_for_run(one.run))
            found.things.append((thing, partial(_part_of, removal, thing)))
        else:
            found.kept.append((thing, _WHY_KEPT[one.owner]))


def _once_for_run(run: str) -> Removal:
    """Return a removal of all that a run has in the daemon, done once however often it is asked for."""
    done: list[list[str]] = []

    async def removal() -> list[str]:
        if not done:
            done.append((await asyncio.to_thread(sweep.remove, run)).stuck)
        return done[0]

    return removal


async def _part_of(removal: Removal, thing: Leftover) -> list[str]:
    """Return the reasons that concern one thing of a removal of several."""
    return [reason for reason in await removal() if reason.startswith(f"{thing.kind} {thing.name}:")]


async def _find_in_toxiproxy(found: Found, client: Toxiproxy) -> None:
    """Find proxies and toxics with our names; a proxy that is ours is removed with all that is in it."""
    await client.demand()
    for proxy in (await client.proxies()).values():
        owner = owner_of(proxy.name)
        if owner is not None:
            thing = Leftover("proxy", f"{proxy.name} in {client.url}", "")
            found.add(thing, owner, partial(_unless_gone, partial(client.delete, proxy.name)))
        else:
            _find_toxics(found, client, proxy)


def _find_toxics(found: Found, client: Toxiproxy, proxy: ToxiproxyProxy) -> None:
    """Find our toxics in somebody else's proxy; the note of who has closed it opens it again."""
    for toxic in proxy.toxics:
        owner = owner_of(toxic.name)
        if owner is None:
            continue
        thing = Leftover("toxic", f"{toxic.name} in proxy {proxy.name} of {client.url}", "")
        changes = [partial(client.remove_toxic, proxy.name, toxic.name)]
        if toxic.name == owner.prefix + CLOSED:
            changes.insert(0, partial(_enable, client, proxy.name))
        found.add(thing, owner, partial(_unless_gone, *changes))


async def _enable(client: Toxiproxy, name: str) -> None:
    await client.enable(name)


async def _unless_gone(*changes: Callable[[], Coroutine[Any, Any, None]]) -> list[str]:
    """Make changes; what is not there any more needs none."""
    for change in changes:
        try:
            await change()
        except ToxiproxyError as error:
            if error.status != 404:
                return [str(error)]
    return []


def as_lines(items: Iterable[tuple[Leftover, str]]) -> list[str]:
    """Return "thing: reason" for each."""
    return [f"{thing}: {reason}" for thing, reason in items]


async def heal(out: Path, urls: Sequence[str], *, dry_run: bool) -> tuple[Found, Healed]:
    """Do what `chaos heal` does. Raises EnvironmentUnavailable for a Toxiproxy that does not answer."""
    clients = [Toxiproxy(url) for url in urls]
    try:
        found = await find(out, daemon=True, toxiproxies=clients, manifests=True)
    except ToxiproxyError as error:
        raise EnvironmentUnavailable(str(error), "name another address, or leave --toxiproxy out") from error
    return found, Healed() if dry_run else await remove(found)
