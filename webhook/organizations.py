"""
The directory of organizations: what the receiver has to know of each one, kept up to date by a watch.

Each Organization is read once per change into a ``Listed``, with all that one callback asks for at hand. While the
watch is broken the last state stays in use: a callback for it is better noted down than refused.

An organization that is known but cannot be judged yet (no token hashes in its status, or a status that does not fit)
is listed without an answer, and the receiver says 503: its callbacks must not be lost because the controller has not
come round to it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from counterfoil.callbackauth import is_known_token
from counterfoil.cluster import ApiProblem, Change, Cluster, Raw, follow_for_ever
from counterfoil.metrics import Metrics
from counterfoil.resources import Organization, ResourceInvalid
from webhook.throttle import Bucket

log = logging.getLogger(__name__)

_LONGEST_LABEL = 63


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One organization as the receiver sees it."""

    name: str
    token_hashes: tuple[str, ...] = ()
    needs_basic_auth: bool = False
    basic_auth_hash: str | None = None
    actions: Mapping[str, str] = field(default_factory=dict)
    """The actions it asks for, in its own spelling, by their names in lower case."""
    sender: str | None = None
    """The Sender of all its events, when it is known beforehand and fits into a label."""
    bucket: Bucket

    @property
    def is_judgeable(self) -> bool:
        """Whether the controller has published everything that a callback is checked against."""
        return bool(self.token_hashes) and (self.basic_auth_hash is not None or not self.needs_basic_auth)

    def knows(self, token: str) -> bool:
        """Whether this is one of its tokens."""
        return is_known_token(token, self.token_hashes)


class Directory:
    """All organizations of the namespace. ``follow`` keeps it up to date; ``find`` asks it."""

    def __init__(self, metrics: Metrics, *, new_bucket: Callable[[], Bucket]) -> None:
        self._metrics = metrics
        self._new_bucket = new_bucket
        self._listed: dict[str, Listed] = {}
        self._synced = asyncio.Event()

    @property
    def is_complete(self) -> bool:
        """Whether all organizations were read once. Before that, not finding one means nothing."""
        return self._synced.is_set()

    async def until_complete(self) -> None:
        """Return when all organizations were read once."""
        await self._synced.wait()

    def find(self, name: str) -> Listed | None:
        """Return the organization of that name, if there is one."""
        return self._listed.get(name)

    async def follow(self, cluster: Cluster) -> None:
        """Keep the directory up to date, for ever."""
        async for change in follow_for_ever(cluster, Organization, trouble=_tell):
            self.take_in(change)

    def take_in(self, change: Change) -> None:
        """Follow one change of an Organization."""
        match change.type:
            case "ADDED" | "MODIFIED":
                self._list(change.raw)
            case "DELETED":
                self._strike(change.raw["metadata"]["name"])
            case "SYNCED":
                for name in self._listed.keys() - change.names:
                    self._strike(name)
                self._synced.set()
            case "BOOKMARK":
                pass

    def _list(self, raw: Raw) -> None:
        name = raw["metadata"]["name"]
        before = self._listed.get(name)
        bucket = before.bucket if before is not None else self._new_bucket()
        try:
            self._listed[name] = _listed(Organization.parse(raw), bucket)
        except ResourceInvalid as mismatch:
            log.error("callbacks of this organization wait: %s", mismatch, extra={"organization": name})  # noqa: TRY400 - the message says it all
            self._listed[name] = Listed(name=name, bucket=bucket)
        if before is None:
            self._metrics.start_callbacks(name)

    def _strike(self, name: str) -> None:
        if self._listed.pop(name, None) is not None:
            self._metrics.forget_organization(name)


def _listed(organization: Organization, bucket: Bucket) -> Listed:
    spec, status = organization.spec, organization.status
    sender = spec.default_sender_ref.name if spec.default_sender_ref is not None else None
    return Listed(
        name=organization.name,
        token_hashes=status.callback_token_hashes,
        needs_basic_auth=spec.callback.basic_auth_secret_ref is not None,
        basic_auth_hash=status.basic_auth_hash,
        actions={each.action.lower(): each.action for each in reversed(spec.actions)},
        sender=sender if sender is not None and len(sender) <= _LONGEST_LABEL else None,
        bucket=bucket,
    )


def _tell(problem: ApiProblem) -> None:
    log.warning("organizations cannot be followed just now: %s", problem)
