"""Runs transactions in a process that kills itself at the n-th occurrence of a phase; prints each outcome first."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import msgspec

from chaos.transactions.loading import load_system
from chaos.transactions.local_site import LocalSite
from chaos.transactions.system import Request, SiteConfig


async def main(location: str, config: SiteConfig, phase: str, nth: int, requests: list[Request]) -> None:
    """Run `requests` in three clients and die at the `nth` `phase`."""
    count = 0

    async def hook(name: str, token: str | None, store: str | None) -> None:
        nonlocal count
        count += name == phase
        if count == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    async def run(mine: list[Request]) -> None:
        for request in mine:
            outcome = await system.transact(request)
            print(json.dumps([request.token, type(outcome).__name__.lower()]), flush=True)

    system = load_system(location)
    await system.open(LocalSite(config, hook))
    await system.recover([])
    await asyncio.gather(*(run(requests[n::3]) for n in range(3)))
    await system.close()


if __name__ == "__main__":
    given = json.load(sys.stdin)
    asyncio.run(
        main(
            given["system"],
            msgspec.convert(given["config"], SiteConfig),
            given["phase"],
            given["nth"],
            msgspec.convert(given["requests"], list[Request]),
        )
    )
