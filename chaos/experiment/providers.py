"""Which experiments can take place where: what each provider of network and container faults refuses."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.errors import Problem
from chaos.experiment.experiment import Experiment
from chaos.experiment.reach import Reach, refusal
from chaos.experiment.schedule import Rule
from chaos.experiment.venues import PROVIDERS
from chaos.faults.base import Fault


def refusals(experiment: Experiment, name: str, mechanisms: Reach | None = None) -> Iterator[Problem]:
    """Yield a problem for each fault that provider `name` cannot do, with those that can do all of them.

    `mechanisms` says how file faults would reach the stores; None: as the shim does.
    """
    able = able_providers(experiment)
    for fault in _faults(experiment):
        reason = fault.refused_by(name)
        if reason is not None:
            remedy = f"run it with {' or '.join(PROVIDERS[one] for one in able)}" if able else "split the experiment"
            yield fault.problem(f"...) cannot be done with {PROVIDERS[name]}: {reason}", remedy, "provider-cannot")
        elif (reason := refusal(fault, mechanisms or {})) is not None:
            remedy = "run it where the file shim can be preloaded (see `chaos doctor`)"
            yield fault.problem(f"...) cannot be done with strace: {reason}", remedy, "provider-cannot")


def able_providers(experiment: Experiment) -> tuple[str, ...]:
    """Return the providers that can do every fault of an experiment."""
    faults = [fault for fault in _faults(experiment) if not any(fault.problems())]
    return tuple(name for name in PROVIDERS if not any(fault.refused_by(name) for fault in faults))


def nobody(experiment: Experiment) -> Iterator[Problem]:
    """Yield a problem when no provider can do all the faults of an experiment together."""
    if not able_providers(experiment):
        by_name = [
            f"{name}: not {', '.join(sorted({fault.kind for fault in _faults(experiment) if fault.refused_by(name)}))}"
            for name in PROVIDERS
        ]
        yield experiment.problem(
            f"schedule=...) must be possible with one provider ({'; '.join(by_name)})",
            "make an experiment for each",
            "no-provider",
        )


def _faults(experiment: Experiment) -> Iterator[Fault]:
    for rule in experiment.schedule:
        if isinstance(rule, Rule):
            yield from (fault for fault in rule.faults if isinstance(fault, Fault))
