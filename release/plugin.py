"""
The stand-alone kubectl plugin: one file that needs Python 3.11 or newer, and nothing else.

It is a zip file that Python runs (``zipapp``). In it are the modules of the commands that ask the API server,
and their libraries, from the wheels of the lock. Compiled parts of libraries are left out where a library
works without; the one library that does not has its compiled part for each platform and Python beside it.

Left out: ``verify``, ``render`` and ``reseal``, whose libraries are larger than all the rest. The generated
models and calls of the official Kubernetes client, which Counterfoil does without.

The same sources and lock give the same bytes.
"""

import asyncio
import io
import os
import re
import stat
import sys
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from release.wheels import Target, WheelsMissing, download, locked

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "release" / "locks" / "runtime.txt"

PACKAGES = (
    "aiohappyeyeballs",
    "aiohttp",
    "aiohttp-retry",
    "aiosignal",
    "attrs",
    "frozenlist",
    "idna",
    "kubernetes",
    "msgspec",
    "multidict",
    "propcache",
    "pyyaml",
    "typing-extensions",
    "yarl",
)
"""Libraries of the commands. A test runs the plugin without any other."""

OWN_MODULES = (
    "__init__.py",
    "_upstream/__init__.py",
    "_upstream/kubernetes_package.py",
    "callback_auth.py",
    "clock.py",
    "durations.py",
    "logs.py",
    "origin.py",
    "process_exit.py",
    "py.typed",
    "retention.py",
    "settings.py",
    "cli/__init__.py",
    "cli/plugin/*",
    "cli/plugin/installation/*",
    "cli/plugin/search/*",
    "esaw_check/__init__.py",
    "esaw_check/facts.py",
    "i18n/*.py",
    "i18n/console/en.toml",
    "i18n/mails/en.toml",
    "i18n/reasons/*",
    "kube/*",
    "resources/*",
    "untrusted/__init__.py",
    "untrusted/background_work.py",
    "untrusted/fair_slots.py",
    "untrusted/json_bounds.py",
)
"""Modules of Counterfoil that the commands import."""

SOURCES = Target(("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"), "3.11")
"""Wheels from which the Python files of the libraries are taken: they are the same for every platform."""

COMPILED = "msgspec"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS: Mapping[str, tuple[str, ...]] = {
    "linux-x86_64": ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "linux-aarch64": ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
    "darwin-x86_64": ("macosx_11_0_x86_64", "macosx_10_15_x86_64", "macosx_10_9_x86_64"),
    "darwin-aarch64": ("macosx_11_0_arm64",),
}
"""Platforms of the compiled part: name in the file, and platform tags of wheels."""

KUBERNETES_KEPT = re.compile(
    r"kubernetes/aio/(config/(?!.*_test).*|client/(configuration|rest|exceptions)\.py|"
    r"utils/(_retry_base|retry)\.py)"
)
CHANGED = "# Changed by Counterfoil: the original imports every generated module.\n"
REPLACED: Mapping[str, str] = {
    "kubernetes/__init__.py": CHANGED,
    "kubernetes/aio/__init__.py": CHANGED,
    "kubernetes/aio/utils/__init__.py": CHANGED,
    "kubernetes/aio/client/__init__.py": CHANGED
    + "from kubernetes.aio.client.configuration import Configuration\n\n\n"
    "class ApiClient:\n"
    '    """Imported by the reader of kubeconfig files, and not used here."""\n',
}
"""Files of the official client that are shorter here. Its reader of kubeconfig files stays as it is."""

_UNUSED = re.compile(
    r"(\.so|\.pyx|\.pxd|\.pxi|\.pyi|\.c|\.h|\.hash)$|(^|/)(tests?|testing)/|_test\.py$|"
    r"^(aiohttp/(web|pytest_plugin|test_utils|worker)|attr/.*_next_gen_test)|"
    r"\.dist-info/(RECORD|WHEEL|INSTALLER|top_level\.txt|entry_points\.txt|.*\.json)$"
)


async def build(epoch: int) -> bytes:
    """Return the plugin. ``epoch`` is the date of its files, in seconds since 1970. Raises
    ``WheelsMissing``."""
    files = {"__main__.py": (Path(__file__).parent / "zipapp_main.py").read_bytes()}
    files.update(_own())
    files.update(await _libraries())
    files.update(await _compiled())
    written = io.BytesIO(b"#!/usr/bin/env python3\n")
    written.seek(0, io.SEEK_END)
    date = datetime.fromtimestamp(max(epoch, 315_532_800), UTC).timetuple()[:6]
    with zipfile.ZipFile(written, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, date)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content)
    return written.getvalue()


def _own() -> Iterator[tuple[str, bytes]]:
    package = ROOT / "counterfoil"
    for pattern in OWN_MODULES:
        for path in package.glob(pattern):
            if path.is_file() and path.suffix != ".pyc":
                yield f"counterfoil/{path.relative_to(package)}", path.read_bytes()
    for name in ("LICENSE", "NOTICE"):
        yield name, (ROOT / name).read_bytes()


async def _libraries() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for wheel in await download(locked(LOCK.read_text(encoding="utf-8"), PACKAGES), SOURCES):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                is_generated = name.startswith("kubernetes/") and not KUBERNETES_KEPT.fullmatch(name)
                if not (name.endswith("/") or _UNUSED.search(name) or is_generated):
                    files[name] = archive.read(name)
    return files | {name: text.encode() for name, text in REPLACED.items()}


async def _compiled() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    requirement = locked(LOCK.read_text(encoding="utf-8"), (COMPILED,))
    for platform, tags in PLATFORMS.items():
        for python in PYTHONS:
            (wheel,) = await download(requirement, Target(tags, python))
            with zipfile.ZipFile(wheel) as archive:
                (library,) = (each for each in archive.namelist() if each.endswith(".so"))
                name = f"libraries/{platform}-cpython-{python.replace('.', '')}.so"
                files[name] = archive.read(library)
    return files


def main() -> None:
    """Write the plugin to the given file, ``dist/kubectl-counterfoil`` by default, and print its path."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / "kubectl-counterfoil"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_bytes(asyncio.run(build(int(os.environ.get("SOURCE_DATE_EPOCH", "0")))))
    except WheelsMissing as missing:
        sys.exit(f"{missing}")
    path.chmod(0o755)
    print(path)


if __name__ == "__main__":
    main()
