"""The metrics that say how things stand."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from controller.gauges import Gauges, publish_shards
from controller.sharding import HeldShards
from counterfoil.resources import Condition, Import, Phase, SweepResult, with_condition
from counterfoil.resources.conditions import ConditionStatus
from tests.support.builders import NOON, a_sender, an_event, an_organization, ready
from tests.support.fakes.leases import held_shards
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.imports import an_import as of_import
from tests.support.scenes.waiting_events import HandlersScene


class Scrape:
    """The metrics of a scrape."""

    def __init__(self, scene: HandlersScene) -> None:
        self.scene = scene
        self.gauges = Gauges(
            metrics=scene.metrics,
            cache=scene.cache,
            statistics=scene.statistics,
            clock=scene.clock,
            owns=scene.held.owns,
        )

    def shows(self, name: str, **labels: str) -> float | None:
        return self.scene.metrics.registry.get_sample_value(f"counterfoil_{name}", labels)


def test_unfinished_events_are_counted_by_phase_and_the_oldest_is_known() -> None:
    scene = HandlersScene()
    scene.observe(an_organization())
    for count, phase in enumerate((Phase.ARCHIVING, Phase.ARCHIVING, Phase.AWAITING_CONSENT)):
        builder = an_event(f"{count:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d").in_phase(phase)
        scene.observe(builder.created(NOON - timedelta(minutes=count)).build())
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("events", organization="acme", phase="Archiving") == 2
    assert scrape.shows("events", organization="acme", phase="AwaitingConsent") == 1
    assert scrape.shows("events", organization="acme", phase="Pending") == 0
    assert scrape.shows("oldest_unfinished_seconds", organization="acme") == 120


def test_the_oldest_unfinished_event_is_one_that_is_not_archived() -> None:
    scene = HandlersScene()
    scene.observe(an_organization())
    waiting = an_event().archived().status(phase=Phase.CLEANING, reason="CleanupDelayed")
    scene.observe(waiting.created(NOON - timedelta(days=20)).build())
    other = an_event("11111111-4b1d-4c58-9a57-6d1f0a3b2c4d").in_phase(Phase.ARCHIVING)
    scene.observe(other.created(NOON - timedelta(minutes=2)).build())
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("events", organization="acme", phase="Cleaning") == 1
    assert scrape.shows("oldest_unfinished_seconds", organization="acme") == 120


WORM_COPY = [{"archiveRef": {"name": "worm"}}]


@pytest.mark.parametrize("reason", ["ArchiveUnreachable", "ArchiveSuspended"])
def test_an_archived_event_that_waits_for_a_required_copy_is_as_old_as_its_wait(reason: str) -> None:
    scene = HandlersScene()
    scene.observe(an_organization(copies=WORM_COPY))
    waiting = an_event().archived().in_phase(Phase.COPYING, reason).with_condition("Copied", "False", reason)
    scene.observe(waiting.created(NOON - timedelta(days=20)).build())
    scene.clock.advance(hours=7)
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("oldest_unfinished_seconds", organization="acme") == 0
    assert scrape.shows("oldest_open_copy_seconds", organization="acme") == 7 * 3600


@pytest.mark.parametrize(
    ("reason", "is_counted"),
    [
        ("ArchiveUnreachable", True),
        ("WaitingForArchive", True),
        ("AttemptOverdue", True),
        ("CopyInvalid", True),
        ("CleanupDelayed", True),
        (None, True),
        ("CopySuspended", False),
        ("EsawUnreachable", False),
    ],
)
def test_a_delete_that_waits_for_an_archive_is_as_old_as_it_is_due(
    reason: str | None, *, is_counted: bool
) -> None:
    """Also if it waits there for its first run, or for room. Its attempts begin new deadlines."""
    scene = HandlersScene()
    cleanup = {"policy": "Delete", "after": "24h"}
    scene.observe(an_organization(copies=WORM_COPY, cleanup=cleanup))
    waiting = an_event().archived().in_phase(Phase.CLEANING, reason).with_condition("Copied")
    scene.observe(waiting.created(NOON - timedelta(days=20)).build())
    scrape = Scrape(scene)
    scene.clock.advance(hours=24)
    scrape.gauges.refresh()
    assert scrape.shows("oldest_open_copy_seconds", organization="acme") == 0
    scene.clock.advance(hours=7)
    scrape.gauges.refresh()
    shown = scrape.shows("oldest_open_copy_seconds", organization="acme")
    assert shown == (7 * 3600 if is_counted else 0)


@pytest.mark.parametrize("required", [True, False], ids=["after the end", "optional"])
def test_a_copy_for_which_nothing_waits_is_no_open_copy(required: bool) -> None:
    scene = HandlersScene()
    scene.observe(an_organization(copies=[{**WORM_COPY[0], "required": required}]))
    copying = (
        an_event().archived().in_phase(Phase.COPYING).with_condition("Copied", "Unknown", "CopiesPending")
    )
    if required:
        copying.status(completion_time=NOON - timedelta(days=20))
    scene.observe(copying.build())
    scene.clock.advance(hours=7)
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("oldest_open_copy_seconds", organization="acme") == 0


def test_an_organization_without_events_shows_zeros() -> None:
    scene = HandlersScene()
    scene.observe(an_organization())
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("events", organization="acme", phase="Failed") == 0
    assert scrape.shows("oldest_unfinished_seconds", organization="acme") == 0


def test_an_archive_that_only_an_import_names_is_shown() -> None:
    scene = HandlersScene()
    scene.observe(ready(an_archive("vault"), "False"), an_organization())
    scene.cache.imports = {"old-stock": of_import(archiveRef={"name": "vault"})}
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("archive_ready", archive="vault") == 0


def test_an_archive_that_no_organization_uses_is_not_shown_and_one_that_is_missing_is() -> None:
    scene = HandlersScene()
    scene.observe(ready(an_archive(), "False"), an_organization(archiveRef={"name": "other"}))
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("archive_ready", archive="dms") is None
    assert scrape.shows("archive_ready", archive="other") == 0
    scene.observe(an_organization(version=2, generation=2))
    scrape.gauges.refresh()
    assert scrape.shows("archive_ready", archive="dms") == 0
    assert scrape.shows("archive_ready", archive="other") is None


def test_a_suspended_archive_is_not_shown_as_one_that_fails() -> None:
    scene = HandlersScene()
    scene.observe(ready(an_archive(), "False"), an_organization())
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("archive_ready", archive="dms") == 0
    scene.observe(ready(an_archive(version=2, generation=2, suspend=True), "False"))
    scrape.gauges.refresh()
    assert scrape.shows("archive_ready", archive="dms") is None


async def test_finished_events_are_those_of_the_garbage_collectors_last_pass() -> None:
    finished = an_event().in_phase(Phase.FAILED).build()
    scene = HandlersScene(finished)
    scene.observe(an_organization())
    async with scene.running(scene.garbage_collector.run()):
        pass
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("events", organization="acme", phase="Failed") == 1


async def test_envelopes_that_esaw_deletes_soon_are_counted_by_the_last_pass() -> None:
    scene = HandlersScene(an_event().in_phase(Phase.FAILED).created(NOON - timedelta(days=29)).build())
    scene.observe(an_organization(retention="720h"))
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("retention_ending_events", organization="acme") == 0
    async with scene.running(scene.garbage_collector.run()):
        pass
    scrape.gauges.refresh()
    assert scrape.shows("retention_ending_events", organization="acme") == 1


def test_senders_are_counted_by_whether_their_key_works() -> None:
    scene = HandlersScene()
    scene.observe(
        an_organization(),
        a_sender("a"),
        a_sender("b"),
        a_sender("c", authorized="False"),
        a_sender("d", authorized=None),
    )
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    for truth, count in (("True", 2), ("False", 1), ("Unknown", 1)):
        assert scrape.shows("senders", organization="acme", authorized=truth) == count


def test_over_all_controllers_each_sender_is_counted_once() -> None:
    shown = []
    for shard in range(3):
        scene = HandlersScene(shard=shard, shards=3)
        scene.observe(an_organization(), *(a_sender(f"sender-{count}") for count in range(30)))
        scrape = Scrape(scene)
        scrape.gauges.refresh()
        shown.append(scrape.shows("senders", organization="acme", authorized="True") or 0)
    assert sum(shown) == 30
    assert all(shown)


def test_the_series_of_an_organization_that_is_gone_are_gone() -> None:
    scene = HandlersScene()
    scene.observe(an_organization())
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    scene.see_deleted(an_organization())
    scrape.gauges.refresh()
    assert scrape.shows("oldest_unfinished_seconds", organization="acme") is None


def test_the_series_of_an_archive_that_is_gone_are_gone_once_no_organization_names_it() -> None:
    scene = HandlersScene()
    scene.observe(an_organization(copies=WORM_COPY), an_archive("worm"))
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    labels = {"archive": "worm", "outcome": "failed", "reason": "ArchiveMissing"}
    scene.metrics.copies.labels(*labels.values()).inc()
    scene.metrics.archive_bytes.labels("worm").inc()
    scene.see_deleted(an_archive("worm"))
    scrape.gauges.refresh()
    assert scrape.shows("copies_total", **labels) == 1, "its copies fail"
    scene.observe(an_organization(version=2, generation=2))
    scrape.gauges.refresh()
    assert scrape.shows("copies_total", **labels) is None
    assert scrape.shows("archive_bytes_total", archive="worm") is None


def test_each_failure_that_an_attempt_can_meet_starts_at_zero() -> None:
    scrape = Scrape(HandlersScene())
    for phase in ("Validating", "Archiving", "Cleaning"):
        for outcome, reason in (
            ("wait", "EsawFailing"),
            ("fail", "NotPermitted"),
            ("needconsent", "TokenRejected"),
        ):
            assert scrape.shows("attempts_total", phase=phase, outcome=outcome, reason=reason) == 0


def test_a_mail_server_is_ready_until_its_condition_says_otherwise() -> None:
    scene = HandlersScene()
    mail = {"smtpSecretRef": {"name": "smtp"}, "from": "a@acme.example"}
    scene.observe(an_organization("silent"), an_organization("acme", notifications=mail))
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("mail_ready", organization="acme") == 1
    assert scrape.shows("mail_ready", organization="silent") is None
    broken = with_condition((), "Notified", "False", "MailRefused", "No.", now=NOON, generation=1)
    organization = an_organization("acme", version=2, notifications=mail)
    scene.observe(replace(organization, status=replace(organization.status, conditions=broken)))
    scrape.gauges.refresh()
    assert scrape.shows("mail_ready", organization="acme") == 0
    scene.observe(an_organization("acme", version=3))
    scrape.gauges.refresh()
    assert scrape.shows("mail_ready", organization="acme") is None


def test_the_held_shards_are_counted_at_each_scrape() -> None:
    scrape, held = Scrape(HandlersScene()), [HeldShards({}, 4)]
    publish_shards(scrape.scene.metrics, lambda: held[-1])
    assert (scrape.shows("shards"), scrape.shows("shards_held")) == (4, 0)
    held.append(held_shards(1, 3, of=4))
    assert scrape.shows("shards_held") == 2


@pytest.mark.parametrize(("truth", "shown"), [("True", 1), ("False", 0), ("Unknown", None)])
def test_an_esaw_is_reachable_unless_its_condition_says_otherwise_or_it_is_unknown(
    truth: ConditionStatus, shown: int | None
) -> None:
    scene, organization = HandlersScene(), an_organization("acme")
    conditions = with_condition((), "Reachable", truth, "Reason", "In words.", now=NOON, generation=1)
    scene.observe(replace(organization, status=replace(organization.status, conditions=conditions)))
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("esaw_reachable", organization="acme") == shown


def test_each_condition_of_organizations_and_archives_is_a_gauge_and_none_while_it_is_unknown() -> None:
    scene = HandlersScene()
    truths: dict[str, ConditionStatus] = {"Ready": "False", "Reachable": "True", "Notified": "Unknown"}
    conditions: tuple[Condition, ...] = ()
    for kind, truth in truths.items():
        conditions = with_condition(conditions, kind, truth, "Reason", "Words.", now=NOON, generation=1)
    organization = an_organization()
    status = replace(organization.status, conditions=conditions)
    scene.observe(ready(an_archive()), replace(organization, status=status))
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    found = {
        kind: scrape.shows("organization_condition", organization="acme", condition=kind) for kind in truths
    }
    assert found == {"Ready": 0, "Reachable": 1, "Notified": None}
    assert scrape.shows("archive_condition", archive="dms", condition="Ready") == 1
    scene.metrics.forget_cluster()
    assert scrape.shows("organization_condition", organization="acme", condition="Ready") is None


def test_a_suspended_organization_is_not_shown_as_one_that_is_not_ready() -> None:
    scene = HandlersScene()
    suspended = with_condition((), "Ready", "False", "ArchiveSuspended", "Words.", now=NOON, generation=1)
    organization = an_organization()
    scene.observe(replace(organization, status=replace(organization.status, conditions=suspended)))
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("organization_condition", organization="acme", condition="Ready") is None


def test_the_conditions_of_an_organization_that_is_gone_are_gone() -> None:
    scene = HandlersScene()
    broken = with_condition((), "Ready", "False", "Reason", "In words.", now=NOON, generation=1)
    organization = an_organization()
    scene.observe(replace(organization, status=replace(organization.status, conditions=broken)))
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    assert scrape.shows("organization_condition", organization="acme", condition="Ready") == 0
    scene.see_deleted(an_organization())
    scrape.gauges.refresh()
    assert scrape.shows("organization_condition", organization="acme", condition="Ready") is None


def test_senders_are_counted_by_each_condition_and_its_status() -> None:
    scene = HandlersScene()
    scene.observe(an_organization(), *(a_sender(name, authorized="False") for name in ("anna", "ben")))
    scene.observe(a_sender("carla"), a_sender("dora", organizationRef={"name": "unknown"}))
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    labels = {"organization": "acme", "condition": "Authorized"}
    assert scrape.shows("sender_conditions", **labels, status="False") == 2
    assert scrape.shows("sender_conditions", **labels, status="True") == 1
    (family,) = scene.metrics.sender_conditions.collect()
    assert {each.labels["organization"] for each in family.samples} == {"acme"}


def an_import(name: str, *conditions: Condition, **status: object) -> Import:
    raw = {
        "metadata": {"name": name, "uid": name, "resourceVersion": "1"},
        "spec": {"organizationRef": {"name": "acme"}, "from": "2019-01-01"},
        "status": status,
    }
    imported = Import.parse(raw)
    return replace(imported, status=replace(imported.status, conditions=conditions))


def condition(type_: str, truth: ConditionStatus, reason: str) -> Condition:
    (found,) = with_condition((), type_, truth, reason, "", now=NOON, generation=1)
    return found


def test_an_import_shows_its_progress_and_nothing_after_its_end() -> None:
    scene = HandlersScene()
    scene.observe(an_organization())
    stalled = condition("Stalled", "True", "SendersNotSearched")
    numbers = {"found": 9, "known": 4, "archived": 3, "failed": 1, "windows": {"done": 7, "total": 10}}
    window = {"id": "w", "events": 1}
    scene.cache.imports = {"old-stock": an_import("old-stock", stalled, openWindows=[window], **numbers)}
    scrape, labels = Scrape(scene), {"organization": "acme", "import": "old-stock"}
    scrape.gauges.refresh()
    shown = [scrape.shows("import_envelopes", **labels, result=each) for each in ("found", "known", "failed")]
    assert shown == [9, 4, 1]
    shown = [scrape.shows("import_windows", **labels, state=each) for each in ("done", "open", "total")]
    assert shown == [7, 1, 10]
    assert scrape.shows("import_condition", **labels, condition="Stalled") == 1
    scene.cache.imports = {}
    scrape.gauges.refresh()
    assert scrape.shows("import_envelopes", **labels, result="found") is None
    assert scrape.shows("import_condition", **labels, condition="Stalled") is None


@pytest.mark.parametrize("reason", ["ImportSuspended", "OrganizationSuspended", "ImportOutsideHours"])
def test_an_import_that_is_paused_has_no_condition_of_which_somebody_is_alarmed(reason: str) -> None:
    scene = HandlersScene()
    scene.cache.imports = {"old-stock": an_import("old-stock", condition("Complete", "False", reason))}
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    labels = {"organization": "acme", "import": "old-stock"}
    assert scrape.shows("import_condition", **labels, condition="Complete") is None
    assert scrape.shows("import_windows", **labels, state="total") == 0


def test_the_last_sweep_shows_what_it_found_knew_started_again_and_refused() -> None:
    scene = HandlersScene()
    swept = SweepResult(completion_time=NOON, found=2, known=7, reopened=3, refused=1)
    organization = an_organization()
    scene.observe(replace(organization, status=replace(organization.status, sweep=swept)))
    scrape = Scrape(scene)
    scrape.gauges.refresh()
    shown = [scrape.shows("sweep_envelopes", organization="acme", result=each) for each in RESULTS]
    assert shown == [2, 7, 3, 1]


def test_a_sweep_that_is_not_complete_is_shown_unless_its_organization_is_suspended() -> None:
    scene = HandlersScene()
    scrape = Scrape(scene)
    shown = []
    for version, (complete, suspend) in enumerate(
        ((None, False), (False, False), (True, False), (False, True)), 1
    ):
        swept = None if complete is None else SweepResult(completion_time=NOON, found=0, complete=complete)
        organization = an_organization(version=version, generation=version, suspend=suspend)
        scene.observe(replace(organization, status=replace(organization.status, sweep=swept)))
        scrape.gauges.refresh()
        shown.append(scrape.shows("sweep_complete", organization="acme"))
    assert shown == [None, 0, 1, None]


RESULTS = ("found", "known", "reopened", "refused")
