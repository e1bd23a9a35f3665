"""The failure catalogue: it has every cell, and some of its cells, which a fixed seed chooses, end as declared."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from chaos.experiment.loader import execute, load_file

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "experiments" / "nightly" / "catalogue.py"
SAMPLE_SEED = 1
SAMPLE_SIZE = 4

pytestmark = pytest.mark.timeout(320)


def _ids() -> list[str]:
    return [loaded.experiment.id for loaded in load_file(FILE)]


def test_damage_is_expected_to_be_told() -> None:
    """Each kind of damage comes with a kill, and nothing but the check of durability is expected to fail."""
    catalogue = execute(FILE)
    cells = [one for one in catalogue.EXPERIMENTS if "damage" in one.tags]
    assert len(cells) == 2 * len(catalogue.DAMAGE)
    for one in cells:
        assert one.expect.names == ("durable",)
        assert [fault.kind for rule in one.schedule for fault in rule.faults] == ["process.corrupt", "process.kill"]


def _sample() -> list[str]:
    """Return cells of each of our coordinators, and one of the control."""
    ids = _ids()
    rng = Random(SAMPLE_SEED)
    arms = ("redo", "epoxy")
    chosen = (name for arm in arms for name in rng.sample([one for one in ids if one.startswith(arm)], SAMPLE_SIZE))
    return [*chosen, "naive-redis-applied-16"]


def test_the_catalogue_has_every_cell() -> None:
    """Each fault with each number of clients, each pair, each fault in a recovery; at every step where it makes sense."""
    catalogue = execute(FILE)
    by_id = {experiment.id: experiment for experiment in catalogue.EXPERIMENTS}
    for arm, system in catalogue.ARMS.items():
        assert set(catalogue.STEPS[arm]) <= (system.phases or set())
        assert set(catalogue.IN_RECOVERY) <= (system.phases or set())
        for name, row in catalogue.FAULTS.items():
            for clients in (1, 16):
                rules = by_id[f"{arm}-{name}-{clients}"].schedule
                assert [rule.trigger.name for rule in rules] == list(catalogue.steps_of(arm, row))
                assert len(rules) >= 5
                assert all(rule.faults == (*row.first, row.fault) for rule in rules)
            assert row.in_recovery in (catalogue.IN_RECOVERY, catalogue.IN_RECOVERY[1:])
            crashed = by_id[f"{arm}-{name}-in-recovery-16"].schedule
            assert [rule.trigger.name for rule in crashed[1::2]] == list(row.in_recovery)
        assert set(catalogue.COLLECTION) <= (system.phases or set())
        assert len(catalogue.COLLECTED) >= 9
        for name in catalogue.COLLECTED:
            collecting = by_id[f"{arm}-{name}-in-collection-16"]
            assert [rule.trigger.name for rule in collecting.schedule] == list(catalogue.COLLECTION)
            assert collecting.system.base_every < 100
        pairs = [names for names in catalogue.PAIRS if catalogue.can_land(arm, names)]
        assert len(pairs) >= 10
        for pair in pairs:
            rules = by_id[f"{arm}-{'-and-'.join(pair)}-16"].schedule
            assert [rule.trigger.name for rule in rules] == list(catalogue.AROUND[arm])
            assert len(rules) == 6
            assert all(
                len(rule.faults) == 2 + sum(len(catalogue.FAULTS[name].first) for name in pair) for rule in rules
            )


@pytest.mark.slow
@pytest.mark.requires("redis", "kuzu", "shim")
@pytest.mark.parametrize("name", _sample())
def test_a_cell_ends_as_declared(chaos_command, name: str) -> None:
    """Exit 0: passed, or failed exactly as its expectation says."""
    done = chaos_command("run", f"{FILE}::{name}", "--seed", "0", patience_s=310)
    assert done.code == 0, done.out + done.err
