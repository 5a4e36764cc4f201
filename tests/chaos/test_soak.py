"""
A short slice of the soak test (``make soak``): load, faults, samples and accounts. It is too short to tell
whether a process grows.
"""

from pathlib import Path

from sandbox.controlplane.control_plane import ControlPlane
from sandbox.servers.s3_rclone import S3Server
from sandbox.servers.webdav_rclone import rclone_webdav_server
from verification.chaos.places import Servers
from verification.chaos.soak.run import Course, run_soak

COURSE = Course(seed=2, seconds=8, ttl="72h", sample_seconds=0.5)
"""With the time to live that the CRDs of the tests allow."""


async def test_a_short_soak_test_accounts_for_every_event_and_samples_every_process(
    plane: ControlPlane, s3: S3Server, tmp_path: Path
) -> None:
    async with rclone_webdav_server() as webdav:
        record = await run_soak(Servers(plane, s3, webdav), COURSE, tmp_path)

    assert record.violations == ()
    assert record.envelopes > 0
    assert sum(record.outcomes.values()) >= record.answered > 0
    assert record.samples > 0
