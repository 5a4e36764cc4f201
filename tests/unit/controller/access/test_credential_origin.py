"""A credential that names no origin never goes to one that a changed spec alone leads to."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from controller.access.credential_origin import (
    SET_UP_TIME,
    client_secret_fault,
    has_moved,
    is_esaw_origin,
    is_first_esaw,
    is_origin_lost,
    other_origin_of_secret,
    secret_advice,
)
from controller.cache import Cache
from counterfoil.i18n.commands import commands_in
from counterfoil.i18n.problems import NO_ESAW_REASONS
from counterfoil.resources import (
    Archive,
    ArchiveStatus,
    LocalObjectReference,
    Organization,
    OrganizationStatus,
    Sender,
    SenderKey,
)
from counterfoil.resources.base import SecretKeyRef
from counterfoil.resources.conditions import ConditionStatus
from tests.support.builders import NOON, ORIGIN, a_sender, an_organization, reachable
from tests.support.fakes.reconcile_context import an_archive

ELSEWHERE = "https://elsewhere.example"


def a_cache(*organizations: Organization) -> Cache:
    cache = Cache()
    for each in organizations:
        cache.organizations.put(each)
    return cache


def known(origin: str | None, **spec: Any) -> Organization:
    return replace(an_organization(**spec), status=OrganizationStatus(origin=origin))


def test_the_only_esaw_of_a_namespace_is_the_first_one() -> None:
    cache = a_cache(an_organization())
    assert is_esaw_origin(cache, "acme", ORIGIN)
    assert not is_esaw_origin(cache, "acme", ELSEWHERE)


def test_the_recorded_origin_holds_for_a_moved_organization() -> None:
    cache = a_cache(known(ORIGIN, baseURL=ELSEWHERE))
    assert is_esaw_origin(cache, "acme", ORIGIN)
    assert not is_esaw_origin(cache, "acme", ELSEWHERE)
    assert not is_first_esaw(cache, a_sender(), ELSEWHERE)


def test_an_organization_that_moves_before_it_was_confirmed_is_not_the_only_one_if_a_key_is_foreign() -> None:
    cache = a_cache(an_organization(baseURL=ELSEWHERE))
    sender = a_sender()
    cache.senders.put(replace(sender, status=replace(sender.status, key=SenderKey(origin=ORIGIN))))
    assert not is_esaw_origin(cache, "acme", ELSEWHERE)


@pytest.mark.parametrize("reason", sorted({*NO_ESAW_REASONS, "EsawUnconfirmed", "EsawUnreachable"}))
@pytest.mark.parametrize("recorded", [None, ORIGIN, ELSEWHERE])
def test_no_client_secret_is_confirmed_for_a_server_that_is_no_esaw(
    reason: str, recorded: str | None
) -> None:
    found = reachable(known(recorded), "False", reason)
    ref = SecretKeyRef(name="oauth", key="secret")
    fault = client_secret_fault(a_cache(found), found, ref, ELSEWHERE, ORIGIN)
    assert fault is not None
    assert commands_in(fault[1], fault[0], "tests") == ()


@pytest.mark.parametrize(
    ("recorded", "truth", "reason", "declared", "fault"),
    [
        (None, "Unknown", "EsawUnconfirmed", None, "OriginUnknown"),
        (None, "False", "EsawUnconfirmed", None, "OriginUnknown"),
        (None, "Unknown", "EsawUnconfirmed", ORIGIN, None),
        (ORIGIN, "Unknown", "EsawUnconfirmed", None, None),
        (None, "False", "EsawUnreachable", None, None),
        (None, "True", "EsawAnswers", None, None),
    ],
)
def test_a_client_secret_is_sent_to_no_server_of_which_only_web_pages_are_known(
    recorded: str | None, truth: ConditionStatus, reason: str, declared: str | None, fault: str | None
) -> None:
    found = reachable(known(recorded), truth, reason)
    ref = SecretKeyRef(name="oauth", key="secret")
    result = client_secret_fault(a_cache(found), found, ref, declared, ORIGIN)
    assert (result[0] if result is not None else None) == fault
    if result is not None:
        assert len(commands_in(result[1], result[0], "tests")) == (truth == "Unknown")


@pytest.mark.parametrize("address", [ELSEWHERE, "https://host:99999"])
def test_no_secret_is_confirmed_for_an_address_that_the_organization_no_longer_has(address: str) -> None:
    found = reachable(known(None, baseURL=address))
    assert "kubectl" not in secret_advice(a_cache(found), found, "oauth", ORIGIN, ELSEWHERE)


def with_key(name: str, origin: str, truth: ConditionStatus = "True") -> Sender:
    """Return a Sender of acme whose key worked at this origin, with this condition ``Authorized`` now."""
    sender = a_sender(name, authorized=truth)
    return replace(sender, status=replace(sender.status, key=SenderKey(origin=origin)))


BACK = f"If spec.baseURL was changed by mistake, set it back to {ORIGIN}."
WRONG = "If spec.baseURL is wrong, correct it."


@pytest.mark.parametrize(
    ("first", "keys", "address"),
    [
        # In a namespace with two eSignAnyWheres, no first origin is recorded of the second one.
        (None, {"anna": ORIGIN, "mallory": ELSEWHERE}, BACK),
        (ELSEWHERE, {"anna": ORIGIN, "mallory": ELSEWHERE}, BACK),
        (ORIGIN, {"mallory": ELSEWHERE}, BACK),
        (None, {"mallory": ELSEWHERE}, ""),
        (None, {}, WRONG),
        # An address that only the key of another Sender names is not one to lead to.
        (None, {"mallory": "https://mallory.example"}, WRONG),
        (ELSEWHERE, {"mallory": "https://mallory.example"}, WRONG),
        (None, {"of-another": ORIGIN, "mallory": ELSEWHERE}, ""),
    ],
)
@pytest.mark.parametrize("truth", ["True", "False"])
def test_a_key_that_works_at_a_changed_address_hides_no_address_before(
    first: str | None, keys: dict[str, str], address: str, truth: ConditionStatus
) -> None:
    moved = reachable(known(first, baseURL=ELSEWHERE))
    cache = a_cache(moved)
    for name, origin in keys.items():
        sender = with_key(name, origin, truth)
        if name == "of-another":
            spec = replace(sender.spec, organization_ref=LocalObjectReference(name="other"))
            sender = replace(sender, spec=spec)
        cache.senders.put(sender)
    fault = client_secret_fault(cache, moved, SecretKeyRef(name="oauth", key="secret"), ORIGIN, ELSEWHERE)
    assert fault is not None
    advice = fault[1].partition(f"so it is not sent to {ELSEWHERE}. ")[2]
    assert advice.startswith(address or "If all that is in Secret/oauth belongs to ")


@pytest.mark.parametrize("first", [None, ORIGIN])
def test_with_a_second_esaw_a_new_organization_needs_annotations(first: str | None) -> None:
    other = replace(
        an_organization(baseURL=ELSEWHERE), metadata=replace(an_organization().metadata, name="x")
    )
    cache = a_cache(known(first), other)
    assert not is_esaw_origin(cache, "x", ELSEWHERE)
    assert is_esaw_origin(cache, "acme", ORIGIN) is (first is not None)


def test_an_unknown_organization_is_no_reason_to_send_anything_where_another_esaw_is_known() -> None:
    assert not is_esaw_origin(a_cache(an_organization()), "gone", ELSEWHERE)


def test_a_sender_has_moved_if_the_key_belongs_elsewhere() -> None:
    sender = a_sender()
    cache = a_cache(an_organization())
    assert not has_moved(cache, sender)
    here = replace(sender, status=replace(sender.status, key=SenderKey(origin=ORIGIN)))
    assert not has_moved(cache, here)
    assert has_moved(a_cache(an_organization(baseURL=ELSEWHERE)), here)
    assert not has_moved(a_cache(an_organization(baseURL="https://host:99999")), here)
    assert not has_moved(Cache(), here)


def archive(url: str, *, secret: str | None = "dms", **sent: str) -> Archive:
    ref = None if secret is None else {"name": secret}
    built = an_archive(filesystem=None, webdav={"url": url, "credentialsSecretRef": ref})
    return replace(built, status=ArchiveStatus(secret_origins=sent))


def test_a_secret_of_one_archive_belongs_nowhere_else() -> None:
    assert other_origin_of_secret([archive(f"{ORIGIN}/dav")], "dms", ORIGIN) is None
    assert other_origin_of_secret([archive(f"{ORIGIN}/dav", secret="x")], "dms", ELSEWHERE) is None


def test_two_archives_that_lead_elsewhere_need_the_annotation() -> None:
    both = [archive(f"{ORIGIN}/dav"), archive(f"{ELSEWHERE}/dav")]
    assert other_origin_of_secret(both, "dms", ORIGIN) == ("dms", ELSEWHERE)
    assert other_origin_of_secret(both, "dms", ELSEWHERE) == ("dms", ORIGIN)


def test_what_was_sent_first_holds_also_after_the_archive_names_another_secret() -> None:
    both = [archive(f"{ORIGIN}/dav", secret="x", dms=ORIGIN), archive(f"{ELSEWHERE}/dav")]
    assert other_origin_of_secret(both, "dms", ELSEWHERE) == ("dms", ORIGIN)
    assert other_origin_of_secret(both, "dms", ORIGIN) is None


@pytest.mark.parametrize(
    ("secret_age", "recorded", "is_lost"),
    [
        (SET_UP_TIME, False, False),
        (SET_UP_TIME + timedelta(seconds=1), False, True),
        (SET_UP_TIME + timedelta(seconds=1), True, False),
        (-timedelta(days=300), False, False),
    ],
    ids=["set-up", "old-secret", "recorded", "rotated-secret"],
)
def test_an_old_secret_of_which_nothing_is_recorded_was_perhaps_sent_before(
    secret_age: timedelta, recorded: bool, is_lost: bool
) -> None:
    built = archive(f"{ORIGIN}/dav", **({"dms": ORIGIN} if recorded else {}))
    built = replace(built, metadata=replace(built.metadata, creation_timestamp=NOON))
    assert is_origin_lost(built, (), "dms", NOON - secret_age) is is_lost
    without = replace(built, status=ArchiveStatus())
    assert is_origin_lost(without, (built,), "dms", NOON - secret_age) is is_lost
