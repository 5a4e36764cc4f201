"""
A short slice of the fault campaign (``make chaos``): the whole way from the plan to the checker.
"""

from pathlib import Path

from sandbox.controlplane.control_plane import ControlPlane
from sandbox.servers.s3_rclone import S3Server
from sandbox.servers.webdav_rclone import rclone_webdav_server
from verification.chaos.places import Servers
from verification.chaos.plan import plan
from verification.chaos.rounds import SENT_DRAFTS, run_round
from verification.chaos.stage import DISK, disk, new_folder

SEED, ROUND = 5, 226
"""A round with real archive servers, copies, routes, several controllers and shards, drafts, bulks, and
kills."""


async def test_a_round_of_the_campaign_has_faults_and_no_violation(
    plane: ControlPlane, s3: S3Server, tmp_path: Path
) -> None:
    async with rclone_webdav_server() as webdav:
        outcome = await run_round(Servers(plane, s3, webdav), plan(SEED, ROUND, faults=25), tmp_path)

    assert outcome.violations == []
    assert outcome.struck.total() > 5
    assert outcome.events[SENT_DRAFTS] > 0


async def test_a_round_that_was_killed_does_not_stop_its_repetition(tmp_path: Path) -> None:
    await new_folder(tmp_path / "round")
    await disk(tmp_path / "round" / DISK).__aenter__()
    (tmp_path / "round" / DISK / "file").touch()

    await new_folder(tmp_path / "round")

    assert list((tmp_path / "round").iterdir()) == []
