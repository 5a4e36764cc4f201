"""
A whole cluster: Counterfoil's image and chart on a real node, with eSAW and an archive beside it, through a
release's life.

``make e2e`` runs it on a separate node (root), ``CLUSTER=kind make e2e`` by kind. The tests share one
installation and leave it as they found it: each can be run alone.
"""

import asyncio
import json
import os
import random
import re
import shutil
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from controller.resync.event_load import UNKNOWN_ENVELOPE
from counterfoil.resources import Import, envelope_id
from counterfoil.resources.event_factory import new_event
from counterfoil.resources.lease import SHARD_LEASE_COUNT_LABEL, Lease
from release.helm import CHART, helm
from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.kubectl import Kubectl, KubectlError
from sandbox.controlplane.processes import ServerProcess, run
from sandbox.node.images import SANDBOX_IMAGE
from sandbox.node.kind import KindNode
from sandbox.node.node import Node
from tests.support.neighbours import ESAW_PORT, NAMESPACE, S3_PORT, Neighbours, make_namespace
from tests.support.pauses import eventually
from tests.support.scenes.release import ACME, HOME, PATIENCE, RELEASE, SCRAPER, Flow, Release, release_in

PROCESSES = ("receiver", "pages", "console", "controller")
ROUNDS_OF_DELETION = 6
ROOT = Path(__file__).parents[2]
NOTED = re.compile(r"^ {5}\S[^\n]*|^cat > .*?^END$", re.MULTILINE | re.DOTALL)
"""A command that the notes of the chart print."""
TRIAL = "trial"
TRIAL_OF_CHART = "trial-of-chart"
HELD = "counterfoil.test/held"
SMALLEST_QUOTA = 1000
"""Fewer the chart's schema does not take."""
CALLBACKS = 3000
FLOOD = """
import asyncio, collections, json, sys, uuid, aiohttp

async def main(url, count, *envelopes):
    answers, numbers = collections.Counter(), iter(range(count))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        async def call():
            for number in numbers:
                envelope = envelopes[number % len(envelopes)] if envelopes else str(uuid.uuid4())
                filled = url.replace("##EnvelopeId##", envelope)
                async with http.get(filled.replace("##Action##", "envelopeFinished")) as answer:
                    is_whole = answer.status == 200 or "Retry-After" in answer.headers
                    answers[f"{answer.status}" if is_whole else f"{answer.status} without Retry-After"] += 1
        await asyncio.gather(*(call() for _ in range(64)))
    print(json.dumps(answers))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
"""
"""Sends this number of callbacks about some envelopes, 64 at once, and prints the count of each response.
Without envelopes, each callback is about another one, which does not exist."""
LEAKED = "leaked"
"""The organization whose callback URL an untrusted client knows."""
OF_LEAKED = f"spec.organizationRef.name={LEAKED}"
EVENTS_IN_QUOTA = "count/envelopeevents.counterfoil.dev"
LONG_AGO = timedelta(days=60)
"""Age of old envelopes; the sweep does not look that far back."""
CEILING = 100
"""Lower ceilings of an organization the API server does not take."""
FLOW = re.compile(
    r"apiserver_flowcontrol_(?P<what>dispatched|rejected)_requests_total"
    r'\{flow_schema="(?P<schema>[^"]*)",priority_level="(?P<level>[^"]*)"[^}]*\} (?P<count>\S+)'
)


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[Node | KindNode]:
    """A node that has the images."""
    # In the node's network nothing can be downloaded any more.
    await ensure("helm")
    async with KindNode() if os.environ.get("CLUSTER") == "kind" else Node() as running:
        await running.images()
        yield running


@pytest.fixture(scope="module")
async def release(cluster: Node | KindNode) -> AsyncIterator[Release]:
    """Counterfoil, installed, with an organization that can file."""
    helmsman = await helm(cluster.folder / "home", kubeconfig=cluster.kubeconfig)
    neighbours = Neighbours(cluster.kubectl, SANDBOX_IMAGE, cluster.folder)
    await neighbours.settle()
    try:
        yield await release_in(cluster, helmsman, neighbours)
    finally:
        neighbours.close()


async def test_the_chart_installs_into_a_namespace_that_lets_in_restricted_pods_only(
    release: Release,
) -> None:
    await release.pods_ready()
    for process in PROCESSES:
        assert await release.pods(process), process

    root = ["run", "root", f"--image={SANDBOX_IMAGE}", "--restart=Never"]
    with pytest.raises(KubectlError, match='violates PodSecurity "restricted:latest"'):
        await release.kubectl(*root)


async def test_a_job_has_created_the_sealing_key_and_is_gone_with_its_account(release: Release) -> None:
    keys = await release.kubectl("get", "secret", f"{RELEASE}-sealing-keys", "-o", "jsonpath={.data}")
    (key_id,) = json.loads(keys)
    assert key_id.startswith("0-generated-")
    left = await release.kubectl("get", "jobs,serviceaccounts,roles,networkpolicies", "-o", "name")
    assert "create-sealing-key" not in left


async def test_helm_test_says_that_it_works(release: Release) -> None:
    await release.helm("test", RELEASE, f"--namespace={HOME}", "--timeout=3m")


async def test_each_command_that_the_notes_print_works_as_it_is_printed(release: Release) -> None:
    await make_namespace(release.cluster.kubectl, TRIAL)
    # A second release, as a user who evaluates it installs it; the kinds exist already.
    values = {**release.values, "crds": {"enabled": False}}
    install = ["install", RELEASE, CHART, f"--namespace={TRIAL}", "--wait", "--timeout=5m"]
    printed = await release.helm(*install, values=values)
    try:
        notes = printed.partition("NOTES:")[2]
        commands = [each[0].strip() for each in NOTED.finditer(notes)]
        assert len(commands) > 7
        for command in commands:
            if "port-forward" in command:
                await _forwards(release, command)
            else:
                await _typed(release, command)
        (status,) = (each for each in commands if "callbackURLs" in each)
        await eventually(lambda: _says(release, status, "/callbacks/acme/<token>?"), within=PATIENCE)
    finally:
        await release.helm("uninstall", RELEASE, f"--namespace={TRIAL}")
        await release.cluster.kubectl("delete", "namespace", TRIAL, "--wait=false")


async def test_the_trial_of_the_chart_has_an_envelope_signed_and_helm_test_shows_it_archived(
    release: Release,
) -> None:
    await make_namespace(release.cluster.kubectl, TRIAL_OF_CHART)
    # The kinds exist already.
    values = {"crds": {"enabled": False}}
    chosen = ["--values", CHART / "values-trial.yaml", f"--namespace={TRIAL_OF_CHART}"]
    try:
        await release.helm("install", "trial", CHART, *chosen, "--wait", "--timeout=10m", values=values)
        await release.helm("test", "trial", f"--namespace={TRIAL_OF_CHART}", "--timeout=6m")
        printed = await release.cluster.kubectl("-n", TRIAL_OF_CHART, "logs", "trial-archived")
        assert re.search(r"envelope \S+ is archived: \d+ files beside s3://contracts/acme/", printed), printed
        kubectl = release.cluster.kubectl
        mail = ["-n", TRIAL_OF_CHART, "logs", "deployment/trial-neighbours", "--container=mail"]
        await eventually(lambda: _mailed(kubectl, mail), within=PATIENCE)
    finally:
        await release.helm("uninstall", "trial", f"--namespace={TRIAL_OF_CHART}")
        await release.cluster.kubectl("delete", "namespace", TRIAL_OF_CHART, "--wait=false")


async def test_a_callback_through_the_service_ends_in_the_bucket_and_then_the_envelope_is_deleted(
    release: Release,
) -> None:
    await release.filed(await release.complete(5))


async def test_an_import_by_kubectl_archives_old_envelopes_about_which_nobody_calls(release: Release) -> None:
    old, sent = await release.add_old(3, LONG_AGO), datetime.now(UTC) - LONG_AGO
    spec = {
        "organizationRef": {"name": ACME},
        "senderRefs": [{"name": release.sender()}],
        "from": f"{sent - timedelta(days=1):%Y-%m-%d}",
        "until": f"{sent + timedelta(days=1):%Y-%m-%d}",
    }
    name = {"name": "old-stock"}
    body = {"apiVersion": Import.API_VERSION, "kind": Import.KIND, "metadata": name, "spec": spec}
    await release.kubectl("create", "-f", "-", stdin=json.dumps(body))
    await release.until("Complete", "import/old-stock")
    stored = await release.kubectl("get", "import/old-stock", "-o", "json")
    status = Import.parse(json.loads(stored)).status
    assert (status.found, status.known, status.archived) == (len(old), 0, len(old))
    await release.filed(old)
    await release.kubectl("delete", "import/old-stock")


async def test_each_pod_gets_where_it_must(release: Release) -> None:
    esaw, s3 = f"esaw.{NAMESPACE}.svc.cluster.local", f"s3.{NAMESPACE}.svc.cluster.local"
    receiver = f"{RELEASE}-receiver.{HOME}.svc.cluster.local"
    ways = [("controller", esaw, ESAW_PORT), ("controller", s3, S3_PORT), ("pages", esaw, ESAW_PORT)]
    ways += [(process, "kubernetes.default.svc.cluster.local", 443) for process in PROCESSES]
    for process, host, port in ways:
        pod = await _pod(release, process)
        await eventually(lambda: release.connects(pod, host, port), within=PATIENCE)  # noqa: B023 - awaited here
    await eventually(lambda: release.connects("deployment/esaw", receiver, 80, NAMESPACE), within=PATIENCE)


async def test_each_pod_is_refused_where_it_has_nothing_to_do(release: Release) -> None:
    esaw, s3 = f"esaw.{NAMESPACE}.svc.cluster.local", f"s3.{NAMESPACE}.svc.cluster.local"
    stranger = f"stranger.{NAMESPACE}.svc.cluster.local"
    for process, host, port in (
        ("receiver", esaw, ESAW_PORT),
        ("receiver", s3, S3_PORT),
        ("pages", s3, S3_PORT),
        ("console", esaw, ESAW_PORT),
        ("console", s3, S3_PORT),
        *((process, stranger, 8000) for process in PROCESSES),
    ):
        assert not await release.connects(await _pod(release, process), host, port), f"{process} to {host}"


async def test_an_unrelated_pod_reaches_no_process_and_only_permitted_pods_reach_metrics(
    release: Release,
) -> None:
    for process, port in (("receiver", 8080), ("pages", 8081), ("console", 8082)):
        for pod in await release.pods(process):
            address = pod["status"]["podIP"]
            if process != "console":
                assert not await release.connects("deployment/stranger", address, port, NAMESPACE), process
            for who in ("deployment/stranger", "deployment/esaw"):
                assert not await release.connects(who, address, 9090, NAMESPACE), f"{who} to {process}"

    await release.apply(_scraper())
    await release.kubectl("wait", "pod/scraper", "--for=condition=Ready", "--timeout=120s")
    for process in PROCESSES:
        address = (await release.pods(process))[0]["status"]["podIP"]
        await eventually(lambda: release.connects("pod/scraper", address, 9090), within=PATIENCE)  # noqa: B023
    await release.kubectl("delete", "pod", "scraper", "--wait=false")


async def test_an_upgrade_with_another_value_loses_no_callback_and_neither_does_its_rollback(
    release: Release,
) -> None:
    before = await release.revision()
    async with Flow(release) as flow:
        await release.install(settings={"logLevel": "debug"})
        changed = await _environment(release, "receiver", "COUNTERFOIL_LOG_LEVEL")
        await release.rollback()
    assert changed == "debug"
    assert await _environment(release, "receiver", "COUNTERFOIL_LOG_LEVEL") == "info"
    assert await release.revision() == before + 2
    await release.filed(flow.sent)


async def test_an_upgrade_adds_a_new_field_of_a_kind_while_callbacks_arrive(
    release: Release, tmp_path: Path
) -> None:
    chart = _chart_with_a_new_field(tmp_path / "chart")
    remark = json.dumps({"spec": {"remark": "new in this version"}})
    async with Flow(release) as flow:
        await release.install(chart)
        await eventually(lambda: _explained(release), within=PATIENCE)
        await release.kubectl("patch", "organization", "acme", "--type=merge", f"--patch={remark}")
        stored = await release.kubectl("get", "organization", "acme", "-o", "jsonpath={.spec.remark}")
        await release.rollback()
    assert stored == "new in this version"
    await release.filed(flow.sent)


async def test_a_job_creates_the_quota_which_refuses_no_callback_at_its_start(
    release: Release,
) -> None:
    assert release.quotas_at_first == ""
    await release.install(floodControl={"quota": {"enabled": False}})
    # The Job of the first installation may have created it, so it is not part of the release.
    await release.kubectl("delete", "resourcequotas", "--all")
    assert await release.quotas() == ""
    async with Flow(release, every=0.1) as flow:
        await release.bring_quota()
        # More of them, now that it counts.
        flow.sent += await release.complete(5)
    await release.filed(flow.sent)
    assert set(await release.answers(flow.sent)) == {200}


async def test_what_exceeds_the_quota_is_refused_until_there_is_room(release: Release) -> None:
    await release.bring_quota()
    await release.install(floodControl={"quota": {"enabled": True, "envelopeEvents": SMALLEST_QUOTA}})
    listed = {"apiVersion": "v1", "kind": "List", "items": [_held() for _ in range(SMALLEST_QUOTA)]}
    try:
        with pytest.raises(KubectlError, match="exceeded quota"):
            await release.kubectl("create", "-f", "-", stdin=json.dumps(listed))
        sent = await release.complete(3)
        await eventually(lambda: _refused(release, sent), within=PATIENCE)
    finally:
        await release.kubectl("delete", "ee", "-l", f"{HELD}=yes", "--wait=false")
    await release.filed(sent)
    await release.install()


async def test_a_flood_of_callbacks_has_its_own_queue_at_the_api_server(release: Release) -> None:
    sent = await release.complete(3)
    await release.filed(sent)
    before = await _flow(release)
    flooding = asyncio.create_task(_flood(release, sent))
    others = 0
    while not flooding.done():
        # An account like any other; the administrator's own requests never wait.
        await release.kubectl(
            "get", "organizations", f"--as=system:serviceaccount:{HOME}:{RELEASE}-controller"
        )
        others += 1
    answers = await flooding
    after = await _flow(release)
    assert others > 0
    assert sum(answers.values()) == CALLBACKS
    # 429: the rate of callbacks per organization is limited.
    assert set(answers) <= {"200", "429", "503"}, answers
    ours = f"{HOME}-{RELEASE}-receiver"
    assert after.dispatched[ours] - before.dispatched[ours] >= answers["200"]
    assert {
        each: after.rejected[each] - before.rejected[each] for each in after.rejected if each != ours
    } == {each: 0 for each in after.rejected if each != ours}
    # All of it was about three envelopes that are filed already.
    await release.filed(sent)


async def test_a_leaked_callback_url_costs_its_organization_and_nobody_else(release: Release) -> None:
    await release.bring_quota()
    limits = {"unfinishedEvents": CEILING, "unknownEnvelopes": CEILING}
    await release.kubectl("patch", "organization", ACME, "--type=merge", f"--patch={_limits(limits)}")
    await release.add_organization(LEAKED, limits=limits)
    # Between two counts of the controller, each receiver alone stops at the ceiling of unfinished events.
    most = CEILING + CEILING * len(await release.pods("receiver"))
    before = (await _quota(release)).used
    # As docs/operating.md says: room for the ceilings of both organizations.
    room = max(SMALLEST_QUOTA, before + 2 * most)
    await release.install(floodControl={"quota": {"enabled": True, "envelopeEvents": room}})
    await eventually(lambda: _quota_is(release, room), within=PATIENCE)
    try:
        flooding = asyncio.create_task(_flood(release, url=release.callback_url(LEAKED)))
        await eventually(lambda: _stored(release), within=PATIENCE)
        sent = await release.complete(20)
        answers = await flooding
        sent += await release.complete(5)

        # The others: each callback is confirmed at once, and each envelope is filed.
        await release.filed(sent)
        assert set(await release.answers(sent)) == {200}
        await release.until("Ready", f"organization/{ACME}")

        # The organization itself: its events are bounded, and so is what is left for the others.
        stored, quota = await _stored(release), await _quota(release)
        print(f"\n{CALLBACKS} callbacks: {answers}; {stored} events of at most {most}; {before=}, {quota}")
        assert answers.keys() <= {"200", "429", "503"}, answers
        assert sum(answers.values()) == CALLBACKS
        assert answers["200"] <= stored <= most
        assert answers["503"] > 0
        assert quota.hard - quota.used >= most - len(sent)

        # Once all of them have failed, nothing new gets in.
        await eventually(lambda: _unknown(release, at_least=max(stored, CEILING)), within=PATIENCE)
        later = await _flood(release, url=release.callback_url(LEAKED), count=CEILING)
        assert later.keys() <= {"429", "503"}, later
        assert await _stored(release) == stored

        # Until the events are gone, as the runbook says.
        await release.kubectl("delete", "ee", "--field-selector", f"{UNKNOWN_ENVELOPE},{OF_LEAKED}")
        await release.until("Ready", f"organization/{LEAKED}")
        again = await release.complete(3, LEAKED)
        await release.filed(again)
        assert await _stored(release) == len(again)
    finally:
        await release.remove_organization(LEAKED)
        await release.kubectl("patch", "organization", ACME, "--type=merge", f"--patch={_limits(None)}")
        await release.install()


async def test_an_autoscaler_takes_the_receiver_over_and_releases_it_while_callbacks_arrive(
    release: Release,
) -> None:
    async with Flow(release) as flow:
        await release.install(receiver={"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 4}})
        # It scales up to its minimum whether there are figures or not.
        await release.kubectl(
            "wait", "hpa", f"{RELEASE}-receiver", "--for=condition=AbleToScale", "--timeout=120s"
        )
        await eventually(lambda: _receivers(release, 3), within=PATIENCE)
        await release.pods_ready()
        # The number of pods is the autoscaler's by now.
        await release.take_back()
        await eventually(lambda: _receivers(release, 2), within=PATIENCE)
    assert await release.kubectl("get", "hpa", "-o", "name") == ""
    await release.filed(flow.sent)


async def test_load_adds_receivers_and_its_end_removes_them(release: Release) -> None:
    sent = await release.complete(3)
    await release.filed(sent)
    at_once = {"stabilizationWindowSeconds": 0}
    scaling = {"minReplicas": 1, "maxReplicas": 3, "behavior": {"scaleDown": at_once}}
    await release.install(receiver={"autoscaling": {"enabled": True, **scaling}})
    await eventually(lambda: _receivers(release, 1), within=PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while not await _receivers(release, 3):
            await _flood(release, sent)
    await eventually(lambda: _receivers(release, 1), within=PATIENCE)
    await release.take_back()
    await release.filed(sent)


async def test_pods_that_are_deleted_at_random_lose_nothing(release: Release) -> None:
    chance = random.Random(6)
    async with Flow(release, every=0.2) as flow:
        for _ in range(ROUNDS_OF_DELETION):
            victims = [pod for process in PROCESSES for pod in await release.pods(process)]
            for pod in chance.sample(victims, 2):
                how = chance.choice((["--grace-period=0", "--force"], []))
                await release.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", *how)
            await release.pods_ready()
    await release.filed(flow.sent)


async def test_the_events_of_a_controller_whose_node_is_lost_continue_elsewhere_after_its_lease(
    release: Release, cluster: Node | KindNode
) -> None:
    held = await _shard_lease(release)
    (lost,) = [pod for pod in await release.pods("controller") if pod["metadata"]["name"] in _holder(held)]
    (container,) = (each["containerID"] for each in lost["status"]["containerStatuses"])
    # It neither works nor releases its Lease. What it is killed by later, it can't answer.
    await cluster.freeze(container.partition("://")[2])
    last = (await _shard_lease(release)).spec
    sent = await release.complete(3)
    name = lost["metadata"]["name"]
    await release.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")

    taken = (await eventually(lambda: _lease_of_another(release, _holder(held)), within=PATIENCE)).spec
    await release.filed(sent)
    assert last.renew_time is not None
    assert last.lease_duration_seconds is not None
    assert taken.acquire_time is not None
    # Not before the Lease ends: until then its holder might still write.
    duration = timedelta(seconds=last.lease_duration_seconds)
    assert taken.acquire_time - last.renew_time >= duration
    finished = [
        event.status.completion_time for event in await release.events() if event.spec.envelope_id in sent
    ]
    assert len(finished) == len(sent)
    for completion in finished:
        assert completion is not None
        assert completion > last.renew_time
    await release.pods_ready()


async def test_pods_keep_running_while_containerd_and_kubelet_are_restarted(
    release: Release, cluster: Node | KindNode
) -> None:
    before = {pod["metadata"]["uid"] for process in PROCESSES for pod in await release.pods(process)}
    early = await release.complete(3)
    await cluster.restart_runtime()
    late = await release.complete(3)
    await release.pods_ready()
    assert {pod["metadata"]["uid"] for process in PROCESSES for pod in await release.pods(process)} == before
    await release.filed([*early, *late])


async def test_after_a_power_cut_all_comes_up_again_with_what_was_filed_and_files_more(
    release: Release, cluster: Node | KindNode
) -> None:
    filed = await release.complete(3)
    await release.filed(filed)
    stored = await release.neighbours.stored()
    await cluster.reboot()
    await release.pods_ready()
    # The stand-in keeps everything in memory, so its users are others now; what it had deleted it has
    # forgotten.
    await release.furnish()
    assert {each.spec.envelope_id for each in await release.events()} >= set(filed)
    assert await release.neighbours.stored() >= stored
    await release.filed(await release.complete(3))


async def test_uninstalling_keeps_kinds_and_data_and_a_new_installation_continues_with_them(
    release: Release,
) -> None:
    kinds = await release.kubectl("get", "crds", "-o", "name")
    events = {each.name for each in await release.events()}
    await release.uninstall()
    assert await release.kubectl("get", "crds", "-o", "name") == kinds
    assert {each.name for each in await release.events()} == events
    assert await release.pods("controller") == []

    # eSAW continues to call.
    waiting = await release.complete(3)
    await release.install()
    await release.filed(waiting)


async def _shard_lease(release: Release) -> Lease:
    """The Lease of the only shard, with its holder."""
    (lease,) = json.loads(
        await release.kubectl("get", "leases", "-l", SHARD_LEASE_COUNT_LABEL, "-o", "json")
    )["items"]
    return Lease.parse(lease)


def _holder(lease: Lease) -> str:
    assert lease.spec.holder_identity
    return lease.spec.holder_identity


async def _lease_of_another(release: Release, holder: str) -> Lease | None:
    lease = await _shard_lease(release)
    return lease if lease.spec.holder_identity not in (None, "", holder) else None


def _held() -> dict[str, Any]:
    """An event with which nobody does anything."""
    event = new_event(organization="acme", envelope=envelope_id(str(uuid.uuid4())), action="envelopeFinished")
    event["metadata"]["labels"][HELD] = "yes"
    event["spec"] |= {"origin": "Manual", "suspend": True}
    return event


async def _flood(
    release: Release, envelopes: Sequence[str] = (), *, url: str | None = None, count: int = CALLBACKS
) -> dict[str, int]:
    """Let many callbacks about these envelopes come, or each about another one, which does not exist; return
    how often each answer was given."""
    script = ["python", "-c", FLOOD, url or release.callback_url(), str(count), *envelopes]
    said = await release.cluster.kubectl("-n", NAMESPACE, "exec", "deployment/esaw", "--", *script)
    answers: dict[str, int] = json.loads(said)
    return answers


def _limits(limits: Mapping[str, int] | None) -> str:
    return json.dumps({"spec": {"limits": limits}})


class _Quota(NamedTuple):
    """Events that the namespace may have, and has."""

    hard: int
    used: int


async def _quota(release: Release) -> _Quota:
    (quota,) = json.loads(await release.kubectl("get", "resourcequotas", "-o", "json"))["items"]
    # A quantity: the API server writes 1000 as 1k.
    counts = (quota["status"][each][EVENTS_IN_QUOTA].replace("k", "000") for each in _Quota._fields)
    return _Quota(*map(int, counts))


async def _quota_is(release: Release, hard: int) -> bool:
    return (await _quota(release)).hard == hard


async def _stored(release: Release) -> int:
    """The number of events of the organization whose URL leaked."""
    return len((await release.kubectl("get", "ee", f"--field-selector={OF_LEAKED}", "-o", "name")).split())


async def _unknown(release: Release, *, at_least: int) -> bool:
    """Whether the controller has published this number of unknown envelopes."""
    path = "jsonpath={.status.load.unknownEnvelopes}"
    return int(await release.kubectl("get", "organization", LEAKED, "-o", path) or 0) >= at_least


def _terminal(release: Release) -> dict[str, str]:
    kubectl, helm_ = release.cluster.kubectl, release.helm
    return {
        "PATH": f"{kubectl.program.parent}:{helm_.program.parent}:/usr/bin:/bin",
        "HOME": str(kubectl.home),
        "KUBECONFIG": str(kubectl.kubeconfig),
    }


async def _typed(release: Release, command: str) -> str:
    """Type it into a shell, in a folder without the repository."""
    folder = release.cluster.kubectl.home
    ended = await run(["/bin/bash", "-c", command], environment=_terminal(release), cwd=folder)
    assert ended.code == 0, f"{command}: {ended.err}"
    return ended.out


async def _says(release: Release, command: str, words: str) -> bool:
    return words in await _typed(release, command)


async def _mailed(kubectl: Kubectl, logs: Sequence[str]) -> bool:
    return "To: administrator@acme.example" in await kubectl(*logs)


async def _forwards(release: Release, command: str) -> None:
    """Type a command that forwards a port until it is ended, and ask for something there."""
    port = command.rpartition(" ")[2].partition(":")[0]
    log = release.cluster.kubectl.home / f"forward-{port}.log"
    forward = ServerProcess(["/bin/bash", "-c", f"exec {command}"], log=log, environment=_terminal(release))
    try:
        await eventually(lambda: "Forwarding from" in log.read_text(), within=PATIENCE)
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/")).status_code in (200, 404)
    finally:
        forward.kill()


async def _receivers(release: Release, number: int) -> bool:
    return len(await release.pods("receiver")) == number


async def _refused(release: Release, envelopes: Sequence[str]) -> bool:
    return 503 in await release.answers(envelopes)


class _Flowed(NamedTuple):
    """Requests that the API server let through, by FlowSchema, and refused, by priority level."""

    dispatched: Counter[str]
    rejected: Counter[str]


async def _flow(release: Release) -> _Flowed:
    flowed = _Flowed(Counter(), Counter())
    for line in (await release.kubectl("get", "--raw", "/metrics")).splitlines():
        found = FLOW.match(line)
        if found is not None and found["what"] == "dispatched":
            flowed.dispatched[found["schema"]] += int(float(found["count"]))
        elif found is not None:
            flowed.rejected[found["level"]] += int(float(found["count"]))
    return flowed


async def _pod(release: Release, process: str) -> str:
    return f"pod/{(await release.pods(process))[0]['metadata']['name']}"


async def _environment(release: Release, process: str, name: str) -> str | None:
    (container,) = (await release.pods(process))[0]["spec"]["containers"]
    found = [each.get("value") for each in container["env"] if each["name"] == name]
    return found[0] if found else None


async def _explained(release: Release) -> bool:
    try:
        await release.kubectl("explain", "organization.spec.remark")
    except KubectlError:
        return False
    return True


def _chart_with_a_new_field(folder: Path) -> Path:
    """A copy of the chart whose Organizations have one more field."""
    shutil.copytree(CHART, folder)
    path = folder / "files" / "crds" / "organizations.yaml"
    definition = yaml.safe_load(path.read_text())
    for version in definition["spec"]["versions"]:
        properties = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        properties["remark"] = {"type": "string", "description": "A remark."}
    path.write_text(yaml.safe_dump(definition, sort_keys=False))
    return folder


def _scraper() -> dict[str, object]:
    """A pod that may read metrics."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "scraper", "labels": SCRAPER},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "scraper",
                    "image": SANDBOX_IMAGE,
                    "command": ["sleep", "infinity"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
