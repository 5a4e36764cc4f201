"""The directory of organizations: what a watch tells becomes what a callback is checked against."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from counterfoil.cluster import Change
from counterfoil.metrics import Metrics
from webhook.organizations import Directory, Listed
from webhook.throttle import Bucket

from .webhook_parts import TOKEN, added, an_organization, synced, with_basic_auth


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), version="0")


@pytest.fixture
def directory(metrics: Metrics) -> Directory:
    return Directory(metrics, new_bucket=lambda: Bucket(rate=1.0, burst=1))


def listed(directory: Directory, raw: dict[str, Any]) -> Listed:
    directory.take_in(added(raw))
    found = directory.find(raw["metadata"]["name"])
    assert found is not None
    return found


def test_it_is_complete_only_after_the_first_full_list(directory: Directory) -> None:
    directory.take_in(added(an_organization()))
    assert not directory.is_complete

    directory.take_in(synced("acme"))
    assert directory.is_complete


def test_a_listed_organization_knows_its_tokens_and_no_others(directory: Directory) -> None:
    acme = listed(directory, an_organization())
    assert acme.is_judgeable
    assert acme.knows(TOKEN)
    assert not acme.knows(TOKEN + "x")


def test_without_hashes_in_its_status_it_cannot_be_judged(directory: Directory) -> None:
    assert not listed(directory, an_organization(status={"callbackTokenHashes": []})).is_judgeable


def test_with_a_second_lock_whose_hash_is_missing_it_cannot_be_judged(directory: Directory) -> None:
    raw = with_basic_auth(an_organization())
    assert listed(directory, raw).is_judgeable

    del raw["status"]["basicAuthHash"]
    assert not listed(directory, raw).is_judgeable


def test_one_that_does_not_fit_its_kind_is_known_but_cannot_be_judged(directory: Directory) -> None:
    assert not listed(directory, an_organization(spec={"baseURL": 7})).is_judgeable


def test_a_suspended_one_is_listed_like_any_other(directory: Directory) -> None:
    assert listed(directory, an_organization(spec={"suspend": True})).is_judgeable


def test_actions_are_found_in_any_letter_case_and_keep_their_spelling(directory: Directory) -> None:
    acme = listed(directory, an_organization(spec={"actions": [{"action": "workstepFinished"}]}))
    assert acme.actions == {"workstepfinished": "workstepFinished"}


def test_recording_counts_as_asked_for_too(directory: Directory) -> None:
    acme = listed(
        directory, an_organization(spec={"actions": [{"action": "envelopeExpired", "handling": "Record"}]})
    )
    assert "envelopeexpired" in acme.actions


@pytest.mark.parametrize(("sender", "label"), [("api", "api"), ("x" * 63, "x" * 63), ("x" * 64, None)])
def test_the_default_sender_is_known_beforehand_if_it_fits_into_a_label(
    directory: Directory, sender: str, label: str | None
) -> None:
    acme = listed(directory, an_organization(spec={"defaultSenderRef": {"name": sender}}))
    assert acme.sender == label


def test_a_change_is_followed_and_does_not_refill_the_bucket(directory: Directory) -> None:
    before = listed(directory, an_organization())
    directory.take_in(Change("MODIFIED", an_organization(status={"callbackTokenHashes": ["0" * 64]})))

    after = directory.find("acme")
    assert after is not None
    assert not after.knows(TOKEN)
    assert after.bucket is before.bucket


def test_what_was_deleted_is_gone_with_its_metrics(directory: Directory, metrics: Metrics) -> None:
    directory.take_in(added(an_organization()))
    labels = {"organization": "acme", "outcome": "noted"}
    assert metrics.registry.get_sample_value("counterfoil_callbacks_total", labels) == 0

    directory.take_in(Change("DELETED", an_organization()))

    assert directory.find("acme") is None
    assert metrics.registry.get_sample_value("counterfoil_callbacks_total", labels) is None


def test_what_vanished_while_nobody_watched_is_gone_after_the_next_list(directory: Directory) -> None:
    for name in ("acme", "other"):
        directory.take_in(added(an_organization(name)))
    directory.take_in(synced("acme", "other"))

    directory.take_in(added(an_organization("other")))
    directory.take_in(synced("other"))

    assert directory.find("acme") is None
    assert directory.find("other") is not None
