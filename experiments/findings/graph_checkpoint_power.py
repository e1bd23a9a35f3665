"""A checkpoint declares itself done before its pages are on the disk, and a loss of power then ruins the database.

Both engines write new pages straight into the database file, sync their shadow file and the log, and with that the
checkpoint counts as decided. Nobody has synced the database file. When power goes right after, the log says that all is
in the database, and there are pages missing: rows turn into others, into zeros, or are not found.
"""

import functools
import importlib
from pathlib import Path

from chaos import Finding, KnownDefect, trials

VERSIONS = {"kuzu": "0.11.3", "ladybug": "0.22.0"}
SETTINGS = {
    "buffer_pool_size": 64 * 1024**2,
    "max_db_size": 256 * 1024**2,
    "max_num_threads": 1,
    "auto_checkpoint": False,
}
ROWS = [(number, f"row {number}") for number in range(1, 9)]


def opened(engine_name: str, folder: Path) -> tuple[object, object]:
    """Return the database and a connection; the caller holds both, so that nothing is closed on the way."""
    engine = importlib.import_module(engine_name)
    database = engine.Database(str(folder / "graph.db"), **SETTINGS)
    return database, engine.Connection(database)


def steps(engine_name: str, folder: Path, tell) -> None:
    """Commit a few rows, and checkpoint while the power goes."""
    _database, connection = opened(engine_name, folder)
    tell.begin("rows")
    connection.execute("CREATE NODE TABLE Entry(id INT64, name STRING, PRIMARY KEY(id))")
    connection.execute("BEGIN TRANSACTION")
    for number, name in ROWS:
        connection.execute("CREATE (:Entry {id: $id, name: $name})", {"id": number, "name": name})
    connection.execute("COMMIT")
    tell.acknowledged("rows")
    tell.phase("checkpoint")
    connection.execute("CHECKPOINT")
    tell.phase("done")


def check(engine_name: str, folder: Path) -> dict[str, bool]:
    """Read all rows, and each by its key."""
    _database, connection = opened(engine_name, folder)
    if not connection.execute("CALL show_tables() RETURN name").get_all():
        return {}
    rows = sorted(connection.execute("MATCH (e:Entry) RETURN e.id, e.name").get_all())
    assert rows == [list(row) for row in ROWS], f"the rows are {rows[:3]} ..."
    for number, name in ROWS:
        found = connection.execute("MATCH (e:Entry {id: $id}) RETURN e.name", {"id": number}).get_all()
        assert found == [[name]], f"the key {number} finds {found[:3]}"
    return {"rows": True}


EXPERIMENTS = [
    Finding(
        id=f"{name}-checkpoint-power",
        hypothesis="A database whose machine lost power during a checkpoint holds every acknowledged row.",
        tags=("graph", name, "power"),
        subject=name,
        steps=functools.partial(steps, name),
        check=functools.partial(check, name),
        trial=trials.PowerLoss(during="checkpoint", after="sync *.wal", looks=50),
        expect=KnownDefect(
            outcome="corrupted",
            # What a folder that is never synced loses by name is a documented limit, and may show beside it.
            also=("refuses to open", "acknowledged data lost"),
            versions=(version,),
            reason="The new pages of the database file are not synced before the checkpoint is decided.",
        ),
    )
    for name, version in VERSIONS.items()
]
