"""
The chart on a real API server, which knows the kinds of others too: everything it renders is accepted, rights
and policies are what they say, and installing, upgrading and uninstalling lose nothing.

A separate control plane, because here the chart installs our kinds.
"""

import asyncio
import base64
import hashlib
import json
import os
import shlex
import ssl
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from counterfoil.callback_auth import token_hash
from counterfoil.cli.plugin.installation.status import WaitingItem, overview, read
from counterfoil.clock import WallClock
from counterfoil.kube.client import connect
from counterfoil.kube.secret import USE_LABEL
from counterfoil.resources import API_VERSION, envelope_id, event_name
from counterfoil.resources.audit_annotation import AuditEntry, audit_entries, with_audit_entry
from counterfoil.resources.envelopeevent import Origin
from counterfoil.resources.event_factory import new_event
from counterfoil.resources.lease import (
    KIND_DRAFT,
    LEASE_KIND_LABEL,
    SHARD_LEASE_COUNT_LABEL,
    shard_lease_name,
)
from release.helm import CHART, Helm, HelmError
from sandbox.controlplane import rbac
from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.control_plane import ControlPlane, control_plane
from sandbox.controlplane.kubectl import Kubectl, KubectlError
from sandbox.controlplane.processes import CommandResult, run
from sandbox.controlplane.schemas import LOCATION, write_schemas
from sandbox.controlplane.third_party_crds import third_party_crds
from sandbox.environment.local import local_environment
from sandbox.esaw import DocumentSpec
from sandbox.servers.plain_http import plain_http
from tests.support.builders import NOON
from tests.support.console_blocks import console_commands, report, typed
from tests.support.scenes.chart import (
    EVERYTHING,
    MONITORING,
    NAMESPACE,
    RELEASE,
    TAKE_BACK,
    VARIANTS,
    WITH_CLUSTER,
    Rendered,
    render,
    with_image,
)
from tests.support.scenes.console import console_scene
from tests.support.scenes.hook_jobs import HelmWithHookJobs
from webhook.console.sessions import ProcessCookieCipher
from webhook.pages.send_lease import SendLeases

PATIENCE = 60.0
PAUSE = 0.2

EVENT = new_event(
    organization="acme",
    envelope=envelope_id("5482ee18-6d1f-4d5f-8d66-0c6d2a1e8f10"),
    action="envelopeFinished",
)
NAME = EVENT["metadata"]["name"]


class InstalledChart:
    """A control plane with the chart installed in one namespace."""

    def __init__(self, plane: ControlPlane, program: Helm) -> None:
        self.plane = plane
        self.helm = program
        self.rendered_before: dict[str, str] = {}
        """The renderings with access to the cluster, before the installation, by variant."""
        self.refused_before: dict[str, str] = {}
        """Helm's refusals of variants without the definitions, before the installation, by variant."""

    async def render(self, values: Mapping[str, Any]) -> str:
        """Render with access to the cluster."""
        return await self.helm(
            "template", RELEASE, CHART, "-n", NAMESPACE, *WITH_CLUSTER, values=with_image(values)
        )

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return await self.plane.kubectl("-n", NAMESPACE, *arguments, stdin=stdin)

    async def upgrade(self, values: Mapping[str, Any]) -> str:
        """Install or upgrade the release."""
        return await self.helm(
            "upgrade", "--install", RELEASE, CHART, "-n", NAMESPACE, values=with_image(values)
        )

    async def acting_as(self, process: str) -> Kubectl:
        """Return the kubectl of a process's account, with a token as its pod has one."""
        return self.plane.kubectl_as(await self.plane.kubeconfig_for(f"{RELEASE}-{process}", NAMESPACE))


@pytest.fixture(scope="module", name="installed")
async def _installed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InstalledChart]:
    async with control_plane() as plane:
        for path in await third_party_crds():
            await plane.kubectl("apply", "--server-side", "-f", str(path))
        await plane.namespace(NAMESPACE)
        # The API server refuses a Pod, as that of the Helm test, whose PriorityClass does not exist.
        await plane.kubectl("create", "priorityclass", "business", "--value=1000")
        installed = InstalledChart(
            plane,
            HelmWithHookJobs(
                (await ensure("helm"))["helm"],
                tmp_path_factory.mktemp("helm"),
                plane.kubeconfig,
                plane=plane,
            ),
        )
        for variant, values in VARIANTS.items():
            try:
                installed.rendered_before[variant] = await installed.render(values)
            except HelmError as refused:
                installed.refused_before[variant] = str(refused)
        await installed.upgrade({})
        for each in ("envelopeevents", "senders", "organizations"):
            await plane.kubectl("wait", f"crd/{each}.counterfoil.dev", "--for=condition=Established")
        yield installed


async def refused(kubectl: Kubectl, *arguments: str, stdin: str | None = None) -> str:
    """
    Do something until it is refused, and return with which words. A policy begins to count some moments after
    it is stored.

    A request that is accepted changes nothing: it has ``--dry-run=server``.
    """
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await kubectl("-n", NAMESPACE, *arguments, "--dry-run=server", stdin=stdin)
            except KubectlError as refusal:
                return str(refusal)
            await asyncio.sleep(PAUSE)


# -- Everything that is rendered is valid --------------------------------------------------------------------


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())
async def test_the_api_server_accepts_everything_that_the_chart_renders(
    installed: InstalledChart, values: dict[str, Any]
) -> None:
    text = (await render(installed.helm, values, *MONITORING, release="other")).text
    # Strict: a field that the API server does not know is an error, not a warning.
    said = await installed.kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
        stdin=text,
    )
    assert len(said.splitlines()) == text.count("\nkind: ")


@pytest.mark.parametrize("variant", VARIANTS)
async def test_helm_renders_the_same_with_and_without_a_cluster_and_before_and_after_the_installation(
    installed: InstalledChart, tmp_path: Path, variant: str
) -> None:
    without_cluster = Helm(installed.helm.program, tmp_path / "helm")
    text = (await render(without_cluster, VARIANTS[variant], *MONITORING)).text
    assert installed.rendered_before.get(variant, text) == text
    assert await installed.render(VARIANTS[variant]) == text


def test_a_release_without_the_definitions_is_refused_before_the_cluster_has_them(
    installed: InstalledChart,
) -> None:
    without = {name for name, values in VARIANTS.items() if not values.get("clusterScoped", True)}
    assert installed.refused_before.keys() == without
    for said in installed.refused_before.values():
        assert (
            "the cluster has no CustomResourceDefinitions of counterfoil.dev, and this release brings none"
            in said
        )
        assert "first types `kubectl apply --server-side -f crds/`" in said


async def test_the_release_has_what_helm_template_renders(installed: InstalledChart, tmp_path: Path) -> None:
    without_cluster = Helm(installed.helm.program, tmp_path / "helm")
    for replicas in (3, 2):
        values = {"controller": {"replicas": replicas}}
        await installed.upgrade(values)
        stored = await installed.helm("get", "manifest", RELEASE, "-n", NAMESPACE)
        rendered = await render(without_cluster, values, "--no-hooks")
        assert Rendered(stored).objects == rendered.objects


BROUGHT = (
    "podmonitor_monitoring.coreos.com_v1.json",
    "servicemonitor_monitoring.coreos.com_v1.json",
    "prometheusrule_monitoring.coreos.com_v1.json",
    "httproute_gateway.networking.k8s.io_v1.json",
)


@pytest.fixture(scope="module")
async def kubeconform(
    installed: InstalledChart, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Awaitable[CommandResult]]:
    """Check a text against the schemas of the API server: ``await kubeconform(text)``."""
    program = (await ensure("kubeconform"))["kubeconform"]
    folder = tmp_path_factory.mktemp("schemas")
    # The API server publishes the schema of a new kind some moments after it serves it.
    async with asyncio.timeout(PATIENCE):
        while not all((folder / file).exists() for file in BROUGHT):
            await write_schemas(installed.plane.kubectl, folder)
            await asyncio.sleep(PAUSE)

    async def check(text: str) -> CommandResult:
        location = f"{folder}/{LOCATION}"
        return await run([program, "-strict", "-summary", "-schema-location", location], stdin=text)

    return check


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())
async def test_kubeconform_finds_nothing_in_what_the_chart_renders(
    installed: InstalledChart, kubeconform: Callable[[str], Awaitable[CommandResult]], values: dict[str, Any]
) -> None:
    rendered = await render(installed.helm, values, *MONITORING)
    checked = await kubeconform(rendered.text)
    assert checked.code == 0, checked.out
    assert f"Valid: {len(rendered.objects)}, Invalid: 0, Errors: 0, Skipped: 0" in checked.out


@pytest.mark.parametrize(
    "typo",
    [
        ("podMetricsEndpoints:", "podMetricEndpoints:"),
        ("maxUnavailable: 1", "maxUnavailabel: 1"),
        ("replicas: 4", "replicas: four"),
    ],
)
async def test_kubeconform_would_find_a_typo(
    installed: InstalledChart, kubeconform: Callable[[str], Awaitable[CommandResult]], typo: tuple[str, str]
) -> None:
    rendered = await render(installed.helm, EVERYTHING, *MONITORING)
    assert typo[0] in rendered.text
    assert (await kubeconform(rendered.text.replace(*typo))).code != 0


async def test_the_pods_meet_the_restricted_level_of_pod_security(installed: InstalledChart) -> None:
    label = "pod-security.kubernetes.io/warn=restricted"
    await installed.plane.kubectl("label", "namespace", NAMESPACE, label, "--overwrite")
    rendered = await render(installed.helm)
    for each in rendered.all("Deployment") + rendered.all("Job") + rendered.all("Pod"):
        answer = await installed.plane.kubectl(
            "-n",
            NAMESPACE,
            "--warnings-as-errors",
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "-f",
            "-",
            stdin=json.dumps(each),
        )
        assert "serverside-applied" in answer


# -- Rights --------------------------------------------------------------------------------------------------

EVERYBODY = frozenset(
    {
        ("selfsubjectreviews.authentication.k8s.io", "create"),
        ("selfsubjectaccessreviews.authorization.k8s.io", "create"),
        ("selfsubjectrulesreviews.authorization.k8s.io", "create"),
    }
)
"""Rights that Kubernetes gives every account: to ask for its name and its rights."""

LATER = frozenset(("clustertrustbundles.certificates.k8s.io", verb) for verb in ("get", "list", "watch"))
"""Rights that newer versions give every account, too: to read public certificates of authorities."""


@pytest.mark.parametrize(
    ("process", "rules"),
    [
        ("receiver", rbac.RECEIVER),
        ("pages", rbac.PAGES),
        ("console", ()),
        ("controller", rbac.CONTROLLER),
    ],
)
async def test_an_account_may_do_just_what_its_process_does(
    installed: InstalledChart, process: str, rules: tuple[rbac.Rule, ...]
) -> None:
    kubectl = await installed.acting_as(process)
    found = listed(await kubectl("auth", "can-i", "--list", "-n", NAMESPACE))
    assert found - LATER == allowed(rules) | EVERYBODY
    elsewhere = listed(await kubectl("auth", "can-i", "--list", "-n", "default"))
    assert elsewhere - LATER == EVERYBODY


@pytest.mark.parametrize("process", ["receiver", "pages", "console", "controller"])
async def test_nobody_lists_or_watches_secrets(installed: InstalledChart, process: str) -> None:
    kubectl = await installed.acting_as(process)
    may = {verb: await can(kubectl, verb, "secrets") for verb in ("get", "list", "watch", "delete")}
    assert may == {
        "get": process in {"pages", "controller"},
        "list": False,
        "watch": False,
        "delete": False,
    }


@pytest.mark.parametrize(
    ("role", "verb", "expected"),
    [("view", "get", True), ("view", "patch", False), ("edit", "patch", True), ("edit", "delete", False)],
)
async def test_people_get_their_rights_by_their_role(
    installed: InstalledChart, role: str, verb: str, expected: bool
) -> None:
    found = json.loads(
        await installed.plane.kubectl("get", "clusterrole", f"{NAMESPACE}-{RELEASE}-{role}", "-o", "json")
    )
    assert any(verb in rule["verbs"] for rule in found["rules"]) is expected


def allowed(rules: tuple[rbac.Rule, ...]) -> set[tuple[str, str]]:
    return {
        (f"{resource}.{group}" if group else resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def listed(table: str) -> set[tuple[str, str]]:
    """Read what ``kubectl auth can-i --list`` prints, except URLs that are no resources (health,
    versions)."""
    found = set()
    for line in table.splitlines()[1:]:
        plural, _, subresource = line.split("[")[0].strip().partition("/")
        name, _, group = plural.partition(".")
        resource = f"{name}/{subresource}.{group}" if subresource else plural
        verbs = line.rsplit("[", 1)[1].rstrip("]").split()
        found |= {(resource, verb) for verb in verbs if resource}
    return found


async def can(kubectl: Kubectl, verb: str, resource: str) -> bool:
    try:
        return (await kubectl("auth", "can-i", verb, resource, "-n", NAMESPACE)).strip() == "yes"
    except KubectlError:
        return False


# -- Policies ------------------------------------------------------------------------------------------------


async def test_a_receiver_records_callbacks_and_nothing_else(installed: InstalledChart) -> None:
    receiver = await installed.acting_as("receiver")
    manual = {**EVENT, "spec": {**EVENT["spec"], "origin": Origin.MANUAL.value}}
    words = await refused(receiver, "create", "-f", "-", stdin=json.dumps(manual))
    assert "a receiver creates only events of callbacks" in words
    await receiver("-n", NAMESPACE, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(EVENT))


async def test_a_controller_records_what_a_sweep_found_and_nothing_else(installed: InstalledChart) -> None:
    controller = await installed.acting_as("controller")
    words = await refused(controller, "create", "-f", "-", stdin=json.dumps(EVENT))
    assert "a controller creates only events that a search found" in words
    swept = {**EVENT, "spec": {**EVENT["spec"], "origin": Origin.SWEEP.value}}
    await controller("-n", NAMESPACE, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(swept))


async def test_a_receiver_counts_and_reopens_but_finishes_nothing(installed: InstalledChart) -> None:
    await noted(installed)
    receiver = await installed.acting_as("receiver")
    for status, complaint in (
        ({"phase": "Succeeded"}, "a receiver sets no phase"),
        ({"conditions": [archived()]}, "it sets no other condition"),
    ):
        assert complaint in await refused(receiver, *WRITE_STATUS, stdin=status_of(**status))
    await receiver(*WRITE_STATUS, stdin=status_of(deliveries=2, phase="Pending"))


async def test_a_receiver_counts_unlisted_actions_and_publishes_no_token(installed: InstalledChart) -> None:
    organization = {
        "apiVersion": EVENT["apiVersion"],
        "kind": "Organization",
        "metadata": {"name": "counted", "namespace": NAMESPACE},
        "spec": {
            "baseURL": "https://esaw.example.com",
            "callback": {"tokenSecretRefs": [{"name": "callback", "key": "token"}]},
            "archiveRef": {"name": "dms"},
        },
    }
    await installed.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(organization))
    receiver = await installed.acting_as("receiver")
    counts = [{"action": "envelopeClosed", "count": 1, "lastTime": "2026-07-01T12:00:00Z"}]
    for forbidden in ({"callbackTokenHashes": ["sha256$" + "0" * 32 + "$" + "0" * 64]}, {"version": "1"}):
        status = {**organization, "status": {"unlistedActions": counts, **forbidden}}
        words = await refused(receiver, *WRITE_STATUS, stdin=json.dumps(status))
        assert "a receiver counts unlisted actions" in words
    allowed = {**organization, "status": {"unlistedActions": counts}}
    await receiver(*WRITE_STATUS, stdin=json.dumps(allowed))
    await installed.kubectl("delete", "organization", "counted", "-n", NAMESPACE)


async def test_a_controller_takes_the_label_of_a_request_away_and_redirects_nothing(
    installed: InstalledChart,
) -> None:
    sender = {
        "apiVersion": EVENT["apiVersion"],
        "kind": "Sender",
        "metadata": {
            "name": "asked",
            "labels": {"counterfoil.dev/request": "ask", "mine": "yes"},
            "annotations": {"counterfoil.dev/request-by": "jane", "mine": "yes"},
        },
        "spec": {"organizationRef": {"name": "acme"}, "userID": "7"},
    }
    await installed.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(sender))
    controller = await installed.acting_as("controller")
    patch = ("patch", "sender", "asked", "--type=merge", "-p")
    for body, complaint in (
        ({"spec": {"email": "mallory@example.com"}}, "a controller changes no spec"),
        ({"metadata": {"labels": {"mine": None}}}, "changes no other label"),
        ({"metadata": {"labels": {"counterfoil.dev/request": "other"}}}, "changes no other label"),
        ({"metadata": {"labels": {"new": "yes"}}}, "changes no other label"),
        ({"metadata": {"annotations": {"mine": None}}}, "and no other annotation"),
        ({"metadata": {"annotations": {"new": "yes"}}}, "and no other annotation"),
        ({"metadata": {"finalizers": ["counterfoil.dev/never"]}}, "changes no finalizers"),
    ):
        assert complaint in await refused(controller, *patch, json.dumps(body))
    stamped = {"metadata": {"annotations": {"counterfoil.dev/request-id": "0f"}}}
    await controller("-n", NAMESPACE, *patch, json.dumps(stamped))
    annotations = {"counterfoil.dev/request-by": None, "counterfoil.dev/request-id": None}
    removal = {"metadata": {"labels": {"counterfoil.dev/request": None}, "annotations": annotations}}
    await controller("-n", NAMESPACE, *patch, json.dumps(removal))
    left = json.loads(await installed.kubectl("get", "sender", "asked", "-o", "json"))["metadata"]
    assert (left["labels"], left["annotations"]) == ({"mine": "yes"}, {"mine": "yes"})
    await installed.kubectl("delete", "sender", "asked")


async def test_nobody_but_counterfoil_says_that_something_was_archived(installed: InstalledChart) -> None:
    await noted(installed)
    await installed.kubectl(
        "apply",
        "--server-side",
        "-f",
        "-",
        stdin=json.dumps(listed_as(*rbac.service_account_with_rules("meddler", MEDDLER))),
    )
    meddler = installed.plane.kubectl_as(await installed.plane.kubeconfig_for("meddler", NAMESPACE))
    words = await refused(meddler, *WRITE_STATUS, stdin=status_of(conditions=[archived()]))
    assert "only Counterfoil writes the status of its objects" in words
    controller = await installed.acting_as("controller")
    await controller(*WRITE_STATUS, stdin=status_of(phase="Validating"))


OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}


async def test_pages_write_sealed_keys_and_no_other_secret(installed: InstalledChart) -> None:
    pages = await installed.acting_as("pages")
    words = await refused(pages, "create", "-f", "-", stdin=json.dumps(a_secret("Opaque")))
    assert "the pages write sealed keys of senders" in words
    sealed = json.dumps(a_secret("counterfoil.dev/sealed-token"))
    await pages("-n", NAMESPACE, "create", "--dry-run=server", "-f", "-", stdin=sealed)
    owner = {**OWNER, "apiVersion": API_VERSION, "kind": "Sender", "name": "a-key"}
    for metadata in (
        {"finalizers": ["example.com/never"]},
        {"ownerReferences": [OWNER]},
        {"ownerReferences": [{**owner, "name": "another"}]},
        {"ownerReferences": [owner, {**owner, "uid": "y"}]},
    ):
        secret = a_secret("counterfoil.dev/sealed-token")
        secret["metadata"] |= metadata
        assert "the pages set no finalizer" in await refused(
            pages, "create", "-f", "-", stdin=json.dumps(secret)
        )
    owned = a_secret("counterfoil.dev/sealed-token")
    owned["metadata"] |= {"ownerReferences": [owner]}
    await pages("-n", NAMESPACE, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(owned))
    keys = f"{RELEASE}-sealing-keys"
    body = json.dumps({"metadata": {"labels": {"mine": "now"}}})
    assert "sealed keys" in await refused(pages, "patch", "secret", keys, "--type=merge", "-p", body)


async def test_controllers_write_the_leases_of_shards_and_no_other_lease(installed: InstalledChart) -> None:
    controller = await installed.acting_as("controller")
    await controller("create", "-f", "-", stdin=json.dumps(a_lease("counterfoil-shard-0-of-1")))
    other = "a controller writes the Leases of shards"
    assert other in await refused(controller, "create", "-f", "-", stdin=json.dumps(a_lease("another")))


async def test_pages_write_and_remove_their_own_send_leases_and_no_other_lease(
    installed: InstalledChart,
) -> None:
    pages = await installed.acting_as("pages")
    await installed.kubectl(
        "apply", "--server-side", "-f", "-", stdin=json.dumps(a_lease("somebodys-leader"))
    )
    other = "the pages write and remove their own notes"
    assert other in await refused(pages, "create", "-f", "-", stdin=json.dumps(a_lease("another")))
    holder = json.dumps({"spec": {"holderIdentity": "pages"}})
    assert other in await refused(pages, "patch", "lease", "somebodys-leader", "--type=merge", "-p", holder)
    assert other in await refused(pages, "delete", "lease", "somebodys-leader")
    for metadata in (
        {"labels": {"counterfoil.dev/shards": "2"}},
        {"finalizers": ["example.com/never"]},
        {"ownerReferences": [OWNER]},
    ):
        body = a_lease("counterfoil-state-" + "0" * 32)
        body["metadata"] |= metadata
        assert "the pages set no finalizer" in await refused(
            pages, "create", "-f", "-", stdin=json.dumps(body)
        )

    async with connect(namespace=NAMESPACE, kubeconfig=pages.kubeconfig) as kube:
        notes = SendLeases(kube, ProcessCookieCipher(), WallClock(), attempt_seconds=60)
        assert await notes.use_state("a state")
        assert await notes.delete_states(older_than=-60) == 1
        begun = await notes.acquire("acme", "anna", "a draft")
        assert begun is not None
        taken_over = await notes.take_over(begun)
        assert taken_over is not None
        await notes.complete(taken_over, "an envelope")
        settled = [note async for note in notes.list_sent()]
        assert [each.is_completed for each in settled] == [True]
        await notes.discard(settled[0])
        assert [note async for note in notes.list_sent()] == []


ACTS = "counterfoil.dev/acts"


async def test_nobody_says_of_another_that_he_did_something(installed: InstalledChart) -> None:
    await noted(installed)
    jane, joe = await person(installed, "jane"), await person(installed, "joe")
    of_another = with_audit_entry({}, act("joe"))[ACTS]
    assert "must name the user who adds it" in await annotated_in_vain(jane, of_another)
    # Neither by a name that continues after a quote, nor by an act inside the text of another.
    for word in ('joe","what":"skip', f'{user("joe")}","what":"x'):
        assert "counterfoil.dev/acts" in await annotated_in_vain(jane, with_audit_entry({}, act(word))[ACTS])
    nested = with_audit_entry(
        {}, AuditEntry(who=user("jane"), what="retry", when=NOON, why=of_another[1:-1])
    )[ACTS]
    await annotate(jane, nested)
    raw = await joe("-n", NAMESPACE, "get", "ee", NAME, "-o", "json")
    assert [each.who for each in audit_entries(json.loads(raw)["metadata"]["annotations"])] == [user("jane")]


async def test_what_people_did_is_neither_taken_away_nor_changed_nor_put_in_another_order(
    installed: InstalledChart,
) -> None:
    await noted(installed)
    jane, joe = await person(installed, "jane"), await person(installed, "joe")
    before = await acts(installed)
    await annotate(jane, added := with_audit_entry(before, act("jane"))[ACTS])
    await annotate(joe, both := with_audit_entry({ACTS: added}, act("joe"))[ACTS])

    mine = with_audit_entry({}, act("joe"))[ACTS]
    moved = with_audit_entry(before, act("joe"))
    for name in ("jane", "joe"):
        moved = with_audit_entry(moved, act(name))
    twice = with_audit_entry({ACTS: with_audit_entry({ACTS: both}, act("joe"))[ACTS]}, act("joe"))[ACTS]
    assert "is never taken away" in await refused(joe, "annotate", "ee", NAME, f"{ACTS}-")
    for forged in (mine, moved[ACTS], twice):
        assert "one act is added at its end" in await annotated_in_vain(joe, forged)
    assert "one act is added at its end" in await annotated_in_vain(jane, added)
    for form in (f"{both[:-1]}, {mine[1:]}", f"{both} ", both.replace("retry", "skip", 1) + "x", "[]"):
        assert "is written by the console and by kubectl counterfoil only" in await annotated_in_vain(
            joe, form
        )


async def test_the_last_ten_acts_stay_and_what_was_never_a_record_goes(installed: InstalledChart) -> None:
    await noted(installed)
    await installed.kubectl("annotate", "--overwrite", "ee", NAME, f"{ACTS}=what somebody wrote long ago")
    jane = await person(installed, "jane")
    junk = {ACTS: "what somebody wrote long ago"}
    two = with_audit_entry({ACTS: with_audit_entry(junk, act("jane"))[ACTS]}, act("jane"))[ACTS]
    assert "one act is added at its end" in await annotated_in_vain(jane, two)
    written = junk
    for number in range(13):
        written = with_audit_entry(written, act("jane", why=f"{number}: " + '"\\\n'))
        await annotate(jane, written[ACTS])
    kept = audit_entries(await acts(installed))
    assert [each.why.partition(":")[0] for each in kept] == [str(number) for number in range(3, 13)]
    # Of nine, none goes; and of ten, not two.
    shortened = f"[{written[ACTS].partition('},')[2]}"
    assert "one act is added at its end" in await annotated_in_vain(
        jane, with_audit_entry({ACTS: f"[{shortened[1:].partition('},')[2]}"}, act("jane"))[ACTS]
    )


@pytest.mark.parametrize("name", ['ACME\\jane "j" {doe}', "jane@acme.example", "Käthe", "x" * 400])
async def test_names_that_json_writes_otherwise_and_long_ones_are_recorded_too(
    installed: InstalledChart, name: str
) -> None:
    await noted(installed)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"people-{hashlib.sha256(name.encode()).hexdigest()[:10]}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "meddler"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
    }
    await installed.kubectl(
        "apply",
        "--server-side",
        "-f",
        "-",
        stdin=json.dumps(listed_as(*rbac.service_account_with_rules("meddler", MEDDLER), binding)),
    )
    written = with_audit_entry(await acts(installed), AuditEntry(who=name, what="retry", when=NOON))[ACTS]
    await installed.kubectl("annotate", "--overwrite", "ee", NAME, f"{ACTS}={written}", f"--as={name}")
    other = with_audit_entry({ACTS: written}, AuditEntry(who=f"{name[:299]}!", what="retry", when=NOON))[ACTS]
    with pytest.raises(KubectlError, match="must name the user who adds it"):
        await installed.kubectl("annotate", "--overwrite", "ee", NAME, f"{ACTS}={other}", f"--as={name}")


async def test_nothing_starts_with_the_records_of_others_unless_it_is_restored(
    installed: InstalledChart,
) -> None:
    jane = await person(installed, "jane")
    forged = {
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": "Archive",
        "metadata": {"name": "restored", "annotations": with_audit_entry({}, act("joe"))},
        "spec": {"filesystem": {"root": "/srv"}},
    }
    words = await refused(jane, "create", "-f", "-", stdin=json.dumps(forged))
    assert "must name the user who adds it" in words
    await installed.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(forged))


async def test_console_and_plugin_record_what_is_done_with_them_under_the_charts_policies(
    installed: InstalledChart, tmp_path: Path
) -> None:
    async with console_scene(installed.plane, NAMESPACE, tmp_path) as scene:
        await scene.an_archive("shelf", "True", "Probed")
        await scene.an_organization("acme", archive="shelf")
        await scene.a_sender("maria", truth="False", reason="TokenRejected")
        name = await scene.waiting("maria")
        jane = await scene.signed_in(at=f"/events/{name}")
        for what in ("suspend", "resume") * 6:
            await jane.press(what, why='"so" \\ it is')
        await jane.press("retry", why="the last one")
        await (await jane.get("/archives")).press("probe", within="shelf")
        await (await jane.get("/organizations")).press("sweep", within="acme")
        await (await jane.get("/senders")).press("ask")

        way = await installed.plane.kubeconfig_for("full", NAMESPACE)
        plugin = [Path(sys.executable).parent / "kubectl-counterfoil", f"--kubeconfig={way}"]
        skipped = await run([*plugin, "skip", name, "--because", "filed by hand"])
        assert skipped.code == 0, skipped.err

        done = audit_entries((await scene.event(name))["metadata"]["annotations"])
        assert [each.what for each in done] == [*["suspend", "resume"] * 4, "retry", "skip"]
        assert {each.who for each in done} == {user("full")}
        for kind, named, what in (
            ("archive", "shelf", "probe"),
            ("org", "acme", "sweep"),
            ("sender", "maria", "ask"),
        ):
            (only,) = audit_entries(
                (await scene.local_environment.read(kind, named))["metadata"]["annotations"]
            )
            assert (only.who, only.what) == (user("full"), what)


def user(name: str) -> str:
    """Return an account's name as the API server knows it."""
    return f"system:serviceaccount:{NAMESPACE}:{name}"


def act(name: str, why: str = "") -> AuditEntry:
    """Return what an account did."""
    return AuditEntry(who=user(name), what="retry", when=NOON, why=why)


async def person(installed: InstalledChart, name: str) -> Kubectl:
    """Return the kubectl of somebody who may change events and Archives."""
    objects = rbac.service_account_with_rules(name, PERSON)
    await installed.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(listed_as(*objects)))
    return installed.plane.kubectl_as(await installed.plane.kubeconfig_for(name, NAMESPACE))


async def acts(installed: InstalledChart) -> dict[str, str]:
    """Return the annotations of the event."""
    found = json.loads(await installed.kubectl("get", "ee", NAME, "-o", "json"))
    return dict(found["metadata"].get("annotations", {}))


async def annotate(kubectl: Kubectl, record: str) -> None:
    await kubectl("-n", NAMESPACE, "annotate", "--overwrite", "ee", NAME, f"{ACTS}={record}")


async def annotated_in_vain(kubectl: Kubectl, record: str) -> str:
    return await refused(kubectl, "annotate", "--overwrite", "ee", NAME, f"{ACTS}={record}")


WRITE_STATUS = ("apply", "--server-side", "--force-conflicts", "--subresource=status", "-f", "-")


async def test_the_main_job_is_done_with_just_the_charts_rights_and_under_its_policies(
    installed: InstalledChart, tmp_path: Path
) -> None:
    async with local_environment(installed.plane, tmp_path, namespace=NAMESPACE) as built:
        (tmp_path / "dms").mkdir()
        anna = built.esaw.add_user(email="anna@example.com", given_name="Anna", surname="Kofler")
        await built.archive("dms", filesystem={"root": str(tmp_path / "dms")})
        await built.sender("anna", anna, organization="acme")
        await built.organization("acme", archive="dms", sender="anna")
        account = partial(installed.plane.kubeconfig_for, namespace=NAMESPACE)
        await built.controller(kubeconfig=await account(f"{RELEASE}-controller"))
        receiver = await built.receiver(kubeconfig=await account(f"{RELEASE}-receiver"))
        await built.ready("org/acme", "archive/dms")
        envelope = built.esaw.add_envelope(
            sender=anna, documents=[DocumentSpec(name="contract.pdf", size=3000)]
        )
        url = built.callback_url("acme", receiver)
        url = url.replace("##EnvelopeId##", envelope).replace("##Action##", "envelopeFinished")
        async with plain_http() as http:
            for _ in range(2):
                await until_answered(http, url, 200)
        pages = await built.pages(kubeconfig=await account(f"{RELEASE}-pages"))
        # As in the chart's pod without sessionKeysSecret, whose account has no rights.
        console = await built.console(kubeconfig=await account(f"{RELEASE}-console"), sealing_keys="")
        await helm_test(receiver=receiver.public, pages=pages.public, console=console.public)
        event = f"ee/{event_name('acme', envelope_id(envelope), 'envelopeFinished')}"
        for path, value in (("phase", "Succeeded"), ("deliveries", "2")):
            await built.kubectl("wait", event, f"--for=jsonpath={{.status.{path}}}={value}", "--timeout=60s")


async def test_the_first_installation_creates_no_quota_of_a_kind_that_is_new(
    installed: InstalledChart,
) -> None:
    # When it comes, and what it does then, is seen on the whole node, which has a quota controller.
    assert await installed.kubectl("get", "resourcequotas", "-o", "name") == ""


async def test_a_flood_beyond_the_quota_gets_503_and_is_taken_once_there_is_room(
    installed: InstalledChart, tmp_path: Path
) -> None:
    # As the Job of the first installation creates it; no controller runs Jobs here. Helm takes it over.
    (job,) = json.loads(await installed.kubectl("get", "jobs", "-o", "json"))["items"]
    quota = job["spec"]["template"]["spec"]["containers"][0]["args"][1]
    await installed.kubectl("apply", "--server-side", "--field-manager=helm", "-f", "-", stdin=quota)
    await installed.upgrade({"floodControl": {"quota": {"enabled": True}}})
    assert await installed.kubectl("get", "jobs", "-o", "name") == ""
    async with local_environment(installed.plane, tmp_path, namespace=NAMESPACE) as built:
        await built.organization("flooded", archive="dms")
        await built.kubectl(*hashes_of("flooded", built.tokens["flooded"]))
        way = await installed.plane.kubeconfig_for(f"{RELEASE}-receiver", NAMESPACE)
        receiver = await built.receiver(kubeconfig=way)
        url = built.callback_url("flooded", receiver).replace("##Action##", "envelopeFinished")
        async with plain_http() as http:
            await built.kubectl(*used(1))
            await until_answered(http, url, 200)
            await built.kubectl(*used(100_000))
            refused_ = await until_answered(http, url, 503)
            assert int(refused_.headers["Retry-After"]) > 0
            await built.kubectl(*used(1))
            await until_answered(http, url, 200)


async def test_the_api_server_has_a_queue_for_the_receivers_requests_and_for_no_others(
    installed: InstalledChart,
) -> None:
    name = f"{NAMESPACE}-{RELEASE}-receiver"
    for kind, header in FLOW_HEADERS.items():
        uid = await installed.plane.kubectl("get", kind, name, "-o", "jsonpath={.metadata.uid}")
        # The API server learns of a new FlowSchema some moments later.
        async with asyncio.timeout(PATIENCE):
            while await queued(installed, "receiver", header) != uid:  # noqa: ASYNC110 - the API server sends no event
                await asyncio.sleep(PAUSE)
        assert await queued(installed, "controller", header) not in (uid, "")


FLOW_HEADERS = {
    "flowschema": "X-Kubernetes-PF-FlowSchema-UID",
    "prioritylevelconfiguration": "X-Kubernetes-PF-PriorityLevel-UID",
}


async def queued(installed: InstalledChart, process: str, header: str) -> str:
    """List Organizations as a process, and return what the API server says of where that queued."""
    kubeconfig = await installed.plane.kubeconfig_for(f"{RELEASE}-{process}", NAMESPACE)
    written = json.loads(kubeconfig.read_text())
    (kube,), (account,) = written["clusters"], written["users"]
    authority = base64.b64decode(kube["cluster"]["certificate-authority-data"]).decode()
    async with httpx.AsyncClient(
        verify=ssl.create_default_context(cadata=authority), trust_env=False
    ) as http:
        answer = await http.get(
            f"{installed.plane.url}/apis/counterfoil.dev/v1beta1/namespaces/{NAMESPACE}/organizations",
            headers={"Authorization": f"Bearer {account['user']['token']}"},
        )
    # Right after their definitions came it also says 429 for a moment, from the same queue.
    return str(answer.headers.get(header, ""))


def used(count: int) -> tuple[str, ...]:
    """Say as the controller manager does, which is not here, how many events there are."""
    quota = {"count/envelopeevents.counterfoil.dev": "100000", "count/leases.coordination.k8s.io": "30000"}
    status = {"hard": quota, "used": {key: str(count if "envelopeevents" in key else 1) for key in quota}}
    body = json.dumps({"status": status})
    return ("patch", "resourcequota", RELEASE, "--subresource=status", "--type=merge", "-p", body)


def hashes_of(organization: str, token: str) -> tuple[str, ...]:
    """Say as a controller does by which tokens the organization is called."""
    body = json.dumps({"status": {"callbackTokenHashes": [token_hash(token, bytes(16))]}})
    return ("patch", "organization", organization, "--subresource=status", "--type=merge", "-p", body)


async def helm_test(**processes: str) -> None:
    """Ask what the pod of ``helm test`` asks."""
    asked = await run(
        [sys.executable, CHART / "files" / "ask.py", *(f"{name}={url}" for name, url in processes.items())]
    )
    assert asked.code == 0, asked.out + asked.err


async def until_answered(http: httpx.AsyncClient, url: str, status: int) -> httpx.Response:
    """
    Call, each time about another envelope, until it is answered so.

    A receiver learns of a new token some moments later, and the API server of how much of a quota is used.
    """
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await http.get(url.replace("##EnvelopeId##", str(uuid.uuid4())))
            if answer.status_code == status:
                return answer
            await asyncio.sleep(PAUSE)


PERSON: tuple[rbac.Rule, ...] = (
    {
        "apiGroups": ["counterfoil.dev"],
        "resources": ["envelopeevents", "archives"],
        "verbs": ["get", "create", "patch"],
    },
)
MEDDLER: tuple[rbac.Rule, ...] = (
    {
        "apiGroups": ["counterfoil.dev"],
        "resources": ["envelopeevents", "envelopeevents/status"],
        "verbs": ["get", "patch"],
    },
)


async def noted(installed: InstalledChart) -> None:
    await installed.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(EVENT))


def status_of(**status: Any) -> str:
    """Return what is applied: unlike ``kubectl patch``, ``kubectl apply --server-side`` needs no right to
    read."""
    identity = {key: EVENT[key] for key in ("apiVersion", "kind")}
    return json.dumps({**identity, "metadata": {"name": NAME, "namespace": NAMESPACE}, "status": status})


def archived() -> dict[str, Any]:
    return {
        "type": "Archived",
        "status": "True",
        "reason": "Archived",
        "message": "All is there.",
        "lastTransitionTime": "2026-11-24T10:00:00Z",
    }


def a_secret(kind: str) -> dict[str, Any]:
    data = {"token": base64.b64encode(b"sealed").decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a-key"}, "type": kind, "data": data}


def a_lease(name: str) -> dict[str, Any]:
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {}}


def listed_as(*objects: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}


# -- Life of a release ---------------------------------------------------------------------------------------


async def test_an_upgrade_keeps_the_sealing_key(installed: InstalledChart) -> None:
    before = await sealing_keys(installed)
    await installed.upgrade({"controller": {"replicas": 3}})
    assert await sealing_keys(installed) == before
    replicas = ("get", "deploy", f"{RELEASE}-controller", "-o", "jsonpath={.spec.replicas}")
    assert await installed.kubectl(*replicas) == "3"
    await installed.helm("rollback", RELEASE, "-n", NAMESPACE)
    assert await sealing_keys(installed) == before


async def test_the_sealing_key_cannot_be_replaced(installed: InstalledChart) -> None:
    other = json.dumps({"data": {"0-generated": base64.b64encode(b"another").decode()}})
    with pytest.raises(KubectlError, match="immutable"):
        await installed.kubectl("patch", "secret", f"{RELEASE}-sealing-keys", "--type=merge", "-p", other)


async def test_a_definition_that_changed_reaches_the_cluster_by_an_upgrade(installed: InstalledChart) -> None:
    remove = '[{"op":"remove","path":"/spec/names/shortNames"}]'
    await installed.plane.kubectl(
        "patch", "crd", "envelopeevents.counterfoil.dev", "--type=json", "-p", remove
    )
    values = with_image({})
    await installed.helm("upgrade", RELEASE, CHART, "-n", NAMESPACE, *TAKE_BACK, values=values)
    names = await installed.plane.kubectl(
        "get", "crd", "envelopeevents.counterfoil.dev", "-o", "jsonpath={.spec.names.shortNames}"
    )
    assert "ee" in names


@pytest.mark.parametrize("kind", ["validatingadmissionpolicy", "validatingadmissionpolicybinding"])
async def test_a_policy_that_was_deleted_is_reported_and_an_upgrade_installs_it_again(
    installed: InstalledChart, kind: str
) -> None:
    """``AdmissionPolicyMissing``, and the command that its advice names."""
    await installed.upgrade({})
    deployment = json.loads(await installed.kubectl("get", "deploy", f"{RELEASE}-controller", "-o", "json"))
    pod = {"apiVersion": "v1", "kind": "Pod", **deployment["spec"]["template"]}
    pod["metadata"]["name"] = "controller"
    await installed.kubectl("create", "-f", "-", stdin=json.dumps(pod))

    async def waiting() -> Sequence[WaitingItem]:
        async with connect(namespace=NAMESPACE, kubeconfig=installed.plane.kubeconfig) as kube:
            reading = await read(kube)
        assert reading.policies is not None
        found = overview(reading, NAMESPACE, NOON).waiting
        return [each for each in found if each.reason == "AdmissionPolicyMissing"]

    try:
        assert await waiting() == []
        policy = f"{NAMESPACE}-{RELEASE}-status"
        await installed.plane.kubectl("delete", kind, policy)
        (entry,) = await waiting()
        assert entry.message == policy
        program, *namespace, upgrade, release, chart, option = shlex.split(entry.commands[-1])
        assert (program, upgrade, chart) == ("helm", "upgrade", "CHART")
        # The Jobs of hooks run here only if the command begins with its verb.
        await installed.helm(upgrade, release, CHART, option, *namespace)
        assert await waiting() == []
    finally:
        await installed.kubectl("delete", "pod", "controller", "--now")


async def test_uninstalling_keeps_definitions_events_and_sealing_keys_and_installing_again_takes_them_up(
    installed: InstalledChart,
) -> None:
    await noted(installed)
    before = await sealing_keys(installed)
    await installed.helm("uninstall", RELEASE, "-n", NAMESPACE)
    ours = f"app.kubernetes.io/instance={RELEASE}"
    left = await installed.kubectl("get", "deploy,svc,roles,sa,secrets,netpol", "-l", ours, "-o", "name")
    assert left == f"secret/{RELEASE}-sealing-keys\n"
    assert f"envelopeevent.counterfoil.dev/{NAME}\n" in await installed.kubectl("get", "ee", "-o", "name")
    assert await sealing_keys(installed) == before
    await installed.upgrade({})
    assert await sealing_keys(installed) == before


async def test_a_second_release_in_the_namespace_is_refused_with_what_to_do_instead(
    installed: InstalledChart,
) -> None:
    values = with_image({"crds": {"enabled": False}})
    with pytest.raises(HelmError) as refused:
        await installed.helm("install", "second", CHART, "-n", NAMESPACE, values=values)
    said = str(refused.value)
    assert f"the namespace {NAMESPACE} already has the release {RELEASE} of Counterfoil" in said
    assert f"upgrade that one, as in `helm -n {NAMESPACE} upgrade {RELEASE}`" in said


async def test_a_second_release_elsewhere_does_without_the_definitions(installed: InstalledChart) -> None:
    await installed.plane.namespace("invoices")
    with pytest.raises(HelmError, match="CustomResourceDefinition"):
        await installed.helm("install", RELEASE, CHART, "-n", "invoices", values=with_image({}))
    values = with_image({"crds": {"enabled": False}})
    await installed.helm("install", RELEASE, CHART, "-n", "invoices", values=values)
    assert (
        len((await installed.plane.kubectl("get", "validatingadmissionpolicies", "-o", "name")).split()) == 28
    )


LEFT_BY_PROCESSES = [
    *(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "labels": labels},
        }
        for name, labels in (
            (shard_lease_name(0, 1), {SHARD_LEASE_COUNT_LABEL: "1"}),
            ("counterfoil-draft-1", {LEASE_KIND_LABEL: KIND_DRAFT}),
        )
    ),
    {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": RELEASE},
        "spec": {"hard": {"count/leases.coordination.k8s.io": "30000"}},
    },
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "acme-callback", "labels": {USE_LABEL: "callback"}},
    },
]


async def test_what_the_manual_says_of_removing_everything_leaves_nothing(
    installed: InstalledChart, tmp_path: Path
) -> None:
    left_by_processes = json.dumps(listed_as(*LEFT_BY_PROCESSES))
    await installed.kubectl("apply", "--server-side", "-f", "-", stdin=left_by_processes)
    kinds = (
        await installed.kubectl("api-resources", "--namespaced", "--verbs=list,delete", "-o", "name")
    ).split()
    without_events = ",".join(each for each in kinds if not each.startswith("events"))
    ours = {*(await installed.kubectl("get", "-f", "-", "-o", "name", stdin=left_by_processes)).split()}
    for chosen in (
        (without_events, "-l", f"app.kubernetes.io/instance={RELEASE}"),
        (",".join(each for each in kinds if each.endswith(".counterfoil.dev")),),
        ("secrets", "-l", "counterfoil.dev/use"),
    ):
        ours.update((await installed.kubectl("get", *chosen, "-o", "name")).split())
    await installed.helm("uninstall", RELEASE, "-n", "invoices")
    page = (CHART.parents[1] / "docs" / "chart.md").read_text(encoding="utf-8")
    commands = console_commands(page.partition("\n## Uninstalling\n")[2].partition("\n## ")[0])
    programs = await ensure("kubectl", "helm")
    folders = {str(programs[each].parent) for each in ("kubectl", "helm")}
    environment = {
        "PATH": ":".join([*folders, os.environ["PATH"]]),
        "KUBECONFIG": str(installed.plane.kubeconfig),
        "HOME": str(tmp_path),
    }
    done = await typed(commands, tmp_path, environment, seconds=300.0)
    assert done.status == 0, report(commands, done)
    # The definitions are gone, so their objects are too. Other tests of this namespace leave what they made.
    still = ",".join(each for each in without_events.split(",") if not each.endswith(".counterfoil.dev"))
    left = (await installed.kubectl("get", still, "-o", "name")).split()
    assert len(ours) > len(LEFT_BY_PROCESSES)
    assert not ours & set(left)
    of_cluster = (
        "clusterroles,crds,flowschemas,prioritylevelconfigurations,validatingadmissionpolicies,"
        "validatingadmissionpolicybindings"
    )
    assert "counterfoil" not in await installed.plane.kubectl("get", of_cluster, "-o", "name")


async def sealing_keys(installed: InstalledChart) -> str:
    return await installed.kubectl("get", "secret", f"{RELEASE}-sealing-keys", "-o", "jsonpath={.data}")
