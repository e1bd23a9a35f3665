"""A transaction that the disk kept only in part is taken for whole by kuzu, with zeros in the place of the rest.

The log has no checksum. A commit of more than a sector may reach the disk without its middle when power goes, since
nothing orders the sectors of one write. The record that ends it is there, so kuzu replays it, and what was text is
zeros. Nobody was promised this transaction, but then it must be whole or absent.
"""

from pathlib import Path

from chaos import Finding, KnownDefect, trials

TEXT = "0123456789abcdef" * 375
"""Two writes of the log: the second begins in the middle of the text, and ends with the record that commits."""


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
    """Commit a long text while the power goes."""
    _database, connection = opened(folder)
    tell.begin("table")
    connection.execute("CREATE NODE TABLE Entry(id INT64, text STRING, PRIMARY KEY(id))")
    tell.acknowledged("table")
    tell.begin("text")
    connection.execute("BEGIN TRANSACTION")
    connection.execute("CREATE (:Entry {id: 1, text: $text})", {"text": TEXT})
    tell.phase("commit")
    connection.execute("COMMIT")
    tell.acknowledged("text")
    tell.phase("done")


def check(folder: Path) -> dict[str, bool]:
    """Read the row, if there is one."""
    _database, connection = opened(folder)
    if not connection.execute("CALL show_tables() RETURN name").get_all():
        return {}
    rows = connection.execute("MATCH (e:Entry) RETURN e.id, e.text").get_all()
    return {"table": True, **({"text": rows == [[1, TEXT]]} if rows else {})}


EXPERIMENT = Finding(
    id="kuzu-commit-torn",
    hypothesis="A transaction that was being committed when power went is whole or absent.",
    tags=("graph", "kuzu", "power"),
    subject="kuzu",
    steps=steps,
    check=check,
    trial=trials.PowerLoss(during="commit"),
    expect=KnownDefect(
        outcome="partial transaction",
        # What a folder that is never synced loses by name is a documented limit, and may show beside it.
        also=("refuses to open", "acknowledged data lost"),
        versions=("0.11.3",),
        reason="The records of the log carry no checksum.",
    ),
)
