"""`python -m chaos`: the same as the script `chaos`."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Python puts the working folder first: a json.py there, or another chaos.py, would be imported in place of the
    # real one. The script has no such entry either.
    if not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()]):  # noqa: PTH109  # pathlib is not imported before this
        del sys.path[0]
    from chaos.cli.main import main

    sys.exit(main())
