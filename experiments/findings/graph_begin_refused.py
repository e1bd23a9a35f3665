"""After a BEGIN that was refused, because another connection writes, the next MATCH ends the process.

Both engines allow one write transaction at a time, and say so with an exception. The connection that got it looks
usable. It is not: its next statement that touches a table is a segmentation fault, which takes the whole program along.
"""

import functools
import importlib
from pathlib import Path

from chaos import Finding, KnownDefect

SMALL = {"buffer_pool_size": 64 * 1024**2, "max_db_size": 256 * 1024**2}
VERSIONS = {"kuzu": "0.11.3", "ladybug": "0.22.0"}


def steps(engine_name: str, folder: Path, tell: object) -> None:
    """Let one connection write, let another one's BEGIN be refused, and read with that one."""
    engine = importlib.import_module(engine_name)
    database = engine.Database(str(folder / "graph.db"), **SMALL)
    writer, other = engine.Connection(database), engine.Connection(database)
    writer.execute("CREATE NODE TABLE Entry(id INT64, PRIMARY KEY(id))")
    writer.execute("CREATE (:Entry {id: 1})")
    writer.execute("BEGIN TRANSACTION")
    writer.execute("CREATE (:Entry {id: 2})")
    try:
        other.execute("BEGIN TRANSACTION")
    except RuntimeError as error:
        assert "Only one write transaction" in str(error), error
    [[count]] = other.execute("MATCH (e:Entry) RETURN count(*)").get_all()
    assert count == 1, f"{count} entries, and 1 was committed"


EXPERIMENTS = [
    Finding(
        id=f"{name}-begin-refused",
        hypothesis="A connection whose BEGIN was refused can go on reading.",
        tags=("graph", name),
        subject=name,
        steps=functools.partial(steps, name),
        expect=KnownDefect(
            outcome="crashes",
            says="SIGSEGV",
            versions=(version,),
            reason="The refused BEGIN leaves the connection without a transaction, and the next statement uses one.",
        ),
    )
    for name, version in VERSIONS.items()
]
