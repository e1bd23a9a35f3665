"""Build hook: compile the file shim and ship it as `_chaosfs/chaosfs.so`, beside the package in site-packages.

The library is compiled into a temporary folder and put into the wheel from there, in the editable kind as well:
nothing is written to the source tree, so a cached editable wheel is complete even when the tree was cleaned.
Systems that cannot have the shim get a wheel without it; file faults then report themselves as unavailable.
"""

from __future__ import annotations

import importlib.util
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_BUILDER = "chaos/faults/disk/build.py"


def _load_builder(root: str) -> ModuleType:
    """Load the shim's builder by path: the package itself cannot be imported, its dependencies are not here."""
    spec = importlib.util.spec_from_file_location("chaosfs_build", Path(root, _BUILDER))
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{_BUILDER} is missing from the source tree")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ShimBuildHook(BuildHookInterface[Any]):
    """Adds the compiled shim to a wheel on Linux."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Ask for ziglang, a whole C compiler in a wheel, only where this system has none that works."""
        builder = _load_builder(self.root)
        usable, _ = builder.supported()
        return ["ziglang"] if usable and builder.find_system_compiler() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, then name the library and the platform in `build_data`. Raises RuntimeError if that fails."""
        builder = _load_builder(self.root)
        usable, reason = builder.supported()
        if not usable:
            self.app.display_warning(f"{reason}: file faults will be unavailable")
            return
        self._folder = tempfile.TemporaryDirectory(prefix="chaosfs-build-")
        try:
            library = builder.build(Path(self._folder.name))
        except builder.BuildFailed as error:
            self._folder.cleanup()
            raise RuntimeError(f"the file shim did not compile:\n{error}") from error
        shipped = {str(library): f"_chaosfs/{library.name}"}
        build_data["force_include"].update(shipped)
        build_data["force_include_editable"] = {**build_data.get("force_include_editable", {}), **shipped}
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary folder; the wheel has been written."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
