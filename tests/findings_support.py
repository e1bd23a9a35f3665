"""Findings with planted defects: a store of two small files that can be made wrong in several ways."""

from __future__ import annotations

import importlib.metadata

REDIS_PY = importlib.metadata.version("redis")
"""The version of the subject that the planted findings claim to be about: something that is always installed."""

UNDISTURBED = """
def steps(folder, tell):
    {steps}


CHECK = None
"""

STORE = '''
import os

SOUND = {sound}
TEXT = (b"1" * 600, b"2" * 600)  # more than a sector, so that each may tear


def put(folder, name, *parts):
    """Write a file; a sound store does so beside it, syncs, and renames."""
    beside = folder / (name + ".new") if SOUND else folder / name
    with beside.open("wb", buffering=0) as file:
        for part in parts:
            file.write(part)
        if SOUND:
            os.fsync(file.fileno())
    if SOUND:
        os.rename(beside, folder / name)
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def steps(folder, tell):
    tell.begin("first")
    put(folder, "first", *TEXT)
    tell.acknowledged("first")
    tell.phase("writing")
    tell.begin("second")
    try:
        put(folder, "second", *TEXT)
    except OSError:
        tell.aborted("second")
        if not SOUND:
            os.unlink(folder / "first")
            (folder / "broken").touch()
    else:
        tell.acknowledged("second")
    tell.phase("done")


def check(folder):
    if (folder / "broken").exists():
        raise OSError("it is broken")
    if (folder / "recovering").exists() and not SOUND:
        raise AssertionError("a recovery was cut short")
    (folder / "recovering").touch()
    found = {{name: (folder / name).read_bytes() for name in ("first", "second") if (folder / name).exists()}}
    (folder / "recovering").unlink()
    return {{name: text == b"".join(TEXT) for name, text in found.items()}}


CHECK = check
'''

FINDING = """
from chaos import Finding, KnownDefect, faults, trials

EXPERIMENT = Finding(
    id="planted",
    hypothesis="It holds.",
    subject="redis-py",
    steps=steps,
    check=CHECK,
    trial={trial},
    limit={limit!r},
    expect=KnownDefect(
        outcome={outcome!r}, says={says!r}, also={also!r}, versions=({version!r},), reason="It was planted."
    ),
)
"""
_BESIDE = ("partial transaction", "acknowledged data lost")


def planted(
    *,
    steps: str | None = None,
    trial: str = "trials.PowerLoss(during='writing')",
    outcome: str = "wrong answer",
    says: str = "",
    version: str = REDIS_PY,
    limit: str = "10s",
    sound: bool = False,
) -> str:
    """Return the text of a file. With `steps` these alone are done, undisturbed; else a small store is put to `trial`."""
    if steps is not None:
        head, trial = UNDISTURBED.format(steps=steps), "trials.Undisturbed()"
    else:
        head = STORE.format(sound=sound)
    also = () if sound or steps is not None else _BESIDE
    return head + FINDING.format(trial=trial, outcome=outcome, says=says, also=also, version=version, limit=limit)
