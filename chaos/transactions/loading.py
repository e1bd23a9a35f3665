"""Making a system from the name of its class."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable

from chaos.errors import HarnessError
from chaos.transactions.system import System


def load_system(location: str) -> System:
    """Make the system at `location`: "package.module:Class" or "/path/to/file.py:Class"; no arguments.

    Raises HarnessError when the module or the class is not there.
    """
    place, _, name = location.rpartition(":")
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location("_chaos_system", place)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        factory: Callable[[], System] = getattr(module, name)
    except (ImportError, AttributeError, OSError) as error:
        raise HarnessError(f"cannot load the system {location}: {type(error).__name__}: {error}") from error
    return factory()
