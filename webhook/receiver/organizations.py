"""
A cache of the Organizations, with the fields that the receiver needs, kept up to date by a watch.

Each change of an Organization becomes one ``OrganizationView``. While the watch fails, the last state stays
in use: to accept a callback is better than to refuse it. After ``MAX_AGE_SECONDS`` it is old, and the
receiver refuses nothing permanently by it: a new Organization or a rotated token would be lost.

An Organization without token hashes in its status, or with an invalid status, is in the cache as not ready.
The receiver answers 503 for it: no callback is lost because the controller has not updated the status yet.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from counterfoil.callback_auth import (
    is_basic_auth_hash,
    is_token_hash,
    is_valid_basic_auth,
    is_valid_token,
)
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.kube.watch import Raw, WatchEvent, list_and_watch_forever
from counterfoil.metrics import Metrics
from counterfoil.resources import Organization, ResourceInvalid
from counterfoil.resources.organization import UnlistedActions
from counterfoil.untrusted.event_ceiling import EventCeiling
from webhook.http_server.rate_limit import TokenBucket

_log = logging.getLogger(__name__)

_MAX_LABEL_LENGTH = 63

MAX_AGE_SECONDS = 120.0
"""Time since the last list, or the last line of the watch, after which the organizations are old. A bookmark
arrives about every minute, and a watch that missed one is renewed after 75 s."""


@dataclass(frozen=True, kw_only=True)
class OrganizationView:
    """One organization as the receiver sees it."""

    name: str
    token_hashes: tuple[str, ...] = ()
    needs_basic_auth: bool
    basic_auth_hashes: tuple[str, ...]
    actions: Mapping[str, str] = field(default_factory=dict)
    """The actions it asks for, in its own spelling, by their names in lower case."""
    archive_action: str | None = None
    """Its action that leads into the archive; a callback without an action counts as this one."""
    archives_unlisted: bool = False
    """Whether an action that it does not list counts as that one, too."""
    own_parameters: Mapping[str, str] = field(default_factory=dict)
    """Its own URL parameters, in its spelling, by their names in lower case."""
    sender: str | None = None
    """The Sender of all its events, when it is known beforehand and fits into a label."""
    bucket: TokenBucket
    ceiling: EventCeiling

    @property
    def is_ready(self) -> bool:
        """Whether the controller has published everything that a callback is checked against."""
        return bool(self.token_hashes) and (bool(self.basic_auth_hashes) or not self.needs_basic_auth)

    @property
    def is_complete(self) -> bool:
        """Whether each token has its hash of basic auth, if that is needed: without it a call with the right
        password is not allowed."""
        return not self.needs_basic_auth or len(self.basic_auth_hashes) >= len(self.token_hashes)

    def event_action(self, given: str | None) -> str | None:
        """Return the action of the event for a callback with this action; None: it is ignored."""
        if given is None:
            return self.archive_action
        return self.actions.get(given.lower()) or (self.archive_action if self.archives_unlisted else None)

    def has_token(self, token: str) -> bool:
        """Whether this is one of its tokens."""
        return is_valid_token(token, self.token_hashes)

    def allows(self, token: str, authorization: str | None) -> bool:
        """Whether a call with this token and this ``Authorization`` header has the basic auth that is
        needed."""
        return not self.needs_basic_auth or is_valid_basic_auth(authorization, token, self.basic_auth_hashes)


class OrganizationCache:
    """All organizations of the namespace. ``watch`` keeps it up to date; ``find`` reads it."""

    def __init__(self, metrics: Metrics, *, clock: Clock, new_bucket: Callable[[], TokenBucket]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._new_bucket = new_bucket
        self._views: dict[str, OrganizationView] = {}
        self.is_synced = False
        """Whether all organizations were read once. Before that, not finding one means nothing."""
        self.has_failed = False
        """Whether reading or following them failed once."""
        self._heard_at = clock.monotonic()

    @property
    def is_old(self) -> bool:
        """Whether they may have changed since, because list and watch fail."""
        return self.age_seconds > MAX_AGE_SECONDS

    @property
    def age_seconds(self) -> float:
        """Time since the last list, or the last line of the watch; since the start before the first one."""
        return self._clock.monotonic() - self._heard_at

    def find(self, name: str) -> OrganizationView | None:
        """Return the organization of that name, if there is one."""
        return self._views.get(name)

    async def watch(self, kube: KubeClient, observe: Callable[[ApiError | None], None]) -> None:
        """Keep the cache up to date until cancelled. ``observe`` learns of each full list (None), and why
        there is none or the watch broke."""
        logged: str | None = None

        def watch_failed(problem: ApiError) -> None:
            nonlocal logged
            # A namespace that does not exist yet is asked for every ten seconds.
            if str(problem) != logged:
                _log.warning("organizations cannot be followed just now: %s", problem)
            logged = str(problem)
            self.has_failed = True
            observe(problem)

        async for change in list_and_watch_forever(kube, Organization, on_error=watch_failed):
            self.update(change)
            if change.type == "SYNCED":
                logged = None
                observe(None)

    def __len__(self) -> int:
        return len(self._views)

    def update(self, change: WatchEvent) -> None:
        """Follow one change of an Organization."""
        if change.type != "ADDED":
            # An object of a list is no end of the list.
            self._heard_at = self._clock.monotonic()
        match change.type:
            case "ADDED" | "MODIFIED":
                self._put(change.raw)
            case "DELETED":
                self._remove(change.raw["metadata"]["name"])
            case "SYNCED":
                for name in self._views.keys() - change.names:
                    self._remove(name)
                self.is_synced = True
            case "BOOKMARK":
                pass

    def _put(self, raw: Raw) -> None:
        name = raw["metadata"]["name"]
        before = self._views.get(name)
        bucket = before.bucket if before is not None else self._new_bucket()
        ceiling = before.ceiling if before is not None else EventCeiling(self._clock)
        try:
            organization = Organization.parse(raw)
            ceiling.update(organization.spec.limits, organization.status.load)
            self._views[name] = _view_of(organization, bucket, ceiling)
        except ResourceInvalid as mismatch:
            _log.error("callbacks of this organization wait: %s", mismatch, extra={"organization": name})
            self._views[name] = OrganizationView(
                name=name, needs_basic_auth=True, basic_auth_hashes=(), bucket=bucket, ceiling=ceiling
            )
        if before is None:
            self._metrics.initialize_callbacks(name)
            age = self._metrics.uncounted_event_seconds.labels(name)
            age.set_function(ceiling.uncounted_seconds)

    def _remove(self, name: str) -> None:
        if self._views.pop(name, None) is not None:
            self._metrics.remove_organization(name)


def _view_of(organization: Organization, bucket: TokenBucket, ceiling: EventCeiling) -> OrganizationView:
    spec, status = organization.spec, organization.status
    sender = spec.default_sender_ref.name if spec.default_sender_ref is not None else None
    return OrganizationView(
        name=organization.name,
        # Hashes of another version count as not published yet: 503, and not 404 for a valid token.
        token_hashes=tuple(filter(is_token_hash, status.callback_token_hashes)),
        needs_basic_auth=spec.callback.basic_auth_secret_ref is not None,
        basic_auth_hashes=tuple(filter(is_basic_auth_hash, status.basic_auth_hashes)),
        actions={each.action.lower(): each.action for each in reversed(spec.actions)},
        archive_action=spec.archive_action,
        archives_unlisted=spec.unlisted_actions is UnlistedActions.ARCHIVE,
        own_parameters={each.lower(): each for each in spec.callback.parameters},
        sender=sender if sender is not None and len(sender) <= _MAX_LABEL_LENGTH else None,
        bucket=bucket,
        ceiling=ceiling,
    )
