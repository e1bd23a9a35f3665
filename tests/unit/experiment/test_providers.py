"""Which experiments can take place where."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.errors import PlanError
from chaos.experiment.loader import load, split
from chaos.experiment.venues import BACKENDS, PROVIDERS, PROXIES, provider

HEAD = """
from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="{id}",
    hypothesis="It holds.",
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(seconds=2),
    schedule=(when.at("500ms").do({fault}),),
)
"""
ONLY_EMBEDDED = 'faults.DiskDelay("redis", "20ms")'
EVERYWHERE = 'faults.Kill("worker")'


def test_every_combination_of_options_has_a_provider() -> None:
    """Containers have their own Toxiproxy, whatever the proxy option says."""
    assert {provider(backend, proxy) for backend in BACKENDS for proxy in PROXIES} == set(PROVIDERS)
    assert provider("compose", "embedded") == "docker"


def test_a_folder_leaves_out_what_cannot_be_done_and_a_file_does_not(tmp_path: Path) -> None:
    """From a folder the rest is run, and the reason is handed on; the file itself is a mistake of whoever named it."""
    (tmp_path / "one.py").write_text(HEAD.format(id="one", fault=ONLY_EMBEDDED))
    (tmp_path / "two.py").write_text(HEAD.format(id="two", fault=EVERYWHERE))
    able, refused = split(load([tmp_path]), "docker", [tmp_path])
    assert [item.experiment.id for item in able] == ["two"]
    ((left_out, problems),) = refused
    assert (left_out.experiment.id, [problem.slug for problem in problems]) == ("one", ["provider-cannot"])
    assert PROVIDERS["embedded"] in problems[0].remedy
    with pytest.raises(PlanError, match="provider-cannot"):
        split(load([tmp_path / "one.py"]), "docker", [tmp_path / "one.py"])
    assert split(load([tmp_path / "one.py"]), "embedded", [tmp_path / "one.py"])[1] == ()
