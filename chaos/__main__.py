"""`python -m chaos`: the same as the script `chaos`."""

from __future__ import annotations

import sys

from chaos.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
