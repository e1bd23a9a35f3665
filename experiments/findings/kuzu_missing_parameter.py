"""A query whose parameter is not given returns every row, where kuzu ought to refuse it.

`MATCH (e:Entry) WHERE e.id = $id` without a value for $id is no error, and the condition counts as true for all rows.
What follows it, a SET or a DELETE, does so to all of them.
"""

from pathlib import Path

from chaos import Finding, KnownDefect


def steps(folder: Path, tell) -> None:
    """Ask for one row, and forget to say which."""
    import kuzu

    database = kuzu.Database(str(folder / "graph.db"), buffer_pool_size=64 * 1024**2, max_db_size=256 * 1024**2)
    connection = kuzu.Connection(database)
    connection.execute("CREATE NODE TABLE Entry(id INT64, PRIMARY KEY(id))")
    connection.execute("CREATE (:Entry {id: 1}), (:Entry {id: 2})")
    try:
        rows = connection.execute("MATCH (e:Entry) WHERE e.id = $id RETURN e.id", {}).get_all()
    except RuntimeError:
        return  # refused, as it ought to be
    assert not rows, f"$id is not given, and {len(rows)} of 2 rows are found"


EXPERIMENT = Finding(
    id="kuzu-missing-parameter",
    hypothesis="A query whose parameter is not given finds nothing, or is refused.",
    tags=("graph", "kuzu"),
    subject="kuzu",
    steps=steps,
    expect=KnownDefect(
        outcome="wrong answer",
        says="2 of 2 rows are found",
        versions=("0.11.3",),
        reason="A parameter without a value is not noticed.",
    ),
)
