"""An event chooses its Archive once, and all its files go there."""

import gc
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.reconcile.phases.left_behind import left_behind_message, listed_places
from controller.scheduling.due import due_time
from counterfoil.archives.layout import EnvelopeFacts
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.resources import (
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    LocalObjectReference,
    Phase,
    find_condition,
)
from counterfoil.resources.reopening import reopened_status, status_for_copying
from counterfoil.resources.routes import Choice, stored_choice, stored_copy
from tests.support.builders import a_sender, an_event, an_organization, known_to_work
from tests.support.fakes.reconcile_context import a_probed_archive, an_archive
from tests.support.scenes.imports import an_import
from tests.support.scenes.reconciler import ReconcilerScene
from tests.support.scenes.routed import AREA, FILES, HR, RetriedScene, RoutedScene, documents, observed


@pytest.fixture
def scene(tmp_path: Path) -> RoutedScene:
    return RoutedScene(tmp_path)


@pytest.mark.parametrize(("area", "choice"), [("HR", Choice("vault", "hr")), ("IT", Choice("dms", None))])
async def test_a_tag_decides_where_the_files_go(scene: RoutedScene, area: str, choice: Choice) -> None:
    after = await scene.with_area(area).reconcile()

    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert stored_choice(after.status) == choice
    other = scene.dms if choice.route else scene.vault
    place = scene.vault if choice.route else scene.dms
    assert (documents(place), documents(other)) == (FILES, [])


async def test_an_envelope_without_metadata_goes_to_the_archive_of_the_organization(
    scene: RoutedScene,
) -> None:
    after = await scene.with_area(None).reconcile()

    assert stored_choice(after.status) == Choice("dms", None)
    assert documents(scene.dms) == FILES


async def test_status_condition_and_manifest_name_the_route(scene: RoutedScene) -> None:
    after = await scene.with_area("HR").reconcile()

    collected = find_condition(after.status.conditions, "Collected")
    assert collected is not None
    assert collected.message == "2 files will be archived in Archive/vault by the route `hr`."
    (manifest,) = scene.vault.rglob("counterfoil.json")
    extra = json.loads(manifest.read_text())["extra"]
    assert (extra["archive"], extra["route"]) == ("vault", "hr")


async def test_a_run_continues_under_the_limit_of_the_archive_that_it_chose(scene: RoutedScene) -> None:
    event = await scene.with_area("HR").reconcile()
    assert scene.slots == [(event.name, "vault")]


async def test_a_run_that_waits_for_its_archive_keeps_no_metadata(scene: RoutedScene) -> None:
    """Such runs have no limit, and the metadata can have 1 MiB."""
    kept: list[str] = []

    def all_facts() -> list[EnvelopeFacts]:
        gc.collect()
        return [each for each in gc.get_objects() if isinstance(each, EnvelopeFacts)]

    # Other tests of this process may keep theirs.
    earlier = all_facts()

    def look() -> None:
        kept.extend(each.envelope_id for each in all_facts() if all(each is not other for other in earlier))

    scene.is_archive_busy, scene.while_waiting = True, look
    after = await scene.with_area("HR").reconcile()
    assert kept == []
    assert stored_choice(after.status) == Choice("vault", "hr")
    assert documents(scene.vault) == FILES
    assert scene.envelope.asked.count("configuration") == 2


async def test_a_person_who_suspends_the_archive_during_the_wait_for_it_holds_the_event(
    scene: RoutedScene,
) -> None:
    def suspend() -> None:
        scene.observe(a_probed_archive("vault", root=scene.vault, suspend=True, version=50, generation=50))

    scene.is_archive_busy, scene.while_waiting = True, suspend
    held = await scene.with_area("HR").reconcile()

    assert (held.status.phase, held.status.reason) == (Phase.COLLECTING, "ArchiveSuspended")
    assert documents(scene.vault) == []


async def test_a_condition_that_a_person_corrects_during_the_wait_decides_the_next_run(
    scene: RoutedScene,
) -> None:
    def correct() -> None:
        scene.is_archive_busy = False
        scene.change_routes({**HR, "when": {"tags": {"area": {"values": ["Legal"]}}}})

    scene.is_archive_busy, scene.while_waiting = True, correct
    event = await scene.with_area("HR").reconcile()
    assert event.status.reason == "WaitingForArchive"
    assert scene.cache.archive_name(event) == ""

    await scene.reconcile()
    assert (documents(scene.vault), documents(scene.dms)) == ([], FILES)


async def test_a_condition_that_a_person_corrects_during_a_wait_without_room_decides_the_next_run(
    scene: RoutedScene,
) -> None:
    async def correct(*_: object) -> bool:
        scene.change_routes({**HR, "when": {"tags": {"area": {"values": ["Legal"]}}}})
        return False

    scene.change_archives(take_slot=correct)
    event = await scene.with_area("HR").reconcile()
    assert event.status.reason == "WaitingForArchive"
    assert scene.cache.archive_name(event) == ""


async def test_an_event_whose_archive_has_no_room_waits_in_the_queue_with_its_choice(
    scene: RoutedScene,
) -> None:
    """It takes no place of its Organization there, and begins in the limit of that Archive."""

    async def full(*_: object) -> bool:
        return False

    scene.change_archives(take_slot=full)
    after = await scene.with_area("HR").reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.COLLECTING, "WaitingForArchive")
    assert (after.status.attempts, after.status.next_attempt_time) == (0, scene.clock.now())
    assert scene.cache.archive_name(after) == "vault"

    # No run that begins in that limit takes another place.
    after = await scene.reconcile()
    assert (after.status.phase, documents(scene.vault)) == (Phase.SUCCEEDED, FILES)


async def test_esaw_is_asked_nothing_more_than_what_is_read_anyway(
    scene: RoutedScene, tmp_path: Path
) -> None:
    await scene.with_area("HR").reconcile()
    folder = tmp_path / "plain"
    folder.mkdir()
    plain = ReconcilerScene(folder, cleanup={"policy": "Keep"})
    await plain.reconcile()

    assert sorted(scene.envelope.asked) == sorted(plain.envelope.asked)


OTHERS: dict[str, dict[str, Any]] = {
    "a Sender": {"senders": ["anna"]},
    "an action": {"actions": ["envelopeFinished"]},
    "a status": {"statuses": ["Completed"]},
}


@pytest.mark.parametrize("what", OTHERS)
async def test_other_facts_than_tags_decide_too(tmp_path: Path, what: str) -> None:
    scene = RoutedScene(tmp_path, {**HR, "when": OTHERS[what]})
    after = await scene.reconcile()

    assert stored_choice(after.status) == Choice("vault", "hr")
    assert documents(scene.vault) == FILES


UNREADABLE = {
    "a raw tab in JSON": '{"area": "HR", "note": "a\tb"}',
    "JSON that was cut": '{"area": "HR"',
    "a bare ampersand in XML": "<m><area>HR</area><company>A & B</company></m>",
    "a document type declaration": "<!DOCTYPE m><m><area>HR</area></m>",
    "half of a character": '{"area": "HR", "note": "\ud800"}',
    "text": "area HR",
    "more than 1 MiB": f'{{"area": "HR", "note": "{"x" * 1024 * 1024}"}}',
    "deeper than any path goes": f'{{"note": {"[" * 500}{{"area": "HR"}}{"]" * 500}}}',
}


UNREADABLE_BY_RULE = [
    *((what, {"jsonPath": "$..area"}) for what in UNREADABLE),
    # An XPath finds nothing in JSON, as deep as it is.
    *((what, {"xpath": "//area"}) for what in UNREADABLE if not what.startswith("deeper")),
]


@pytest.mark.parametrize(("what", "rule"), UNREADABLE_BY_RULE)
async def test_metadata_that_can_not_be_read_moves_no_document(
    scene: RoutedScene, what: str, rule: dict[str, Any]
) -> None:
    scene.change_vault(tags={"area": rule})
    scene.envelope.metadata = UNREADABLE[what]
    waiting = await scene.reconcile()

    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "MetadataUnreadable")
    assert waiting.status.message is not None
    assert "The route `hr` can't be judged: the tag `area` is not known" in waiting.status.message
    assert (documents(scene.vault), documents(scene.dms)) == ([], [])
    assert stored_choice(waiting.status) is None

    scene.envelope.metadata = '{"area": "HR"}' if "jsonPath" in rule else "<m><area>HR</area></m>"
    after = await scene.reconcile()
    assert stored_choice(after.status) == Choice("vault", "hr")


@pytest.mark.parametrize(
    ("rule", "metadata"),
    [({"jsonPath": "$.area"}, "<m><area>HR</area></m>"), ({"xpath": "//area"}, '{"area": "HR"}')],
    ids=["XML for a JSONPath", "JSON for an XPath"],
)
async def test_metadata_in_the_other_notation_has_no_such_tag(
    scene: RoutedScene, rule: dict[str, Any], metadata: str
) -> None:
    scene.change_vault(tags={"area": rule})
    scene.envelope.metadata = metadata
    after = await scene.reconcile()
    assert stored_choice(after.status) == Choice("dms", None)


async def test_unreadable_metadata_matters_only_to_a_route_that_may_decide(tmp_path: Path) -> None:
    scene = RoutedScene(tmp_path, {**HR, "name": "first", "when": {"senders": ["anna"]}}, HR)
    scene.envelope.metadata = "{"
    after = await scene.reconcile()
    assert stored_choice(after.status) == Choice("vault", "first")


async def test_a_pattern_does_not_judge_the_beginning_of_a_longer_value(tmp_path: Path) -> None:
    route = {**HR, "when": {"tags": {"area": {"pattern": "H+"}}}}
    scene = RoutedScene(tmp_path, route)
    waiting = await scene.with_area("H" * 1025).reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "MetadataUnreadable")
    assert "longer than 1,024 characters" in (waiting.status.message or "")

    after = await scene.with_area("H" * 1024).reconcile()
    assert stored_choice(after.status) == Choice("vault", "hr")


async def test_a_longer_value_than_is_read_is_none_of_the_values_of_a_route(scene: RoutedScene) -> None:
    after = await scene.with_area("H" * 1025).reconcile()
    assert stored_choice(after.status) == Choice("dms", None)


@pytest.mark.parametrize("space", [" ", "\u00a0"], ids=["spaces", "spaces that do not break"])
async def test_the_beginning_of_a_longer_value_that_ends_in_white_space_is_no_value_of_a_route(
    scene: RoutedScene, space: str
) -> None:
    waiting = await scene.with_area(f"HR{space * 1500}of somebody else").reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "MetadataUnreadable")
    assert (documents(scene.vault), documents(scene.dms)) == ([], [])

    after = await scene.with_area(f"HR{space * 1500}").reconcile()
    assert stored_choice(after.status) == Choice("vault", "hr")


# -- A choice that is made counts ----------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["none", "elsewhere", "other tag"])
async def test_a_route_that_changes_while_files_are_archived_splits_no_envelope(
    scene: RoutedScene, change: str
) -> None:
    scene.with_area("HR").envelope.but("download trail-1", EsawUnreachable("cut"))
    waiting = await scene.reconcile()
    assert (waiting.status.phase, documents(scene.vault)) == (Phase.ARCHIVING, ["file-1.pdf"])

    routes = {
        "none": (),
        "elsewhere": ({**HR, "archiveRef": {"name": "dms"}},),
        "other tag": ({**HR, "when": {"tags": {"area": {"values": ["IT"]}}}},),
    }
    scene.change_routes(*routes[change])
    scene.envelope.problems.clear()
    scene.restarted()
    after = await scene.reconcile()

    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, Choice("vault", "hr"))
    assert (documents(scene.vault), documents(scene.dms)) == (FILES, [])
    assert find_condition(after.status.conditions, "FilesLeftBehind") is None


async def test_a_changed_archive_ref_splits_no_envelope_either(scene: RoutedScene) -> None:
    scene.with_area("IT").envelope.but("download trail-1", EsawUnreachable("cut"))
    await scene.reconcile()
    scene.change_routes(archiveRef={"name": "vault"})
    scene.envelope.problems.clear()
    after = await scene.reconcile()

    assert stored_choice(after.status) == Choice("dms", None)
    assert (documents(scene.dms), documents(scene.vault)) == (FILES, [])


async def test_what_is_archived_is_proved_and_deleted_where_it_is_after_the_routes_changed(
    tmp_path: Path,
) -> None:
    scene = RoutedScene(tmp_path, cleanup={"policy": "Delete", "after": "1h"})
    delayed = await scene.with_area("HR").reconcile()
    assert delayed.status.reason == "CleanupDelayed"
    scene.change_routes(cleanup={"policy": "Delete", "after": "1h"})
    scene.clock.advance(hours=1)
    after = await scene.reconcile()

    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert stored_choice(after.status) == Choice("vault", "hr")
    assert documents(scene.dms) == []


async def test_an_event_that_failed_without_a_manifest_chooses_again_when_it_starts_again(
    tmp_path: Path,
) -> None:
    scene = RoutedScene(tmp_path, retry={"initial": "1s", "max": "1s", "deadline": "1m"})
    scene.with_area("HR").envelope.but("download trail-1", EsawUnreachable("cut"))
    await scene.reconcile()
    scene.clock.advance(minutes=2)
    failed = await scene.reconcile()
    assert failed.status.phase is Phase.FAILED
    assert stored_choice(failed.status) == Choice("vault", "hr")

    scene.change_routes()
    scene.envelope.problems.clear()
    again = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    scene.kube.put(replace(failed, status=again))
    after = await scene.reconcile()

    assert stored_choice(after.status) == Choice("dms", None)
    assert documents(scene.dms) == FILES
    left = find_condition(after.status.conditions, "FilesLeftBehind")
    assert left is not None
    assert "/vault/" in left.message


@pytest.fixture
def retried(tmp_path: Path) -> RetriedScene:
    return RetriedScene(tmp_path)


FIRST_FAILURES = {
    "none": {},
    "the envelope": {"envelope": EsawUnreachable("cut")},
    "the metadata": {"configuration": EsawUnreachable("cut")},
}


@pytest.mark.parametrize("first", FIRST_FAILURES)
@pytest.mark.parametrize(
    "routes",
    [(), ({**HR, "archiveRef": {"name": "dms"}, "when": {"senders": ["anna"]}},)],
    ids=["none", "elsewhere"],
)
async def test_a_repeated_callback_moves_no_document_to_an_archive_that_a_person_took_out(
    retried: RetriedScene, first: str, routes: tuple[dict[str, Any], ...]
) -> None:
    failed = await retried.failed()
    retried.change_routes(*routes, **retried.SPEC)
    retried.receives_its_callback_again(failed)
    assert retried.cache.archive_name(retried.event) != "vault"
    for call, problem in FIRST_FAILURES[first].items():
        retried.envelope.but(call, problem)
    await retried.reconcile()
    retried.envelope.problems.clear()
    after = await retried.reconcile(2)

    assert (after.status.phase, after.status.archive and after.status.archive.ref.name) == (
        Phase.SUCCEEDED,
        "dms",
    )
    assert (documents(retried.vault), documents(retried.dms)) == (["file-1.pdf"], FILES)
    left = find_condition(after.status.conditions, "FilesLeftBehind")
    assert left is not None


@pytest.mark.parametrize("first", FIRST_FAILURES)
async def test_after_a_repeated_callback_an_event_follows_the_one_that_has_a_manifest(
    retried: RetriedScene, first: str
) -> None:
    """Also if the routes still lead to the Archive in which it has a file."""
    failed = await retried.failed()
    retried.with_area("IT")
    other = await retried.archive_another_event()
    assert stored_choice(other.status) == Choice("dms", None)

    retried.with_area("HR")
    retried.receives_its_callback_again(failed)
    for call, problem in FIRST_FAILURES[first].items():
        retried.envelope.but(call, problem)
    await retried.reconcile()
    retried.envelope.problems.clear()
    after = await retried.reconcile(2)

    assert stored_choice(after.status) == Choice("dms", None)
    assert documents(retried.vault) == ["file-1.pdf"]


async def test_an_event_that_a_callback_starts_again_keeps_its_files_where_the_routes_still_lead(
    retried: RetriedScene,
) -> None:
    retried.receives_its_callback_again(await retried.failed())
    after = await retried.reconcile()
    assert stored_choice(after.status) == Choice("vault", "hr")
    assert (documents(retried.vault), documents(retried.dms)) == (FILES, [])
    assert find_condition(after.status.conditions, "FilesLeftBehind") is None


@pytest.mark.parametrize("first", ["none", "the files"])
async def test_places_in_another_archive_are_no_claim_in_one_with_equal_places(
    retried: RetriedScene, first: str
) -> None:
    """Two servers can have a bucket of one name. Here the other one is the same folder, emptied."""
    failed = await retried.failed()
    retried.observe(a_probed_archive("dms", root=retried.vault, version=9, generation=9, tags=AREA))
    for each in retried.vault.rglob("file-1.pdf"):
        each.write_bytes(b"of somebody else")
    retried.change_routes(**retried.SPEC)
    retried.receives_its_callback_again(failed)
    if first == "the files":
        retried.envelope.but("files", EsawUnreachable("cut"))
        await retried.reconcile()
        retried.envelope.problems.clear()
    after = await retried.reconcile()

    assert after.status.reason == "NameOccupied"
    assert [each.read_bytes() for each in retried.vault.rglob("file-1.pdf")] == [b"of somebody else"]


async def test_files_that_are_left_behind_are_named_with_their_archive(retried: RetriedScene) -> None:
    failed = await retried.failed()
    retried.change_routes(**retried.SPEC)
    retried.receives_its_callback_again(failed)
    after = await retried.reconcile(2)

    assert (after.status.phase, documents(retried.vault)) == (Phase.SUCCEEDED, ["file-1.pdf"])
    left = find_condition(after.status.conditions, "FilesLeftBehind")
    assert left is not None
    assert "file-1.pdf` in Archive/vault" in left.message


@pytest.mark.parametrize("name", ["a", "a9", "dms-2", "dms.of.acme"])
def test_files_that_are_left_behind_stay_known_by_any_name_of_their_archive(name: str) -> None:
    left = [("s3://contracts/acme/file 1.pdf", name), ("file:///acme/2.pdf", "dms")]
    for places in (left, left[::-1], left[:1]):
        assert listed_places(left_behind_message(places)) == places


def test_a_place_is_only_counted_if_its_end_is_not_certain_in_the_message() -> None:
    """Tags and file names come from others, and the message asks a person to remove what is there."""
    forged = ("s3://contracts/victim` in Archive/dms, since/file-1.pdf", "a")
    assert listed_places(left_behind_message([forged])) == []
    assert listed_places(left_behind_message([forged, ("s3://contracts/b.pdf", "a")])) == [
        ("s3://contracts/b.pdf", "a")
    ]
    assert " at 1 place, since" in left_behind_message([forged])


OTHER_PATH = "{{organization}}/new/{{envelope.id}}/{{file.kind}}/{{file.name}}"
SAME_PLACES: dict[str, dict[str, Any]] = {"equal paths": {}, "another path": {"path": OTHER_PATH}}


@pytest.mark.parametrize("is_probed", [True, False], ids=["probed", "not probed with its newest spec"])
@pytest.mark.parametrize("path", SAME_PLACES)
async def test_another_archive_of_the_same_place_leaves_no_file_behind(
    retried: RetriedScene, path: str, *, is_probed: bool
) -> None:
    """Its files are the only copy once the envelope is deleted, so no message asks to remove them."""
    failed = await retried.failed()
    new = retried.an_archive_of_the_vault("vault-new", **SAME_PLACES[path])
    retried.observe(observed(new) if is_probed else new)
    retried.change_routes({**HR, "archiveRef": {"name": "vault-new"}}, **retried.SPEC)
    retried.receives_its_callback_again(failed)
    after = await retried.reconcile(2)

    assert (after.status.phase, stored_choice(after.status)) == (
        Phase.SUCCEEDED,
        Choice("vault-new", "hr"),
    )
    assert find_condition(after.status.conditions, "FilesLeftBehind") is None


async def test_a_present_location_is_never_left_behind_also_by_another_marker(retried: RetriedScene) -> None:
    """One root may be a folder of the other one."""
    failed = await retried.failed()
    retried.observe(observed(a_probed_archive("dms", root=retried.vault, version=9, generation=9, tags=AREA)))
    retried.change_routes(**retried.SPEC)
    retried.receives_its_callback_again(failed)
    after = await retried.reconcile(2)

    assert (after.status.phase, documents(retried.vault)) == (Phase.SUCCEEDED, FILES)
    assert find_condition(after.status.conditions, "FilesLeftBehind") is None


@pytest.mark.parametrize("change", ["deleted", "elsewhere", "not probed"])
async def test_no_file_is_left_behind_in_an_archive_whose_root_is_not_known(
    retried: RetriedScene, tmp_path: Path, change: str
) -> None:
    failed = await retried.failed()
    if change == "deleted":
        retried.cache.archives.remove("vault")
    elif change == "elsewhere":
        other = tmp_path / "other"
        other.mkdir()
        vault = a_probed_archive("vault", root=other, marker_id="3" * 32, version=9, generation=9, tags=AREA)
        retried.observe(observed(vault))
    else:
        retried.observe(retried.an_archive_of_the_vault("vault", version=9, generation=9))
    retried.change_routes(**retried.SPEC)
    retried.receives_its_callback_again(failed)
    after = await retried.reconcile(2)

    assert (after.status.phase, documents(retried.dms)) == (Phase.SUCCEEDED, FILES)
    assert find_condition(after.status.conditions, "FilesLeftBehind") is None


def left_behind(event: EnvelopeEvent) -> str:
    """Return the message of the condition if it is True."""
    left = find_condition(event.status.conditions, "FilesLeftBehind")
    return left.message if left is not None and left.status == "True" else ""


@pytest.mark.parametrize("name", ["vault", "vault-copy"])
@pytest.mark.parametrize("is_required", [True, False], ids=["required", "optional"])
async def test_what_is_in_the_archive_of_a_copy_is_not_left_behind(
    retried: RetriedScene, name: str, *, is_required: bool
) -> None:
    """The copy is made of it, so no message asks to remove it."""
    failed = await retried.failed()
    if name != "vault":
        retried.observe(observed(retried.an_archive_of_the_vault(name)))
    copy = {"archiveRef": {"name": name}, "required": is_required}
    retried.change_routes(**retried.SPEC, copies=[copy])
    retried.receives_its_callback_again(failed)
    after = await retried.reconcile(2)

    assert (after.status.phase, stored_copy(after.status, name).reason) == (Phase.SUCCEEDED, None)
    assert documents(retried.vault) == FILES
    assert left_behind(after) == ""


@pytest.mark.parametrize("others", [[], [{"archiveRef": {"name": "missing"}}]])
async def test_a_copy_that_is_added_later_is_not_left_behind_any_more(
    retried: RetriedScene, others: list[dict[str, Any]]
) -> None:
    failed = await retried.failed()
    retried.change_routes(**retried.SPEC)
    retried.receives_its_callback_again(failed)
    after = await retried.reconcile(2)
    assert "file-1.pdf` in Archive/vault" in left_behind(after)

    retried.change_routes(**retried.SPEC, copies=[{"archiveRef": {"name": "vault"}}, *others])
    status = status_for_copying(after.status, reason="CopyRequested", message="", now=retried.clock.now())
    retried.kube.put(replace(after, status=status))
    after = await retried.reconcile()

    assert (after.status.phase, documents(retried.vault)) == (Phase.SUCCEEDED, FILES)
    assert left_behind(after) == ""


async def test_an_event_that_ended_with_a_manifest_keeps_its_archive_when_it_starts_again(
    scene: RoutedScene,
) -> None:
    kept = await scene.with_area("HR").reconcile()
    again = reopened_status(kept.status, reason="RetryRequested", message="", now=scene.clock.now())

    assert stored_choice(again) == Choice("vault", "hr")


# -- The events of one envelope ------------------------------------------------------------------------------


async def test_a_later_event_of_the_envelope_follows_the_one_that_has_files_somewhere(tmp_path: Path) -> None:
    actions = [{"action": "envelopeFinished"}, {"action": "workstepFinished"}]
    scene = RoutedScene(tmp_path, actions=actions)
    first = await scene.with_area("HR").reconcile()
    assert stored_choice(first.status) == Choice("vault", "hr")
    scene.change_routes({**HR, "archiveRef": {"name": "dms"}}, actions=actions)

    scene.event = an_event().for_action("workstepFinished").named("second").build()
    scene.kube.put(scene.event)
    second = await scene.reconcile(2)

    assert stored_choice(second.status) == Choice("vault", "hr")
    assert documents(scene.dms) == []


@pytest.mark.parametrize(
    "path", ["{{envelope.id}}/{{file.name}}", "{{organization}}/{{envelope.id}}/{{file.name}}"]
)
async def test_neither_events_nor_imports_of_an_organization_hold_one_of_another_esaw_in_an_archive(
    scene: RoutedScene, path: str
) -> None:
    """Only some processes know them. What the specs of the Organizations say is the same everywhere."""
    scene.with_area("HR").envelope.but("download trail-1", EsawUnreachable("cut"))
    scene.cache.update(await scene.reconcile())
    scene.change_routes()
    imported = an_import(archiveRef={"name": "vault"})
    scene.cache.imports = {imported.name: imported}
    younger = an_organization("zeta", baseURL="https://other.example.com", archiveRef={"name": "vault"})
    scene.observe(younger)
    scene.change_vault(path=path)
    chooser = scene.new_preconditions().archives
    assert isinstance(chooser.find(Choice("vault", None), an_event().build(), younger), Archive)


async def test_an_envelope_of_another_esaw_with_the_same_id_takes_no_file_of_an_unfinished_event(
    scene: RoutedScene,
) -> None:
    """So its Organization need not wait for the events of the other one."""
    other = "https://other.example.com"
    scene.change_vault(path="{{envelope.id}}/{{file.name}}")
    scene.with_area("HR").envelope.but("download trail-1", EsawUnreachable("cut"))
    first = await scene.reconcile()
    assert (first.status.phase, documents(scene.vault)) == (Phase.ARCHIVING, ["file-1.pdf"])
    (stored,) = scene.vault.rglob("*.pdf")

    scene.change_routes()
    refs: dict[str, Any] = {"archiveRef": {"name": "vault"}, "defaultSenderRef": {"name": "zora"}}
    scene.observe(an_organization("zeta", baseURL=other, **refs))
    scene.observe(known_to_work(a_sender("zora", organization="zeta")))
    scene.put_key("zora")
    scene.envelope.problems.clear()
    scene.envelope.contents["file-1"] = b"%PDF-another"
    event = an_event().named("of-zeta").labelled(SENDER_LABEL, "zora").build()
    scene.event = replace(event, spec=replace(event.spec, organization_ref=LocalObjectReference(name="zeta")))
    scene.kube.put(scene.event)
    second = await scene.reconcile()
    assert (second.status.phase, second.status.reason) == (Phase.FAILED, "NameOccupied")
    assert stored.read_bytes() == b"%PDF-contract"


# -- Archives and routes that can't be used ------------------------------------------------------------------


async def test_an_event_waits_for_the_archive_of_its_route_and_continues_when_it_exists(
    scene: RoutedScene,
) -> None:
    vault = scene.cache.archives.get("vault")
    assert vault is not None
    scene.cache.archives.remove("vault")
    waiting = await scene.with_area("HR").reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "ArchiveMissing")
    assert waiting.status.message is not None
    assert "The route `hr` looks at tags as Archive/vault defines them" in waiting.status.message
    assert scene.cache.may_use(waiting, "vault")
    assert documents(scene.dms) == []

    scene.observe(vault)
    after = await scene.reconcile()
    assert stored_choice(after.status) == Choice("vault", "hr")


async def test_a_missing_archive_of_a_route_that_holds_is_named_with_the_route(tmp_path: Path) -> None:
    scene = RoutedScene(tmp_path, {**HR, "when": {"senders": ["anna"]}})
    scene.cache.archives.remove("vault")
    waiting = await scene.reconcile()
    assert waiting.status.message == "Archive/vault of the route `hr` does not exist."

    scene.change_routes({**HR, "archiveRef": {"name": "dms"}, "when": {"senders": ["anna"]}})
    after = await scene.reconcile()
    assert stored_choice(after.status) == Choice("dms", "hr")
    assert documents(scene.dms) == FILES


async def test_an_event_with_files_in_an_archive_that_was_deleted_waits_for_that_archive(
    scene: RoutedScene,
) -> None:
    scene.with_area("HR").envelope.but("download trail-1", EsawUnreachable("cut"))
    await scene.reconcile()
    scene.cache.archives.remove("vault")
    scene.change_routes()
    waiting = await scene.reconcile()
    assert waiting.status.reason == "ArchiveMissing"
    assert waiting.status.message == (
        "Archive/vault of the route `hr` does not exist, and files of this event may be there."
    )


async def test_an_envelope_that_no_broken_route_concerns_is_archived(tmp_path: Path) -> None:
    scene = RoutedScene(
        tmp_path,
        {**HR, "when": {"senders": ["anna"]}},
        {**HR, "name": "broken", "archiveRef": {"name": "nowhere"}},
    )
    after = await scene.with_area("HR").reconcile()
    assert stored_choice(after.status) == Choice("vault", "hr")


async def test_a_tag_that_the_archive_of_the_route_does_not_define_moves_no_document(
    scene: RoutedScene,
) -> None:
    scene.change_vault(tags={})
    waiting = await scene.with_area("HR").reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "RouteInvalid")
    assert waiting.status.message == (
        "The route `hr` looks at `area`, and spec.tags of Archive/vault does not define that. Define it "
        "there, or correct spec.routes."
    )
    assert (documents(scene.vault), documents(scene.dms)) == ([], [])

    scene.change_vault()
    after = await scene.reconcile()
    assert stored_choice(after.status) == Choice("vault", "hr")


async def test_a_path_of_the_archive_of_the_route_that_lacks_a_tag_moves_no_document(tmp_path: Path) -> None:
    scene = RoutedScene(tmp_path, {**HR, "when": {"senders": ["anna"]}})
    scene.change_vault(tags={}, path="{{tags.area}}/{{envelope.id}}/{{file.name}}")
    waiting = await scene.reconcile()
    assert waiting.status.phase is Phase.COLLECTING
    assert waiting.status.reason in ("ArchiveNotReady", "SettingsInvalid")
    assert (documents(scene.vault), documents(scene.dms)) == ([], [])


async def test_a_suspended_archive_of_a_route_holds_the_event_until_it_is_resumed(scene: RoutedScene) -> None:
    scene.change_vault(suspend=True)
    held = await scene.with_area("HR").reconcile()
    scene.cache.update(held)
    assert (held.status.phase, held.status.reason) == (Phase.COLLECTING, "ArchiveSuspended")
    assert stored_choice(held.status) == Choice("vault", "hr")
    assert due_time(held, scene.cache, scene.clock.now()) is None

    scene.change_vault()
    assert scene.is_due()
    after = await scene.reconcile()
    assert documents(scene.vault) == FILES
    assert after.status.phase is Phase.SUCCEEDED


async def test_an_event_that_a_suspension_holds_chooses_again_after_its_route_was_corrected(
    scene: RoutedScene,
) -> None:
    scene.change_vault(suspend=True)
    held = await scene.with_area("HR").reconcile()
    scene.cache.update(held)
    scene.change_routes()
    assert scene.is_due()
    after = await scene.reconcile()
    assert stored_choice(after.status) == Choice("dms", None)
    assert documents(scene.dms) == FILES


async def test_an_archive_that_was_not_probed_is_waited_for_with_the_choice(scene: RoutedScene) -> None:
    scene.generation += 1
    scene.observe(an_archive("vault", version=5, filesystem={"root": str(scene.vault)}, tags=AREA))
    waiting = await scene.with_area("HR").reconcile()
    assert waiting.status.reason == "ArchiveNotProbed"
    assert stored_choice(waiting.status) == Choice("vault", "hr")
    assert scene.cache.archive_name(waiting) == "vault"


async def test_the_choice_of_an_event_is_known_without_esaw(scene: RoutedScene) -> None:
    """In a long outage of the archive, no waiting event asks eSAW."""
    scene.generation += 1
    scene.observe(an_archive("vault", version=5, filesystem={"root": str(scene.vault)}, tags=AREA))
    await scene.with_area("HR").reconcile()
    asked = len(scene.envelope.asked)
    await scene.reconcile()
    assert len(scene.envelope.asked) == asked


async def test_before_it_has_chosen_an_event_waits_for_no_archive(scene: RoutedScene) -> None:
    event = scene.newest()
    assert scene.cache.archive_name(event) == ""
    assert scene.cache.may_use(event, "dms")
    assert scene.cache.may_use(event, "vault")
    assert not scene.cache.may_use(event, "other")


async def test_a_choice_is_stored_with_each_failure_before_the_files_have_places(scene: RoutedScene) -> None:
    scene.with_area("HR").envelope.but("files", EsawUnreachable("cut"))
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "EsawUnreachable")
    assert stored_choice(waiting.status) == Choice("vault", "hr")
