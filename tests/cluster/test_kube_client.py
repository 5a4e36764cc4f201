"""Access to Kubernetes against the real API server: what it answers is what the code takes it to answer."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from counterfoil.clock import WallClock
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Expired,
    Forbidden,
    NotFound,
    Rejected,
    Unavailable,
)
from counterfoil.kube.server_clock import ServerClock
from counterfoil.kube.watch import WatchEvent, list_and_watch_forever
from counterfoil.resources import EnvelopeEvent, EnvelopeEventSpec, Organization, ResourcePart, envelope_id
from counterfoil.resources.event_factory import new_event
from sandbox.controlplane.control_plane import ControlPlane, control_plane
from sandbox.controlplane.kubectl import Kubectl


@pytest.fixture
async def kube(plane: ControlPlane, namespace: str) -> AsyncIterator[KubeClient]:
    async with connect(namespace=namespace, kubeconfig=plane.kubeconfig) as connected:
        yield connected


def an_event(action: str = "envelopeFinished") -> dict[str, Any]:
    return new_event(organization="acme", envelope=envelope_id(str(uuid.uuid4())), action=action)


def name_of(raw: dict[str, Any]) -> str:
    return str(raw["metadata"]["name"])


async def as_nobody(plane: ControlPlane, namespace: str) -> Path:
    """A kubeconfig of a ServiceAccount that has no right at all."""
    await plane.kubectl("create", "serviceaccount", "nobody", "-n", namespace)
    return await plane.kubeconfig_for("nobody", namespace)


async def test_an_object_is_created_read_changed_and_deleted(kube: KubeClient) -> None:
    event = an_event()
    created = await kube.create(EnvelopeEvent, event)
    assert created["spec"]["envelopeID"] == event["spec"]["envelopeID"]
    assert created["status"] == {"phase": "Pending"} | created["status"]

    await kube.patch(EnvelopeEvent, name_of(event), {"metadata": {"labels": {"x": "y"}}})
    assert (await kube.get(EnvelopeEvent, name_of(event)))["metadata"]["labels"]["x"] == "y"

    await kube.delete(EnvelopeEvent, name_of(event))
    with pytest.raises(NotFound):
        await kube.get(EnvelopeEvent, name_of(event))


class ClockBehind(WallClock):
    """The clock of a machine that is three hours behind."""

    def now(self) -> datetime:
        return super().now() - timedelta(hours=3)


async def test_each_response_has_the_time_of_the_api_server(kube: KubeClient) -> None:
    clock = ServerClock(ClockBehind(), kube)
    assert clock.now() < datetime.now(UTC) - timedelta(hours=2)
    created = EnvelopeEvent.parse(await kube.create(EnvelopeEvent, an_event())).metadata.creation_timestamp
    assert created is not None
    assert timedelta(0) <= clock.now() - created < timedelta(seconds=30)


async def test_a_second_create_finds_the_first(kube: KubeClient) -> None:
    body = json.dumps(an_event()).encode()
    stored = await kube.create_from_json(EnvelopeEvent, body, EventPart)
    assert stored.spec.action == "envelopeFinished"
    with pytest.raises(AlreadyExists):
        await kube.create_from_json(EnvelopeEvent, body, EventPart)


async def test_a_trial_create_is_checked_and_stores_nothing(kube: KubeClient) -> None:
    event = an_event()
    await kube.create_dry_run(EnvelopeEvent, json.dumps(event).encode())
    with pytest.raises(NotFound):
        await kube.get(EnvelopeEvent, name_of(event))

    event["spec"]["action"] = "not an action"
    with pytest.raises(Rejected):
        await kube.create_dry_run(EnvelopeEvent, json.dumps(event).encode())


class EventPart(ResourcePart, frozen=True):
    spec: EnvelopeEventSpec


async def test_a_glimpse_shows_what_is_asked_for_of_what_exists(kube: KubeClient) -> None:
    event = an_event()
    with pytest.raises(NotFound):
        await kube.get_partial(EnvelopeEvent, name_of(event), EventPart)

    await kube.create(EnvelopeEvent, event)
    seen = await kube.get_partial(EnvelopeEvent, name_of(event), EventPart)
    assert seen.spec.action == event["spec"]["action"]


async def test_an_object_that_breaks_a_rule_is_refused_with_the_rule(kube: KubeClient) -> None:
    event = an_event()
    event["spec"]["envelopeID"] = "no guid"
    with pytest.raises(Rejected, match="an envelope id is a GUID") as raised:
        await kube.create(EnvelopeEvent, event)
    assert raised.value.status == 422


async def test_a_status_patch_on_a_stale_version_loses(kube: KubeClient) -> None:
    event = await kube.create(EnvelopeEvent, an_event())
    version = event["metadata"]["resourceVersion"]
    await kube.patch_status(EnvelopeEvent, name_of(event), {"deliveries": 2}, resource_version=version)

    with pytest.raises(Conflict):
        await kube.patch_status(EnvelopeEvent, name_of(event), {"deliveries": 9}, resource_version=version)
    assert (await kube.get(EnvelopeEvent, name_of(event)))["status"]["deliveries"] == 2


async def test_a_status_patch_without_a_version_is_written_in_any_case(kube: KubeClient) -> None:
    event = await kube.create(EnvelopeEvent, an_event())
    for deliveries in (2, 3):
        patched = await kube.patch_status(
            EnvelopeEvent, name_of(event), {"deliveries": deliveries}, resource_version=None
        )
    assert patched["status"]["deliveries"] == 3


async def test_a_null_in_a_status_patch_removes_the_field(kube: KubeClient) -> None:
    event = await kube.create(EnvelopeEvent, an_event())
    for reason in ("Because", None):
        patched = await kube.patch_status(
            EnvelopeEvent, name_of(event), {"reason": reason}, resource_version=None
        )
    assert "reason" not in patched["status"]


async def test_a_status_patch_changes_nothing_but_the_status(kube: KubeClient) -> None:
    event = await kube.create(EnvelopeEvent, an_event())
    patched = await kube.patch_status(EnvelopeEvent, name_of(event), {"deliveries": 2}, resource_version=None)
    assert patched["metadata"]["generation"] == event["metadata"]["generation"]
    assert patched["spec"] == event["spec"]


@pytest.mark.parametrize("length", [850, 1200, 2048])
async def test_a_status_that_is_too_large_will_never_be_taken(kube: KubeClient, length: int) -> None:
    """The API server refuses objects from 3 MiB itself, etcd smaller ones by a 500: treated as an outage it
    would never end."""
    event = await kube.create(EnvelopeEvent, an_event())
    documents = [
        {"fileID": str(number), "kind": "Document", "fileName": "a", "location": "x" * length}
        for number in range(2000)
    ]
    with pytest.raises(Rejected, match="large"):
        await kube.patch_status(
            EnvelopeEvent, name_of(event), {"documents": documents}, resource_version=None
        )


async def test_a_status_of_an_event_with_a_field_that_older_definitions_lack_is_refused(
    kube: KubeClient,
) -> None:
    """The API server drops such a field of other kinds. A hash without its mark would prove a file."""
    event = await kube.create(EnvelopeEvent, an_event())
    file = {"fileID": "file-1", "kind": "Document", "fileName": "a.pdf", "markOfALaterVersion": "NoManifest"}
    with pytest.raises(Rejected, match="markOfALaterVersion"):
        await kube.patch_status(EnvelopeEvent, name_of(event), {"documents": [file]}, resource_version=None)
    assert "documents" not in (await kube.get(EnvelopeEvent, name_of(event)))["status"]


async def test_a_status_patch_to_what_is_gone_finds_nothing(kube: KubeClient) -> None:
    with pytest.raises(NotFound):
        await kube.patch_status(EnvelopeEvent, "gone", {"deliveries": 2}, resource_version="1")


async def test_a_delete_of_another_object_of_the_same_name_is_a_conflict(kube: KubeClient) -> None:
    event = await kube.create(EnvelopeEvent, an_event())
    with pytest.raises(Conflict):
        await kube.delete(EnvelopeEvent, name_of(event), uid=str(uuid.uuid4()))
    await kube.delete(
        EnvelopeEvent,
        name_of(event),
        uid=event["metadata"]["uid"],
        resource_version=event["metadata"]["resourceVersion"],
    )


async def test_who_has_no_right_is_forbidden(plane: ControlPlane, namespace: str) -> None:
    kubeconfig = await as_nobody(plane, namespace)
    async with connect(namespace=namespace, kubeconfig=kubeconfig) as nobody:
        for call in (
            nobody.get(EnvelopeEvent, "x"),
            nobody.create(EnvelopeEvent, an_event()),
            nobody.secret("x"),
            nobody.page(EnvelopeEvent, limit=1),
        ):
            with pytest.raises(Forbidden):
                await call
        assert not await nobody.is_allowed("create", "envelopeevents")


async def test_who_has_the_right_may(kube: KubeClient) -> None:
    assert await kube.is_allowed("create", "envelopeevents")
    assert await kube.is_allowed("get", "secrets", group="")


async def test_a_token_that_nobody_issued_is_forbidden_too(plane: ControlPlane, namespace: str) -> None:
    kubeconfig = await as_nobody(plane, namespace)
    content = json.loads(kubeconfig.read_text())
    content["users"][0]["user"]["token"] = "x.y.z"
    kubeconfig.write_text(json.dumps(content))
    async with connect(namespace=namespace, kubeconfig=kubeconfig) as stranger:
        with pytest.raises(Forbidden) as raised:
            await stranger.get(EnvelopeEvent, "x")
    assert raised.value.status == 401
    assert "x.y.z" not in str(raised.value)


async def test_a_secret_is_read_by_name_and_decoded(kube: KubeClient, kubectl: Kubectl) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "callback", "namespace": kube.namespace},
        "data": {"token": base64.b64encode(b"\x00geheim").decode()},
    }
    await kubectl("create", "-f", "-", stdin=json.dumps(secret))
    read = await kube.secret("callback")
    assert read.data == {"token": b"\x00geheim"}
    assert read.type == "Opaque"
    with pytest.raises(NotFound):
        await kube.secret("another")


async def test_a_list_goes_through_pages_and_selectors(kube: KubeClient) -> None:
    names = set()
    for action in ("a", "b", "b"):
        names.add(name_of(await kube.create(EnvelopeEvent, an_event(action))))

    assert {name_of(raw) async for raw in kube.list(EnvelopeEvent, limit=1)} == names
    assert len([raw async for raw in kube.list(EnvelopeEvent, labels="counterfoil.dev/action in (b)")]) == 2
    assert len([raw async for raw in kube.list(EnvelopeEvent, fields="status.phase!=Succeeded")]) == 3
    page, token = await kube.page(EnvelopeEvent, limit=2)
    assert (len(page), bool(token)) == (2, True)


async def test_objects_are_counted_by_label_and_field(kube: KubeClient) -> None:
    for action in ("a", "b", "b"):
        await kube.create(EnvelopeEvent, an_event(action))
    failed = name_of(await kube.create(EnvelopeEvent, an_event("b")))
    swept = an_event("b")
    swept["spec"]["origin"] = "Sweep"
    status = {"phase": "Failed", "reason": "EnvelopeNotFound"}
    for each in (failed, name_of(await kube.create(EnvelopeEvent, swept))):
        await kube.patch_status(EnvelopeEvent, each, status, resource_version=None)

    async def counts(fields: str) -> dict[str, int]:
        return dict(await kube.count_by_label(EnvelopeEvent, "counterfoil.dev/action", fields))

    # The API server answers from its memory, which may be a moment behind.
    selector = "status.phase=Failed,status.reason=EnvelopeNotFound"
    while await counts(selector) != {"b": 2}:  # noqa: ASYNC110 - the API server gives no event to wait for
        await asyncio.sleep(0.05)
    # The origin is a default of the schema where the creator did not say it.
    assert await counts(f"{selector},spec.origin=Callback") == {"b": 1}
    described = name_of(await kube.create(EnvelopeEvent, an_event("b")))
    known = {**status, "envelope": {"name": "Contract", "status": "Completed"}}
    await kube.patch_status(EnvelopeEvent, described, known, resource_version=None)
    while await counts(selector) != {"b": 3}:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.05)
    assert await counts(f"{selector},status.envelope.status=") == {"b": 2}
    assert await counts("status.phase!=Failed,status.phase!=Skipped") == {"a": 1, "b": 2}
    assert {failed, described} < set(await kube.names(EnvelopeEvent, selector))
    assert dict(await kube.count_by_label(EnvelopeEvent, "no/label", "")) == {}


class UnknownEvent(EnvelopeEvent, frozen=True):
    """A kind without a CustomResourceDefinition."""

    PLURAL: ClassVar[str] = "unknownevents"


async def test_a_missing_kind_is_recognized_by_what_the_api_server_has(kube: KubeClient) -> None:
    assert await kube.serves(EnvelopeEvent)
    with pytest.raises(ApiError) as missing:
        await kube.page(UnknownEvent, limit=1)
    assert (missing.value.status, missing.value.is_about_namespace) == (404, False)
    assert not await kube.serves(UnknownEvent)


async def test_a_selection_without_objects_counts_nothing(kube: KubeClient) -> None:
    # The API server writes `"items": null` for such a list of metadata.
    selector = "status.phase=Failed,status.reason=EnvelopeNotFound"
    assert dict(await kube.count_by_label(EnvelopeEvent, "counterfoil.dev/action", selector)) == {}


async def test_a_kubernetes_event_can_be_posted(kube: KubeClient, kubectl: Kubectl) -> None:
    await kube.create_event(
        {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": "x-"},
            "eventTime": "2025-01-01T00:00:00.000000Z",
            "reportingController": "counterfoil.dev/test",
            "reportingInstance": "test",
            "action": "Test",
            "reason": "Tested",
            "type": "Normal",
            "note": "told",
            "regarding": {"kind": "Namespace", "name": kube.namespace, "namespace": kube.namespace},
        }
    )
    assert "told" in await kubectl(
        "get", "events", "-n", kube.namespace, "-o", "jsonpath={.items[*].message}"
    )


async def test_events_of_other_reporters_are_no_history(kube: KubeClient) -> None:
    for reporter in ("counterfoil.dev/controller", "counterfoil.dev/console", "mallory"):
        await kube.create_event(
            {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"generateName": "x-"},
                "eventTime": "2025-01-01T00:00:00.000000Z",
                "reportingController": reporter,
                "reportingInstance": "test",
                "action": "Test",
                "reason": "Tested",
                "type": "Normal",
                "note": f"by {reporter}",
                "regarding": {
                    "kind": "Namespace",
                    "name": kube.namespace,
                    "namespace": kube.namespace,
                    "uid": "0f9c1c2e",
                },
            }
        )
    found = await kube.events_regarding("0f9c1c2e", limit=10)
    assert [each["note"] for each in found] == ["by counterfoil.dev/controller"]


async def test_a_follower_sees_what_was_there_what_comes_and_what_goes(kube: KubeClient) -> None:
    first = name_of(await kube.create(EnvelopeEvent, an_event()))
    seen = list[tuple[str, str]]()
    async with asyncio.timeout(60):
        async for change in kube.list_and_watch(EnvelopeEvent):
            match change:
                case WatchEvent(type="SYNCED", names=names):
                    assert names == {first}
                    second = name_of(await kube.create(EnvelopeEvent, an_event()))
                    await kube.delete(EnvelopeEvent, first)
                case WatchEvent(type="BOOKMARK"):
                    continue
                case WatchEvent(raw=raw):
                    seen.append((change.type, name_of(raw)))
            if len(seen) == 3:
                break
    assert seen == [("ADDED", first), ("ADDED", second), ("DELETED", first)]


async def test_an_object_that_leaves_the_selection_is_reported_as_deleted(kube: KubeClient) -> None:
    event = name_of(await kube.create(EnvelopeEvent, an_event()))
    types = list[str]()
    async with asyncio.timeout(60):
        async for change in kube.list_and_watch(EnvelopeEvent, fields="status.phase!=Succeeded"):
            types.append(change.type)
            if change.type == "SYNCED":
                await kube.patch_status(EnvelopeEvent, event, {"phase": "Succeeded"}, resource_version=None)
            if change.type == "DELETED":
                break
    assert types == ["ADDED", "SYNCED", "DELETED"]


@pytest.fixture(scope="module")
async def mortal_plane() -> AsyncIterator[ControlPlane]:
    """A control plane that may be taken down, since the other tests need theirs."""
    async with control_plane() as running:
        await running.apply_crds()
        yield running


async def test_a_follower_outlives_the_end_and_the_return_of_the_api_server(
    mortal_plane: ControlPlane,
) -> None:
    organization = {
        "metadata": {"name": "acme"},
        "spec": {
            "baseURL": "https://e.example.com",
            "archiveRef": {"name": "a"},
            "callback": {"tokenSecretRefs": [{"name": "s", "key": "k"}]},
        },
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": "Organization",
    }
    problems = list[ApiError]()
    kubeconfig = mortal_plane.kubeconfig
    async with connect(namespace="default", kubeconfig=kubeconfig) as kube, asyncio.timeout(300):
        lists = list[frozenset[str]]()
        async for change in list_and_watch_forever(kube, Organization, on_error=problems.append):
            if change.type != "SYNCED":
                continue
            lists.append(change.names)
            if len(lists) == 2:
                break
            await kube.create(Organization, organization)
            await mortal_plane.kill_apiserver()
            with pytest.raises(Unavailable):
                await kube.get(Organization, "acme")
            await mortal_plane.start_apiserver()
    assert lists == [frozenset(), frozenset({"acme"})]
    assert {type(problem) for problem in problems} <= {Unavailable, Forbidden}


async def first_change(kube: KubeClient) -> None:
    """Ask for what came after version 1; again as long as the API server still fills its memory (429)."""
    while True:
        try:
            await anext(kube._watch(EnvelopeEvent, version="1", labels="", fields=""))
        except Unavailable:
            await asyncio.sleep(0.1)
        else:
            return


async def test_a_version_from_before_the_api_servers_memory_is_listed_again(
    mortal_plane: ControlPlane,
) -> None:
    """A restarted API server remembers no old changes; a follower that asks for them gets 410 and lists
    again."""
    async with connect(namespace="default", kubeconfig=mortal_plane.kubeconfig) as kube:
        for _ in range(3):
            await kube.create(EnvelopeEvent, an_event())
        await mortal_plane.stop_apiserver()
        await mortal_plane.start_apiserver()
        async with asyncio.timeout(60):
            with pytest.raises(Expired):
                await first_change(kube)
