"""``kubectl counterfoil suspend`` and ``resume``."""

import argparse
import io

import pytest

from counterfoil.cli.plugin.entry_point import parsers
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus
from counterfoil.cli.plugin.suspension import KINDS, RESUME, SUSPEND, SuspensionCommand, chosen_objects
from counterfoil.resources import Archive, EnvelopeEvent, Organization, Resource, Sender
from counterfoil.resources.audit_annotation import audit_entries
from tests.support.builders import a_sender, an_event, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.reconcile_context import an_archive


async def typed(command: SuspensionCommand, kube: InMemoryKubeClient, *words: str) -> str:
    out = io.StringIO()
    args = argparse.Namespace(objects=[*words], because="an update", output="text")
    assert await command.run(args, kube, out) is ExitStatus.DONE
    return out.getvalue()


@pytest.mark.parametrize("resource", [an_organization(), an_archive(), a_sender(), an_event().build()])
async def test_each_kind_is_suspended_and_resumed_with_a_record_of_who_did_it(resource: Resource) -> None:
    kube, kind = InMemoryKubeClient(resource), type(resource)
    name = f"{kind.KIND}/{resource.name}"
    assert await typed(SUSPEND, kube, name) == f"{name}: suspended\n"
    assert kube.objects[kind.PLURAL, resource.name]["spec"]["suspend"] is True
    assert await typed(SUSPEND, kube, name) == f"{name}: suspended already\n"
    assert await typed(RESUME, kube, kind.KIND.lower(), resource.name) == f"{name}: resumed\n"
    assert await typed(RESUME, kube, name) == f"{name}: was not suspended\n"
    stored = kube.objects[kind.PLURAL, resource.name]
    assert stored["spec"]["suspend"] is False
    entries = audit_entries(stored["metadata"]["annotations"])
    assert [(each.what, each.why) for each in entries] == [("suspend", "an update"), ("resume", "an update")]


def test_objects_are_named_as_for_kubectl() -> None:
    assert chosen_objects(["org", "acme", "globex"]) == [(Organization, "acme"), (Organization, "globex")]
    assert chosen_objects(["archives/dms", "ee/x"]) == [(Archive, "dms"), (EnvelopeEvent, "x")]
    assert chosen_objects(["Sender", "anna"]) == [(Sender, "anna")]


@pytest.mark.parametrize("kind", KINDS)
def test_the_names_that_kubectl_prints_are_taken(kind: type[Resource]) -> None:
    # `-o name`, `kubectl wait` and `kubectl apply` print the kind; kubectl itself takes the plural and the
    # version, too.
    for word in (
        f"{kind.KIND.lower()}.counterfoil.dev",
        f"{kind.PLURAL}.counterfoil.dev",
        f"{kind.PLURAL}.v1beta1.counterfoil.dev",
    ):
        assert chosen_objects([f"{word}/x"]) == [(kind, "x")]
        assert chosen_objects([word, "x"]) == [(kind, "x")]


@pytest.mark.parametrize(
    ("command", "field", "kind"),
    [
        ("why", "event", EnvelopeEvent),
        ("retry", "events", EnvelopeEvent),
        ("skip", "events", EnvelopeEvent),
        ("copy", "events", EnvelopeEvent),
        ("check", "organization", Organization),
        ("url", "organization", Organization),
        ("sweep", "organization", Organization),
        ("consent", "sender", Sender),
    ],
)
def test_each_command_takes_the_name_that_kubectl_prints(
    command: str, field: str, kind: type[Resource]
) -> None:
    for word in ("x", f"{kind.PLURAL}/x", f"{kind.KIND.lower()}.counterfoil.dev/x"):
        found = getattr(parsers()[0].parse_args([command, word]), field)
        assert found == (["x"] if field == "events" else "x")
    with pytest.raises(CommandError, match=f"'pod/x' names no {kind.KIND}"):
        parsers()[0].parse_args([command, "pod/x"])


def test_a_kind_of_another_group_is_refused() -> None:
    with pytest.raises(CommandError, match=r"no kind 'archives\.example\.com' can be suspended"):
        chosen_objects(["archives.example.com/x"])


@pytest.mark.parametrize("words", [["acme"], ["secret", "acme"], ["org/"], ["org/acme", "globex"]])
def test_what_names_no_object_is_refused(words: list[str]) -> None:
    with pytest.raises(CommandError) as stopped:
        chosen_objects(words)
    assert stopped.value.exit_status is ExitStatus.MISUSED
