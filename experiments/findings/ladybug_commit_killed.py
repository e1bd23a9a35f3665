"""A process that is killed while it commits leaves a database that ladybug does not open any more.

A transaction reaches the log in several writes as soon as it takes more than 4 KiB. Whatever ends the process between
two of them, the next opening finds half a transaction that nobody was promised, and refuses the whole database because
of it: `throw_on_wal_replay_failure` is True in the Python package. With False it cuts such a log and loses nothing.
With a long text in that transaction, though, there is a place at which the opening is a segmentation fault, with the
flag and without.
"""

import functools
from pathlib import Path

from chaos import Finding, KnownDefect, trials

SHORT, LONG = ("x" * 20, 100), ("x" * 2500, 3)
"""A text and how many rows there are with it: together more than 4 KiB."""

TOLERANT = {"throw_on_wal_replay_failure": False}


def opened(settings: dict[str, bool], folder: Path) -> tuple[object, object]:
    """Return the database and a connection; the caller holds both, so that nothing is closed on the way."""
    import ladybug

    database = ladybug.Database(
        str(folder / "graph.db"),
        buffer_pool_size=64 * 1024**2,
        max_db_size=256 * 1024**2,
        max_num_threads=1,
        auto_checkpoint=False,
        **settings,
    )
    return database, ladybug.Connection(database)


def steps(settings: dict[str, bool], text: str, count: int, folder: Path, tell) -> None:
    """Commit one row, then several together while somebody kills."""
    _database, connection = opened(settings, folder)
    tell.begin("first")
    connection.execute("CREATE NODE TABLE Entry(id INT64, text STRING, PRIMARY KEY(id))")
    connection.execute("CREATE (:Entry {id: 0, text: 'first'})")
    tell.acknowledged("first")
    tell.begin("second")
    connection.execute("BEGIN TRANSACTION")
    for number in range(1, count + 1):
        connection.execute("CREATE (:Entry {id: $id, text: $text})", {"id": number, "text": text})
    tell.phase("commit")
    connection.execute("COMMIT")
    tell.acknowledged("second")
    tell.phase("done")


def check(settings: dict[str, bool], text: str, count: int, folder: Path) -> dict[str, bool]:
    """Read all rows."""
    _database, connection = opened(settings, folder)
    rows = sorted(connection.execute("MATCH (e:Entry) RETURN e.id, e.text").get_all())
    found = {"first": rows[:1] == [[0, "first"]]}
    if rows[1:]:
        found["second"] = rows[1:] == [[number, text] for number in range(1, count + 1)]
    return found


EXPERIMENTS = [
    Finding(
        id="ladybug-commit-killed",
        hypothesis="A database opens again, with all that was acknowledged, after a kill in the middle of a commit.",
        tags=("graph", "ladybug", "crash"),
        subject="ladybug",
        steps=functools.partial(steps, {}, *SHORT),
        check=functools.partial(check, {}, *SHORT),
        trial=trials.Crash(during="commit"),
        expect=KnownDefect(
            outcome="refuses to open",
            says="Checksum verification failed, the WAL file is corrupted",
            versions=("0.22.0",),
            reason="An incomplete transaction at the end of the log counts as damage, by default.",
        ),
    ),
    Finding(
        id="ladybug-commit-killed-long-text",
        hypothesis="A tolerant database opens again after a kill in the middle of the commit of long texts.",
        tags=("graph", "ladybug", "crash"),
        subject="ladybug",
        steps=functools.partial(steps, TOLERANT, *LONG),
        check=functools.partial(check, TOLERANT, *LONG),
        trial=trials.Crash(during="commit"),
        expect=KnownDefect(
            outcome="crashes",
            says="SIGSEGV",
            versions=("0.22.0",),
            reason="The replay reads on in a text whose end is not in the log.",
        ),
    ),
]
