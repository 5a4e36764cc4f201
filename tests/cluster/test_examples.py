"""
Each example of the manual is used: an event runs to Succeeded with it, on a real API server, against the
stand-in eSAW and a real server of the archive's kind.

Only what a reader replaces is replaced: addresses, ids, the values of the Secrets, and for CMIS the types of
the repository.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from counterfoil.resources import envelope_id, event_name
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.demo.archives import DemoArchive, demo_archive
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.esaw import DocumentSpec, User
from webhook.pages.metadata import merged

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ARCHIVES = sorted(EXAMPLES.glob("archive-*.yaml"))
FORM_VALUES = {"costCenter": "4711", "kind": "Sale"}
METADATA_LIMIT = 1 << 20
SERVER_FOLDERS = {"root", "rootFolder"}
"""Settings that name a folder which has to exist on the reader's own server."""

Manifest = dict[str, Any]


def read(name: str) -> list[Manifest]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text("utf-8")))


def example(name: str) -> Manifest:
    (found,) = read(name)
    return dict(found)


def secret(name: str, values: Mapping[str, str]) -> Manifest:
    """The example's Secret with the reader's values, which are under the example's own keys."""
    (found,) = (each for each in read("secrets.yaml") if each["metadata"]["name"] == name)
    assert set(values) <= set(found["stringData"]), name
    return {**found, "stringData": dict(values)}


def archive(path: Path, server: DemoArchive) -> Manifest:
    found = example(path.name)
    ((kind, settings),) = server.spec.items()
    before = found["spec"][kind]
    replaced = {key: value for key, value in settings.items() if key != "credentialsSecretRef"}
    kept = {key: value for key, value in before.items() if key not in SERVER_FOLDERS}
    found["spec"][kind] = kept | replaced
    if "properties" in before:
        # The reader's repository has other properties; the tags are the example's.
        (tag,) = before["properties"].values()
        found["spec"][kind]["properties"] = dict.fromkeys(settings["properties"], tag)
    return found


@pytest.fixture(scope="module")
async def local(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LocalEnvironment]:
    """A namespace with a running controller, the sender and the organization of the examples."""
    await plane.namespace("examples")
    folder = tmp_path_factory.mktemp("examples")
    async with local_environment(plane, folder, namespace="examples") as built:
        await built.controller()
        yield built


@pytest.fixture(scope="module")
async def jane(local: LocalEnvironment) -> User:
    """The sender of the examples, with her key."""
    jane = local.esaw.add_user(email="jane.doe@acme.example", given_name="Jane", surname="Doe")
    sender = example("sender.yaml")
    sender["spec"]["userID"] = jane.user_id
    ref = sender["spec"]["tokenSecretRef"]
    await local.apply(secret(ref["name"], {ref["key"]: jane.token}), sender)
    return jane


def organization(local: LocalEnvironment, archive_name: str) -> Manifest:
    found = example("organization.yaml")
    found["spec"]["baseURL"] = local.esaw.url
    found["spec"]["archiveRef"]["name"] = archive_name
    return found


async def succeeded(local: LocalEnvironment, jane: User) -> Manifest:
    """Send an envelope with the form's metadata and record its event as the examples do; wait for it."""
    metadata = merged(None, FORM_VALUES, limit=METADATA_LIMIT)
    specs = [DocumentSpec(name="contract.pdf", pages=1)]
    sent = local.esaw.add_envelope(sender=jane, documents=specs, metadata=metadata)
    guid = envelope_id(sent)
    before = example("envelope.yaml")["spec"]["envelopeID"]
    envelope = json.loads(json.dumps(example("envelope.yaml")).replace(before, sent))
    event = json.loads(json.dumps(example("envelopeevent.yaml")).replace(before, sent))
    spec = event["spec"]
    event["metadata"]["name"] = event_name(spec["organizationRef"]["name"], guid, spec["action"])
    await local.apply(envelope, event)
    name = f"ee/{event['metadata']['name']}"
    try:
        phase = "--for=jsonpath={.status.phase}=Succeeded"
        await local.kubectl("wait", name, phase, "--timeout=120s")
    except Exception as late:
        late.add_note(await local.kubectl("get", name, "-o", "yaml"))
        raise
    found: Manifest = await local.read("envelopeevents", event["metadata"]["name"])
    return found


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.stem)
async def test_an_event_succeeds_with_each_archive_of_the_examples(
    local: LocalEnvironment, jane: User, tmp_path: Path, path: Path
) -> None:
    kind = path.stem.removeprefix("archive-")
    async with demo_archive(kind, tmp_path) as server:
        wanted = archive(path, server)
        name = wanted["metadata"]["name"]
        ref = wanted["spec"][kind].get("credentialsSecretRef")
        secrets = [secret(ref["name"], server.secret)] if ref is not None else []
        org = organization(local, name)
        secrets.append(secret("acme-callback", {"token": "0123456789abcdef0123456789abcdef"}))
        secrets.append(secret("acme-oauth", {"clientSecret": "the client's"}))
        await local.apply(*secrets, wanted, org)
        await local.ready(f"archive/{name}", "org/acme", "sender/jane-doe")

        event = await succeeded(local, jane)
        target = tmp_path / "copy"
        target.mkdir()
        await server.copy_files(target)

    assert event["status"]["reason"] == "ArchivedAndKept"
    (manifest,) = await asyncio.to_thread(lambda: list(target.rglob("counterfoil.json")))
    said = json.loads(manifest.read_text())
    assert said["tags"] == FORM_VALUES
    assert said["sender"]["email"] == "jane.doe@acme.example"
    assert local.esaw.exists(event["spec"]["envelopeID"]), "the examples keep the envelope"


async def test_the_token_of_the_examples_is_refused_until_it_is_replaced(local: LocalEnvironment) -> None:
    named = {"metadata": {"name": "unchanged"}}
    untouched = [each for each in read("secrets.yaml") if each["metadata"]["name"] == "acme-callback"]
    copies = [{**each, "metadata": {**each["metadata"], "name": "unchanged"}} for each in untouched]
    org = organization(local, "contracts") | named
    org["spec"]["callback"]["tokenSecretRefs"][0]["name"] = "unchanged"
    await local.apply(*copies, org)
    await local.kubectl(
        "wait",
        "org/unchanged",
        '--for=jsonpath={.status.conditions[?(@.type=="Ready")].reason}=CallbackTokenRefused',
        "--timeout=60s",
    )
    status = (await local.read("organizations", "unchanged"))["status"]
    assert status.get("callbackTokenHashes", []) == []


def test_the_examples_agree_with_each_other() -> None:
    org = example("organization.yaml")["spec"]
    fields = {each["name"] for each in org["beforeSend"]["fields"]}
    required = {each["name"] for each in org["beforeSend"]["fields"] if each["required"]}
    archives = {path.stem: example(path.name) for path in ARCHIVES}
    assert org["archiveRef"]["name"] in {each["metadata"]["name"] for each in archives.values()}
    assert org["cleanup"]["policy"] == "Keep"
    names = {each["metadata"]["name"] for each in read("secrets.yaml")}
    for stem, found in archives.items():
        spec = found["spec"]
        assert {rule["xpath"] for rule in spec["tags"].values()} == {f"/tags/{each}" for each in fields}, stem
        assert {name for name, rule in spec["tags"].items() if rule.get("required")} == required, stem
        # A rejected envelope has no signed documents: its event could only fail.
        assert spec.get("signatures") != "Require" or org["statuses"] == ["Completed"], stem
        (settings,) = (
            value for value in spec.values() if isinstance(value, dict) and value is not spec["tags"]
        )
        if "credentialsSecretRef" in settings:
            assert settings["credentialsSecretRef"]["name"] in names, stem
    assert example("sender.yaml")["spec"]["tokenSecretRef"]["name"] in names
    assert org["oauth"]["clientSecretRef"]["name"] in names


def test_each_secret_of_the_examples_has_a_use() -> None:
    uses = {
        each["metadata"]["name"]: each["metadata"]["labels"]["counterfoil.dev/use"]
        for each in read("secrets.yaml")
    }
    assert set(uses.values()) == {"callback", "oauth", "token", "archive"}
