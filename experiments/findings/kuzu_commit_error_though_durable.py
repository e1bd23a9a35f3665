"""A COMMIT of kuzu raises although the transaction is committed, when a reader is open and the log is due.

The automatic checkpoint runs within the COMMIT that fills the log. It waits for every open transaction to end, that of
a reader too, gives up after some seconds, and its exception comes out of COMMIT. The row is there. A program that takes
the exception at its word does the work again.
"""

from pathlib import Path

from chaos import Finding, KnownDefect


def steps(folder: Path, tell) -> None:
    """Commit while somebody reads."""
    import kuzu

    database = kuzu.Database(
        str(folder / "graph.db"), buffer_pool_size=64 * 1024**2, max_db_size=256 * 1024**2, checkpoint_threshold=2000
    )
    writer, reader = kuzu.Connection(database), kuzu.Connection(database)
    writer.execute("CREATE NODE TABLE Entry(id INT64, text STRING, PRIMARY KEY(id))")
    reader.execute("BEGIN TRANSACTION READ ONLY")
    reader.execute("MATCH (e:Entry) RETURN e.id")
    writer.execute("BEGIN TRANSACTION")
    writer.execute("CREATE (:Entry {id: 1, text: $text})", {"text": "x" * 3000})
    try:
        writer.execute("COMMIT")
    except RuntimeError as error:
        reader.execute("COMMIT")
        rows = reader.execute("MATCH (e:Entry) RETURN e.id").get_all()
        assert not rows, f"COMMIT raised, and the row is there: {error}"


EXPERIMENT = Finding(
    id="kuzu-commit-error-though-durable",
    hypothesis="A COMMIT that raises has not committed.",
    tags=("graph", "kuzu", "slow"),
    subject="kuzu",
    steps=steps,
    expect=KnownDefect(
        outcome="wrong answer",
        says="COMMIT raised, and the row is there: Timeout waiting for active transactions",
        versions=("0.11.3",),
        reason="The automatic checkpoint's failure is reported as that of the COMMIT.",
    ),
)
