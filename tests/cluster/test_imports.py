"""Old envelopes are imported by a real controller, with the rights of the chart."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.cli.plugin.installation.status import read as read_status
from counterfoil.i18n.attention import attention_items
from counterfoil.resources import (
    IMPORT_LABEL,
    EnvelopeEvent,
    Import,
    Organization,
    Origin,
    Phase,
    envelope_id,
    find_condition,
)
from counterfoil.resources.imports import MAX_OPEN_WINDOWS
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.pauses import eventually
from tests.support.scenes.controller import ControllerScene, a_controller_scene
from tests.support.scenes.plugin import a_scene_with_people, terminal

LONG_AGO = timedelta(days=400)


@pytest.fixture
async def scene(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ControllerScene]:
    async with a_controller_scene(plane, tmp_path) as made:
        yield made


async def create_import(scene: ControllerScene, name: str = "old-stock", **spec: Any) -> None:
    begin = (datetime.now(UTC) - LONG_AGO - timedelta(days=20)).strftime("%Y-%m-%d")
    body = {
        "apiVersion": Import.API_VERSION,
        "kind": Import.KIND,
        "metadata": {"name": name},
        "spec": {"organizationRef": {"name": "acme"}, "from": begin, **spec},
    }
    await scene.kube.create(Import, body)


async def stored(scene: ControllerScene, name: str = "old-stock") -> Import:
    return Import.parse(await scene.kube.get(Import, name))


async def until(scene: ControllerScene, reason: str, name: str = "old-stock") -> Import:
    """Wait until the Import is ready, or not, for this reason."""

    async def has_reason() -> Import | None:
        imported = await stored(scene, name)
        ready = find_condition(imported.status.conditions, "Ready")
        return imported if ready is not None and ready.reason == reason else None

    return await eventually(has_reason)


async def events_of(scene: ControllerScene) -> list[EnvelopeEvent]:
    return [each async for each in scene.kube.list_readable(EnvelopeEvent)]


async def test_old_envelopes_are_archived_and_counted(scene: ControllerScene) -> None:
    old = [scene.envelope(sent_ago=LONG_AGO + timedelta(days=each)) for each in range(3)]
    rejected = scene.envelope(sent_ago=LONG_AGO, status="Rejected")
    await create_import(scene)
    imported = await until(scene, "ImportComplete")
    status = imported.status
    assert (status.found, status.archived, status.failed, status.skipped) == (3, 3, 0, 0)
    by_envelope = {each.spec.envelope_id: each for each in await events_of(scene)}
    assert {by_envelope[each].spec.origin for each in old} == {Origin.IMPORT}
    assert rejected not in by_envelope
    assert await scene.kube.total(EnvelopeEvent) == 3
    assert all("contract.pdf" in scene.filed(each) for each in old)
    wait = await scene.local_environment.kubectl("wait", "--for=condition=Complete", "import/old-stock")
    assert "condition met" in wait


async def test_an_import_whose_controller_is_killed_counts_each_envelope_once(scene: ControllerScene) -> None:
    envelopes = [scene.envelope(sent_ago=LONG_AGO - timedelta(days=each)) for each in range(12)]
    await create_import(scene, maxUnfinished=3)
    for kill_at in (2, 5, 9):

        async def is_under_way(wanted: int = kill_at) -> bool:
            return len(await events_of(scene)) >= wanted

        await eventually(is_under_way)
        scene.controller.kill()
        scene.controller = await scene.local_environment.controller(log_level="debug")
    imported = await until(scene, "ImportComplete")
    status = imported.status
    assert (status.found, status.known, status.archived) == (12, 0, 12)
    assert sorted(each.spec.envelope_id for each in await events_of(scene)) == sorted(
        envelope_id(each) for each in envelopes
    )


async def test_an_import_with_another_archive_stores_nothing_a_second_time(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async with a_scene_with_people(plane, tmp_path) as scene:
        await scene.kube.patch(Organization, "acme", {"spec": {"cleanup": {"policy": "Keep"}}})
        known, new = (scene.envelope(sent_ago=LONG_AGO) for _ in range(2))
        event = await scene.reaches(await scene.note(known), Phase.SUCCEEDED)
        await scene.kube.delete(EnvelopeEvent, event.name, uid=event.uid)
        vault = tmp_path / "vault"
        vault.mkdir()
        first_day = (datetime.now(UTC) - LONG_AGO - timedelta(days=20)).strftime("%Y-%m-%d")
        plugin = await terminal(scene, "administrator")
        words = ("import", "acme", "--from", first_day, "--archive", "vault", "--name", "old-stock")
        assert (await plugin(*words)).code == ExitStatus.DONE
        await until(scene, "ImportArchiveMissing")
        assert await events_of(scene) == []
        await scene.local_environment.archive("vault", filesystem={"root": str(vault)})

        status = (await until(scene, "ImportComplete")).status
        assert (status.found, status.known, status.archived, status.failed) == (2, 0, 2, 0)
        assert (status.report or "").startswith(f"file://{vault}/")
        chosen = {each.spec.envelope_id: each.status.archive for each in await events_of(scene)}
        here, there = chosen[envelope_id(known)], chosen[envelope_id(new)]
        assert here is not None
        assert (here.ref.name, here.import_) == ("dms", None)
        assert there is not None
        assert (there.ref.name, there.import_) == ("vault", "old-stock")
        assert scene.filed(new) == []
        assert scene.filed(known).count("contract.pdf") == 1
        stored_there = [each for each in vault.rglob("contract.pdf") if new in str(each)]
        assert (len(stored_there), [each for each in vault.rglob("*") if known in each.name]) == (1, [])
        assert "Import/old-stock" in (await plugin("why", new)).out


async def test_an_event_that_was_skipped_starts_again_as_one_of_the_import(scene: ControllerScene) -> None:
    rejected = scene.envelope(sent_ago=LONG_AGO, status="Rejected")
    name = await scene.note(rejected)
    await scene.reaches(name, Phase.SKIPPED, "UnexpectedStatus")
    await scene.kube.patch(Organization, "acme", {"spec": {"statuses": ["Completed", "Rejected"]}})
    await create_import(scene)
    status = (await until(scene, "ImportComplete")).status
    assert (status.found, status.known, status.reopened, status.archived) == (1, 1, 1, 1)
    event = await scene.event(name)
    assert (event.spec.origin, event.metadata.labels[IMPORT_LABEL]) == (Origin.CALLBACK, "old-stock")


async def test_a_dry_run_counts_and_a_suspended_import_waits_until_a_person_resumes_it(
    scene: ControllerScene,
) -> None:
    envelope = scene.envelope(sent_ago=LONG_AGO)
    await create_import(scene, "count", dryRun=True)
    await create_import(scene, "held", suspend=True)
    counted = await until(scene, "ImportComplete", "count")
    assert (counted.status.found, counted.status.open_windows) == (1, ())
    assert counted.status.sample is not None
    assert (counted.status.sample.envelopes, counted.status.sample.unreadable) == (1, 0)
    assert min(counted.status.sample.files, counted.status.sample.bytes) > 1
    await until(scene, "ImportSuspended", "held")
    assert await events_of(scene) == []
    await scene.local_environment.kubectl(
        "patch", "import", "held", "--type=merge", "-p", '{"spec": {"suspend": false}}'
    )
    await until(scene, "ImportComplete", "held")
    assert "contract.pdf" in scene.filed(envelope)


async def test_the_plugin_prints_the_progress_of_an_import_until_a_person_has_to_act_or_it_is_complete(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async with a_scene_with_people(plane, tmp_path) as scene:
        scene.envelope(sent_ago=LONG_AGO)
        await create_import(scene, suspend=True)
        await until(scene, "ImportSuspended")
        plugin = await terminal(scene, "administrator")

        held = await plugin("import", "old-stock", "--watch")
        assert (held.code, "ImportSuspended" in held.out) == (ExitStatus.NOT_ALL, True), held
        assert (await plugin("resume", "import", "old-stock")).code == 0
        await until(scene, "ImportRunning")
        ended = await plugin("import", "old-stock", "--watch")

        assert (ended.code, ended.err) == (ExitStatus.DONE, "")
        lines = ended.out.splitlines()
        done = "100 % of the search: 1 envelope found, 0 known, 1 archived, 0 failed"
        last = max(number for number, line in enumerate(lines) if line.startswith(done))
        assert lines[last + 1].startswith("ImportComplete: ")
        everything = await plugin("import", "status")
        assert (everything.code, "Import/old-stock" in everything.out) == (ExitStatus.DONE, True)
        assert {"old-stock", "status"} <= set(await plugin.complete("import", ""))


async def test_the_status_of_a_large_import_fits_its_crd(scene: ControllerScene) -> None:
    """As many Senders and open windows as the types allow, and what the names need at most."""
    await create_import(scene, suspend=True)
    senders = [
        {"name": f"{each:063}", "windowsDone": 1, "reason": "R" * 64, "message": "m" * 1024}
        for each in range(500)
    ]
    windows = [{"id": f"{each:063}", "events": 50_000} for each in range(MAX_OPEN_WINDOWS)]
    await scene.kube.patch_status(
        Import, "old-stock", {"senders": senders, "openWindows": windows}, resource_version=None
    )
    assert len((await stored(scene)).status.senders) == 500


# -- The advice about an Import is followed ------------------------------------------------------------------


async def test_another_import_with_an_earlier_day_finds_what_an_empty_span_did_not(
    scene: ControllerScene,
) -> None:
    envelope = scene.envelope(sent_ago=LONG_AGO)
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%d")
    await create_import(scene, "empty", **{"from": tomorrow})
    await until(scene, "ImportSpanEmpty", "empty")
    await scene.local_environment.kubectl("delete", "import", "empty")
    await create_import(scene, "earlier")
    await until(scene, "ImportComplete", "earlier")
    assert "contract.pdf" in scene.filed(envelope)


MISNAMED = {
    "ImportArchiveMissing": {"archiveRef": {"name": "nope"}},
    "ImportOrganizationMissing": {"organizationRef": {"name": "nope"}},
}


async def test_an_import_of_an_unknown_organization_is_deleted_and_another_one_created(
    scene: ControllerScene,
) -> None:
    """The same for an unknown Archive. That the name can be changed is not true, so no advice says it."""
    envelope = scene.envelope(sent_ago=LONG_AGO)
    kubectl = scene.local_environment.kubectl
    for reason, spec in MISNAMED.items():
        await create_import(scene, "misnamed", **spec)
        await until(scene, reason, "misnamed")
        corrected = json.dumps({"spec": {**spec, next(iter(spec)): {"name": "acme"}}})
        with pytest.raises(Exception, match="Invalid value"):
            await kubectl("patch", "import", "misnamed", "--type=merge", "-p", corrected)
        await kubectl("delete", "import", "misnamed")
    await create_import(scene)
    await until(scene, "ImportComplete")
    assert "contract.pdf" in scene.filed(envelope)


async def test_an_import_that_no_controller_processes_begins_once_the_role_has_its_right_again(
    scene: ControllerScene,
) -> None:
    kubectl = scene.local_environment.kubectl
    role = json.loads(await kubectl("get", "role", "controller", "-o", "json"))
    others = [each for each in role["rules"] if each["resources"] != ["imports"]]
    assert len(others) < len(role["rules"])

    async def set_rules(wanted: list[dict[str, Any]]) -> None:
        await kubectl("patch", "role", "controller", "--type=merge", "-p", json.dumps({"rules": wanted}))

    await set_rules(others)
    await create_import(scene)
    snapshot = (await read_status(scene.kube)).snapshot
    later = replace(snapshot, read_time=datetime.now(UTC) + timedelta(minutes=2))
    assert [each.reason for each in attention_items(later)] == ["ImportNotProcessed"]
    await set_rules(role["rules"])
    await until(scene, "ImportComplete")


async def test_an_import_continues_when_the_organization_archives_its_status(scene: ControllerScene) -> None:
    rejected = scene.envelope(sent_ago=LONG_AGO, status="Rejected")
    await create_import(scene, statuses=["Rejected"])
    await until(scene, "ImportNotArchived")
    spec = '{"spec": {"statuses": ["Completed", "Rejected"]}}'
    await scene.local_environment.kubectl("patch", "org", "acme", "--type=merge", "-p", spec)
    await until(scene, "ImportComplete")
    assert "contract.pdf" in scene.filed(rejected)


async def test_an_import_continues_when_its_time_zone_is_one_of_the_database(scene: ControllerScene) -> None:
    envelope = scene.envelope(sent_ago=LONG_AGO)
    hours = {"from": "00:00", "to": "23:59"}
    await create_import(scene, hours={"timeZone": "Europe/Nowhere", **hours})
    await until(scene, "TimeZoneUnknown")
    spec = '{"spec": {"hours": {"timeZone": "Europe/Vienna"}}}'
    await scene.local_environment.kubectl("patch", "import", "old-stock", "--type=merge", "-p", spec)
    await until(scene, "ImportComplete")
    assert "contract.pdf" in scene.filed(envelope)
