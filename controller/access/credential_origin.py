"""
The origin that a credential may be sent to if its Secret names none. Pure decisions over the known objects.

A Secret says it by its annotation ``counterfoil.dev/origin``. Without it, the first origin counts, and
Counterfoil records it in a status, which only Counterfoil writes. If the first origin is unknown, the
annotation is required: a person who may change a spec, but not the Secret, must not choose the origin
(docs/decisions/0028).
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from controller.cache import Cache
from counterfoil.origin import annotate_command, belongs_to, origin_of
from counterfoil.resources import Archive, Condition, Organization, Sender, find_condition
from counterfoil.resources.base import SecretKeyRef

SET_UP_TIME = timedelta(hours=1)
"""Maximum time between the creation of a Secret and of the first Archive that uses it. An Archive that is
created later may replace one that was deleted with its record (docs/decisions/0034)."""

UNCONFIRMED = "EsawUnconfirmed"
"""Reason of Reachable after a 401 or 403 that any server may say."""


def is_esaw_origin(cache: Cache, organization: str, origin: str) -> bool:
    """Whether the Organization's Secrets without an annotation may be sent to this origin: its first one, or
    the only one that the namespace knows."""
    known = cache.organizations.get(organization)
    if known is not None and known.status.origin is not None:
        return known.status.origin == origin
    return all(each == origin for each in _esaw_origins(cache))


def is_first_esaw(cache: Cache, sender: Sender, origin: str) -> bool:
    """As ``is_esaw_origin``, for the Organization of a Sender."""
    return is_esaw_origin(cache, sender.spec.organization_ref.name, origin)


def client_secret_fault(
    cache: Cache, organization: Organization, ref: SecretKeyRef, declared: str | None, origin: str
) -> tuple[str, str] | None:
    """Return reason and message of why this origin is not sent the OAuth client secret, whose Secret has
    ``declared`` an origin; None: it may be sent."""
    owner = belongs_to(declared, organization.status.origin)
    if owner not in (None, origin):
        reason, found = "OriginChanged", f"belongs to {owner}"
    elif declared is None and (
        not is_esaw_origin(cache, organization.name, origin) or _have_only_pages_answered(organization)
    ):
        reason, found = "OriginUnknown", "does not say to which eSignAnyWhere it belongs"
    else:
        return None
    remedy = secret_advice(cache, organization, ref.name, origin, owner)
    return reason, f"The client secret in Secret/{ref.name} {found}, so it is not sent to {origin}. {remedy}"


def _have_only_pages_answered(organization: Organization) -> bool:
    """Whether each answer of the only eSAW of the namespace was a web page with 401 or 403, which records no
    first origin."""
    known = reachability(organization)
    return organization.status.origin is None and known is not None and known.reason == UNCONFIRMED


def address_advice(cache: Cache, organization: Organization, origin: str, owner: str | None) -> str:
    """
    Return what to do about spec.baseURL, which leads to ``origin``, if a credential belongs to ``owner``;
    empty: nothing, since the address is right.

    The Organization had the addresses that it and the keys of its Senders record. If one of them is another
    one, the address was changed. A key that works at the new one does not show that this is right: who may
    change the address may bring such a key. So an address that only the key of another Sender names is not
    printed either.
    """
    first, of_keys = organization.status.origin, cache.senders.of(organization.name).key_origins
    recorded = {first, *of_keys} - {None}
    back = owner if owner in recorded else first
    if back not in (None, origin):
        return f"If spec.baseURL was changed by mistake, set it back to {back}."
    return "" if recorded == {origin} else "If spec.baseURL is wrong, correct it."


def secret_advice(
    cache: Cache, organization: Organization, secret: str, origin: str, owner: str | None
) -> str:
    """
    Return how the content of a Secret, which belongs to ``owner``, may be sent to ``origin``.

    The command confirms the whole Secret, which may have keys of several Senders. It is printed only for a
    server that answers as eSAW does: else the key would be sent to what answers there later.
    """
    address = address_advice(cache, organization, origin, owner)
    known = reachability(organization) if _leads_to(organization, origin) else None
    if known is None or known.status == "False":
        later = f"As soon as eSignAnyWhere answers at {origin}, the status has the command that confirms"
        return f"{address} {later} Secret/{secret}.".lstrip()
    # Without a key, eSAW answers 401, as any server may.
    warning = f"It is not known who answers at {origin}. " if known.status == "Unknown" else ""
    command = annotate_command(secret, origin)
    confirmed = f"{warning}If all that is in Secret/{secret} belongs to {origin}, type `{command}`."
    return (
        f"{address} {confirmed}"
        if address
        else f"{confirmed} Otherwise put what belongs there into it first."
    )


def _leads_to(organization: Organization, origin: str) -> bool:
    """Whether the present spec.baseURL has this origin. A caller may have its client from an earlier spec."""
    with suppress(ValueError):
        return origin_of(organization.spec.base_url) == origin
    return False


def reachability(organization: Organization) -> Condition | None:
    """Return the condition Reachable of an Organization, if it is about the present spec.baseURL."""
    status, found = organization.status, find_condition(organization.status.conditions, "Reachable")
    if found is None or found.observed_generation == organization.metadata.generation:
        return found
    access = status.envelope_access
    return found if access is not None and access.base_url == organization.spec.base_url else None


def has_moved(cache: Cache, sender: Sender) -> bool:
    """Whether the Sender's key belongs to another origin than its Organization's present one."""
    organization = cache.organizations.get(sender.spec.organization_ref.name)
    key = sender.status.key
    if organization is None or key is None or key.origin is None:
        return False
    with suppress(ValueError):
        return key.origin != origin_of(organization.spec.base_url)
    return False


def other_origin_of_secret(archives: Iterable[Archive], secret: str, origin: str) -> tuple[str, str] | None:
    """Return the name of an Archive that sends, or sent, this Secret to another origin, and this origin;
    None: there is no other."""
    archives = tuple(archives)
    recorded = [
        (each.name, each.status.secret_origins[secret])
        for each in archives
        if secret in each.status.secret_origins
    ]
    if recorded:
        return next((each for each in recorded if each[1] != origin), None)
    for each in archives:
        with suppress(ValueError):
            ref = each.spec.credentials_secret_ref
            sent_to = each.spec.settings.origin
            if ref is not None and ref.name == secret and sent_to not in (None, origin):
                return each.name, sent_to
    return None


def is_origin_lost(
    archive: Archive, archives: Iterable[Archive], secret: str, secret_created: datetime | None
) -> bool:
    """Whether the Secret of an Archive may have been sent to an origin that no Archive records any more."""
    if any(secret in each.status.secret_origins for each in (archive, *archives)):
        return False
    created = archive.metadata.creation_timestamp
    return created is not None and secret_created is not None and created - secret_created > SET_UP_TIME


def _esaw_origins(cache: Cache) -> Iterator[str]:
    for organization in cache.organizations:
        with suppress(ValueError):
            yield origin_of(organization.spec.base_url)
        if organization.status.origin is not None:
            yield organization.status.origin
    yield from cache.senders.key_origins()
