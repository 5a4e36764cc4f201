"""
One control plane and one S3 server for all tests that break things, and one scene in its own namespace for
each.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.controlplane.control_plane import ControlPlane
from sandbox.servers.s3_rclone import S3Server, s3_server
from tests.cluster.conftest import pytest_configure
from tests.support.scenes.chaos import BUCKET, Scene, opened

__all__ = ["pytest_configure"]  # the control plane of the cluster tests


@pytest.fixture(scope="session")
async def s3() -> AsyncIterator[S3Server]:
    """A real S3 server."""
    async with s3_server(buckets=(BUCKET,)) as server:
        yield server


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    """A scene with a folder as its archive."""
    async with opened(plane, namespace, tmp_path) as built:
        yield built


@pytest.fixture
async def s3_scene(plane: ControlPlane, namespace: str, tmp_path: Path, s3: S3Server) -> AsyncIterator[Scene]:
    """A scene with a bucket as its archive."""
    async with opened(plane, namespace, tmp_path, s3=s3) as built:
        yield built
