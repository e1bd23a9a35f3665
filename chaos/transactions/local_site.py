"""A `Site` without a harness, for using a system directly: in tests, benchmarks and a Python prompt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chaos.transactions.system import SiteConfig

Hook = Callable[[str, str | None, str | None], Awaitable[None]]


class LocalSite:
    """Keeps phases in `phases` and child pids in `children`; `hook` is awaited at every phase."""

    def __init__(self, config: SiteConfig, hook: Hook | None = None) -> None:
        """`hook` gets name, token and store of a phase; what it raises or waits for happens at that point."""
        self._config = config
        self._hook = hook
        self.phases: list[tuple[str, str | None]] = []
        self.children: dict[str, int | None] = {}

    @property
    def config(self) -> SiteConfig:
        """Where the stores are."""
        return self._config

    async def phase(self, name: str, token: str | None = None, store: str | None = None) -> None:
        """Note the phase, then run the hook."""
        self.phases.append((name, token))
        if self._hook is not None:
            await self._hook(name, token, store)

    def child(self, target: str, pid: int | None) -> None:
        """Note the pid of a child process; None: it ended."""
        self.children[target] = pid


class QuietSite:
    """A `Site` that nobody listens to."""

    def __init__(self, config: SiteConfig) -> None:
        """Keep where the stores are."""
        self._config = config

    @property
    def config(self) -> SiteConfig:
        """Where the stores are."""
        return self._config

    async def phase(self, name: str, token: str | None = None, store: str | None = None) -> None:
        """Return at once."""

    def child(self, target: str, pid: int | None) -> None:
        """Do nothing."""
