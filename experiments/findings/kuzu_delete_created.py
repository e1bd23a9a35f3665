"""A relationship that is deleted in the transaction which created it is still there after the commit.

The transaction creates two relationships, the first at a node of its own, and deletes the second. There is a database
file already, which a checkpoint has written. The commit succeeds, and the second relationship has come to stay.
"""

from pathlib import Path

from chaos import Finding, KnownDefect


def steps(folder: Path, tell) -> None:
    """Create, checkpoint, then create two and delete one in one transaction."""
    import kuzu

    database = kuzu.Database(str(folder / "graph.db"), buffer_pool_size=64 * 1024**2, max_db_size=256 * 1024**2)
    connection = kuzu.Connection(database)
    connection.execute("CREATE NODE TABLE Entry(id INT64, PRIMARY KEY(id))")
    connection.execute("CREATE REL TABLE Next(FROM Entry TO Entry, id INT64)")

    def link(number: int, source: int, target: int) -> None:
        connection.execute(
            f"MATCH (a:Entry {{id: {source}}}), (b:Entry {{id: {target}}}) CREATE (a)-[:Next {{id: {number}}}]->(b)"
        )

    for number in (1, 2, 3, 4):
        connection.execute(f"CREATE (:Entry {{id: {number}}})")
    link(1, 1, 2)
    link(2, 2, 3)
    connection.execute("CHECKPOINT")
    connection.execute("BEGIN TRANSACTION")
    connection.execute("CREATE (:Entry {id: 5})")
    link(3, 5, 1)
    link(4, 3, 4)
    connection.execute("MATCH (:Entry)-[n:Next {id: 4}]->(:Entry) DELETE n")
    connection.execute("COMMIT")
    found = sorted(
        number for (number,) in connection.execute("MATCH (:Entry)-[n:Next]->(:Entry) RETURN n.id").get_all()
    )
    assert found == [1, 2, 3], f"4 was deleted before the commit, and {found} are there"


EXPERIMENT = Finding(
    id="kuzu-delete-created",
    hypothesis="What a transaction has deleted is not there after its commit.",
    tags=("graph", "kuzu"),
    subject="kuzu",
    steps=steps,
    expect=KnownDefect(
        outcome="wrong answer",
        says="4 was deleted before the commit, and [1, 2, 3, 4] are there",
        versions=("0.11.3",),
        reason="The deletion of a relationship that is not committed yet misses it.",
    ),
)
