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
from counterfoil.i18n.problems import NO_ESAW_REASONS
from counterfoil.origin import annotate_command, belongs_to, origin_of
from counterfoil.resources import Archive, Organization, Sender, find_condition
from counterfoil.resources.base import SecretKeyRef

SET_UP_TIME = timedelta(hours=1)
"""Maximum time between the creation of a Secret and of the first Archive that uses it. An Archive that is
created later may replace one that was deleted with its record (docs/decisions/0034)."""


def is_esaw_origin(cache: Cache, organization: str, origin: str) -> bool:
    """Whether the Organization's Secrets without an annotation may be sent to this origin: its first one, or
    the only one that the namespace knows."""
    known = cache.organizations.get(organization)
    if known is not None and known.status.origin is not None:
        return known.status.origin == origin
    return set(_esaw_origins(cache)) <= {origin}


def is_first_esaw(cache: Cache, sender: Sender, origin: str) -> bool:
    """As ``is_esaw_origin``, for the Organization of a Sender."""
    return is_esaw_origin(cache, sender.spec.organization_ref.name, origin)


def client_secret_fault(
    cache: Cache, organization: Organization, ref: SecretKeyRef, declared: str | None, origin: str
) -> tuple[str, str] | None:
    """Return reason and message of why this origin is not sent the OAuth client secret, whose Secret has
    ``declared`` an origin; None: it may be sent."""
    first = organization.status.origin
    owner = belongs_to(declared, first)
    found = f"belongs to {owner}" if owner else "does not say to which eSignAnyWhere it belongs"
    address = address_advice(cache, organization.name, origin, owner, first)
    remedy = secret_advice(cache, organization.name, ref.name, origin, address)
    message = f"The client secret in Secret/{ref.name} {found}, so it is not sent to {origin}. {remedy}"
    if owner not in (None, origin):
        return "OriginChanged", message
    if declared is None and not is_esaw_origin(cache, organization.name, origin):
        return "OriginUnknown", message
    return None


def address_advice(cache: Cache, organization: str, origin: str, owner: str | None, first: str | None) -> str:
    """
    Return what to do about spec.baseURL, which leads to ``origin``, if a credential belongs to ``owner``, and
    the Organization recorded its ``first`` origin; empty: nothing, since the address is right.

    The Organization had the addresses that it and the keys of its Senders record. If one of them is another
    one, the address was changed. A key that works at the new one does not show that this is right: who may
    change the address may bring such a key. So an address that only the key of another Sender names is not
    printed either.
    """

    def recorded() -> Iterator[str | None]:
        yield first
        for each in cache.senders:
            if each.spec.organization_ref.name == organization and each.status.key is not None:
                yield each.status.key.origin

    back = owner if owner is not None and owner in recorded() else first
    if back not in (None, origin):
        return f"If spec.baseURL was changed by mistake, set it back to {back}."
    return "" if {*recorded()} - {None} == {origin} else "If spec.baseURL is wrong, correct it."


def secret_advice(cache: Cache, organization: str, secret: str, origin: str, address: str) -> str:
    """Return how the content of a Secret may be sent to ``origin``. ``address`` is what to do about
    spec.baseURL. The command confirms the whole Secret, which may have keys of several Senders."""
    if has_no_esaw(cache, organization):
        checked = f"The server at {origin} does not answer as eSignAnyWhere does; check that first."
        return f"{address} {checked}".lstrip()
    command = annotate_command(secret, origin)
    confirmed = f"If all that is in Secret/{secret} belongs to {origin}, type `{command}`."
    return (
        f"{address} {confirmed}"
        if address
        else f"{confirmed} Otherwise put what belongs there into it first."
    )


def has_no_esaw(cache: Cache, organization: str) -> bool:
    """Whether the server at the address of an Organization does not answer as eSAW does, so that nothing is
    confirmed for it."""
    known = cache.organizations.get(organization)
    reachable = find_condition(known.status.conditions, "Reachable") if known is not None else None
    return reachable is not None and reachable.status == "False" and reachable.reason in NO_ESAW_REASONS


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
    for sender in cache.senders:
        if sender.status.key is not None and sender.status.key.origin is not None:
            yield sender.status.key.origin
