"""The recorded process of a built-in target: `python -m chaos.crashpoints.victim TARGET ACT FOLDER`.

It runs under the shim, as any program would, and dies with the explorer. ACT is `work` or `recover`.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from pathlib import Path

from chaos._process import die_with_parent
from chaos.crashpoints import targets
from chaos.crashpoints.promises import Teller


def main() -> None:
    """Entry point of the process; leaves without destructors, which belong to no workload."""
    die_with_parent()
    faulthandler.enable()
    text, act, folder = sys.argv[1:4]
    target = targets.make(text)
    data = Path(folder)
    teller = Teller(data)
    if act == "work":
        target.work(data, teller)
    else:
        target.recover(data, teller)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
