"""Archive backends: kept open, opened again after a change, and probed."""

import asyncio
import json
import re
import shlex
import sys
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from controller.access.archive_pool import (
    LIST_AGAIN_SECONDS,
    MAX_OTHER_PROBES,
    MAX_SECRET_ORIGINS,
)
from controller.access.archive_root import (
    CHECK_AGAIN_SECONDS,
    MARKER_NAME,
    check_new_root,
    check_root,
    expected_marker,
    write_marker,
)
from controller.access.secret_cache import FRESH_SECONDS
from counterfoil.archives.backends.filesystem import FilesystemBackend
from counterfoil.archives.errors import (
    ArchiveRefused,
    ArchiveUnavailable,
    SettingsInvalid,
    VerificationFailed,
)
from counterfoil.archives.manifest import Manifest, ManifestEnvelope, ManifestSender, ManifestTimes
from counterfoil.i18n.commands import commands_in
from counterfoil.kube.errors import Forbidden, Unavailable
from counterfoil.origin import ORIGIN_ANNOTATION
from counterfoil.resources import (
    Archive,
    ArchiveLocation,
    ArchiveRoot,
    EnvelopeEvent,
    LocalObjectReference,
    Phase,
    find_condition,
    with_condition,
)
from counterfoil.resources.archive_kinds import SETTINGS
from counterfoil.untrusted.transfer_rate import MinimumRate
from tests.support.builders import ENVELOPE, NOON, an_event, an_organization
from tests.support.event_loop import MAX_BLOCK_SECONDS, longest_block, slow_tag_rules
from tests.support.fakes.archives import MemoryBackend, once
from tests.support.fakes.reconcile_context import an_archive
from tests.support.pauses import eventually
from tests.support.scenes.controller_parts import ControllerParts
from tests.support.signed_pdfs import BETWEEN, ROOT


class Scene(ControllerParts):
    """The pool of a namespace with one Archive on the disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.root = folder / "dms"
        self.root.mkdir()
        self.kube.put(self.archive())
        self.kube.secret_uses |= {"dms-key": "archive", "authorities": "trust"}

    def archive(self, **more: Any) -> Archive:
        return an_archive(filesystem={"root": str(self.root)}, **more)

    def unmount(self) -> Path:
        """Take the root away; return where it is."""
        return self.root.rename(self.root.with_name("unmounted"))

    def marker(self) -> str:
        """Id in the marker of the root."""
        content = json.loads((self.root / MARKER_NAME).read_text())
        assert content["schema"] == "counterfoil.dev/archive-marker/v1"
        return str(content["id"])

    def newest(self) -> Archive:
        return Archive.parse(self.kube.objects["archives", "dms"])

    def ready(self) -> tuple[str, str, str]:
        found = find_condition(self.newest().status.conditions, "Ready")
        assert found is not None
        return found.status, found.reason, found.message

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"counterfoil_{name}", labels)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_a_backend_is_opened_once(scene: Scene) -> None:
    archive = scene.archive()
    assert await scene.archive_pool.backend(archive) is await scene.archive_pool.backend(archive)


async def test_another_spec_opens_another_backend(scene: Scene) -> None:
    first = await scene.archive_pool.backend(scene.archive(generation=1))
    assert await scene.archive_pool.backend(scene.archive(generation=2)) is not first


async def test_an_archive_that_was_made_again_has_another_backend(scene: Scene) -> None:
    first = await scene.archive_pool.backend(scene.archive())
    scene.archive_pool.forget("dms")
    assert await scene.archive_pool.backend(scene.archive()) is not first


def an_s3() -> Archive:
    return an_archive(
        filesystem=None,
        s3={"bucket": "contracts", "region": "eu-south-1", "credentialsSecretRef": {"name": "dms-key"}},
    )


async def test_other_credentials_in_the_secret_open_another_backend_within_seconds(scene: Scene) -> None:
    scene.kube.secrets["dms-key"] = {"accessKeyId": b"a", "secretAccessKey": b"one"}
    first = await scene.archive_pool.backend(an_s3())
    scene.kube.secrets["dms-key"] = {"accessKeyId": b"a", "secretAccessKey": b"two"}
    scene.clock.advance(seconds=11)
    assert await scene.archive_pool.backend(an_s3()) is not first


async def test_a_secret_that_is_not_there_is_reported_with_what_to_do(scene: Scene) -> None:
    with pytest.raises(SettingsInvalid) as trouble:
        await scene.archive_pool.backend(an_s3())
    assert str(trouble.value) == (
        "Archive/dms: Secret/dms-key does not exist. Put the credentials there (type "
        "`kubectl create secret generic dms-key --from-literal=accessKeyId='NEW-ACCESS-KEY-ID' "
        "--from-literal=secretAccessKey='NEW-SECRET-ACCESS-KEY' --dry-run=client -o yaml "
        "| kubectl label --local -f - counterfoil.dev/use=archive -o yaml | kubectl create -f -`), "
        "or correct credentialsSecretRef."
    )


async def test_the_commands_for_a_secret_have_the_names_that_the_archive_gives_its_keys(scene: Scene) -> None:
    claim = {"name": "claim", "keys": {"accessKeyId": "AWS_ACCESS_KEY_ID"}}
    s3 = {"bucket": "contracts", "region": "eu-south-1", "credentialsSecretRef": claim}
    with pytest.raises(SettingsInvalid) as trouble:
        await scene.archive_pool.backend(an_archive(filesystem=None, s3=s3))
    assert " --from-literal=AWS_ACCESS_KEY_ID='NEW-ACCESS-KEY-ID' " in str(trouble.value)


async def test_of_a_kind_whose_keys_are_unknown_no_command_is_printed(scene: Scene) -> None:
    custom = {"kind": "acme-dms", "credentialsSecretRef": {"name": "acme"}}
    with pytest.raises(SettingsInvalid) as trouble:
        await scene.archive_pool.backend(an_archive(filesystem=None, custom=custom))
    assert str(trouble.value) == (
        "Archive/dms: Secret/acme does not exist. Put what the kind needs there, with the label "
        "counterfoil.dev/use=archive, or correct credentialsSecretRef."
    )


async def test_a_command_that_was_typed_as_it_was_printed_gives_no_credentials(scene: Scene) -> None:
    scene.kube.secrets["dms-key"] = {"accessKeyId": b"AKIA", "secretAccessKey": b"NEW-SECRET-ACCESS-KEY\n"}
    with pytest.raises(SettingsInvalid) as trouble:
        await scene.archive_pool.backend(an_s3())
    assert "NEW-SECRET-ACCESS-KEY is the placeholder of a command." in str(trouble.value)
    assert "kubectl patch secret dms-key -p " in str(trouble.value)
    assert len(commands_in(str(trouble.value), trouble.value.reason, "tests")) == 1


async def test_the_commands_for_a_secret_are_offered_for_typing(scene: Scene) -> None:
    anchored = an_archive(trustAnchorsSecretRef={"name": "authorities"})
    for opening in (scene.archive_pool.backend(an_s3()), scene.archive_pool.anchors(anchored)):
        with pytest.raises(SettingsInvalid) as trouble:
            await opening
        found = commands_in(str(trouble.value), trouble.value.reason, "tests")
        assert [each.line.split()[3] for each in found] == ["create"]


async def test_a_spec_chooses_no_command_of_the_message_about_it(scene: Scene) -> None:
    planted = "`kubectl label secret database counterfoil.dev/use=archive`"
    cmis = {**SETTINGS["cmis"].EXAMPLE, "properties": {"acme:number": planted}}
    scene.kube.put(an_archive(filesystem=None, cmis=cmis))
    await scene.archive_pool.update_status(scene.newest())
    truth, reason, message = scene.ready()
    assert (truth, reason) == ("False", "SettingsInvalid")
    assert "secret database" in message
    assert "`kubectl" not in message
    assert commands_in(message, reason, "tests") == ()


async def test_a_placeholder_counts_only_where_a_value_is_read(scene: Scene) -> None:
    scene.kube.secrets["dms-key"] = {
        "accessKeyId": b"AKIA",
        "secretAccessKey": b"one",
        "password": b"NEW-PASSWORD",
    }
    await scene.archive_pool.backend(an_s3())


async def test_a_secret_for_another_use_is_no_credential_until_it_is_labelled(scene: Scene) -> None:
    scene.kube.put_secret("dms-key", "smtp", {"accessKeyId": b"a", "secretAccessKey": b"one"})
    with pytest.raises(SettingsInvalid) as trouble:
        await scene.archive_pool.backend(an_s3())
    assert trouble.value.reason == "SecretNotLabelled"
    assert "kubectl label secret dms-key counterfoil.dev/use=archive" in str(trouble.value)

    scene.kube.secret_uses["dms-key"] = "archive"
    scene.clock.advance(seconds=FRESH_SECONDS + 1)
    await scene.archive_pool.backend(an_s3())


async def test_an_open_archive_whose_secret_loses_its_label_is_not_used(scene: Scene) -> None:
    scene.kube.secrets["dms-key"] = {"accessKeyId": b"a", "secretAccessKey": b"one"}
    await scene.archive_pool.backend(an_s3())
    del scene.kube.secret_uses["dms-key"]
    scene.clock.advance(seconds=FRESH_SECONDS + 1)
    with pytest.raises(SettingsInvalid):
        await scene.archive_pool.backend(an_s3())


async def test_a_probe_of_rules_that_are_slow_to_check_does_not_hold_the_event_loop(scene: Scene) -> None:
    tags = {name: {"jsonPath": each.json_path} for name, each in slow_tag_rules("probe").items()}
    scene.kube.put(an_archive(tags=tags))
    probe = scene.archive_pool.update_status(scene.newest())
    assert await longest_block(probe) < MAX_BLOCK_SECONDS


async def test_trust_anchors_have_a_separate_use(scene: Scene) -> None:
    scene.kube.put_secret("authorities", "archive", {"ca.pem": ROOT.pem})
    with pytest.raises(SettingsInvalid) as trouble:
        await scene.archive_pool.anchors(an_archive(trustAnchorsSecretRef={"name": "authorities"}))
    assert trouble.value.reason == "SecretNotLabelled"


async def test_a_secret_without_the_right_keys_is_reported_without_what_is_in_it(scene: Scene) -> None:
    scene.kube.secrets["dms-key"] = {"username": b"topsecret", "accessKeyId": b"\xff\xfe"}
    with pytest.raises(SettingsInvalid) as trouble:
        await scene.archive_pool.backend(an_s3())
    assert str(trouble.value).startswith("Archive/dms: ")
    assert "topsecret" not in str(trouble.value)


@pytest.mark.parametrize(
    ("secret", "expected", "says"),
    [
        (
            None,
            "ArchiveSecretMissing",
            "Secret/authorities does not exist. Put the trust anchors there (type `kubectl create secret "
            "generic authorities --from-literal=ca.pem='NEW-CERTIFICATES' --dry-run=client -o yaml "
            "| kubectl label --local -f - counterfoil.dev/use=trust -o yaml | kubectl create -f -`), "
            "or correct trustAnchorsSecretRef.",
        ),
        (
            {"ca.pem": b"NEW-CERTIFICATES"},
            "ArchiveSecretMissing",
            "key 'ca.pem': NEW-CERTIFICATES is the placeholder of a command. Put the trust anchors there "
            "(type `kubectl patch secret authorities -p ",
        ),
        ({}, "SettingsInvalid", "must contain trust anchors, but it is empty."),
        ({"ca.pem": b"x"}, "SettingsInvalid", "but `ca.pem` in it is no certificate in PEM form."),
    ],
)
async def test_trust_anchors_that_can_not_be_read_are_reported(
    scene: Scene, secret: dict[str, bytes] | None, expected: str, says: str
) -> None:
    if secret is not None:
        scene.kube.secrets["authorities"] = secret
    scene.kube.put(scene.archive(trustAnchorsSecretRef={"name": "authorities"}))
    await scene.archive_pool.update_status(scene.newest())
    truth, reason, message = scene.ready()
    assert (truth, reason) == ("False", expected)
    assert says in message


def an_anchored(scene: Scene) -> Archive:
    scene.kube.put_secret("authorities", "trust", {"ca.pem": ROOT.pem})
    return scene.archive(trustAnchorsSecretRef={"name": "authorities"})


UNDECRYPTABLE = Unavailable(500, "InternalError", "unable to transform key (request id 4711)")


async def test_two_requests_that_fail_minutes_apart_change_nothing_about_an_archive(scene: Scene) -> None:
    scene.kube.put(an_anchored(scene))
    await scene.archive_pool.update_status(scene.newest())
    before = scene.newest().status
    for _ in range(3):
        scene.clock.advance(minutes=5)
        scene.kube.go_away("secret", times=1)
        with suppress(Unavailable):
            await scene.archive_pool.update_status(scene.newest())
        assert scene.newest().status == before


async def test_an_archive_whose_secret_the_api_server_can_not_read_is_not_stalled_and_returns(
    scene: Scene,
) -> None:
    scene.kube.put(an_anchored(scene))
    await scene.archive_pool.update_status(scene.newest())
    scene.kube.refused["secret", "authorities"] = UNDECRYPTABLE
    for _ in range(7):
        assert scene.ready()[:2] == ("True", "Probed")
        scene.clock.advance(seconds=10)
        with suppress(Unavailable):
            await scene.archive_pool.update_status(scene.newest())
    truth, reason, message = scene.ready()
    assert (truth, reason) == ("False", "SecretUnreadable")
    assert message.startswith("Archive/dms: ")
    assert "Secret/authorities" in message
    assert "500 InternalError" in message
    assert "4711" not in message
    assert "kubectl" not in message
    stalled = find_condition(scene.newest().status.conditions, "Stalled")
    assert stalled is not None
    assert stalled.status == "False"

    del scene.kube.refused["secret", "authorities"]
    scene.clock.advance(seconds=10)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready()[:2] == ("True", "Probed")


async def test_one_403_of_an_api_server_that_starts_changes_nothing_about_an_archive(scene: Scene) -> None:
    scene.kube.put(an_anchored(scene))
    await scene.archive_pool.update_status(scene.newest())
    before = scene.newest().status
    scene.clock.advance(minutes=30)
    scene.kube.refused["secret", "authorities"] = Forbidden(403, "Forbidden", "not yet ready")
    for _ in range(3):
        with pytest.raises(Unavailable):
            await scene.archive_pool.update_status(scene.newest())
        scene.clock.advance(seconds=10)
    del scene.kube.refused["secret", "authorities"]
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready()[:2] == ("True", "Probed")
    assert scene.newest().status.settled_time == before.settled_time, "no failed event starts again"


async def test_an_archive_whose_secret_may_not_be_read_needs_no_new_secret(scene: Scene) -> None:
    scene.kube.put(an_anchored(scene))
    scene.kube.refused["secret", "authorities"] = Forbidden(403, "Forbidden", "no")
    for _ in range(7):
        with suppress(Unavailable):
            await scene.archive_pool.update_status(scene.newest())
        scene.clock.advance(seconds=10)
    truth, reason, message = scene.ready()
    assert (truth, reason) == ("False", "SecretForbidden")
    assert "Secret/authorities may not be read" in message
    assert "kubectl" not in message
    stalled = find_condition(scene.newest().status.conditions, "Stalled")
    assert stalled is not None
    assert stalled.status == "False"


@pytest.mark.parametrize("reason", ["SecretForbidden", "SecretUnreadable"])
async def test_an_archive_that_is_known_to_be_unreadable_is_so_for_each_process_at_once(
    scene: Scene, reason: str
) -> None:
    conditions = with_condition((), "Ready", "False", reason, "It is.", now=NOON, generation=1)
    archive = an_anchored(scene)
    archive = replace(archive, status=replace(archive.status, conditions=conditions))
    is_refused = reason == "SecretForbidden"
    problem = Forbidden(403, "Forbidden", "no") if is_refused else UNDECRYPTABLE
    scene.kube.refused["secret", "authorities"] = problem
    with pytest.raises(SettingsInvalid, match="It is") as trouble:
        await scene.archive_pool.anchors(archive)
    assert trouble.value.reason == reason


async def test_an_archive_of_several_kinds_or_none_is_reported_as_such(scene: Scene) -> None:
    with pytest.raises(SettingsInvalid, match="exactly one of"):
        await scene.archive_pool.backend(an_archive(filesystem=None))


async def test_an_archive_that_works_is_ready(scene: Scene) -> None:
    after = await scene.archive_pool.update_status(scene.newest())
    assert after == scene.newest()
    assert scene.ready()[:2] == ("True", "Probed")
    assert [each.name for each in scene.root.iterdir()] == [MARKER_NAME], "the probe is gone"


async def test_an_archive_that_does_not_work_says_why_and_says_it_once(scene: Scene) -> None:
    scene.root.rmdir()
    await scene.archive_pool.update_status(scene.newest())
    first = scene.ready()
    assert first[:2] == ("False", "ArchiveRootMissing")
    scene.clock.advance(minutes=1)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready() == first
    assert len(scene.kube.patches) == 1


async def test_a_suspended_archive_is_not_probed_and_works_again_when_it_is_resumed(scene: Scene) -> None:
    await scene.archive_pool.update_status(scene.newest())
    volume = scene.unmount()
    scene.kube.edit(Archive, "dms", {"spec": {"suspend": True}, "metadata": {"generation": 2}})
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready()[:2] == ("False", "ArchiveSuspended")
    volume.rename(scene.root)
    scene.clock.advance(minutes=5)
    scene.kube.edit(Archive, "dms", {"spec": {"suspend": False}, "metadata": {"generation": 3}})
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready()[:2] == ("True", "Probed")
    assert scene.newest().status.settled_time == NOON + timedelta(minutes=5), "what failed is retried"


async def test_an_archive_says_since_when_it_works_with_its_current_configuration(scene: Scene) -> None:
    await scene.archive_pool.update_status(scene.newest())
    first = scene.newest().status.settled_time
    assert first == NOON
    scene.clock.advance(minutes=5)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.newest().status.settled_time == first, "nothing changed"

    scene.kube.edit(Archive, "dms", {"metadata": {"generation": 2}})
    await scene.archive_pool.update_status(scene.newest())
    assert scene.newest().status.settled_time == NOON + timedelta(minutes=5)


async def test_an_archive_that_works_again_is_settled_again_and_not_before(scene: Scene) -> None:
    await scene.archive_pool.update_status(scene.newest())
    volume = scene.unmount()
    scene.clock.advance(minutes=1)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.newest().status.settled_time == NOON
    volume.rename(scene.root)
    scene.clock.advance(minutes=1)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.newest().status.settled_time == NOON + timedelta(minutes=2)


async def test_an_archive_that_trusts_others_is_settled_again(scene: Scene) -> None:
    scene.kube.put(scene.archive(trustAnchorsSecretRef={"name": "authorities"}))
    for minutes, anchor in enumerate((ROOT.pem, BETWEEN.pem)):
        scene.kube.secrets["authorities"] = {"ca.pem": anchor}
        await scene.archive_pool.update_status(scene.newest())
        assert scene.newest().status.settled_time == NOON + timedelta(minutes=minutes)
        scene.clock.advance(minutes=1)


async def test_an_archive_that_an_older_version_managed_is_not_settled_by_an_upgrade(
    scene: Scene,
) -> None:
    await scene.archive_pool.update_status(scene.newest())
    scene.kube.edit(Archive, "dms", {"status": {"settledTime": None}})
    await scene.archive_pool.update_status(scene.newest())
    assert scene.newest().status.settled_time is None


async def test_an_archive_whose_path_can_not_work_is_not_ready(scene: Scene) -> None:
    scene.kube.put(scene.archive(path="{{nonsense}}/{{file.name}}"))
    await scene.archive_pool.update_status(scene.newest())
    truth, reason, message = scene.ready()
    assert (truth, reason) == ("False", "SettingsInvalid")
    assert message.startswith("spec.path: ")
    assert message.endswith(". Correct the Archive.")


async def test_bytes_that_were_archived_reach_the_status_with_the_next_check(scene: Scene) -> None:
    scene.archive_pool.count_archived_bytes("dms", 100)
    scene.archive_pool.count_archived_bytes("dms", 50)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.newest().status.bytes_total == 150
    scene.archive_pool.count_archived_bytes("dms", 7)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.newest().status.bytes_total == 157
    assert scene.metric("archive_bytes_total", archive="dms") == 157


async def test_bytes_are_not_lost_when_another_client_writes_meanwhile(scene: Scene) -> None:
    seen = scene.newest()
    scene.archive_pool.count_archived_bytes("dms", 100)
    scene.kube.edit(Archive, "dms", {"status": {"bytesTotal": 40}})
    assert await scene.archive_pool.update_status(seen) is None
    await scene.archive_pool.update_status(scene.newest())
    assert scene.newest().status.bytes_total == 140


async def test_bytes_are_not_lost_when_the_api_server_is_down(scene: Scene) -> None:
    scene.archive_pool.count_archived_bytes("dms", 100)
    scene.kube.go_away("patch_status", times=1)
    with pytest.raises(Unavailable):
        await scene.archive_pool.update_status(scene.newest())
    await scene.archive_pool.update_status(scene.newest())
    assert scene.newest().status.bytes_total == 100


async def test_a_process_that_does_not_probe_still_stores_its_bytes(scene: Scene) -> None:
    assert await scene.archive_pool.write_bytes(scene.newest()) == scene.newest()
    assert scene.kube.patches == []
    scene.archive_pool.count_archived_bytes("dms", 100)
    await scene.archive_pool.write_bytes(scene.newest())
    assert scene.kube.patches == [("dms", {"bytesTotal": 100})]


async def test_operations_of_an_archive_are_timed(scene: Scene) -> None:
    await scene.archive_pool.update_status(scene.newest())
    backend = await scene.archive_pool.backend(scene.newest())

    async def content() -> AsyncIterator[bytes]:
        yield b"hello"

    await backend.put("a/b.txt", content(), tags={}, content_type=None)
    assert b"".join([chunk async for chunk in backend.read("a/b.txt")]) == b"hello"
    assert [each.name for each in await backend.entries("a")] == ["a/b.txt"]
    await backend.remove_leftovers("a")
    await backend.discard("a/b.txt")
    for operation in ("probe", "entries", "remove_leftovers", "discard"):
        assert scene.metric("archive_seconds_count", archive="dms", operation=operation) == 1
    # The marker was looked for, written and read back.
    assert scene.metric("archive_seconds_count", archive="dms", operation="put") == 2
    assert scene.metric("archive_seconds_count", archive="dms", operation="read") == 3
    await scene.archive_pool.close()


async def test_an_archive_that_only_a_person_can_fix_is_stalled_and_one_that_works_is_not(
    scene: Scene,
) -> None:
    def stalled() -> tuple[str, str]:
        found = find_condition(scene.newest().status.conditions, "Stalled")
        assert found is not None
        return found.status, found.reason

    scene.root.rmdir()
    await scene.archive_pool.update_status(scene.newest())
    assert stalled() == ("True", "ArchiveRootMissing")
    scene.root.mkdir()
    await scene.archive_pool.update_status(scene.newest())
    assert stalled() == ("False", "NotStalled")


# -- The destination of an archive ---------------------------------------------------------------------------

DAV, ELSEWHERE = "https://dms.acme.example/dav", "https://elsewhere.example/dav"


def a_dav(url: str = DAV, **status: Any) -> Archive:
    settings = {"url": url, "credentialsSecretRef": {"name": "dms-key"}}
    archive = an_archive(filesystem=None, webdav=settings)
    return replace(archive, status=replace(archive.status, **status))


async def refusal(scene: Scene, archive: Archive) -> str:
    scene.kube.secrets["dms-key"] = {"username": b"u", "password": b"topsecret"}
    with pytest.raises(ArchiveRefused) as refused:
        await scene.archive_pool.backend(archive)
    assert refused.value.reason == "OriginChanged"
    assert "topsecret" not in str(refused.value)
    return str(refused.value)


async def test_an_archive_that_leads_elsewhere_is_not_opened_and_the_command_is_named(scene: Scene) -> None:
    message = await refusal(scene, a_dav(ELSEWHERE, destination="https://dms.acme.example"))
    assert "https://dms.acme.example" in message
    assert "https://elsewhere.example" in message
    assert '{"status":{"destination":null,"secretOrigins":null}}' in message


async def test_another_path_of_the_same_server_is_no_other_destination(scene: Scene) -> None:
    scene.kube.secrets["dms-key"] = {"username": b"u", "password": b"p"}
    archive = a_dav(f"{DAV}/2027", destination="https://dms.acme.example")
    assert await scene.archive_pool.backend(archive)


async def test_an_open_archive_is_not_used_after_its_destination_changed(scene: Scene) -> None:
    scene.kube.secrets["dms-key"] = {"username": b"u", "password": b"p"}
    known = a_dav(destination="https://dms.acme.example")
    assert await scene.archive_pool.backend(known)
    await refusal(scene, a_dav(ELSEWHERE, destination="https://dms.acme.example"))


async def test_a_secret_with_an_annotation_goes_there_only(scene: Scene) -> None:
    scene.kube.secret_annotations["dms-key"] = {ORIGIN_ANNOTATION: "https://elsewhere.example"}
    assert "kubectl annotate secret dms-key" in await refusal(scene, a_dav())
    assert await scene.archive_pool.backend(a_dav(ELSEWHERE))


async def test_the_secret_of_another_archive_is_not_sent_elsewhere(scene: Scene) -> None:
    other = a_dav(secret_origins={"dms-key": "https://dms.acme.example"})
    scene.cache.archives.put(other)
    assert "belongs to https://dms.acme.example" in await refusal(scene, a_dav(ELSEWHERE))
    assert await scene.archive_pool.backend(a_dav())


async def test_the_archive_whose_secret_is_used_elsewhere_is_named(scene: Scene) -> None:
    first = a_dav(secret_origins={"dms-key": "https://dms.acme.example"})
    first = replace(first, metadata=replace(first.metadata, name="first"))
    scene.cache.archives.put(first)
    message = await refusal(scene, a_dav(ELSEWHERE))
    assert "Secret/dms-key belongs to https://dms.acme.example (Archive/first)" in message
    assert "make a Secret for each" in message
    scene.kube.secret_annotations["dms-key"] = {ORIGIN_ANNOTATION: "https://dms.acme.example"}
    scene.clock.advance(seconds=FRESH_SECONDS + 1)
    assert "belongs to https://dms.acme.example, by its annotation" in await refusal(scene, a_dav(ELSEWHERE))


async def test_a_full_list_of_secrets_takes_no_other_one(scene: Scene) -> None:
    known = {f"secret-{number}": "https://dms.acme.example" for number in range(MAX_SECRET_ORIGINS)}
    await refusal(scene, a_dav(secret_origins=known))


async def test_an_address_without_an_origin_is_reported(scene: Scene) -> None:
    scene.kube.secrets["dms-key"] = {"username": b"u", "password": b"p"}
    with pytest.raises(SettingsInvalid, match="Correct its address"):
        await scene.archive_pool.backend(a_dav("https://dms.acme.example:99999/dav"))


async def test_the_destination_of_a_folder_is_its_path(scene: Scene) -> None:
    after = await scene.archive_pool.update_status(scene.newest())
    assert after is not None
    assert (after.status.destination, after.status.secret_origins) == (f"file://{scene.root}", {})


async def test_an_archive_that_leads_to_another_folder_or_a_server_instead_is_not_opened(
    scene: Scene, tmp_path: Path
) -> None:
    after = await scene.archive_pool.update_status(scene.newest())
    assert after is not None
    for spec in (
        an_archive(filesystem={"root": str(tmp_path)}).spec,
        an_archive(filesystem=None, http={"url": ELSEWHERE}).spec,
    ):
        assert str(scene.root) in await refusal(scene, replace(after, spec=spec))
    same_folder = an_archive(filesystem={"root": f"{scene.root}/"}).spec
    assert await scene.archive_pool.backend(replace(after, spec=same_folder))


@pytest.mark.parametrize(
    ("spec", "destination"),
    [
        ({"s3": {"bucket": "contracts"}}, "https://s3.amazonaws.com/contracts"),
        (
            {"s3": {"bucket": "contracts", "endpoint": "https://MinIO.acme.example:9000/x"}},
            "https://minio.acme.example:9000/contracts",
        ),
        ({"azblob": {"container": "contracts"}}, "https://blob.core.windows.net/contracts"),
        (
            {"azblob": {"container": "c-1", "endpoint": "https://acme.blob.core.windows.net"}},
            "https://acme.blob.core.windows.net/c-1",
        ),
        ({"gcs": {"bucket": "contracts"}}, "https://storage.googleapis.com/contracts"),
        ({"http": {"url": "https://dms.acme.example:443/inbox"}}, "https://dms.acme.example"),
        ({"cmis": {"url": "https://dms.acme.example/cmis", "repositoryID": "r"}}, "https://dms.acme.example"),
        ({"sftp": {"host": "sftp.acme.example", "port": 2022}}, "sftp://sftp.acme.example:2022"),
        ({"sftp": {"host": "2001:db8::1"}}, "sftp://[2001:db8::1]"),
        ({"filesystem": {"root": "/archive"}}, "file:///archive"),
    ],
)
def test_a_destination_is_the_server_and_the_bucket_or_the_folder(
    spec: dict[str, Any], destination: str | None
) -> None:
    archive = an_archive(**{"filesystem": None, **spec})
    assert archive.spec.settings.destination == destination


def test_each_setting_of_a_custom_kind_can_be_an_address() -> None:
    one, other = (
        an_archive(filesystem=None, custom={"kind": "acme", "settings": {"server": server}})
        for server in ("a", "b")
    )
    assert one.spec.settings.destination != other.spec.settings.destination
    assert (one.spec.settings.destination or "").startswith("custom:acme/")


# -- The marker in the root ----------------------------------------------------------------------------------

UNMARKED = frozenset({"http", "custom"})


async def probe(scene: Scene) -> ArchiveRoot:
    """Probe the archive; return the root in its status."""
    after = await scene.archive_pool.update_status(scene.newest())
    assert after is not None
    assert after.status.root is not None
    return after.status.root


def put_an_empty_root(scene: Scene) -> Path:
    """Put an empty folder in the place of the root; return where the root is."""
    volume = scene.unmount()
    scene.root.mkdir()
    return volume


async def test_the_first_probe_leaves_a_marker_whose_id_is_in_the_status(scene: Scene) -> None:
    root = await probe(scene)
    assert root == ArchiveRoot(location=f"file://{scene.root}/", marker_id=scene.marker())


async def test_an_empty_folder_in_the_place_of_the_root_is_not_the_archive(scene: Scene) -> None:
    before = await probe(scene)
    volume = put_an_empty_root(scene)
    assert await probe(scene) == before
    truth, reason, message = scene.ready()
    assert (truth, reason) == ("False", "ArchiveRootChanged")
    assert "do not create an empty folder" in message
    assert "type `kubectl patch archive dms --subresource=status --type=merge -p " in message
    assert list(scene.root.iterdir()) == []

    scene.root.rmdir()
    volume.rename(scene.root)
    assert await probe(scene) == before
    assert scene.ready()[0] == "True"


async def test_the_root_of_another_archive_is_not_this_one(scene: Scene) -> None:
    await probe(scene)
    put_an_empty_root(scene)
    await write_marker(FilesystemBackend("other", scene.root), "0" * 32)
    await probe(scene)
    assert scene.ready()[1] == "ArchiveRootChanged"
    assert "has the marker of another archive" in scene.ready()[2]
    assert scene.marker() == "0" * 32


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b"x" * 5000, b'{"id": "../../../../../../../../../../x"}']
)
async def test_other_content_than_a_marker_is_named_and_no_command_forgets_the_marker(
    scene: Scene, content: bytes
) -> None:
    before = await probe(scene)
    marker = scene.root / MARKER_NAME
    restored = marker.read_bytes()
    marker.write_bytes(content)
    assert await probe(scene) == before
    truth, reason, message = scene.ready()
    assert (truth, reason) == ("False", "ArchiveRootChanged")
    assert MARKER_NAME in message
    assert f"{min(len(content), 4096)} bytes" in message
    assert before.marker_id is not None
    assert before.marker_id in message
    assert "kubectl" not in message
    assert marker.read_bytes() == content

    marker.write_bytes(restored)
    assert await probe(scene) == before
    assert scene.ready()[0] == "True"


@pytest.mark.parametrize("damage", [None, b"damaged"])
async def test_a_marker_alone_that_was_lost_is_put_back_by_the_content_in_the_message(
    scene: Scene, damage: bytes | None
) -> None:
    before = await probe(scene)
    marker = scene.root / MARKER_NAME
    marker.unlink()
    if damage is not None:
        marker.write_bytes(damage)
    assert await probe(scene) == before
    assert "so it is not the root" not in scene.ready()[2]

    marker.write_text(re.findall(r"content (\{.*?\})", scene.ready()[2])[0])
    assert await probe(scene) == before
    assert scene.ready()[0] == "True"


async def test_a_new_root_with_a_damaged_marker_is_not_marked_again(scene: Scene) -> None:
    (scene.root / MARKER_NAME).write_bytes(b"damaged")
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready()[1] == "ArchiveRootChanged"
    assert (scene.root / MARKER_NAME).read_bytes() == b"damaged"

    (scene.root / MARKER_NAME).unlink()
    assert (await probe(scene)).marker_id == scene.marker()


async def test_a_person_confirms_a_new_root_by_the_command_in_the_message(scene: Scene) -> None:
    before = await probe(scene)
    put_an_archived_event(scene)
    put_an_empty_root(scene)
    await probe(scene)
    typed(scene)
    after = await probe(scene)
    assert scene.ready()[0] == "True"
    assert after.marker_id == scene.marker() != before.marker_id


async def test_a_confirmed_root_that_another_archive_marked_keeps_that_marker(scene: Scene) -> None:
    await probe(scene)
    put_an_empty_root(scene)
    await write_marker(FilesystemBackend("other", scene.root), "0" * 32)
    await probe(scene)
    typed(scene)
    assert (await probe(scene)).marker_id == scene.marker() == "0" * 32


async def test_a_confirmation_is_valid_for_one_root_only(scene: Scene, tmp_path: Path) -> None:
    confirmed = {"location": f"file://{tmp_path}/other/"}
    put_status(scene, {"destination": "file://{root}", "root": confirmed})
    put_an_archived_event(scene)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready()[1] == "ArchiveRootChanged"


async def test_a_destination_that_a_person_confirmed_needs_no_second_confirmation(scene: Scene) -> None:
    before = await probe(scene)
    put_an_empty_root(scene)
    scene.kube.edit(Archive, "dms", {"status": {"destination": None}})
    assert (await probe(scene)).marker_id == scene.marker() != before.marker_id


AZURE = {"container": "contracts", "credentialsSecretRef": {"name": "dms-key"}}
AZURE_ROOT = "https://{}.blob.core.windows.net/contracts/"


@pytest.mark.parametrize(
    ("account", "destination", "is_refused"),
    [
        ("other", "https://blob.core.windows.net/contracts", True),
        ("acme", "https://blob.core.windows.net/contracts", False),
        ("other", None, False),
    ],
    ids=["another account", "the same account", "confirmed by a person"],
)
async def test_a_secret_can_not_lead_to_another_account_of_azure_at_the_same_container(
    scene: Scene, account: str, destination: str | None, is_refused: bool
) -> None:
    archive = an_archive(filesystem=None, azblob=AZURE)
    root = ArchiveRoot(location=AZURE_ROOT.format("acme"), marker_id="1" * 32)
    known = replace(archive, status=replace(archive.status, root=root, destination=destination))
    backend = MemoryBackend()
    backend.location = lambda name: AZURE_ROOT.format(account) + name  # type: ignore[method-assign]
    if destination is None:
        await check_new_root(known, backend, ())
        return
    with pytest.raises(ArchiveRefused) as refused:
        await check_root(known, backend)
    # The same account has no marker in this test.
    assert refused.value.reason == ("OriginChanged" if is_refused else "ArchiveRootChanged")
    assert "admissionPolicy.statusWriters" in refused.value.message


async def test_an_unexpected_error_of_a_probe_is_a_condition(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(backend: FilesystemBackend) -> None:
        raise RecursionError("topsecret")

    monkeypatch.setattr(FilesystemBackend, "probe", fail)
    assert await scene.archive_pool.update_status(scene.newest()) is not None
    status, reason, message = scene.ready()
    assert (status, reason) == ("False", "InternalError")
    assert "RecursionError" in message
    assert "topsecret" not in message


async def test_an_archive_of_an_older_version_gets_a_marker_at_its_next_probe(scene: Scene) -> None:
    await probe(scene)
    scene.kube.edit(Archive, "dms", {"status": {"root": None}})
    (scene.root / MARKER_NAME).unlink()
    assert (await probe(scene)).marker_id == scene.marker()


async def test_a_marker_whose_id_did_not_reach_the_status_is_kept(scene: Scene) -> None:
    """As after a kill between the two writes."""
    stale = scene.newest()
    scene.kube.edit(Archive, "dms", {"status": {"bytesTotal": 1}})
    assert await scene.archive_pool.update_status(stale) is None
    written = scene.marker()
    assert (await probe(scene)).marker_id == written == scene.marker()


async def test_archives_that_share_a_root_and_are_probed_at_once_have_one_marker(scene: Scene) -> None:
    names = ("dms", "second", "third")
    for name in names[1:]:
        scene.kube.put(an_archive(name, filesystem={"root": str(scene.root)}))
    archives = [Archive.parse(scene.kube.objects["archives", name]) for name in names]
    after = await asyncio.gather(*(scene.archive_pool.update_status(each) for each in archives))
    assert [each.status.root.marker_id for each in after if each is not None and each.status.root] == [
        scene.marker()
    ] * 3


# -- A root that the status does not know --------------------------------------------------------------------


def put_an_archived_event(scene: Scene, name: str = "e1", envelope: str = ENVELOPE) -> str:
    """Store an event whose manifest is in the root; return the name of the manifest there."""
    manifest = f"acme/{envelope}/counterfoil.json"
    event = an_event(envelope).named(name).in_phase(Phase.SUCCEEDED).with_condition("Archived")
    scene.kube.put(event.status(archive=archived_at(f"file://{scene.root}/{manifest}")).build())
    return manifest


def archived_at(manifest: str) -> ArchiveLocation:
    return ArchiveLocation(ref=LocalObjectReference(name="dms"), manifest=manifest)


def put_a_manifest(root: Path, name: str, envelope: str = ENVELOPE) -> None:
    """Write the manifest of an envelope into a root."""
    manifest = Manifest(
        envelope=ManifestEnvelope(id=envelope, name="Contract", status="Completed", organization="acme"),
        sender=ManifestSender(email="", user_id="", name=""),
        times=ManifestTimes(sent="", archived="2026-11-28T12:00:00Z"),
        files=(),
    )
    (root / name).parent.mkdir(parents=True)
    (root / name).write_bytes(manifest.encode())


def typed(scene: Scene) -> None:
    """Do what the command in the message of the Archive says."""
    found = re.search(r"`(kubectl patch archive [^`]*)`", scene.ready()[2])
    assert found is not None
    command, subject, kind, name, *options = shlex.split(found[1])
    assert (command, subject, kind, name) == ("kubectl", "patch", "archive", "dms")
    assert options[:3] == ["--subresource=status", "--type=merge", "-p"]
    scene.kube.edit(Archive, name, json.loads(options[3]))


STATUS_BEFORE = {
    "the version before": {"destination": "file://{root}"},
    "a status that was lost": {},
    "the command of the version before": {"destination": "file://{root}", "root": None},
    "a destination that a person confirmed": {
        "root": {"location": "file://{root}/", "markerID": "1" * 32},
    },
}


def put_status(scene: Scene, status: dict[str, Any]) -> None:
    """Store the Archive with this status."""
    text = json.dumps(status).replace("{root}", str(scene.root))
    scene.kube.put(Archive.parse({**scene.archive().to_dict(), "status": json.loads(text)}))


@pytest.mark.parametrize("status", STATUS_BEFORE.values(), ids=STATUS_BEFORE)
async def test_a_root_without_the_files_that_were_archived_there_is_not_adopted_until_a_person_confirms_it(
    scene: Scene, status: dict[str, Any]
) -> None:
    put_status(scene, status)
    put_an_archived_event(scene)
    for _ in range(2):
        await scene.archive_pool.update_status(scene.newest())
        truth, reason, message = scene.ready()
        assert (truth, reason) == ("False", "ArchiveRootChanged")
        assert f"such as acme/{ENVELOPE}/counterfoil.json" in message
        assert list(scene.root.iterdir()) == []

    typed(scene)
    assert (await probe(scene)).marker_id == scene.marker()
    assert scene.ready()[0] == "True"


@pytest.mark.parametrize("status", STATUS_BEFORE.values(), ids=STATUS_BEFORE)
async def test_a_root_with_a_manifest_that_was_archived_there_is_adopted_without_a_person(
    scene: Scene, status: dict[str, Any]
) -> None:
    put_status(scene, status)
    put_an_archived_event(scene, "a-removed-one", "0" * 32)
    put_a_manifest(scene.root, put_an_archived_event(scene))
    assert (await probe(scene)).marker_id == scene.marker()
    assert scene.ready()[0] == "True"


@pytest.mark.parametrize("content", [b"", b"{}", None])
async def test_a_manifest_of_another_envelope_is_no_sign_of_the_root(
    scene: Scene, content: bytes | None
) -> None:
    put_status(scene, {})
    name = put_an_archived_event(scene)
    put_a_manifest(scene.root, name, "0" * 32)
    if content is not None:
        (scene.root / name).write_bytes(content)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready()[1] == "ArchiveRootChanged"


async def test_a_marker_alone_does_not_make_another_volume_the_archive(scene: Scene) -> None:
    put_status(scene, {})
    put_an_archived_event(scene)
    await write_marker(FilesystemBackend("other", scene.root), "0" * 32)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready()[1] == "ArchiveRootChanged"
    assert scene.marker() == "0" * 32


async def test_events_whose_files_are_in_another_root_do_not_keep_a_root_from_being_adopted(
    scene: Scene,
) -> None:
    scene.kube.put(
        an_event().status(archive=archived_at("file:///elsewhere/acme/x/counterfoil.json")).build()
    )
    assert (await probe(scene)).marker_id == scene.marker()


def test_another_root_in_the_spec_is_a_decision_of_a_person() -> None:
    root = ArchiveRoot(location=f"{DAV}/", marker_id="0" * 32)
    archive = a_dav(destination="https://dms.acme.example", root=root)
    assert expected_marker(archive, f"{DAV}/") == "0" * 32
    assert expected_marker(archive, f"{DAV}/2027/") is None


async def test_runs_share_a_check_of_the_root_for_some_seconds_and_a_delete_does_not(scene: Scene) -> None:
    await probe(scene)
    archive = scene.newest()
    backend = await scene.archive_pool.backend(archive)
    await scene.archive_pool.check_root(archive, backend)
    put_an_empty_root(scene)
    await scene.archive_pool.check_root_recently(archive, backend)
    with pytest.raises(ArchiveRefused):
        await scene.archive_pool.check_root(archive, backend)
    with pytest.raises(ArchiveRefused):
        await scene.archive_pool.check_root_recently(archive, backend)


async def test_a_check_of_the_root_is_not_shared_with_another_root_in_the_status(scene: Scene) -> None:
    await probe(scene)
    archive = scene.newest()
    backend = await scene.archive_pool.backend(archive)
    await scene.archive_pool.check_root(archive, backend)
    other = ArchiveRoot(location=f"file://{scene.root}/", marker_id="0" * 32)
    with pytest.raises(ArchiveRefused):
        await scene.archive_pool.check_root_recently(
            replace(archive, status=replace(archive.status, root=other)), backend
        )


@pytest.mark.parametrize("root", [None, "file://{root}/"], ids=["never probed", "confirmed by a person"])
async def test_a_root_that_was_not_probed_is_refused_before_a_delete(scene: Scene, root: str | None) -> None:
    location = {"location": root} if root is not None else None
    put_status(scene, {"destination": "file://{root}", "root": location})
    backend = await scene.archive_pool.backend(scene.newest())
    with pytest.raises(ArchiveUnavailable) as refused:
        await scene.archive_pool.check_root(scene.newest(), backend)
    assert refused.value.reason == "ArchiveNotProbed"


@pytest.mark.parametrize("field", ["root", "destination"])
async def test_an_archive_is_not_ready_while_the_api_server_drops_what_its_probe_found(
    scene: Scene, field: str
) -> None:
    scene.kube.unknown_status_fields.add(field)
    for _ in range(2):
        await scene.archive_pool.update_status(scene.newest())
        truth, reason, message = scene.ready()
        assert (truth, reason) == ("False", "ArchiveRootNotRecorded")
        assert "CustomResourceDefinitions" in message
    written = [each for _, patch in scene.kube.patches for each in patch.get("conditions", ())]
    assert {each["status"] for each in written if each["type"] == "Ready"} == {"False"}

    scene.kube.unknown_status_fields.clear()
    await probe(scene)
    assert scene.ready()[:2] == ("True", "Probed")


async def test_an_archive_is_not_ready_while_its_new_root_can_not_be_compared_with_the_events(
    scene: Scene,
) -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Probed", "message": "By an older version."}
    put_status(scene, {"conditions": [{**ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    scene.kube.fail("page", Forbidden(403, "Forbidden", "envelopeevents is forbidden"))
    await scene.archive_pool.update_status(scene.newest())
    truth, reason, message = scene.ready()
    assert (truth, reason) == ("False", "ArchiveRootNotRecorded")
    assert "Forbidden" in message
    assert list(scene.root.iterdir()) == []

    await probe(scene)
    assert scene.ready()[:2] == ("True", "Probed")


async def test_an_archive_that_was_ready_without_a_root_is_fixed_when_it_gets_one(scene: Scene) -> None:
    await probe(scene)
    settled = scene.newest().status.settled_time
    scene.clock.advance(days=1)
    scene.kube.edit(Archive, "dms", {"status": {"root": None}})
    await probe(scene)
    assert settled is not None
    assert scene.newest().status.settled_time == settled + timedelta(days=1)


async def test_the_events_are_not_listed_again_at_each_probe_that_fails(scene: Scene) -> None:
    put_status(scene, {})
    put_an_archived_event(scene)
    for _ in range(3):
        await scene.archive_pool.update_status(scene.newest())
    assert scene.kube.asked.count(("page", "envelopeevents")) == 1
    scene.clock.advance(seconds=LIST_AGAIN_SECONDS)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.kube.asked.count(("page", "envelopeevents")) == 2


async def test_a_root_that_the_status_names_is_probed_without_a_list_of_events(scene: Scene) -> None:
    await probe(scene)
    asked = len(scene.kube.asked)
    await probe(scene)
    assert ("page", "envelopeevents") not in scene.kube.asked[asked:]


async def test_a_shared_check_of_the_root_ends_with_its_time(scene: Scene) -> None:
    await probe(scene)
    archive = scene.newest()
    backend = await scene.archive_pool.backend(archive)
    await scene.archive_pool.check_root(archive, backend)
    put_an_empty_root(scene)
    scene.clock.set_back(days=1)
    scene.clock.advance(seconds=CHECK_AGAIN_SECONDS - 1)
    await scene.archive_pool.check_root_recently(archive, backend)
    scene.clock.advance(seconds=1)
    with pytest.raises(ArchiveRefused):
        await scene.archive_pool.check_root_recently(archive, backend)
    with pytest.raises(ArchiveRefused):
        await scene.archive_pool.check_root_recently(archive, backend)


def test_each_kind_with_a_root_has_a_marker() -> None:
    assert {kind for kind, each in SETTINGS.items() if not each.HAS_MARKER} == UNMARKED


SHELF = """
from tests.support.fakes.archives import MemoryBackend

async def open_shelf(name, spec, credentials):
    return MemoryBackend()
"""


async def test_a_kind_without_a_root_gets_no_marker(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rootless_shelf.py").write_text(SHELF)
    metadata = tmp_path / "rootless_shelf-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rootless-shelf\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[counterfoil.archives]\nshelf = rootless_shelf:open_shelf\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    scene.kube.put(an_archive(filesystem=None, custom={"kind": "shelf"}))
    after = await scene.archive_pool.update_status(scene.newest())
    assert after is not None
    assert (scene.ready()[0], after.status.root) == ("True", None)


async def test_a_marker_of_another_writer_at_the_same_time_counts(scene: Scene) -> None:
    memory = MemoryBackend(spoil=lambda data: data.replace(b"1" * 32, b"2" * 32))
    assert await write_marker(memory, "1" * 32) == "2" * 32


async def test_a_marker_that_does_not_come_back_is_reported(scene: Scene) -> None:
    with pytest.raises(VerificationFailed):
        await write_marker(MemoryBackend(spoil=lambda data: data[:-9]), "1" * 32)


class HungBackend(MemoryBackend):
    """An archive whose probe does not even end when it is cancelled, until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = asyncio.Event()
        self.probes = 0
        self.pause = 0.0

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        await asyncio.sleep(self.pause)
        await super().put(name, chunks, tags=tags, content_type=content_type)

    async def probe(self) -> None:
        self.probes += 1
        while not self.may_end.is_set():
            with suppress(asyncio.CancelledError):
                await self.may_end.wait()


@pytest.fixture
def hung(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> HungBackend:
    """The backend that the pool opens."""
    backend = HungBackend()

    async def opened(*_: object) -> HungBackend:
        return backend

    monkeypatch.setattr("controller.access.archive_pool.open_backend", opened)
    scene.archive_pool.probe_timeout = 0.05
    return backend


async def test_an_overdue_probe_makes_the_archive_not_ready_and_no_other_probe_begins(
    scene: Scene, hung: HungBackend
) -> None:
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready()[:2] == ("False", "ArchiveUnresponsive")
    await scene.archive_pool.update_status(scene.newest())
    assert hung.probes == 1

    hung.may_end.set()
    await asyncio.sleep(0.01)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready()[:2] == ("True", "Probed")


async def test_archives_that_hang_are_probed_in_turn_and_delay_no_archive_that_is_ready(
    scene: Scene, hung: HungBackend
) -> None:
    """The time of a probe begins with its turn."""
    scene.archive_pool.probe_timeout = 60
    hanging = [an_archive(f"hanging-{number}") for number in range(MAX_OTHER_PROBES + 2)]
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Probed",
        "message": "",
        "lastTransitionTime": NOON.isoformat(),
    }
    scene.kube.edit(Archive, "dms", {"status": {"conditions": [ready]}})
    for each in hanging:
        scene.kube.put(each)
    looks: list[asyncio.Task[Archive | None]] = []
    try:
        looks += [asyncio.create_task(scene.archive_pool.update_status(each)) for each in hanging]
        await eventually(lambda: hung.probes >= MAX_OTHER_PROBES)
        await asyncio.sleep(0.2)
        assert hung.probes == MAX_OTHER_PROBES
        looks.append(asyncio.create_task(scene.archive_pool.update_status(scene.newest())))
        await eventually(lambda: hung.probes > MAX_OTHER_PROBES)
        await asyncio.sleep(0.2)
        assert hung.probes == MAX_OTHER_PROBES + 1
    finally:
        hung.may_end.set()
    await asyncio.gather(*looks)
    assert hung.probes == len(hanging) + 1


@pytest.mark.parametrize("change", [{"suspend": True}, {"maxConcurrency": 1}, None])
async def test_an_archive_that_is_changed_while_its_probe_waits_for_its_turn_is_not_probed_as_it_was(
    scene: Scene, hung: HungBackend, change: dict[str, Any] | None
) -> None:
    scene.archive_pool.probe_timeout = 60
    hanging = [an_archive(f"hanging-{number}") for number in range(MAX_OTHER_PROBES)]
    for each in (*hanging, scene.newest()):
        scene.kube.put(each)
        scene.cache.archives.put(each)
    before = scene.newest().status
    looks = [asyncio.create_task(scene.archive_pool.update_status(each)) for each in hanging]
    await eventually(lambda: hung.probes == MAX_OTHER_PROBES)
    waiting = asyncio.create_task(scene.archive_pool.update_status(scene.newest()))
    await asyncio.sleep(0.05)
    if change is None:
        scene.cache.delete(Archive, "dms", 10**9)
    else:
        scene.cache.archives.put(scene.archive(version=10**9, generation=2, **change))
    hung.may_end.set()
    await asyncio.gather(*looks)
    assert await waiting is None
    assert (hung.probes, scene.newest().status) == (MAX_OTHER_PROBES, before)


@pytest.mark.parametrize("change", [{"suspend": True}, {"maxConcurrency": 1}, None])
async def test_an_archive_that_is_changed_while_events_are_listed_is_not_probed_as_it_was(
    scene: Scene, hung: HungBackend, change: dict[str, Any] | None
) -> None:
    """Before the first probe of a root, all events are listed: that may take minutes."""
    hung.may_end.set()
    given = scene.newest()
    scene.cache.archives.put(given)

    async def listed(*_: object) -> AsyncIterator[EnvelopeEvent]:
        if change is None:
            scene.cache.delete(Archive, "dms", 10**9)
        else:
            scene.cache.archives.put(scene.archive(version=10**9, generation=2, **change))
        for each in list[EnvelopeEvent]():
            yield each

    with patch.object(scene.kube, "list_readable", listed):
        assert await scene.archive_pool.update_status(given) is None
    assert (hung.probes, scene.newest().status) == (0, given.status)


async def test_an_archive_that_was_changed_before_its_probe_began_is_not_probed_as_it_was(
    scene: Scene, hung: HungBackend
) -> None:
    """A pass has read it before the change."""
    hung.may_end.set()
    given = scene.newest()
    scene.cache.archives.put(scene.archive(version=10**9, generation=2, suspend=True))
    assert await scene.archive_pool.update_status(given) is None
    assert hung.probes == 0


async def test_an_archive_that_is_newer_than_the_one_in_memory_is_probed(
    scene: Scene, hung: HungBackend
) -> None:
    """A request reads it from the API server."""
    hung.may_end.set()
    scene.cache.archives.put(scene.newest())
    scene.kube.put(newer := scene.archive(version=10**9, generation=2, maxConcurrency=1))
    assert await scene.archive_pool.update_status(newer) is not None
    assert hung.probes == 1


class SlowBackend(MemoryBackend):
    """An archive of a server whose probes end one by one."""

    def __init__(self, server: str, probed: list[str], ends: asyncio.Semaphore) -> None:
        super().__init__()
        self.server = server
        self.probed = probed
        self.ends = ends

    def location(self, name: str) -> str:
        return f"shelf://{self.server}/{name}"

    async def probe(self) -> None:
        self.probed.append(self.server)
        await self.ends.acquire()


async def test_slow_archives_of_one_server_delay_an_archive_of_another_server_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed, ends = list[str](), asyncio.Semaphore(0)

    async def opened(name: str, *_: object) -> SlowBackend:
        return SlowBackend(name.partition("-")[0], probed, ends)

    monkeypatch.setattr("controller.access.archive_pool.open_backend", opened)
    slow = [an_archive(f"slow-{number}") for number in range(MAX_OTHER_PROBES + 5)]
    for each in slow:
        scene.kube.put(each)
    looks = [asyncio.create_task(scene.archive_pool.update_status(each)) for each in slow]
    await eventually(lambda: len(probed) >= MAX_OTHER_PROBES)
    looks.append(asyncio.create_task(scene.archive_pool.update_status(scene.newest())))
    await asyncio.sleep(0.2)
    assert probed == ["slow"] * MAX_OTHER_PROBES
    ends.release()
    await eventually(lambda: len(probed) > MAX_OTHER_PROBES)
    assert probed[MAX_OTHER_PROBES:] == ["dms"]
    for _ in looks:
        ends.release()
    await asyncio.gather(*looks)


async def test_an_archive_that_takes_probes_but_no_files_is_not_ready_until_a_file_is_transferred(
    scene: Scene, hung: HungBackend
) -> None:
    hung.may_end.set()
    scene.archive_pool.minimum_rate = MinimumRate(bytes_per_second=1024**3, window=0.05)
    backend, archive = await scene.archive_pool.backend(scene.newest()), scene.newest()
    hung.pause = 60.0
    with pytest.raises(ArchiveUnavailable):
        await backend.put("a.pdf", once(b"x"), tags={}, content_type=None)
    await scene.archive_pool.update_status(archive)
    assert scene.ready()[:2] == ("False", "ArchiveUnresponsive")

    hung.pause = 0.0
    await backend.put("counterfoil.json", once(b"{}"), tags={}, content_type=None)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready()[0] == "False"
    await backend.put("a.pdf", once(b"x" * 20_000), tags={}, content_type=None)
    await scene.archive_pool.update_status(scene.newest())
    assert scene.ready()[:2] == ("True", "Probed")


async def test_the_root_of_an_archive_that_is_slow_with_files_is_stored(
    scene: Scene, hung: HungBackend
) -> None:
    """Events wait for the root, and only their transfers show that the archive is fast enough again."""
    hung.may_end.set()
    scene.archive_pool.minimum_rate = MinimumRate(bytes_per_second=1024**3, window=0.05)
    backend = await scene.archive_pool.backend(scene.newest())
    hung.pause = 60.0
    with pytest.raises(ArchiveUnavailable):
        await backend.put("a.pdf", once(b"x"), tags={}, content_type=None)
    hung.pause = 0.0
    root = await probe(scene)
    assert scene.ready()[:2] == ("False", "ArchiveUnresponsive")
    assert root.marker_id is not None
    await scene.archive_pool.check_root(scene.newest(), backend)


async def test_organizations_of_two_esaws_with_the_same_folders_are_named_and_the_archive_stays_ready(
    scene: Scene,
) -> None:
    scene.cache.organizations.put(an_organization("acme"))
    scene.cache.organizations.put(an_organization("globex", baseURL="https://other-esaw.example.com"))
    archive = scene.archive(path="{{envelope.id}}/{{file.name}}")
    scene.kube.put(archive)
    scene.cache.archives.put(archive)
    await scene.archive_pool.update_status(archive)
    status, reason, message = scene.ready()
    assert (status, reason) == ("True", "Probed")
    assert "have the same folders: Organization/acme, Organization/globex. Only the oldest" in message


async def test_organizations_of_one_esaw_share_an_archive_without_a_word(scene: Scene) -> None:
    scene.cache.organizations.put(an_organization("acme"))
    scene.cache.organizations.put(an_organization("globex"))
    archive = scene.archive(path="{{envelope.id}}/{{file.name}}")
    scene.kube.put(archive)
    scene.cache.archives.put(archive)
    await scene.archive_pool.update_status(archive)
    assert scene.ready()[2] == "A probe was written and read back."
