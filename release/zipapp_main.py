"""
The first module of the stand-alone plugin: it finds the one compiled library, and starts the plugin.

A program in a zip file can't load a compiled library from it. So the library of this platform and Python is
written into a temporary folder, loaded, and removed again before anything else happens.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - a person's own Python runs this
    sys.exit("kubectl counterfoil needs Python 3.11 or newer; this is {}.{}".format(*sys.version_info))

import importlib.util
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType

ARCHIVE = Path(__file__).parent
LIBRARY = "msgspec._core"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def library_name() -> str:
    """Return the name of the library's file for this platform and Python."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{MACHINES.get(machine, machine)}-{sys.implementation.cache_tag}.so"


class _LibraryFinder:
    """Finds the compiled library in a folder, and nothing else."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load the library; None for every other module."""
        if name != LIBRARY:
            return None
        loader = ExtensionFileLoader(name, str(self._file))
        return importlib.util.spec_from_file_location(name, self._file, loader=loader)


def load_library() -> None:
    """Load the compiled library. Exits if there is none for this platform and Python."""
    name = library_name()
    with zipfile.ZipFile(ARCHIVE) as archive:
        try:
            content = archive.read(f"libraries/{name}")
        except KeyError:
            known = sorted(Path(each).stem for each in archive.namelist() if each.startswith("libraries/"))
            sys.exit(
                f"kubectl counterfoil: this file is not for {Path(name).stem}, only for {', '.join(known)}. "
                "Install the Python package counterfoil instead."
            )
    folder = Path(tempfile.mkdtemp(prefix="kubectl-counterfoil-"))
    try:
        file = folder / name
        file.write_bytes(content)
        finder = _LibraryFinder(file)
        sys.meta_path.insert(0, finder)
        try:
            importlib.import_module("msgspec")
        except ImportError as problem:
            # For example a folder for temporary files on a file system without the right to execute.
            sys.exit(f"kubectl counterfoil: {problem}. TMPDIR names another folder to load it from.")
        finally:
            sys.meta_path.remove(finder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run as ``kubectl-counterfoil``, or by the name ``kubectl_complete-counterfoil``."""
    load_library()
    entry_point = importlib.import_module("counterfoil.cli.plugin.entry_point")
    is_completion = Path(sys.argv[0]).name.startswith("kubectl_complete-")
    status: int = entry_point.complete() if is_completion else entry_point.main()
    return status


if __name__ == "__main__":
    sys.exit(main())
