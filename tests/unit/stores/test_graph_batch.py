from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chaos.stores.graph_batch import merged
from chaos.stores.graph_engine import Statement

NODE = "CREATE (:T {id: $id, v: $v})"
EDGE = "MATCH (a:T {id: $id}), (b:T {id: $v}) CREATE (a)-[:R]->(b)"


def statement(cypher: str, identity: Any, value: Any) -> Statement:
    """Return one statement."""
    return cypher, {"id": identity, "v": value}


def test_only_runs_of_equal_node_creations_are_put_together() -> None:
    """What looks at something, other types and short runs stay as they are, and everything keeps its order."""
    nodes = [statement(NODE, n, "x") for n in range(4)]
    edge, other = statement(EDGE, 1, 2), statement(NODE, 9, None)
    found = merged([*nodes, edge, *nodes[:2], other, other, other])
    assert found == [
        (
            "UNWIND range(1, size($id)) AS chaos_row CREATE (:T {id: $id[chaos_row], v: $v[chaos_row]})",
            {"id": [0, 1, 2, 3], "v": ["x"] * 4},
        ),
        edge,
        *nodes[:2],
        *[other] * 3,
    ]
    assert merged([]) == []


@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=pytest.mark.requires(name)) for name in ("kuzu", "ladybug")]
)
def test_both_engines_do_the_same(tmp_path: Path, engine: str) -> None:
    """Put together or one by one, the same rows are there."""
    import subprocess
    import sys

    text = f"""
from pathlib import Path
from chaos.stores.graph_batch import merged
from chaos.stores.graph_engine import GraphEngine
engine = GraphEngine({engine!r}, Path({str(tmp_path / "g.db")!r}), buffer_pool_mb=64, max_db_size_mb=256)
engine.run("CREATE NODE TABLE T(id INT64, v STRING, f DOUBLE, b BOOL, PRIMARY KEY(id))", {{}})
rows = [("CREATE (:T {{id: $id, v: $v, f: $f, b: $b}})", dict(id=n, v=f"x{{n}}", f=n / 2, b=n % 2 == 0)) for n in range(70)]
assert len(merged(rows)) == 1
engine.transact(merged(rows))
found = engine.run("MATCH (t:T) RETURN t.id, t.v, t.f, t.b ORDER BY t.id", {{}})
assert found == [[n, f"x{{n}}", n / 2, n % 2 == 0] for n in range(70)], found
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
