"""
The Leases of the shards of the release that serves a namespace, for people who ask whether a controller
works.

A release for one namespace has its Leases there. A release for several has them in its own namespace, which
``status.releaseNamespace`` of the Organizations names. It is believed only if it can be the name of a
namespace: it becomes part of a path and of a command. Nothing is concluded from Leases that can't be read, or
while it is unknown which release serves a namespace. Leases that are here suffice for a person who may list
nothing else. If no controller of the named release serves the namespace, a release with controllers here
counts. Pods that have ended, and those that have another task, such as a test of Helm, are no sign of one.

The Leases of a release are also held if it no longer lists the namespace. An annotation of each tells which
namespaces its holder serves. With a holder of an earlier version, only a change that nobody processes does.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Forbidden
from counterfoil.kube.watch import Raw
from counterfoil.resources import Organization, ResourceInvalid
from counterfoil.resources.lease import NamespaceNotServed, ShardLeases
from counterfoil.settings import is_namespace

ORGANIZATIONS: Final = 20
"""Maximum number of Organizations that are asked which release serves their namespace."""

UNPROCESSED_CHANGE: Final = timedelta(minutes=5)
"""Age of a change of a spec after which a controller should have processed it. The probe of an Archive
waits some minutes for its turn if 40 others hang."""

PODS: Final = "app.kubernetes.io/part-of=counterfoil"
"""Labels of the pods of a release."""

CONTROLLERS: Final = f"{PODS},app.kubernetes.io/component=controller"
"""Labels of the pods of its controllers."""


async def served_shard_leases(
    kube: KubeClient, now: datetime, *, is_release: bool = False, known: Organization | None = None
) -> ShardLeases:
    """
    Return the Leases of the release that serves the namespace of the client.

    ``is_release`` says that it is known to be the namespace of the release. ``known`` is an Organization of
    the namespace that was read already: its status answers for a person who may not list them. Raises
    ``ApiError`` if they can't be read, or if it is unknown which release it is.
    """
    here = ShardLeases(await kube.shard_leases(), namespace=kube.namespace)
    absences = here.unheld_shards(now)
    # A release need not serve its own namespace, so another one may do so.
    is_unlisted = any(isinstance(each, NamespaceNotServed) for each in absences)
    if not absences or (is_release and not is_unlisted):
        return here
    organizations = [each.status for each in await _organizations(kube, known)]
    release = next((each.release_namespace for each in organizations if each.release_namespace), None)
    if release is not None:
        there = await _leases_of(kube.in_namespace(release), release, kube.namespace)
        # Statuses name an earlier release until the one that was installed here has started.
        is_replaced = not is_unlisted and there.unheld_shards(now) and await _has_controllers(kube)
        return here if is_replaced else there
    is_own = bool(here.leases) or any(each.observed_generation is not None for each in organizations)
    if is_own or await _has_controllers(kube):
        return here
    raise ApiError(0, "Unknown", f"nothing says yet which release serves the namespace {kube.namespace}")


def unprocessed_change(kind: str, raw: Raw, now: datetime) -> str:
    """Return that no controller has processed the spec of an object in time; empty if one has. Ask only about
    Organizations and Archives: each of their specs is observed, also if a server does not answer."""
    metadata, status = raw["metadata"], raw.get("status")
    if "deletionTimestamp" in metadata:
        return ""
    found = status.get("observedGeneration") if isinstance(status, Mapping) else None
    observed = found if isinstance(found, int) else 0
    generation = metadata.get("generation") or 0
    writes = [each for each in metadata.get("managedFields") or () if not each.get("subresource")]
    times = [
        text for text in (*(each.get("time") for each in writes), metadata.get("creationTimestamp")) if text
    ]
    changed = max(map(datetime.fromisoformat, times), default=datetime.max.replace(tzinfo=UTC))
    if generation <= observed or now - changed < UNPROCESSED_CHANGE:
        return ""
    said = f"its status is of generation {observed}" if observed else "no controller has written its status"
    return f"{kind}/{metadata['name']} has generation {generation}, and {said}."


async def _organizations(kube: KubeClient, known: Organization | None) -> list[Organization]:
    """Return the Organizations that may say which release it is; ``known`` alone if they may not be
    listed."""
    found = [each for each in (known,) if each is not None and _is_credible(each)]
    if not any(each.status.release_namespace for each in found):
        with suppress(Forbidden):
            listed, _ = await kube.first(Organization, _readable, limit=ORGANIZATIONS)
            found += filter(_is_credible, listed)
    return found


def _is_credible(organization: Organization) -> bool:
    """Whether a controller may have written the status: others that may write it could name anything."""
    release = organization.status.release_namespace
    return release is None or is_namespace(release)


def has_ended(pod: Mapping[str, Any]) -> bool:
    """Whether no container of a pod runs or will run again."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


async def _has_controllers(kube: KubeClient) -> bool:
    """Whether the namespace has pods of a controller, as far as they may be listed."""
    try:
        return not all(map(has_ended, await kube.pods(labels=CONTROLLERS)))
    except Forbidden:
        return False


async def _leases_of(kube: KubeClient, release: str, namespace: str) -> ShardLeases:
    try:
        return ShardLeases(await kube.shard_leases(), release, namespace)
    except Forbidden as refused:
        # Without the text of the API server, which people answer with a right to all objects there.
        where = f"they are in the namespace {release}, where you may not list them"
        raise Forbidden(refused.status, refused.reason, where) from None


def _readable(raws: Sequence[Raw]) -> Iterator[Organization]:
    for each in raws:
        with suppress(ResourceInvalid):
            yield Organization.parse(each)
