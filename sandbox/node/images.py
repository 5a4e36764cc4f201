"""
Images for the node's pods: Counterfoil's own image, built from the Containerfile, and one with the sandbox
beside it.

Where nothing can be pulled from a registry, the base image is made by debootstrap, from the mirror that this
machine's apt uses, and kept in the cache folder. buildah builds in a chroot, so that it needs no engine and
no privileges beyond root's. A build downloads Python packages the way this machine does: pip's configuration
is handed into it.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sandbox.cache import cache_folder
from sandbox.controlplane import binaries
from sandbox.controlplane.processes import run
from sandbox.node.settings import PAUSE_IMAGE
from sandbox.packages import debian
from sandbox.trial.image import image_name, write_context

ROOT = Path(__file__).parents[2]
PACKAGES = ("buildah", "debootstrap")
PROGRAMS = ("versitygw",)
SUITE = "bookworm"
BASE_IMAGE = f"localhost/counterfoil-base:{SUITE}"
IMAGE = "localhost/counterfoil:e2e"
SANDBOX_IMAGE = image_name()
INCLUDED = "python3,python3-venv,python3-pip,ca-certificates"
# As in the base image that the Containerfile names: `python` and `pip`, which may install where they are.
FINISH = """
ln -sf /usr/bin/python3 /usr/local/bin/python3
ln -sf /usr/bin/python3 /usr/local/bin/python
ln -sf /usr/bin/pip3 /usr/local/bin/pip
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/* /usr/share/doc /usr/share/man /usr/share/locale
"""
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


class ImageError(Exception):
    """An image could not be made; the message has what the program said last."""


@dataclass(frozen=True)
class Images:
    """Image archives (of docker's format) that a node can load."""

    ours: Path
    sandbox: Path
    pause: Path


def say(line: str) -> None:
    """Report to standard error."""
    print(f"[image] {line}", file=sys.stderr, flush=True)


def base_archive() -> Path:
    """Return where the base image's root file system is kept, once it is made."""
    return cache_folder() / "images" / f"base-{SUITE}.tar"


async def prepare() -> Path:
    """Install what builds images, and return the base image's root file system as a tar archive; make it
    first if need be."""
    await debian.ensure(*PACKAGES)
    base = base_archive()
    if not base.exists():
        say("making a base image of Debian's own packages, with debootstrap (about a minute)")
        base.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="counterfoil-base-") as folder:
            await _bootstrap(Path(folder), base)
    return base


async def build(folder: Path) -> Images:
    """Build everything into ``folder``. Raises ``ImageError``."""
    base = await prepare()
    versitygw = (await binaries.ensure("versitygw"))["versitygw"]
    buildah = _Buildah(folder / "storage")
    await buildah.from_tar(base, BASE_IMAGE)
    say("building Counterfoil's image from the Containerfile")
    with tempfile.TemporaryDirectory(prefix="counterfoil-context-") as context:
        await buildah.build(IMAGE, ROOT, ROOT / "release" / "Containerfile", *as_this_machine(Path(context)))
        say("building the trial's image, with eSAW's stand-in and an S3 server beside it")
        containerfile = write_context(Path(context) / "trial", IMAGE, versitygw)
        await buildah.build(SANDBOX_IMAGE, containerfile.parent, containerfile)
    images = Images(*(folder / f"{name}.tar" for name in ("counterfoil", "sandbox", "pause")))
    await buildah.export(IMAGE, images.ours, IMAGE)
    await buildah.export(SANDBOX_IMAGE, images.sandbox, SANDBOX_IMAGE)
    # What holds a pod's namespaces has only to wait, and that is what the base image does.
    await buildah.export(BASE_IMAGE, images.pause, PAUSE_IMAGE)
    return images


def storage_driver() -> str:
    """Return buildah's storage driver: overlay if the kernel has it. vfs copies all files for each step."""
    return "overlay" if "overlay" in Path("/proc/filesystems").read_text().split() else "vfs"


class _Buildah:
    """buildah with its own storage."""

    def __init__(self, storage: Path) -> None:
        self._command = [
            "/usr/bin/buildah",
            f"--root={storage / 'root'}",
            f"--runroot={storage / 'run'}",
            f"--storage-driver={storage_driver()}",
        ]

    async def from_tar(self, archive: Path, image: str) -> None:
        """Make an image of one layer, which waits indefinitely."""
        container = (await self._do("from", "scratch")).strip()
        await self._do("add", container, str(archive), "/")
        path = f"PATH=/usr/local/bin:{os.defpath}"
        await self._do("config", "--env", path, "--entrypoint", '["/usr/bin/sleep", "infinity"]', container)
        await self._do("commit", "--quiet", "--rm", container, image)

    async def build(self, image: str, context: Path, containerfile: Path, *options: str) -> None:
        """Build an image from a Containerfile."""
        base = f"--build-arg=BASE={BASE_IMAGE}"
        await self._do(
            *("build", "--pull-never", "--isolation=chroot", base, *options),
            *(f"--tag={image}", f"--file={containerfile}", str(context)),
        )

    async def export(self, image: str, archive: Path, name: str) -> None:
        """Write an image into an archive that containerd loads, under a name."""
        await self._do("push", "--quiet", image, f"docker-archive:{archive}:{name}")

    async def _do(self, *arguments: str) -> str:
        # BUILDAH_ISOLATION also counts for what `from` and `add` do.
        ended = await run(
            [*self._command, *arguments], environment={**os.environ, "BUILDAH_ISOLATION": "chroot"}
        )
        if ended.code != 0:
            said = "\n".join((ended.out + ended.err).strip().splitlines()[-30:])
            raise ImageError(f"buildah {' '.join(arguments)}:\n{said}")
        return ended.out


async def _bootstrap(folder: Path, archive: Path) -> None:
    root = folder / "root"
    made = await run(
        ["/usr/sbin/debootstrap", "--variant=minbase", f"--include={INCLUDED}", SUITE, root, *_mirror()]
    )
    if made.code != 0:
        raise ImageError(f"debootstrap:\n{made.out[-2000:]}{made.err[-2000:]}")
    await _must("/usr/sbin/chroot", root, "/bin/sh", "-eu", "-c", FINISH)
    unfinished = archive.with_suffix(".unfinished")
    await _must("/usr/bin/tar", "--create", "--numeric-owner", "--directory", root, "--file", unfinished, ".")
    unfinished.rename(archive)


async def _must(*command: object) -> None:
    ended = await run(command)
    if ended.code != 0:
        raise ImageError(f"{command[0]}: {ended.err.strip()}")


def _mirror() -> list[str]:
    """Return the mirror that this machine gets the suite from; none: debootstrap's own choice."""
    asked = subprocess.run(
        [
            *("/usr/bin/apt-get", "indextargets", "--format=$(REPO_URI)"),
            *("Created-By: Packages", f"Codename: {SUITE}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    return asked.stdout.splitlines()[:1]


def as_this_machine(folder: Path) -> list[str]:
    """Return options by which pip in the build does as pip on this machine: the same index, certificates and
    wheels."""
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    # `section.name='value'`, sorted; what comes from the environment (`:env:`) counts most.
    settings = {}
    for line in sorted(shown.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = value.strip("'\"")
    configuration = folder / "pip.conf"
    configuration.write_text(
        "\n".join(["[global]", *(f"{name} = {value}" for name, value in settings.items()), ""])
    )
    needed = {str(AUTHORITIES), settings.get("cert", ""), settings.get("find-links", "")}
    bound = [
        f"--volume={each}:{each}:ro"
        for each in sorted(needed)
        if each.startswith("/") and Path(each).exists()
    ]
    return [f"--volume={configuration}:/etc/pip.conf:ro", *bound]
