"""Every call of a commit: a store's process dies before it, and behind it. ../kill_every_call.py tells the rest."""

import runpy
from pathlib import Path

BESIDE = runpy.run_path(str(Path(__file__).parents[1] / "kill_every_call.py"))

CALLS_OF_A_COMMIT = {"sqlite": 12, "redis": 3, "graph": 4}
"""How many calls are gone through: one more than a commit has, so that none is left out."""

EXPERIMENTS = tuple(
    BESIDE["experiment"](
        f"kill-every-call-{store}",
        tuple((store, call, after) for call in range(1, count + 1) for after in (False, True)),
    )
    for store, count in CALLS_OF_A_COMMIT.items()
)
