"""Pure functions from a history to a verdict, one property a file. No check opens a connection.

`chaos.checks` for users: `checks.standard()`, or a tuple of single ones.
"""

from chaos.checkers.atomic import Atomic
from chaos.checkers.completed import Completed
from chaos.checkers.converged import Converged
from chaos.checkers.durable import Durable
from chaos.checkers.exactly_once import ExactlyOnce
from chaos.checkers.invariants import Invariants
from chaos.checkers.isolation import Serializable, SnapshotIsolated, StrictSerializable
from chaos.checkers.judgement import Conclusion, conclude, judge, merge
from chaos.checkers.landed import Landed
from chaos.checkers.model import Check, Context, Expectation, Verdict, Witness
from chaos.checkers.no_zombie import NoZombie
from chaos.checkers.recovered import Recovered
from chaos.checkers.registry import by_name, guarded, known, of_plan, standard
from chaos.checkers.synced import Synced

__all__ = [
    "Atomic",
    "Check",
    "Completed",
    "Conclusion",
    "Context",
    "Converged",
    "Durable",
    "ExactlyOnce",
    "Expectation",
    "Invariants",
    "Landed",
    "NoZombie",
    "Recovered",
    "Serializable",
    "SnapshotIsolated",
    "StrictSerializable",
    "Synced",
    "Verdict",
    "Witness",
    "by_name",
    "conclude",
    "guarded",
    "judge",
    "known",
    "merge",
    "of_plan",
    "standard",
]
