"""S13: a user who reads Helm's release Secrets, in the cluster or in a backup, finds no sealing key there."""

import base64
import gzip
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from release.helm import CHART, Helm, HelmError, helm
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.kubectl import KubectlError
from tests.support.scenes.chart import Rendered, with_image
from tests.support.scenes.hook_jobs import hook_jobs

RELEASE = "counterfoil"
INSTALLED = "sealing-key-installed"
KEYS = f"{RELEASE}-sealing-keys"
JOB = f"{RELEASE}-create-sealing-key"
VALUES = with_image({"crds": {"enabled": False}})

TEMPLATE_WITH_A_KEY = """
{{- $existing := lookup "v1" "Secret" .Release.Namespace "counterfoil-sealing-keys" }}
apiVersion: v1
kind: Secret
metadata:
  name: counterfoil-sealing-keys
  namespace: {{ .Release.Namespace }}
  annotations:
    helm.sh/resource-policy: keep
immutable: true
data:
  {{- if $existing }}
  {{- toYaml $existing.data | nindent 2 }}
  {{- else }}
  0-generated: {{ randBytes 32 | b64enc }}
  {{- end }}
"""
"""The chart's template before the Job."""


@pytest.fixture(scope="module", name="program")
async def _program(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return await helm(tmp_path_factory.mktemp("helm"), kubeconfig=plane.kubeconfig)


@pytest.fixture(scope="module", name="installed")
async def _installed(plane: ControlPlane, program: Helm) -> str:
    """The namespace of a release that was installed and upgraded; the tests only read it."""
    await plane.namespace(INSTALLED)
    async with hook_jobs(plane, INSTALLED):
        for replicas in (1, 2):
            more = {**VALUES, "controller": {"replicas": replicas}}
            await program("upgrade", "--install", RELEASE, CHART, "-n", INSTALLED, values=more)
    return INSTALLED


async def secrets(plane: ControlPlane, namespace: str) -> dict[str, dict[str, Any]]:
    listed = json.loads(await plane.kubectl("-n", namespace, "get", "secrets", "-o", "json"))["items"]
    return {each["metadata"]["name"]: each for each in listed}


def release_text(secret: dict[str, Any]) -> str:
    """The release that Helm stores: gzip in base64, and that in a Secret."""
    return gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))).decode()


def forms(key: str) -> tuple[str, ...]:
    """The forms in which a value of a Secret's ``data`` with a sealing key gets into a text."""
    key_file = base64.b64decode(key)
    raw = base64.b64decode(key_file)
    assert len(raw) == 32
    return key, key_file.decode(), base64.b64encode(key.encode()).decode(), raw.hex()


def places(key: str, texts: Mapping[str, str]) -> list[str]:
    return [name for name, text in texts.items() if any(form in text for form in forms(key))]


async def sealing_keys(plane: ControlPlane, namespace: str) -> dict[str, str]:
    return dict((await secrets(plane, namespace))[KEYS]["data"])


async def test_no_helm_release_secret_contains_a_sealing_key(plane: ControlPlane, installed: str) -> None:
    found = await secrets(plane, installed)
    releases = {
        name: release_text(each) for name, each in found.items() if each["type"].startswith("helm.sh")
    }
    assert len(releases) == 2
    assert all("-controller" in text for text in releases.values()), "the releases were not decoded"
    (key,) = found[KEYS]["data"].values()
    assert places(key, releases) == []
    assert places(key, {KEYS: json.dumps(found[KEYS])}) == [KEYS], "the search finds nothing"


async def test_no_other_object_of_the_namespace_contains_the_sealing_key(
    plane: ControlPlane, installed: str
) -> None:
    (key,) = (await sealing_keys(plane, installed)).values()
    listed = (await plane.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name")).split()
    objects = json.loads(
        await plane.kubectl("-n", installed, "get", ",".join(listed), "-o", "json", "--show-managed-fields")
    )["items"]
    texts = {f"{each['kind']}/{each['metadata']['name']}": json.dumps(each) for each in objects}
    assert places(key, texts) == [f"Secret/{KEYS}"]


async def test_the_secret_is_immutable_and_labelled_for_sealing(plane: ControlPlane, installed: str) -> None:
    secret = (await secrets(plane, installed))[KEYS]
    (key_id,) = secret["data"]
    assert key_id.startswith("0-generated-")
    assert secret["immutable"] is True
    assert secret["metadata"]["labels"] == {
        "app.kubernetes.io/name": "counterfoil",
        "app.kubernetes.io/instance": RELEASE,
        "counterfoil.dev/use": "sealing",
    }


async def test_nothing_that_may_create_secrets_is_left_after_an_installation(
    plane: ControlPlane, installed: str
) -> None:
    left = await plane.kubectl(
        "-n", installed, "get", "jobs,serviceaccounts,roles,rolebindings,networkpolicies", "-o", "name"
    )
    assert f"{RELEASE}-controller" in left
    assert JOB not in left


async def test_the_account_of_the_job_reads_no_secret(
    plane: ControlPlane, namespace: str, program: Helm
) -> None:
    rendered = Rendered(await program("template", RELEASE, CHART, "-n", namespace, values=VALUES))
    hooks = [each for each in rendered.objects if each["metadata"]["name"] == JOB and each["kind"] != "Job"]
    await plane.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": hooks})
    )
    account = plane.kubectl_as(await plane.kubeconfig_for(JOB, namespace))
    await account("-n", namespace, "create", "secret", "generic", KEYS, "--from-literal=a=b")
    for verb in (("get", "secret", KEYS), ("get", "secrets"), ("delete", "secret", KEYS)):
        with pytest.raises(KubectlError, match="forbidden"):
            await account("-n", namespace, *verb)


async def test_an_upgrade_from_a_release_that_rendered_the_key_keeps_that_key(
    plane: ControlPlane, namespace: str, program: Helm, tmp_path: Path
) -> None:
    before = tmp_path / "counterfoil"
    shutil.copytree(CHART, before)
    (before / "templates" / "sealing-keys.yaml").write_text(TEMPLATE_WITH_A_KEY)
    await program("install", RELEASE, before, "-n", namespace, values=VALUES)
    keys = await sealing_keys(plane, namespace)
    assert list(keys) == ["0-generated"]
    async with hook_jobs(plane, namespace) as results:
        await program("upgrade", RELEASE, CHART, "-n", namespace, values=VALUES)
        assert await sealing_keys(plane, namespace) == keys
        await program("upgrade", RELEASE, CHART, "-n", namespace, values=VALUES)
        assert await sealing_keys(plane, namespace) == keys
        await program("rollback", RELEASE, "1", "-n", namespace)
        assert await sealing_keys(plane, namespace) == keys
        await program("uninstall", RELEASE, "-n", namespace)
        assert await sealing_keys(plane, namespace) == keys
    said = {uid: f"{result.out}{result.err}" for uid, result in results.items()}
    assert len(said) == 2
    assert all("exists and stays as it is" in each for each in said.values())


async def test_an_installation_whose_job_fails_starts_no_process_and_leaves_only_the_job_for_its_log(
    plane: ControlPlane, namespace: str, program: Helm
) -> None:
    values = {**VALUES, "extraEnv": [{"name": "COUNTERFOIL_LOG_LEVEL", "value": "loud"}]}
    async with hook_jobs(plane, namespace) as results:
        with pytest.raises(HelmError, match=f"{JOB} not ready. status: Failed"):
            await program("install", RELEASE, CHART, "-n", namespace, values=values)
    (said,) = (result.err for result in results.values())
    assert "is 'loud'" in said
    left = await plane.kubectl(
        "-n", namespace, "get", "deployments,jobs,serviceaccounts,roles,rolebindings", "-o", "name"
    )
    assert left == f"job.batch/{JOB}\n"
