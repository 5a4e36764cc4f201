"""
The trial of the chart, without its pods: its values render, and its Job and its test do what they promise,
with the rights that the values give them, on a real API server. The node test runs the pods.
"""

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from release.helm import CHART, helm
from sandbox.controlplane import rbac
from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.control_plane import ControlPlane, control_plane
from sandbox.controlplane.objects import NamespaceObjects, ObjectError
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.esaw import User
from sandbox.servers.s3_versity import versity_server
from sandbox.trial.envelope import (
    ADMINISTRATOR,
    BUCKET,
    REGION,
    Place,
    TrialFailed,
    check,
    sign,
    trial_objects,
)
from sandbox.trial.image import REPOSITORY
from sandbox.trial.mail_catcher import catch_mails
from tests.support.console_blocks import console_commands, missing_lines, report, typed
from tests.support.scenes.chart import NAMESPACE, Rendered

TRIAL_VALUES = CHART / "values-trial.yaml"
RELEASE = "trial"
PATIENCE = 180.0
"""Seconds for several steps, of which each has a minute elsewhere."""
JANE = User(
    user_id="0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10",
    email="jane.doe@acme.example",
    given_name="Jane",
    surname="Doe",
    token="0" * 66,
    organization_id="1",
)
EVERYTHING_BUT_SECRETS = {"apiGroups": ["counterfoil.dev"], "resources": ["*"], "verbs": ["*"]}


@pytest.fixture(scope="module", name="rendered")
async def _rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    program = await helm(tmp_path_factory.mktemp("helm"))
    return Rendered(
        await program("template", RELEASE, CHART, f"--namespace={NAMESPACE}", f"--values={TRIAL_VALUES}")
    )


def test_every_pod_of_the_trial_runs_the_one_image_and_meets_the_restricted_level(rendered: Rendered) -> None:
    pods = [
        each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
        for each in rendered.objects
        if each["kind"] in {"Pod", "Job", "Deployment"}
    ]
    containers = [container for pod in pods for container in pod["containers"]]
    assert {container["image"].rpartition(":")[0] for container in containers} == {REPOSITORY}
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in pods)
    assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in containers)
    names = {container["name"] for container in containers}
    assert names >= {"receiver", "pages", "console", "controller", "esaw", "s3", "mail", "sign", "check"}


def test_the_addresses_in_the_environment_are_those_of_services(rendered: Rendered) -> None:
    services = {
        f"{each['metadata']['name']}.{NAMESPACE}.svc:{port['port']}"
        for each in rendered.all("Service")
        for port in each["spec"]["ports"]
    }
    job = rendered.one("Job", f"{RELEASE}-sign")["spec"]["template"]["spec"]["containers"][0]
    environment = {each["name"]: each["value"] for each in job["env"]}
    in_pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    place = Place.read({**environment, **in_pod})
    for address in (place.esaw, place.s3, place.receiver, f"http://{place.mail_host}:{place.mail_port}"):
        assert address.removeprefix("http://") in services
    neighbours = rendered.one("Deployment", f"{RELEASE}-neighbours")["spec"]["template"]["spec"]["containers"]
    (s3,) = (each for each in neighbours if each["name"] == "s3")
    assert f"--region={REGION} " in s3["command"][-1]
    assert f"/data/buckets/{BUCKET} " in s3["command"][-1]
    keys = {each["name"]: each["value"] for each in s3["env"]}
    assert keys == {"ROOT_ACCESS_KEY": place.access_key, "ROOT_SECRET_KEY": place.secret_key}


def test_the_definitions_that_all_releases_share_stay_after_the_trial(rendered: Rendered) -> None:
    definitions = rendered.all("CustomResourceDefinition")
    assert len(definitions) == 6
    for each in definitions:
        assert each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_only_pods_of_the_namespace_reach_the_neighbours_which_reach_only_these_and_name_servers(
    rendered: Rendered,
) -> None:
    spec = rendered.one("NetworkPolicy", f"{RELEASE}-neighbours")["spec"]
    neighbours = rendered.one("Deployment", f"{RELEASE}-neighbours")["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"] == neighbours
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == [{"from": [{"podSelector": {}}]}]
    inside, names = spec["egress"]
    assert inside == {"to": [{"podSelector": {}}]}
    assert {each["port"] for each in names["ports"]} == {53, 5353}


def test_the_job_changes_only_the_secrets_that_it_creates(rendered: Rendered) -> None:
    place = Place(
        *("https://a", Path("account"), "http://a", "http://a", "key", "secret", "http://a", "mail"),
        mail_port=25,
    )
    made = {
        each["metadata"]["name"]
        for each in trial_objects(place, "jane-0f9c1c2e", JANE, "token")
        if each["kind"] == "Secret"
    }
    rules = rendered.one("Role", f"{RELEASE}-envelope")["rules"]
    changes = [each for each in rules if "secrets" in each["resources"] and "patch" in each["verbs"]]
    assert [set(each["resourceNames"]) for each in changes] == [made]


@dataclass
class Trial:
    """Counterfoil and the servers of a trial on this machine."""

    built: LocalEnvironment
    place: Place
    mails: io.StringIO


@pytest.fixture(name="trial")
async def _trial(
    plane: ControlPlane, namespace: str, tmp_path: Path, rendered: Rendered
) -> AsyncIterator[Trial]:
    rules = rendered.one("Role", f"{RELEASE}-envelope")["rules"]
    mails = io.StringIO()
    async with (
        local_environment(plane, tmp_path, namespace=namespace) as built,
        versity_server() as s3,
        asyncio.TaskGroup() as group,
    ):
        await s3.make_bucket(BUCKET)
        catcher = group.create_task(catch_mails(host="127.0.0.1", port=0, out=mails))
        while not mails.getvalue():  # noqa: ASYNC110 - it prints its port
            await asyncio.sleep(0.02)
        port = int(mails.getvalue().rpartition(" ")[2])
        account = tmp_path / "account"
        _write_account(account, await built.person("envelope", *rules), namespace, plane.authority)
        receiver = await built.receiver()
        await built.controller()
        yield Trial(
            built,
            Place(
                api_server=plane.url,
                account=account,
                esaw=built.esaw.url,
                s3=s3.url,
                access_key=s3.access_key,
                secret_key=s3.secret_key,
                receiver=receiver.public,
                mail_host="127.0.0.1",
                mail_port=port,
            ),
            mails,
        )
        catcher.cancel()


async def test_the_envelope_of_the_job_is_archived_as_the_test_shows_and_the_failure_is_mailed(
    trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    async with asyncio.timeout(PATIENCE):
        await sign(trial.place)
        await check(trial.place)
        while "Subject:" not in trial.mails.getvalue():  # noqa: ASYNC110 - the catcher prints it
            await asyncio.sleep(0.1)

    said = capsys.readouterr().out
    assert "ArchivedAndKept" in said
    assert f"files beside s3://{BUCKET}/acme/" in said
    assert f"To: {ADMINISTRATOR}" in trial.mails.getvalue()
    phases = sorted(each["status"]["phase"] for each in await trial.built.events())
    assert phases == ["Failed", "Succeeded"]


async def test_the_test_fails_for_an_envelope_that_is_not_in_the_bucket_as_it_was(trial: Trial) -> None:
    async with asyncio.timeout(PATIENCE):
        await sign(trial.place)
        await check(trial.place)
        async with versity_server() as empty:
            await empty.make_bucket(BUCKET)
            elsewhere = replace(
                trial.place, s3=empty.url, access_key=empty.access_key, secret_key=empty.secret_key
            )
            with pytest.raises(TrialFailed, match="is not as it must be"):
                await check(elsewhere)


async def test_another_run_of_the_job_has_another_envelope_archived(trial: Trial) -> None:
    async with asyncio.timeout(PATIENCE):
        await sign(trial.place)
        await check(trial.place)
        await sign(trial.place)
        while len(await _succeeded(trial)) < 2:  # noqa: ASYNC110 - events change elsewhere
            await asyncio.sleep(0.1)


async def test_the_rights_of_the_job_suffice_under_the_policies_of_the_chart_and_fewer_do_not(
    tmp_path: Path,
) -> None:
    async with control_plane() as plane:
        await plane.namespace(RELEASE)
        program = await helm(tmp_path / "helm", kubeconfig=plane.kubeconfig)
        values = [f"--namespace={RELEASE}", f"--values={TRIAL_VALUES}"]
        await program("install", RELEASE, CHART, *values, "--no-hooks")
        for kind in ("archives", "organizations", "senders"):
            await plane.kubectl("wait", f"crd/{kind}.counterfoil.dev", "--for=condition=Established")
        own = rbac.service_account_with_rules("without-secrets", (EVERYTHING_BUT_SECRETS,))
        for each in own:
            await plane.objects(RELEASE).apply(each)
        job = await _account(plane, tmp_path / "job", f"{RELEASE}-envelope")
        bodies = trial_objects(job, "jane", JANE, "token")
        lesser = await _account(plane, tmp_path / "lesser", "without-secrets")
        async with job.api() as as_job, lesser.api() as as_lesser, asyncio.timeout(PATIENCE):
            archive = next(each for each in bodies if each["kind"] == "Archive")
            while "needs the right to get it" not in await _refusal(lesser.objects(as_lesser), archive):  # noqa: ASYNC110
                # A policy counts some moments after it is stored.
                await asyncio.sleep(0.2)
            # Each upgrade applies them again.
            for body in [*bodies, *bodies]:
                await job.objects(as_job).apply(body)


async def test_the_definitions_stay_until_the_commands_of_the_manual_remove_them(tmp_path: Path) -> None:
    page = console_commands((CHART.parents[1] / "docs" / "start.md").read_text("utf-8"))
    removal = [each for each in page if each.text.startswith(("kubectl get imports,", "kubectl get crd "))]
    assert len(removal) == 2
    async with control_plane() as plane:
        await plane.namespace(RELEASE)
        program = await helm(tmp_path / "helm", kubeconfig=plane.kubeconfig)
        own = f"--namespace={RELEASE}"
        await program("install", RELEASE, CHART, own, f"--values={TRIAL_VALUES}", "--no-hooks")
        await program("uninstall", RELEASE, own)
        assert "archives.counterfoil.dev" in await plane.kubectl("get", "crd", "-o", "name")
        kubectl = (await ensure("kubectl"))["kubectl"]
        environment = {
            "PATH": os.pathsep.join([str(kubectl.parent), os.environ["PATH"]]),
            "HOME": str(tmp_path),
            "KUBECONFIG": str(plane.kubeconfig),
        }
        done = await typed(removal, tmp_path, environment, seconds=PATIENCE)
        assert done.status == 0, report(removal, done)
        assert missing_lines(removal[1].output, done.printed[1]) == [], report(removal, done)
        assert "counterfoil.dev" not in await plane.kubectl("get", "crd", "-o", "name")


async def _refusal(objects: NamespaceObjects, body: dict[str, Any]) -> str:
    """Return why the object may not be applied. It is not stored: the policy does not judge an update that
    changes no reference to a Secret, so it would accept each further one."""
    try:
        await objects.apply_dry_run(body)
    except ObjectError as refused:
        print(refused)
        return str(refused)
    return ""


async def _account(plane: ControlPlane, folder: Path, name: str) -> Place:
    _write_account(folder, await plane.token_for(name, RELEASE), RELEASE, plane.authority)
    nowhere = "http://127.0.0.1:9"
    return Place(
        api_server=plane.url,
        account=folder,
        esaw=nowhere,
        s3=nowhere,
        access_key="trial",
        secret_key="known",
        receiver=nowhere,
        mail_host="localhost",
        mail_port=25,
    )


def _write_account(folder: Path, token: str, namespace: str, authority: Path) -> None:
    """Write the files that a pod has of its ServiceAccount."""
    folder.mkdir()
    (folder / "token").write_text(token)
    (folder / "namespace").write_text(namespace)
    (folder / "ca.crt").write_bytes(authority.read_bytes())


async def _succeeded(trial: Trial) -> list[str]:
    return [
        json.dumps(each["spec"])
        for each in await trial.built.events()
        if each.get("status", {}).get("phase") == "Succeeded"
    ]
