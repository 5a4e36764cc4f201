"""Labels and annotations that the chart's admission policy accepts of each kind of user."""

import re
from typing import Any

import pytest
import yaml

from counterfoil.resources import envelope_id
from counterfoil.resources.event_factory import new_event
from counterfoil.resources.naming import consented_sender_name
from release.helm import CHART
from tests.support.cel import Variables, evaluate

RECEIVER, PAGES, CONTROLLER, PERSON = "receiver", "pages", "controller", "jane"
CONSENTED = consented_sender_name("acme", "anna")
BOUND = "at most 64 labels and 64 annotations of 1,024 characters"


def policy() -> dict[str, Any]:
    """Return the spec of the policy, for users with the names of their processes."""
    template = (CHART / "templates" / "admission-policies.yaml").read_text()
    _, _, after = template.partition('{{- $name = printf "%s-labels"')
    text = after[after.index("---") : after.index('{{ include "counterfoil.policyBinding"')]
    text = text.replace(
        '{{ include "counterfoil.celList" (list $receiver $pages) }}', "['receiver', 'pages']"
    )
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    listed = str(values["admissionPolicy"]["webhookKeys"])
    text = text.replace('{{ include "counterfoil.celList" .Values.admissionPolicy.webhookKeys }}', listed)
    text = re.sub(r"\{\{ \$(receiver|pages|controller) \}\}", r"\1", text)
    found = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "x", re.sub(r"(?m)^ *\{\{.*\}\}$", "", text)))
    spec: dict[str, Any] = found["spec"]
    return spec


POLICY = policy()


def refusals(
    user: str, after: dict[str, Any], before: dict[str, Any] | None = None, resource: str = "envelopeevents"
) -> str:
    """Return the messages of the rules that refuse this object, one a line."""
    scope: dict[str, Any] = {
        "oldObject": before,
        "object": after,
        "request": {"userInfo": {"username": user}, "resource": {"resource": resource}},
    }
    variables = Variables({each["name"]: each["expression"] for each in POLICY["variables"]}, scope)
    return "\n".join(
        each["message"]
        for each in POLICY["validations"]
        if not evaluate(each["expression"], {**scope, "variables": variables})
    )


def an_event(**metadata: dict[str, str]) -> dict[str, Any]:
    """Return the event of a callback, with these labels and annotations in addition."""
    found = new_event(
        organization="acme",
        envelope=envelope_id("5482ee18-6d1f-4d5f-8d66-0c6d2a1e8f10"),
        action="envelopeFinished",
        sender="anna",
        traceparent="00-1-2-3",
    )
    return with_metadata(found, **metadata)


def a_sender(name: str = CONSENTED, /, **metadata: dict[str, str]) -> dict[str, Any]:
    """Return a Sender with these labels and annotations; by default one that a consent creates."""
    found = {
        "metadata": {"name": name, "labels": {"counterfoil.dev/organization": "acme"}},
        "spec": {"organizationRef": {"name": "acme"}, "userID": "anna"},
    }
    return with_metadata(found, **metadata)


def with_metadata(body: dict[str, Any], **metadata: dict[str, str]) -> dict[str, Any]:
    """Return the object with these labels and annotations in addition."""
    added = {each: {**body["metadata"].get(each, {}), **metadata[each]} for each in metadata}
    return {**body, "metadata": {**body["metadata"], **added}}


def many(count: int) -> dict[str, str]:
    """Return this number of labels or annotations of others."""
    return {f"x.example/k{number}": "v" for number in range(count)}


LONG = {"x.example/y": "a" * 1025}


@pytest.mark.parametrize("user", [RECEIVER, PAGES])
@pytest.mark.parametrize(
    "added",
    [{"labels": {"team": "legal"}}, {"annotations": {"policies.kyverno.io/last-applied-patches": "x"}}],
    ids=["label", "annotation"],
)
def test_a_process_that_answers_anybody_writes_what_webhooks_of_the_cluster_add(
    user: str, added: dict[str, dict[str, str]]
) -> None:
    body, resource = (an_event(), "envelopeevents") if user == RECEIVER else (a_sender(), "senders")
    written = with_metadata(body, **added)
    assert refusals(user, written, None, resource) == ""
    # A webhook that was installed later.
    assert refusals(user, written, body, resource) == ""


PATCHES = "policies.kyverno.io/last-applied-patches"


@pytest.mark.parametrize("before", [{}, {PATCHES: "x"}], ids=["new", "there"])
@pytest.mark.parametrize("name", [CONSENTED, "anna"])
def test_a_webhook_that_is_listed_may_also_change_what_it_added(name: str, before: dict[str, str]) -> None:
    body = a_sender(name, annotations=before)
    changed = with_metadata(body, annotations={PATCHES: "y"})
    assert refusals(PAGES, changed, body, "senders") == ""
    assert refusals(PAGES, a_sender(name), body, "senders") == ""


THEIRS = "changes and removes no label or annotation of others"


@pytest.mark.parametrize("resource", ["envelopes", "senders"])
@pytest.mark.parametrize("part", ["labels", "annotations"])
@pytest.mark.parametrize("value", ["other", None])
def test_a_process_that_answers_anybody_changes_and_removes_nothing_of_others(
    part: str, value: str | None, resource: str
) -> None:
    """Such as ``argocd.argoproj.io/sync-options: Prune=false`` or ``helm.sh/resource-policy: keep``."""
    before = a_sender(**{part: {"x.example/y": "kept"}})
    after = a_sender() if value is None else with_metadata(before, **{part: {"x.example/y": value}})
    assert THEIRS in refusals(PAGES, after, before, resource)
    assert THEIRS in refusals(RECEIVER, after, before, resource)
    assert refusals(PERSON, after, before, resource) == ""
    assert refusals(CONTROLLER, after, before, resource) == ""


@pytest.mark.parametrize(
    "added",
    [
        {"annotations": {"argocd.argoproj.io/tracking-id": "contracts:counterfoil.dev/Sender:ns/anna"}},
        {"labels": {"app.kubernetes.io/instance": "contracts"}},
        {"labels": {"velero.io/exclude-from-backup": "true"}},
    ],
    ids=str,
)
def test_pages_add_nothing_to_a_sender_that_a_person_created(added: dict[str, dict[str, str]]) -> None:
    before = a_sender("anna")
    assert THEIRS in refusals(PAGES, with_metadata(before, **added), before, "senders")
    assert refusals(PERSON, with_metadata(before, **added), before, "senders") == ""


@pytest.mark.parametrize(
    ("user", "body", "resource"),
    [
        (RECEIVER, an_event(), "envelopeevents"),
        (PAGES, a_sender(), "senders"),
        (PERSON, an_event(), "envelopeevents"),
        (PERSON, {**a_sender(), "spec": {}}, "envelopes"),
    ],
    ids=["receiver", "pages", "person", "person with envelopes"],
)
@pytest.mark.parametrize(
    "added",
    [
        {"labels": many(10_000)},
        {"annotations": many(65)},
        {"annotations": LONG},
        {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "a" * 1025}},
    ],
    ids=["labels", "annotations", "long", "applied"],
)
def test_what_is_created_in_numbers_has_a_bound(
    user: str, body: dict[str, Any], resource: str, added: dict[str, dict[str, str]]
) -> None:
    assert BOUND in refusals(user, with_metadata(body, **added), None, resource)
    assert BOUND in refusals(user, with_metadata(body, **added), body, resource)


def test_a_bound_cannot_be_passed_in_steps() -> None:
    before = an_event(annotations=many(63))
    assert BOUND in refusals(PERSON, with_metadata(before, annotations={"x.example/z": "v"}), before)


@pytest.mark.parametrize("user", [RECEIVER, PAGES])
@pytest.mark.parametrize(
    "added",
    [
        {"labels": {"counterfoil.dev/request": "skip"}},
        {"labels": {"counterfoil.dev/archived": "true"}},
        {"annotations": {"counterfoil.dev/request-by": "admin"}},
        {"annotations": {"counterfoil.dev/y": ""}},
        {"annotations": {"counterfoil.dev/acts": "[]"}},
        {"annotations": {"counterfoil.dev/traceparent": "0" * 65}},
    ],
    ids=str,
)
def test_a_process_that_answers_anybody_sets_no_key_of_counterfoil_that_it_does_not_need(
    user: str, added: dict[str, dict[str, str]]
) -> None:
    body, resource = (an_event(), "envelopeevents") if user == RECEIVER else (a_sender(), "senders")
    changed = with_metadata(body, **added)
    assert refusals(user, changed, None, resource) != ""
    assert refusals(user, changed, body, resource) != ""
    if "counterfoil.dev/traceparent" not in added.get("annotations", {}):
        assert refusals(user, body, changed, resource) != "", "nor does it remove one"


@pytest.mark.parametrize("resource", ["envelopeevents", "envelopes", "senders"])
@pytest.mark.parametrize("user", [PERSON, RECEIVER, PAGES, "generic-garbage-collector"])
def test_what_was_there_before_hinders_no_change(user: str, resource: str) -> None:
    body = an_event() if resource == "envelopeevents" else {**a_sender(), "spec": {}}
    before = with_metadata(body, labels=many(65), annotations={**LONG, **many(65)})
    changed = {**before, "spec": {**before["spec"], "suspend": True}}
    assert refusals(user, changed, before, resource) == ""


@pytest.mark.parametrize("resource", ["archives", "imports", "organizations", "senders"])
@pytest.mark.parametrize(
    "key", ["kapp.k14s.io/original", "configsync.gke.io/declared-fields", "objectset.rio.cattle.io/applied"]
)
def test_tools_store_what_they_applied_with_what_people_configure(resource: str, key: str) -> None:
    body = a_sender(annotations={key: "a" * 20_000})
    assert refusals(PERSON, body, None, resource) == ""
    assert refusals(PERSON, with_metadata(body, annotations={key: "b" * 30_000}), body, resource) == ""


def test_the_record_of_acts_of_an_event_may_be_long_and_an_envelope_has_none() -> None:
    acts = {"counterfoil.dev/acts": "a" * 5_000}
    assert BOUND not in refusals(PERSON, an_event(annotations=acts), an_event())
    body = {**a_sender(annotations=acts), "spec": {}}
    assert BOUND in refusals(PERSON, body, {**a_sender(), "spec": {}}, "envelopes")


def test_a_controller_has_no_bound() -> None:
    before = an_event()
    assert refusals(CONTROLLER, with_metadata(before, annotations=LONG), before) == ""
