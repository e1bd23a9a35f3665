"""After the rollback of an update kuzu refuses updates, because of a conflict with nobody.

One connection, one transaction at a time. A few updates that are committed or rolled back, and then every one ends in
"Write-write conflict of updating the same row": the traces of the rolled-back ones are not all taken away.
"""

from pathlib import Path

from chaos import Finding, KnownDefect

ROUNDS = 5


def steps(folder: Path, tell) -> None:
    """Roll an update back and commit two, over and over."""
    import kuzu

    database = kuzu.Database(
        str(folder / "graph.db"), buffer_pool_size=64 * 1024**2, max_db_size=256 * 1024**2, max_num_threads=1
    )
    connection = kuzu.Connection(database)
    connection.execute("CREATE NODE TABLE Entry(id INT64, value INT64, PRIMARY KEY(id))")
    connection.execute("CREATE (:Entry {id: 1, value: 0})")
    connection.execute("CREATE (:Entry {id: 2, value: 0})")

    def update(number: int, value: int) -> None:
        try:
            connection.execute(f"MATCH (e:Entry {{id: {number}}}) SET e.value = {value}")
        except RuntimeError as error:
            raise AssertionError(f"{error} There is no other transaction.") from error

    for value in range(1, ROUNDS + 1):
        connection.execute("BEGIN TRANSACTION")
        update(1, value)
        connection.execute("ROLLBACK")
        connection.execute("BEGIN TRANSACTION")
        update(2, value)
        update(1, value)
        connection.execute("COMMIT")


EXPERIMENT = Finding(
    id="kuzu-rollback-update",
    hypothesis="Updates of a single connection never conflict.",
    tags=("graph", "kuzu"),
    subject="kuzu",
    steps=steps,
    expect=KnownDefect(
        outcome="wrong answer",
        says="Write-write conflict of updating the same row",
        versions=("0.11.3",),
        reason="The rollback leaves a part of the update's version behind.",
    ),
)
