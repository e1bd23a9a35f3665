"""DETACH DELETE leaves a relationship behind, which leads to the node that is gone.

The node has a relationship to itself, and another node points to it. After the deletion a query that asks for the
relationship alone finds one, and count(*) counts it; with the nodes at its ends it is not there.
"""

from pathlib import Path

from chaos import Finding, KnownDefect


def steps(folder: Path, tell) -> None:
    """Delete a node that points to itself and is pointed to, then look for relationships."""
    import kuzu

    database = kuzu.Database(str(folder / "graph.db"), buffer_pool_size=64 * 1024**2, max_db_size=256 * 1024**2)
    connection = kuzu.Connection(database)
    connection.execute("CREATE NODE TABLE Entry(id INT64, PRIMARY KEY(id))")
    connection.execute("CREATE REL TABLE Next(FROM Entry TO Entry, id INT64)")
    connection.execute("CREATE (:Entry {id: 1})")
    connection.execute("MATCH (a:Entry {id: 1}) CREATE (a)-[:Next {id: 1}]->(a)")
    connection.execute("CREATE (:Entry {id: 2})")
    connection.execute("MATCH (a:Entry {id: 2}), (b:Entry {id: 1}) CREATE (a)-[:Next {id: 2}]->(b)")
    connection.execute("MATCH (e:Entry {id: 1}) DETACH DELETE e")
    with_ends = connection.execute("MATCH (a:Entry)-[n:Next]->(b:Entry) RETURN n.id, a.id, b.id").get_all()
    alone = connection.execute("MATCH (:Entry)-[n:Next]->(:Entry) RETURN n.id").get_all()
    assert len(alone) == len(with_ends), f"{len(alone)} relationships are left, and {len(with_ends)} have two ends"


EXPERIMENT = Finding(
    id="kuzu-dangling",
    hypothesis="A node is deleted with all its relationships.",
    tags=("graph", "kuzu"),
    subject="kuzu",
    steps=steps,
    expect=KnownDefect(
        outcome="wrong answer",
        says="1 relationships are left, and 0 have two ends",
        versions=("0.11.3",),
        reason="Of the relationships of a node that points to itself one is passed over.",
    ),
)
