"""
kubernetes: ``import kubernetes.aio.client`` imports the synchronous client, requests and all else first.

Upstream: https://github.com/kubernetes-client/python/issues/771. Versions: kubernetes up to 37.0.2. The
packages ``kubernetes`` and ``kubernetes.aio`` import every part, which costs each process a tenth of a second
and 10 MiB. After ``import_parts_lazily`` they import a part when it is asked for.

kopf imports ``kubernetes`` too, if it is installed. So this happens before kopf is imported.
"""

import importlib.util
import sys
from functools import partial
from importlib import import_module, metadata
from types import ModuleType


def import_parts_lazily() -> None:
    """Replace both packages by equal ones that import their parts later; does nothing if they are imported
    already."""
    for name in ("kubernetes", "kubernetes.aio"):
        if name not in sys.modules and (spec := importlib.util.find_spec(name)) is not None:
            package = importlib.util.module_from_spec(spec)
            vars(package)["__getattr__"] = partial(_attribute, name)
            sys.modules[name] = package


def _attribute(package: str, name: str) -> ModuleType | str:
    if name == "__version__":
        return metadata.version("kubernetes")
    try:
        return import_module(f"{package}.{name}")
    except ModuleNotFoundError as missing:
        raise AttributeError(f"module {package!r} has no part {name!r}") from missing
