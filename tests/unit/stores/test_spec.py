from __future__ import annotations

import json

import pytest

from chaos import stores
from chaos.stores.pool_model import PoolSettings


def test_defaults_have_no_problems() -> None:
    """Each store as declared without arguments is right."""
    assert [list(spec.problems()) for spec in (stores.SQLite(), stores.Redis(), stores.Graph())] == [[], [], []]


def test_config_is_plain_json_with_the_name() -> None:
    """What a store tells about itself survives JSON and holds no place in a file."""
    specs = (stores.SQLite(readers=3), stores.Redis(appendfsync="no"), stores.Graph(engine="ladybug"))
    configs = [spec.to_config() for spec in specs]
    assert (
        json.loads(json.dumps(configs))
        == configs
        == [
            {"name": "sqlite", "synchronous": "FULL", "readers": 3, "snapshots": 64},
            {"name": "redis", "appendfsync": "no"},
            {"name": "graph", "engine": "ladybug", "buffer_pool_mb": 64, "max_db_size_mb": 1024, "snapshots": 64},
        ]
    )


@pytest.mark.parametrize(
    ("spec", "slug"),
    [
        (stores.SQLite(synchronous="MAYBE"), "not-a-choice"),
        (stores.SQLite(readers=0), "out-of-range"),
        (stores.Redis(appendfsync="sometimes"), "not-a-choice"),
        (stores.Graph(engine="paper"), "not-a-choice"),
        (stores.Graph(buffer_pool_mb=1), "out-of-range"),
        (stores.Graph(max_db_size_mb=1000), "not-a-power-of-two"),
        (stores.Graph(snapshots=0), "out-of-range"),
        (stores.Redis(pool=8), "not-a-pool"),  # type: ignore[arg-type]
        (stores.Redis(pool=stores.Pool(max_size=0)), "out-of-range"),
        (stores.Redis(pool=stores.Pool(min_size=9)), "pool-min-exceeds-max"),
        (stores.Redis(pool=stores.Pool(max_size=2, reserved=2)), "pool-all-reserved"),
        (stores.Redis(pool=stores.Pool(policy="fifo")), "not-a-choice"),
        (stores.Redis(pool=stores.Pool(acquire_timeout="soon")), "not-a-time"),
        (stores.SQLite(pool=stores.Pool(min_size=0)), "out-of-range"),
    ],
)
def test_a_bad_setting_is_told_with_its_place(spec: stores.StoreSpec, slug: str) -> None:
    """One problem, at the line where the store was declared, with the slug of the mistake."""
    [problem] = spec.problems()
    assert (problem.slug, problem.file, problem.line > 0) == (slug, __file__, True)


def test_a_pool_reaches_the_client_as_it_was_declared() -> None:
    """What is declared, through JSON and back, is what a pool of the same settings has."""
    declared = stores.Pool(min_size=1, max_size=5, reserved=2, growth=3, policy="round-robin", lifetime="2m")
    config = json.loads(json.dumps(stores.Redis(pool=declared).to_config()["pool"]))
    assert PoolSettings.from_config(config) == PoolSettings(1, 5, 2, 3, "round-robin", 1.0, 60.0, 120.0, 30.0)
