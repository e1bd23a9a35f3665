"""The recorded process of a built-in target: `python -m chaos.crashpoints.victim TARGET ACT FOLDER`.

It runs under the shim, as any program would, and dies with the explorer. ACT is `work`, `recover`, or `persevere`,
which is `work` that goes on after a step that failed. The exit status is 0, FAILED when a step failed, or WRONG when
the steps of a finding caught the store in a wrong answer.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from chaos._process import die_with_parent
from chaos.crashpoints import targets
from chaos.crashpoints.promises import Teller
from chaos.crashpoints.targets.steps import StepsTarget, say_wrong

FAILED = 75
WRONG = 76


def main() -> None:
    """Entry point of the process; leaves without destructors, which belong to no workload."""
    die_with_parent()
    faulthandler.enable()
    text, act, folder = sys.argv[1:4]
    target = targets.make(text)
    data = Path(folder)
    teller = Teller(data)
    target.perseveres = act == "persevere"
    try:
        if act == "recover":
            target.recover(data, teller)
        else:
            target.work(data, teller)
    except Exception as error:  # noqa: BLE001  # what a store raises is its own affair
        if isinstance(error, AssertionError) and isinstance(target, StepsTarget):
            say_wrong(error)
            _leave(WRONG)  # while the steps' frames live: what they hold may hang when it is closed
        traceback.print_exc(limit=-2)
        target.error_count += 1
    _leave(FAILED if target.error_count else 0)


def _leave(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
