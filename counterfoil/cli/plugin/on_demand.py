"""
Modules that a command imports when it runs, because their libraries are large.

The stand-alone plugin leaves these libraries out. There such a command names the package that has them.
"""

from importlib import import_module
from types import ModuleType

from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus


def load(command: str, module: str) -> ModuleType:
    """Import a module of Counterfoil for a command. Raises ``CommandError`` if one of its libraries is
    missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise CommandError(
            ExitStatus.MISUSED,
            f"{command} is not in the stand-alone plugin ({missing.name} is missing). Install the wheel "
            "of the same release, for example with `uv tool install`.",
        ) from None
