"""Killed once during a checkpoint and once more while it recovers, and kuzu never opens that database again.

A checkpoint that is decided is brought to its end by the next opening: it copies the shadow pages into the database,
deletes the shadow file, and then the log. A second crash between the two deletions leaves a log that orders a copy from
a file which is no longer there.
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


KEPT: list[object] = []
"""What must stay open until the process ends, so that nothing but the opening itself writes."""


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
    """Open, which recovers, and read all rows."""
    _database, connection = opened(folder)
    KEPT.append(_database)
    KEPT.append(connection)
    rows = sorted(number for [number] in connection.execute("MATCH (e:Entry) RETURN e.id").get_all())
    return {"few": rows[:FEW] == [*range(1, FEW + 1)], "more": rows == [*range(1, FEW + MORE + 1)]}


EXPERIMENT = Finding(
    id="kuzu-recovery-killed",
    hypothesis="A recovery that was killed is taken up again by the next one.",
    tags=("graph", "kuzu", "crash"),
    subject="kuzu",
    steps=steps,
    check=check,
    # From the moment on at which the checkpoint is decided: every state recovers, and does so by copying.
    trial=trials.Crash(during="checkpoint", after="sync *.wal", again=True, first=1, looks=60),
    expect=KnownDefect(
        outcome="refuses to open",
        says="graph.db.shadow: No such file or directory",
        versions=("0.11.3",),
        reason="The recovery deletes the shadow file before the log that orders to copy from it.",
    ),
)
