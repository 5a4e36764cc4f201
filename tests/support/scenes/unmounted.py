"""A volume that is unmounted in the seconds after a run has read its marker."""

from collections.abc import Callable
from pathlib import Path

from tests.support.scenes.reconciler import ReconcilerScene


async def read_marker_of(scene: ReconcilerScene, name: str = "dms") -> None:
    """Let a run have read the marker of an Archive just now."""
    pool, archive = scene.preconditions.archives.archive_pool, scene.cache.archives.get(name)
    assert archive is not None
    await pool.check_root(archive, await pool.backend(archive))


def unmount(root: Path) -> Callable[[], None]:
    """Leave an empty folder in the place of a volume; return what mounts it again."""
    volume = root.rename(root.with_name("unmounted"))
    root.mkdir()

    def mount() -> None:
        if volume.exists():
            root.rename(root.with_name("empty folder"))
            volume.rename(root)

    return mount


def left_in(root: Path) -> list[str]:
    """Return the files and folders that were written into a folder."""
    return sorted(str(each.relative_to(root)) for each in root.rglob("*"))
