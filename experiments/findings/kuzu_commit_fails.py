"""After a COMMIT that failed, because the disk did, kuzu shows the row that failed and hides one that was acknowledged.

One error of the disk at the log, at its sync or because there is no room, and COMMIT raises, as it must. The rollback
behind it takes the row out of the table only in part: the next commits are told as good, yet rows are shifted, so the
failed one is seen and the last acknowledged one is not. A checkpoint after that aborts the process in every other run,
because the heap is damaged too. Opening anew helps as long as no checkpoint has run.
"""

from pathlib import Path

from chaos import Finding, KnownDefect, faults, trials

FAILS, LAST = 3, 6


def opened(folder: Path) -> tuple[object, object]:
    """Return the database and a connection; the caller holds both, so that nothing is closed on the way."""
    import kuzu

    database = kuzu.Database(
        str(folder / "graph.db"),
        buffer_pool_size=64 * 1024**2,
        max_db_size=256 * 1024**2,
        max_num_threads=1,
        auto_checkpoint=False,
    )
    return database, kuzu.Connection(database)


def steps(folder: Path, tell) -> None:
    """Commit some rows, one of them while the disk fails; then look."""
    _database, connection = opened(folder)
    connection.execute("CREATE NODE TABLE Entry(id INT64, PRIMARY KEY(id))")
    acknowledged = set()
    for number in range(1, LAST + 1):
        tell.phase("failing" if number == FAILS else "working")
        tell.begin(str(number))
        connection.execute("BEGIN TRANSACTION")
        connection.execute("CREATE (:Entry {id: $id})", {"id": number})
        try:
            connection.execute("COMMIT")
        except RuntimeError:
            continue
        acknowledged.add(number)
        tell.acknowledged(str(number))
    seen = {number for [number] in connection.execute("MATCH (e:Entry) RETURN e.id").get_all()}
    assert acknowledged <= seen, f"acknowledged are {sorted(acknowledged)}, and seen {sorted(seen)}"


def check(folder: Path) -> dict[str, bool]:
    """Read all rows."""
    _database, connection = opened(folder)
    return {str(number): True for [number] in connection.execute("MATCH (e:Entry) RETURN e.id").get_all()}


WRONG = {
    "outcome": "wrong answer",
    "says": f"acknowledged are [1, 2, 4, 5, {LAST}], and seen [1, 2, {FAILS}, 4, 5]",
    "versions": ("0.11.3",),
    "reason": "The rollback of a commit that failed leaves the row in the table.",
}

EXPERIMENTS = [
    Finding(
        id="kuzu-commit-sync-fails",
        hypothesis="After a commit whose sync failed, every acknowledged row can be read.",
        tags=("graph", "kuzu", "error"),
        subject="kuzu",
        steps=steps,
        check=check,
        trial=trials.Faulted(during="failing", fault=faults.DiskError("kuzu", call="sync", path="*.wal")),
        expect=KnownDefect(**WRONG),
    ),
    Finding(
        id="kuzu-commit-disk-full",
        hypothesis="After a commit that found the disk full, every acknowledged row can be read.",
        tags=("graph", "kuzu", "error"),
        subject="kuzu",
        steps=steps,
        check=check,
        trial=trials.Faulted(during="failing", fault=faults.DiskFull("kuzu", budget_bytes=20, path="*.wal")),
        expect=KnownDefect(**WRONG),
    ),
]
