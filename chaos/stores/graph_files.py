"""The files around the graph engine: which are opened, which are kept as evidence, and copies to begin again from.

Used only inside the graph child, under a lock of our own: the engine's lock is on a file that is renamed here. What
an engine left behind without having been closed in peace is never opened again. It may refuse, crash or hang; worse,
it may open and be wrong in a place that is read much later. So a database is believed only with its *seal*, the hash
of its files after a peaceful close; else it is set aside, and begun anew from a *base*, a copy that was made of it
when it was whole, or from nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

LOCK = "owner.lock"
"""In the folder; whoever serves the database has its lock (flock(2))."""

_CHUNK = 1 << 20
_EVIDENCE_MAX = 2


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of the database, in the same folder: the name of its file, the hash of its bytes."""

    file: str
    digest: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a child may open: the files that are there if they bear this `seal`, else a copy of `base`, else nothing."""

    seal: str | None = None
    base: Base | None = None


class Locked(Exception):
    """Another process serves this database; it may be dying."""


class Differs(Exception):
    """A base is not what it was when it was made; another one is needed."""


class GraphFiles:
    """The database at `path`, and what lies beside it. Blocking; one process at a time, see `lock`."""

    def __init__(self, path: Path) -> None:
        """Touch nothing."""
        self._path = path
        self._folder = path.parent
        self._lock: int | None = None

    def lock(self) -> None:
        """Hold the folder until this process ends, however it ends. Raises Locked."""
        descriptor = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise Locked(f"another process holds the lock of {self._folder}") from error
        self._lock = descriptor

    def make_ready(self, plan: Plan) -> bool:
        """Leave only what `plan` lets be opened; tell whether that are the files that were there.

        Raises Differs when the base is damaged, OSError. Safe to interrupt: until the next seal nothing is believed.
        """
        if plan.seal is not None and plan.seal == self._fingerprint():
            return True
        self._set_aside()
        if plan.base is not None:
            self._restore(plan.base)
        return False

    def seal(self) -> str:
        """Sync the files of a database that was closed in peace, their names too, and return their hash."""
        for file in self._files():
            _sync(file)
        _sync(self._folder)
        return self._fingerprint()

    def save_base(self, name: str, keep: Iterable[str]) -> Base:
        """Copy the database, synced with its name; the log must be empty. Bases not named in `keep` go before."""
        for file in self._folder.glob("base-*"):
            if file.name not in keep:
                file.unlink()
        place = self._folder / f"base-{name}"
        digest = _copy(self._path, place)
        _sync(place)
        _sync(self._folder)
        return Base(file=place.name, digest=digest)

    def _restore(self, base: Base) -> None:
        found = _copy(self._folder / base.file, self._path)
        if found != base.digest:
            raise Differs(f"{base.file} has the hash {found}, not {base.digest}")

    def _set_aside(self) -> None:
        """Move the files into a folder; the newest of these stay as evidence."""
        files = self._files()
        if not files:
            return
        kept = sorted(self._folder.glob("broken-*"), key=lambda place: int(place.name.partition("-")[2]))
        number = int(kept[-1].name.partition("-")[2]) + 1 if kept else 1
        place = self._folder / f"broken-{number}"
        place.mkdir()
        for file in files:
            file.rename(place / file.name)
        for old in [*kept, place][:-_EVIDENCE_MAX]:
            shutil.rmtree(old)

    def _files(self) -> list[Path]:
        return sorted(file for file in self._folder.glob(f"{self._path.name}*") if file.is_file())

    def _fingerprint(self) -> str:
        hashed = hashlib.blake2b(digest_size=16)
        for file in self._files():
            hashed.update(f"{file.name} {file.stat().st_size}\n".encode())
            with file.open("rb", buffering=0) as source:
                for data in _chunks(source.fileno()):
                    hashed.update(data)
        return hashed.hexdigest()


def _copy(source: Path, target: Path) -> str:
    """Copy by plain reads and writes, which a recording of file operations understands; return the hash."""
    hashed = hashlib.blake2b(digest_size=16)
    target.unlink(missing_ok=True)
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        for data in _chunks(reader.fileno()):
            hashed.update(data)
            left = memoryview(data)
            while left:
                left = left[os.write(writer.fileno(), left) :]
    return hashed.hexdigest()


def _chunks(descriptor: int) -> Iterable[bytes]:
    return itertools.takewhile(bool, iter(lambda: os.read(descriptor, _CHUNK), None))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
