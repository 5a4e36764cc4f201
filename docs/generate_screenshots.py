"""
Takes the pictures in docs/console.md: ``.venv/bin/python docs/generate_screenshots.py`` (a minute; wants
Debian's chromium).

A real console on a real API server with a few events in trouble; no test depends on the pictures.
"""

import asyncio
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page

from counterfoil.resources.lease import Lease
from sandbox.browser.chromium import chromium
from sandbox.controlplane.control_plane import control_plane
from tests.support.fakes.leases import a_shard_lease
from tests.support.scenes.console import MISSING_BUCKET, Scene, a_condition, console_scene, now

FOLDER = Path(__file__).parent / "screenshots"
SIZE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}

PAGES = {
    "attention": "/attention",
    "events": "/events",
    "event": "/events/{event}",
    "senders": "/senders",
    "archives": "/archives",
    "organizations": "/organizations",
}

CONDITIONS = {
    "Validated": "StatusAccepted",
    "Authorized": "KeyAccepted",
    "Collected": "FilesListed",
    "Archived": "FilesVerified",
    "Cleaned": "ArchivedAndDeleted",
    "Ready": "ArchivedAndDeleted",
}


CALLBACKS = (2, 1, 0, 0, 0, 1, 4, 18, 61, 84, 90, 77, 41, 52, 88, 93, 71, 46, 20, 9, 6, 4, 3, 2)
"""Number of recorded callbacks in each hour of a day."""


def a_working_day() -> dict[str, Any]:
    """Return the controller's counts of a full working day; the last hour has not ended."""
    last = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [last - timedelta(hours=ago) for ago in range(23, -1, -1)]
    noted = [CALLBACKS[each.hour] for each in hours]
    return {
        "countTime": now(),
        "hours": [
            {"time": each.isoformat().replace("+00:00", "Z"), "noted": count, "archived": max(0, count - 1)}
            for each, count in zip(hours, noted, strict=True)
        ],
        "archivedWithin": {"1s": 96, "10s": 1511, "1m": 204, "10m": 25, "1h": 4},
        "unfinishedFor": {"10s": 2, "1m": 1, "1h": 11, "24h": 19, "longer": 7},
    }


async def furnish(scene: Scene) -> str:
    """Put something into the scene that is worth a picture; return the name of an event that is archived."""
    lease = a_shard_lease(0, 1, renewed=datetime.now(UTC) + timedelta(hours=1))
    await scene.kube.create(Lease, lease.to_dict())
    await scene.an_archive("contracts", "True", "Probed")
    await scene.an_archive("bucket", "False", "ArchiveBucketMissing", MISSING_BUCKET)
    await scene.an_organization(
        archive="contracts",
        events={"Succeeded": 1840, "Failed": 4, "AwaitingConsent": 37},
        version="25.12",
        activity=a_working_day(),
    )
    await scene.a_sender("anna", truth="False", reason="TokenRejected")
    await scene.a_sender("ben")
    for _ in range(37):
        await scene.waiting()
    for reason in ("NameOccupied", "NameOccupied", "NameOccupied", "EnvelopeNotFound"):
        await scene.failed(reason, f"The envelope could not be filed: {reason}.")
    name = ""
    for number in range(40):
        name = await scene.an_event(
            phase="Succeeded",
            reason="ArchivedAndDeleted",
            completionTime=now(),
            startTime=now(),
            conditions=[a_condition(each, "True", reason) for each, reason in CONDITIONS.items()],
            envelope={
                "name": f"Rental contract {number}",
                "status": "Completed",
                "senderRef": {"name": "ben"},
            },
            archive={"ref": {"name": "contracts"}, "manifest": "s3://contracts/acme/counterfoil.json"},
            documents=[
                {
                    "fileID": str(part),
                    "kind": "Document",
                    "fileName": f"contract {part}.pdf",
                    "size": 250_000 + part,
                    "sha256": f"{part}b" * 32,
                    "location": f"s3://contracts/acme/Document/contract {part}.pdf",
                }
                for part in range(2)
            ],
        )
    return name


async def sign_in(page: Page, scene: Scene) -> None:
    """Come to the first page."""
    await page.goto(scene.console.public)
    await page.get_by_label("Kubernetes token").fill(scene.tokens["full"])
    await page.get_by_role("button", name="Sign in").click()


async def picture(browser: Browser, scene: Scene, path: str, name: str, **kind: Any) -> None:
    """Take one, in a browser of this kind."""
    async with await browser.new_context(locale="en-GB", **kind) as context:
        page = await context.new_page()
        await sign_in(page, scene)
        await page.goto(f"{scene.console.public}{path}", wait_until="networkidle")
        await page.screenshot(path=FOLDER / f"console-{name}.png")


async def main() -> None:
    """Take them all."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with control_plane() as plane, chromium() as browser:
            await plane.apply_crds()
            await plane.namespace("contracts")
            async with console_scene(plane, "contracts", Path(folder)) as scene:
                event = await furnish(scene)
                for name, path in PAGES.items():
                    await picture(browser, scene, path.format(event=event), name, viewport=SIZE)
                await picture(
                    browser, scene, "/attention", "attention-phone", viewport=PHONE, color_scheme="dark"
                )


if __name__ == "__main__":
    asyncio.run(main())
