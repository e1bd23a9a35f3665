"""Names of a package that are loaded when they are first asked for (PEP 562).

A process of a run needs a few of the faults and none of the harness; what it does not import it does not wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: dict[str, Any], homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for the package whose globals are `package`.

    homes: where each public name lives, as a module's name, or as "module:name". A type checker does not see
    through this, so the package imports the same names below TYPE_CHECKING; a test compares the two.
    """

    def load(name: str) -> Any:
        """Load a public name on first use. Raises AttributeError for any other name."""
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
        module_name, _, attribute = home.partition(":")
        module = import_module(module_name)
        value = getattr(module, attribute) if attribute else module
        package[name] = value
        return value

    def listing() -> list[str]:
        """List the public names too, loaded or not."""
        return sorted({*package, *homes})

    return load, listing
