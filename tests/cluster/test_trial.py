"""
The trial of the chart, without its pods: its values render, and its Job and its test do what they promise,
with the rights that the values give them, on a real API server. The node test runs the pods.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from release.helm import CHART, helm
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.servers.s3_versity import versity_server
from sandbox.trial.envelope import ADMINISTRATOR, BUCKET, REGION, Place, TrialFailed, check, sign
from sandbox.trial.image import REPOSITORY
from sandbox.trial.mail_catcher import catch_mails
from tests.support.scenes.chart import NAMESPACE, Rendered

TRIAL_VALUES = CHART / "values-trial.yaml"
RELEASE = "trial"
PATIENCE = 60.0


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
        account.mkdir()
        (account / "token").write_text(await built.person("envelope", *rules))
        (account / "namespace").write_text(namespace)
        (account / "ca.crt").write_bytes(plane.authority.read_bytes())
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


async def _succeeded(trial: Trial) -> list[str]:
    return [
        json.dumps(each["spec"])
        for each in await trial.built.events()
        if each.get("status", {}).get("phase") == "Succeeded"
    ]
