"""
One release for many namespaces, on a whole node: its own namespace and two units, which have an organization
of the same name, and each its own people.

The installation begins with the chart of an earlier release, for one namespace. Then it is upgraded to the
present chart, and then it gets a list. Each test can be run alone.
"""

import json
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.resources import Phase
from release.helm import helm
from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.kubectl import Kubectl, KubectlError
from sandbox.esaw import Behaviour, Browser
from sandbox.node.images import SANDBOX_IMAGE
from sandbox.node.node import Node
from sandbox.node.port_forward import PortForward
from sandbox.servers.proxies import Proxy, Ticks
from tests.support.neighbours import MAIL_PORT, NAMESPACE, Neighbours, make_namespace
from tests.support.pauses import eventually
from tests.support.scenes.plugin import Terminal
from tests.support.scenes.release import (
    ACME,
    HOME,
    PATIENCE,
    RECEIVER,
    RELEASE,
    Flow,
    Release,
    own_object,
    secret_for,
)
from tests.support.servers.scripted_esaw import server_tls

UNITS = ("unit-a", "unit-b")
OWN_AND_OTHER = [("unit-a", "unit-b"), ("unit-b", "unit-a")]
PROCESSES = ("receiver", "pages", "console", "controller")
EARLIER_CHART = max((Path(__file__).parents[1] / "support" / "releases").glob("*.tgz"))
ADDRESS_KNOWN = {"controller": {"settings": {"callbackUrl": RECEIVER}}}
KINDS = "envelopeevents,organizations,senders,archives"


@dataclass
class Person:
    """Somebody with the ClusterRole ``edit`` in one namespace, and no other right."""

    kubectl: Kubectl
    token: str

    @property
    def terminal(self) -> Terminal:
        """The person's terminal, in which kubectl finds the plugin."""
        return Terminal(self.kubectl.program, self.kubectl.kubeconfig, self.kubectl.home)


class Upgrade(NamedTuple):
    """An upgrade from the earlier chart to the present one."""

    address_before: str
    """The callback URL that the organization showed, with ``<token>``."""
    address_after: str
    sent: list[str]
    """Envelopes whose callbacks were sent before and meanwhile."""


@dataclass
class Scene:
    """The release, its namespaces, and a person of each unit."""

    home: Release
    upgrade: Upgrade
    served: list[str] = field(default_factory=list)
    units: dict[str, Release] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """The name of a failed event in each namespace."""

    @property
    def all(self) -> dict[str, Release]:
        """The namespace of the release, and the units."""
        return {HOME: self.home, **self.units}

    async def serve(self, *namespaces: str) -> None:
        """Upgrade the release to a list of namespaces."""
        await self.home.install(watchNamespaces=[*namespaces], **ADDRESS_KNOWN)
        self.served = [*namespaces]

    async def pods(self) -> dict[str, int]:
        """Number of restarts of each pod of the processes, by its UID."""
        return {
            pod["metadata"]["uid"]: sum(each["restartCount"] for each in pod["status"]["containerStatuses"])
            for process in PROCESSES
            for pod in await self.home.pods(process)
        }


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Three namespaces in which something was archived, and something failed."""
    # In the node's network nothing can be downloaded any more.
    await ensure("helm")
    async with Node() as node:
        await node.images()
        neighbours = Neighbours(node.kubectl, SANDBOX_IMAGE, node.folder)
        await neighbours.settle()
        async with neighbours.esaw() as esaw:
            # eSAW repeats callbacks for 36 hours. Here it does so for six minutes, in which an upgrade fits.
            await esaw.set_behaviour(Behaviour(callback_time_scale=0.003))
        try:
            program = await helm(node.folder / "home", kubeconfig=node.kubeconfig)
            home = Release(node, program, neighbours)
            built = Scene(home, await upgraded_from_the_earlier_chart(home))
            await divided(built, tmp_path_factory.mktemp("people"))
            yield built
        finally:
            neighbours.close()


async def upgraded_from_the_earlier_chart(home: Release) -> Upgrade:
    """
    Install the earlier chart, and upgrade to the present one while callbacks arrive.

    The image is the present one from the beginning. Its controller archives nothing before it has the present
    definitions, and its receiver accepts callbacks. An attempt that the controller recorded before that was
    refused, so the event is retried, as its reason advises.
    """
    await make_namespace(home.cluster.kubectl, HOME)
    await home.install(EARLIER_CHART, **ADDRESS_KNOWN)
    await home.declare_archive()
    # Its default of then is too short for the present definitions.
    await home.declare_organization(ACME, ttl={"succeeded": "792h"})
    before = await address(home)
    async with Flow(home, every=1.0) as flow:
        await eventually(lambda: is_answered(home, flow.sent, 200), within=PATIENCE)
        await home.install(**ADDRESS_KNOWN)
    for event in await home.events():
        if event.status.reason == "StatusRefused":
            await home.kubectl("label", "envelopeevent", event.metadata.name, "counterfoil.dev/request=retry")
    return Upgrade(before, await address(home), flow.sent)


async def divided(scene: Scene, folder: Path) -> None:
    """Let the release serve two units more. In each namespace somebody must act, and hears of it by mail."""
    for name in UNITS:
        await make_namespace(scene.home.cluster.kubectl, name)
        scene.units[name] = scene.home.unit(name)
    await scene.serve(HOME, *UNITS)
    for name, unit in scene.all.items():
        await furnished_with_mails(unit)
        await awaiting_consent(unit)
        scene.failed[name] = await failed_event(unit)
    for name, unit in scene.units.items():
        scene.people[name] = await person_of(unit, folder)


async def furnished_with_mails(unit: Release) -> None:
    """Furnish a namespace, with mails to its administrators."""
    host = f"mail.{NAMESPACE}.svc.cluster.local"
    await unit.apply(secret_for("smtp", "smtp", host=host, port=str(MAIL_PORT), tls="none"))
    await unit.furnish(
        notifications={
            "smtpSecretRef": {"name": "smtp"},
            "from": unit.mail_address("counterfoil"),
            "administrators": [unit.mail_address("admin")],
        }
    )


async def awaiting_consent(unit: Release) -> None:
    """Let an envelope be complete whose sender has a key that eSAW refuses."""
    async with unit.neighbours.esaw() as esaw:
        envelope = await unit.active(esaw)
        organization, key = {"name": ACME}, {"name": "carl-key", "key": "token"}
        await unit.apply(
            secret_for("carl-key", "token", token="no-key-of-esaw"),
            own_object(
                "Sender",
                "carl",
                organizationRef=organization,
                userID=str(uuid.uuid4()),
                email=unit.mail_address("carl"),
                tokenSecretRef=key,
            ),
            own_object(
                "Envelope",
                envelope,
                organizationRef=organization,
                envelopeID=envelope,
                senderRef={"name": "carl"},
            ),
        )
        await esaw.complete(envelope)


async def failed_event(unit: Release) -> str:
    """Let one event fail: eSAW refuses what is asked about its envelope. Return its name."""
    async with unit.neighbours.esaw() as esaw:
        envelope = await unit.active(esaw)
        await esaw.fault("envelope", id=envelope, status=400, times=1)
        await esaw.complete(envelope)

    async def failed() -> str | None:
        events = [each for each in await unit.events() if each.spec.envelope_id == envelope]
        return next((each.name for each in events if each.status.phase is Phase.FAILED), None)

    return await eventually(failed, within=PATIENCE)


async def person_of(unit: Release, folder: Path) -> Person:
    """Give somebody rights in one namespace, as docs/chart.md says, and a kubeconfig."""
    await unit.kubectl("create", "serviceaccount", "person")
    account = f"--serviceaccount={unit.namespace}:person"
    await unit.kubectl("create", "rolebinding", "person", "--clusterrole=edit", account)
    token = (await unit.kubectl("create", "token", "person", "--duration=2h")).strip()
    ours = unit.cluster.kubectl
    config = json.loads(ours.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    config["contexts"][0]["context"]["namespace"] = unit.namespace
    kubeconfig = folder / f"kubeconfig-{unit.namespace}"
    kubeconfig.write_text(json.dumps(config))
    return Person(Kubectl(ours.program, kubeconfig, folder / unit.namespace), token)


@asynccontextmanager
async def signed_in(scene: Scene, name: str, folder: Path) -> AsyncIterator[Browser]:
    """Open the console behind TLS, as an ingress has it, and sign in as the person of a unit."""
    log = folder / "forward.log"
    way = PortForward(scene.home.cluster.kubectl, HOME, f"{RELEASE}-console", 80, log=log)
    tls, trust = server_tls(folder)
    try:
        async with (
            Proxy(await way.url(), ticks=Ticks(), own_tls=tls) as ingress,
            Browser(trust=trust) as browser,
        ):
            await browser.open(ingress.url)
            await browser.press("Sign in", token=scene.people[name].token)
            yield browser
    finally:
        way.close()


async def is_answered(unit: Release, envelopes: Sequence[str], status: int) -> bool:
    """Whether a callback about one of these envelopes was answered with this status."""
    return status in await unit.answers(envelopes)


async def address(release: Release) -> str:
    """The callback URL that an organization shows."""

    async def shown() -> str:
        path = "jsonpath={.status.callbackURLs.envelope}"
        return await release.kubectl("get", "organization", ACME, "-o", path)

    return await eventually(shown, within=PATIENCE)


# -- The way to several namespaces ---------------------------------------------------------------------------


async def test_an_upgrade_from_the_earlier_chart_changes_no_address_and_loses_no_callback(
    scene: Scene,
) -> None:
    assert f"/callbacks/{ACME}/" in scene.upgrade.address_before
    assert scene.upgrade.address_after == scene.upgrade.address_before
    await scene.home.filed(scene.upgrade.sent)


async def test_the_short_address_stays_that_of_the_namespace_of_the_release(scene: Scene) -> None:
    assert await address(scene.home) == scene.upgrade.address_before
    for name, unit in scene.units.items():
        assert f"/callbacks/{name}/{ACME}/" in await address(unit)
    sent = {name: await each.complete(2) for name, each in scene.all.items()}
    for name, each in scene.all.items():
        await each.filed(sent[name])
        others = {envelope for other in sent if other != name for envelope in sent[other]}
        assert not {event.spec.envelope_id for event in await each.events()} & others


async def test_helm_test_says_that_each_namespace_is_served(scene: Scene) -> None:
    await scene.home.helm("test", RELEASE, f"--namespace={HOME}", "--timeout=3m")


# -- What a person of one namespace sees ---------------------------------------------------------------------


@pytest.mark.parametrize(("own", "other"), OWN_AND_OTHER)
async def test_by_kubectl_a_person_reads_one_namespace_only(scene: Scene, own: str, other: str) -> None:
    kubectl = scene.people[own].kubectl
    shown = await kubectl("get", KINDS, "-o", "name")
    assert {f"envelopeevent.counterfoil.dev/{scene.failed[own]}", "archive.counterfoil.dev/dms"} <= {
        *shown.split()
    }
    for elsewhere in (f"--namespace={other}", f"--namespace={HOME}", "--all-namespaces"):
        for kind in (*KINDS.split(","), "secrets"):
            with pytest.raises(KubectlError, match="Forbidden"):
                await kubectl("get", kind, elsewhere)


@pytest.mark.parametrize(("own", "other"), OWN_AND_OTHER)
async def test_by_the_plugin_a_person_learns_of_one_namespace_only(
    scene: Scene, own: str, other: str
) -> None:
    counterfoil = scene.people[own].terminal
    why = await counterfoil("why", scene.failed[own])
    assert (why.code, why.err) == (ExitStatus.DONE, "")
    assert "Failed (EsawRefused)" in why.out
    url = await counterfoil("url", ACME)
    assert scene.units[own].callback_url().partition("?")[0] in url.out
    status = await counterfoil("status")
    assert scene.failed[own] in status.out
    for elsewhere in (other, HOME):
        for command in (["why", scene.failed[elsewhere]], ["url", ACME], ["status"]):
            refused = await counterfoil(*command, "-n", elsewhere)
            assert refused.code == ExitStatus.NOT_ALLOWED, command
            assert scene.failed[elsewhere] not in refused.out


@pytest.mark.parametrize("own", UNITS)
async def test_in_the_console_a_person_begins_in_one_namespace_and_sees_no_other_name(
    scene: Scene, own: str, tmp_path: Path
) -> None:
    async with signed_in(scene, own, tmp_path) as browser:
        assert f"/namespaces/{own}/" in browser.page.url
        assert scene.failed[own] in browser.page.html
        assert set(re.findall(r"/namespaces/([a-z-]+)", browser.page.html)) == {own}


@pytest.mark.parametrize(("own", "other"), OWN_AND_OTHER)
async def test_in_the_console_a_link_to_another_namespace_shows_nothing_of_it(
    scene: Scene, own: str, other: str, tmp_path: Path
) -> None:
    async with signed_in(scene, own, tmp_path) as browser:
        for elsewhere, root in ((other, f"/namespaces/{other}"), (HOME, "")):
            for path in ("/attention", "/events", f"/events/{scene.failed[elsewhere]}"):
                page = await browser.open(f"{root}{path}")
                assert page.status == 403, page.url
                assert "You have no right to do that" in page.text
        there = await browser.open(f"/namespaces/{own}/events/{scene.failed[own]}")
        assert (there.status, "EsawRefused" in there.text) == (200, True)


async def test_mails_go_to_the_people_of_their_namespace_only(scene: Scene) -> None:
    mails = scene.home.neighbours.mails
    administrators = {name: unit.mail_address("admin") for name, unit in scene.all.items()}
    senders = {unit.mail_address("carl") for unit in scene.all.values()}

    async def all_have_heard() -> bool:
        return {mail.to for mail in await mails()} >= {*administrators.values(), *senders}

    await eventually(all_have_heard, within=PATIENCE)
    arrived = await mails()
    assert {mail.to for mail in arrived} == {*administrators.values(), *senders}
    for name, administrator in administrators.items():
        assert [mail.to for mail in arrived if scene.failed[name] in mail.text] == [administrator]
        theirs = "\n".join(mail.text for mail in arrived if mail.to == administrator)
        commands = re.findall(r"^ +kubectl .*", theirs, re.MULTILINE)
        assert {f" -n {name} " in each for each in commands} == {True}


# -- A namespace is added, and one is removed ----------------------------------------------------------------


async def test_a_namespace_is_added_without_a_restart_and_without_a_lost_callback(scene: Scene) -> None:
    before = await scene.pods()
    await make_namespace(scene.home.cluster.kubectl, "unit-c")
    added = scene.home.unit("unit-c")
    async with Flow(*scene.all.values(), every=1.0) as flow:
        await scene.serve(*scene.served, "unit-c")
        await added.furnish()
        first = await added.complete(3)
        await added.filed(first)
    await flow.filed()
    assert set(await scene.home.answers(flow.sent)) == {200}
    assert await scene.pods() == before


async def test_a_namespace_is_removed_without_harm_to_others_and_continues_when_it_returns(
    scene: Scene,
) -> None:
    before = await scene.pods()
    removed = scene.units["unit-b"]
    with_it = scene.served
    archived = {event.name for event in await removed.events()}
    async with Flow(scene.home, scene.units["unit-a"], every=2.0) as flow:
        await scene.serve(*(each for each in with_it if each != "unit-b"))
        late = await removed.complete(1)
        await eventually(lambda: is_answered(removed, late, 404), within=PATIENCE)
        assert {event.name for event in await removed.events()} >= archived
        await scene.serve(*with_it)
        # eSAW repeats its callback until it is accepted.
        await removed.filed(late)
    await flow.filed()
    assert set(await scene.home.answers(flow.sent)) == {200}
    assert await scene.pods() == before
