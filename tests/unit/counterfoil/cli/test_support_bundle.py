"""The support bundle: no name of a person is in it, and no value of a tag."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from counterfoil.cli.plugin.installation.archive_paths import ArchivePaths
from counterfoil.cli.plugin.installation.diagnose import (
    OMITTED,
    SupportBundle,
    remove_personal_data,
    without_people,
)
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Forbidden
from counterfoil.kube.watch import Raw
from counterfoil.resources import LISTED_BY_LABEL, SENDER_LABEL, Import, Organization, Resource, Sender
from counterfoil.resources.lease import Lease
from counterfoil.resources.naming import consented_sender_name
from tests.support.builders import ANNA, a_sender, an_event, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import a_shard_lease

GONE = "ann-moe"
CONSENTED = consented_sender_name("acme", ANNA)


class BundleScene(InMemoryKubeClient):
    """A namespace in which the names of Senders and of users are those of people."""

    def __init__(self) -> None:
        sender = a_sender("jane-doe", tokenSecretRef={"name": "jane-doe-key", "key": "token"})
        event = an_event().labelled(SENDER_LABEL, "john.roe").build()
        when = {
            "tags": {"customer": {"values": ["Kofler"]}, "person": {"pattern": "Kofler|Maier"}},
            "senders": ["jane-doe", "ben-poe"],
        }
        organization = an_organization(
            routes=[{"name": "hr", "archiveRef": {"name": "dms"}, "when": when}],
            defaultSenderRef={"name": "jane-doe"},
        )
        super().__init__(sender, a_sender(CONSENTED), event, organization)
        self.objects["senders", "jane-doe"]["metadata"]["uid"] = "0f000000-0000-4000-8000-000000000001"
        self.refused_senders = False
        self.more_events: list[Raw] = []
        self.release = InMemoryKubeClient()

    def in_namespace(self, namespace: str) -> KubeClient:
        """Return the client of the release that serves the namespace."""
        assert namespace == "release"
        return self.release

    async def pods(self, *, labels: str) -> Sequence[Raw]:
        spec = {"containers": [{"name": "console"}]}
        return [{"metadata": {"name": "console-0"}, "spec": spec, "status": {"phase": "Running"}}]

    async def pod_log(self, name: str, container: str, *, lines: int) -> str:
        return (
            '{"message":"retry was requested","who":"Jane \\"J\\" Doe","namespace":"contracts"}\n'
            "12:00 INFO    retry was requested who=Jane Doe namespace=contracts\n"
            "12:00 INFO    retry was requested sender=tim-zoe who=Jane Doe\n"
            '{"message":"the key of Sender/jane-doe is refused. Sender/max-loe","sender":"eve-joe"}\n'
            'User "Jane Doe" cannot list; {"message":"User \\"Jane\\" cannot list"}\n'
            "j\u00f6rg@k\u00f6fler.example anna%40doe.example\n"
        )

    async def list_events(self) -> Sequence[Raw]:
        regarding = {"kind": "Sender", "name": "kim-noe"}
        return [
            {"metadata": {"name": "kim-noe.17c3f0a2b"}, "regarding": regarding, "note": "filed"},
            *self.more_events,
        ]

    async def server_version(self) -> Raw:
        return {"gitVersion": "v1.35.4"}

    async def page(
        self, kind: type[Resource], *, limit: int, token: str = "", labels: str = "", fields: str = ""
    ) -> tuple[list[Raw], str]:
        if kind is Import:
            said = 'imports is forbidden: User "Jane Doe" cannot list resource "imports"'
            raise Forbidden(403, "Forbidden", said)
        if kind is Sender and self.refused_senders:
            raise Forbidden(403, "Forbidden", 'User "system:serviceaccount:contracts:reader" cannot list')
        return await super().page(kind, limit=limit, token=token, labels=labels, fields=fields)


async def a_bundle(kube: KubeClient) -> SupportBundle:
    bundle = SupportBundle(kube, ArchivePaths(b"key"))
    await bundle.collect(lines=7, events=10)
    return bundle


def cleaned_of(found: Any) -> Any:
    paths = ArchivePaths(b"key")
    return remove_personal_data(found, lambda text: without_people(paths.hide(text)))


@pytest.mark.parametrize("is_sender_read", [True, False])
async def test_a_bundle_has_no_name_of_a_person_in_objects_events_logs_and_errors(
    is_sender_read: bool,
) -> None:
    kube = BundleScene()
    kube.refused_senders = not is_sender_read
    bundle = await a_bundle(kube)
    text = "".join([*bundle.files.values(), *bundle.missing]).lower()
    people = ("jane", "doe", "john", "roe", "poe", "tim-", "max-", "eve-", "kim-", "fler", "rg@", "maier")
    assert [each for each in people if each in text] == []
    assert is_sender_read or "system:serviceaccount:contracts:reader" in text


async def test_a_bundle_shows_which_objects_name_the_same_sender() -> None:
    bundle = await a_bundle(BundleScene())
    senders = yaml.safe_load(bundle.files["resources/senders.yaml"])
    (organization,) = yaml.safe_load(bundle.files["resources/organizations.yaml"])
    names = [each["metadata"]["name"] for each in senders]
    assert CONSENTED in names, "Counterfoil gave this name, which is no name of a person"
    name = organization["spec"]["defaultSenderRef"]["name"]
    assert name in names
    assert f"the key of Sender/{name} is refused." in bundle.files["logs/console-0.console.log"]


WITH_A_NAME: dict[str, tuple[str, dict[str, Any]]] = {
    "a problem with consents": (
        "organizations",
        {"status": {"problems": [{"cause": "consent/ConsentRequired", "examples": [GONE]}]}},
    ),
    "a problem with keys": (
        "organizations",
        {"status": {"problems": [{"cause": "key/KeyMissing", "examples": [GONE]}]}},
    ),
    "the label of a search": ("envelopeevents", {"labels": {LISTED_BY_LABEL: GONE}}),
    "a Secret in a message": ("envelopeevents", {"status": {"message": f"Secret/{GONE} is missing."}}),
    "a command about a Secret": (
        "envelopeevents",
        {"status": {"message": f"Type `kubectl create secret generic {GONE} --from-literal=x`."}},
    ),
    "a command about a Sender": (
        "envelopeevents",
        {"status": {"message": f"Type `kubectl -n acme patch sender {GONE} -p x`."}},
    ),
    "a refusal of the API server": (
        "envelopeevents",
        {
            "status": {
                "message": f'secrets "{GONE}" is forbidden: User "x" cannot get resource "secrets" in x'
            }
        },
    ),
    "a Sender that the API server does not find": (
        "envelopeevents",
        {"status": {"message": f'senders.counterfoil.dev "{GONE}" not found'}},
    ),
    "a Kubernetes Event": ("kubernetes-events", {"regarding": {"kind": "Secret", "name": GONE}}),
}


@pytest.mark.parametrize(("kind", "named"), WITH_A_NAME.values(), ids=list(WITH_A_NAME))
async def test_a_bundle_has_no_name_of_a_sender_that_was_deleted_or_of_its_secret(
    kind: str, named: dict[str, Any]
) -> None:
    kube = BundleScene()
    if kind == "kubernetes-events":
        kube.more_events = [{**named, "note": f"{GONE} was read."}]
    else:
        found = next(raw for (plural, _), raw in kube.objects.items() if plural == kind)
        found["metadata"]["labels"] = named.get("labels", {})
        found["status"] = named.get("status", {})
    bundle = await a_bundle(kube)
    assert GONE not in "".join(bundle.files.values())


async def test_a_bundle_has_the_secrets_that_organizations_and_archives_name() -> None:
    kube = BundleScene()
    organization = kube.objects["organizations", "acme"]
    name = organization["spec"]["callback"]["tokenSecretRefs"][0]["name"]
    organization["status"] = {
        "message": f"Secret/{name} does not exist. Secret/jane-doe-key does not either."
    }
    text = (await a_bundle(kube)).files["resources/organizations.yaml"]
    assert f"Secret/{name} does not exist." in text
    assert "jane" not in text


def test_a_bundle_has_labels_and_annotations_of_counterfoil_alone() -> None:
    metadata = {
        "labels": {"owner": "Kofler", "counterfoil.dev/shard": "7", "app.kubernetes.io/name": "counterfoil"},
        "annotations": {"example.org/asked-by": "Kofler", "counterfoil.dev/note": "kept"},
    }
    assert cleaned_of(metadata) == {
        "labels": {**metadata["labels"], "owner": OMITTED},
        "annotations": {**metadata["annotations"], "example.org/asked-by": OMITTED},
    }


def test_a_bundle_has_the_rules_of_tags_without_the_values_in_them() -> None:
    rules = {"tags": {"customer": {"value": "Kofler"}, "number": {"xpath": "/number", "required": True}}}
    assert cleaned_of(rules) == {"tags": {**rules["tags"], "customer": {"value": OMITTED}}}


NAMES_OF_FIELDS = ("metadata", "spec", "status", "key", "tokenSecretRef", "examples", "cause", "name", "kind")


@pytest.mark.parametrize("kind", ["Sender", "Secret", "other"])
async def test_a_tag_a_parameter_or_a_label_may_have_the_name_of_a_field(kind: str) -> None:
    kube = BundleScene()
    for (plural, _), raw in kube.objects.items():
        named = {**dict.fromkeys(NAMES_OF_FIELDS, "consent/x"), "kind": kind}
        raw["metadata"].setdefault("labels", {}).update(named)
        if plural == "envelopeevents":
            raw["spec"]["parameters"] = named
            raw.setdefault("status", {})["archive"] = {"ref": {"name": "dms"}, "tags": named}

    assert (await a_bundle(kube)).files


async def test_a_bundle_has_the_leases_of_the_controllers_and_says_which_shards_have_none() -> None:
    kube = BundleScene()
    kube.put(a_shard_lease(0, 2, renewed=datetime.now(UTC), holder="controller-0"))
    found = yaml.safe_load((await a_bundle(kube)).files["leases.yaml"])
    (lease,) = found["leases"]
    assert (lease["metadata"]["name"], lease["spec"]["holderIdentity"]) == (
        "counterfoil-shard-0-of-2",
        "controller-0",
    )
    assert found["absent"] == ["No controller has acquired the Lease of a shard yet."]


async def test_a_bundle_of_a_further_namespace_has_the_leases_of_the_release_that_serves_it() -> None:
    kube = BundleScene()
    kube.release.put(a_shard_lease(0, 1, renewed=datetime.now(UTC)))
    kube.edit(Organization, "acme", {"status": {"releaseNamespace": "release"}})
    found = yaml.safe_load((await a_bundle(kube)).files["leases.yaml"])
    assert (found["namespace"], len(found["leases"]), found["absent"]) == ("release", 1, [])


async def test_a_bundle_names_leases_that_could_not_be_read() -> None:
    kube = BundleScene()
    kube.refused["page", Lease.PLURAL] = Forbidden(403, "Forbidden", "leases is forbidden")
    bundle = await a_bundle(kube)
    assert "leases.yaml" not in bundle.files
    assert any(each.startswith("leases.yaml: ") for each in bundle.missing)
