"""Two Database objects of one process on one file: both engines allow it, and what one of them committed is lost.

The lock on the file keeps other processes away, and not the one that holds it (fcntl(2) locks belong to the process).
The manuals forbid a second object that writes; nothing refuses it. Each then has its own idea of the data, both
acknowledge commits, and the one that is closed last wins.
"""

import functools
import importlib
from pathlib import Path

from chaos import Finding, KnownDefect

SETTINGS = {"buffer_pool_size": 64 * 1024**2, "max_db_size": 256 * 1024**2, "max_num_threads": 1}
VERSIONS = {"kuzu": "0.11.3", "ladybug": "0.22.0"}


def steps(engine_name: str, folder: Path, tell) -> None:
    """Commit through both, close both, and read."""
    engine = importlib.import_module(engine_name)
    path = str(folder / "graph.db")
    first = engine.Database(path, **SETTINGS)
    one = engine.Connection(first)
    one.execute("CREATE NODE TABLE Entry(id INT64, PRIMARY KEY(id))")
    try:
        second = engine.Database(path, **SETTINGS)
    except RuntimeError:
        return  # refused, as it ought to be
    other = engine.Connection(second)
    one.execute("CREATE (:Entry {id: 1})")
    other.execute("CREATE (:Entry {id: 2})")
    for one_of_them in (one, first, other, second):
        one_of_them.close()
    last = engine.Connection(engine.Database(path, **SETTINGS))
    rows = sorted(number for [number] in last.execute("MATCH (e:Entry) RETURN e.id").get_all())
    assert rows == [1, 2], f"1 and 2 were committed, and {rows} is there"


EXPERIMENTS = [
    Finding(
        id=f"{name}-second-database",
        hypothesis="A second Database on the same file is refused, or sees and keeps what the first one commits.",
        tags=("graph", name),
        subject=name,
        steps=functools.partial(steps, name),
        expect=KnownDefect(
            outcome="wrong answer",
            says="1 and 2 were committed, and",
            versions=(version,),
            reason="The file's lock does not hold against the process that has it.",
        ),
    )
    for name, version in VERSIONS.items()
]
