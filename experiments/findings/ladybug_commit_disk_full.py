"""After a COMMIT that found the disk full, the next commit of ladybug waits for ever.

COMMIT raises, as it must. It holds on, though, to the role of the leader that writes for all who commit at that moment,
and whoever commits next waits for it to be done. It never is. There is no time limit, and no thread that could end it.
"""

from pathlib import Path

from chaos import Finding, KnownDefect, faults, trials


def opened(folder: Path) -> tuple[object, object]:
    """Return the database and a connection; the caller holds both, so that nothing is closed on the way."""
    import ladybug

    database = ladybug.Database(
        str(folder / "graph.db"), buffer_pool_size=64 * 1024**2, max_db_size=256 * 1024**2, auto_checkpoint=False
    )
    return database, ladybug.Connection(database)


def steps(folder: Path, tell) -> None:
    """Commit a row, fail to commit another, and commit one more."""
    _database, connection = opened(folder)
    tell.begin("1")
    connection.execute("CREATE NODE TABLE Entry(id INT64, PRIMARY KEY(id))")
    connection.execute("CREATE (:Entry {id: 1})")
    tell.acknowledged("1")
    tell.phase("disk is full")
    tell.begin("2")
    try:
        connection.execute("CREATE (:Entry {id: 2})")
    except RuntimeError:
        tell.phase("disk has room again")
    tell.begin("3")
    connection.execute("CREATE (:Entry {id: 3})")
    tell.acknowledged("3")


def check(folder: Path) -> dict[str, bool]:
    """Read all rows."""
    _database, connection = opened(folder)
    return {str(number): True for [number] in connection.execute("MATCH (e:Entry) RETURN e.id").get_all()}


EXPERIMENT = Finding(
    id="ladybug-commit-disk-full",
    hypothesis="When there is room on the disk again, the next commit succeeds or fails.",
    tags=("graph", "ladybug", "error"),
    subject="ladybug",
    steps=steps,
    check=check,
    limit="5s",
    trial=trials.Faulted(during="disk is full", fault=faults.DiskFull("ladybug", path="*.wal")),
    expect=KnownDefect(
        outcome="hangs",
        versions=("0.22.0",),
        reason="The leader of a group commit is not released when its write fails.",
    ),
)
