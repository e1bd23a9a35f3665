"""A checkpoint that is interrupted leaves a database that kuzu cannot open any more.

The second checkpoint of a table writes pages of the primary key's index where they lie, before its record in the log
says that it is done. A process that ends in between, by SIGKILL or by itself, leaves an index which knows keys that the
log has yet to put in. The next opening replays the log, finds its own keys, and takes them for duplicates.

The least that shows it: a checkpoint with a few rows, some more rows, a second checkpoint.
"""

from pathlib import Path

from chaos import Finding, KnownDefect, trials

FEW, MORE = 3, 60


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
    """Fill, checkpoint, fill on, and checkpoint while somebody kills."""
    _database, connection = opened(folder)
    tell.begin("few")
    connection.execute("CREATE NODE TABLE Entry(id INT64, PRIMARY KEY(id))")
    connection.execute(f"UNWIND range(1, {FEW}) AS id CREATE (:Entry {{id: id}})")
    tell.acknowledged("few")
    connection.execute("CHECKPOINT")
    tell.begin("more")
    connection.execute(f"UNWIND range({FEW + 1}, {FEW + MORE}) AS id CREATE (:Entry {{id: id}})")
    tell.acknowledged("more")
    tell.phase("checkpoint")
    connection.execute("CHECKPOINT")
    tell.phase("done")


def check(folder: Path) -> dict[str, bool]:
    """Read all rows."""
    _database, connection = opened(folder)
    rows = sorted(number for [number] in connection.execute("MATCH (e:Entry) RETURN e.id").get_all())
    return {"few": rows[:FEW] == [*range(1, FEW + 1)], "more": rows == [*range(1, FEW + MORE + 1)]}


EXPERIMENT = Finding(
    id="kuzu-checkpoint-killed",
    hypothesis="A database whose checkpoint was killed opens again with every acknowledged row.",
    tags=("graph", "kuzu", "crash"),
    subject="kuzu",
    steps=steps,
    check=check,
    trial=trials.Crash(during="checkpoint", looks=80),
    expect=KnownDefect(
        outcome="refuses to open",
        says="Found duplicated primary key value",
        versions=("0.11.3",),
        reason="The checkpoint changes pages of the index in place before it is decided, and the log is then replayed.",
    ),
)
