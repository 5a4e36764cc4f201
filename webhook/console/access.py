"""
The person who uses the console, with a client for the API server and this person's rights.

SelfSubjectAccessReview tells the rights; they are cached for half a minute by namespace and a hash of the
token. They only select the buttons to show, and the namespaces in the menu: the API server checks every
action.
"""

import hashlib
import logging
from asyncio import gather
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import compress
from typing import Final

from counterfoil.kube.client import KubeClient, TokenClientFactory
from counterfoil.kube.errors import ApiError, Forbidden
from counterfoil.kube.served_namespaces import ServedNamespaces
from counterfoil.resources import GROUP, Archive, EnvelopeEvent, Import, Organization, Sender
from webhook.console.errors import ConsoleErrorKind
from webhook.console.limits import ConsoleLimits
from webhook.console.routes import namespace_root
from webhook.http_server.errors import HttpErrorKind, PageError

_log = logging.getLogger(__name__)

KINDS: Final = (EnvelopeEvent.PLURAL, Sender.PLURAL, Archive.PLURAL, Organization.PLURAL, Import.PLURAL)
EVENTS, SENDERS, ARCHIVES, ORGANIZATIONS, IMPORTS = KINDS

_REVIEWED_ACCESS: Final = (
    *((verb, kind, GROUP) for kind in KINDS for verb in ("list", "patch")),
    ("list", "leases", "coordination.k8s.io"),
    ("list", "events", "events.k8s.io"),
    ("create", "events", "events.k8s.io"),
)


@dataclass(frozen=True)
class Rights:
    """A person's rights in one namespace."""

    granted: frozenset[tuple[str, str]]

    def can_list(self, kind: str) -> bool:
        """Whether the kind may be listed."""
        return ("list", kind) in self.granted

    def can_patch(self, kind: str) -> bool:
        """Whether objects of the kind may be changed."""
        return ("patch", kind) in self.granted

    @property
    def can_create_events(self) -> bool:
        """Whether Kubernetes Events may be written."""
        return ("create", "events") in self.granted

    @property
    def can_list_any(self) -> bool:
        """Whether there is any page to show."""
        return any(self.can_list(kind) for kind in KINDS)


@dataclass(frozen=True)
class AuthenticatedUser:
    """Somebody who is signed in, in one namespace."""

    name: str
    kube: KubeClient
    """For the namespace."""
    rights: Rights
    form_token: str
    """The form token of this person, for the namespace."""
    root: str = ""
    """Beginning of the paths of the namespace; empty for the console's own."""
    choices: tuple[tuple[str, str], ...] = ()
    """The namespaces of the menu: name and beginning of the paths of each that this person may read."""


@dataclass(frozen=True)
class _CachedUser:
    name: str
    rights: Rights
    until: float


@dataclass(frozen=True)
class Authenticator:
    """
    Tells who somebody is. ``monotonic`` is a clock in seconds that never goes back.

    ``served`` are the namespaces that the console serves in addition to its own.
    """

    client_factory: TokenClientFactory
    limits: ConsoleLimits
    monotonic: Callable[[], float]
    served: ServedNamespaces
    _cached: OrderedDict[tuple[bytes, str], _CachedUser] = field(init=False, default_factory=OrderedDict)
    _readable: OrderedDict[tuple[bytes, str], tuple[bool, float]] = field(
        init=False, default_factory=OrderedDict
    )
    """Whether a person may read a namespace of the menu, and until when that is believed."""

    async def user_name(self, token: str) -> str:
        """Ask the API server whose token it is, with the token itself. Raises ``PageError``, ``ApiError``."""
        try:
            name = await self.client_factory.client_for(token).whoami()
        except Forbidden as refused:
            raise PageError(ConsoleErrorKind.TOKEN_REFUSED, str(refused)) from None
        if not name or name == "system:anonymous":
            raise PageError(ConsoleErrorKind.TOKEN_REFUSED, "the API server takes the token for nobody's")
        return name

    @property
    def namespace(self) -> str:
        """The console's own namespace."""
        return self.client_factory.namespace

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that this console serves now, its own first."""
        return (self.namespace, *(each for each in self.served.names if each != self.namespace))

    def check_namespace(self, namespace: str) -> None:
        """Raise ``PageError`` for a namespace that this console does not serve."""
        if namespace not in self.namespaces:
            raise PageError(HttpErrorKind.NOT_FOUND, "the console does not serve this namespace")

    async def authenticate(self, token: str, form_token: str, namespace: str) -> AuthenticatedUser:
        """Return the visitor with this token in a namespace. Raises ``PageError``, ``ApiError``."""
        self.check_namespace(namespace)
        kube = self.client_factory.client_for(token, namespace)
        token_hash = hashlib.sha256(token.encode()).digest()
        mark = token_hash, namespace
        known = self._cached.get(mark)
        if known is None or known.until <= self.monotonic():
            known = await self._review_access(token, kube)
            self._cached[mark] = known
            self._cached.move_to_end(mark)
            if len(self._cached) > self.limits.cached_users:
                self._cached.popitem(last=False)
        root = namespace_root(namespace, self.namespace)
        choices = await self._choices(token, token_hash, namespace)
        return AuthenticatedUser(known.name, kube, known.rights, form_token, root, choices)

    async def _choices(self, token: str, token_hash: bytes, namespace: str) -> tuple[tuple[str, str], ...]:
        """Return the menu of a person who looks at this namespace: it, and the others that the person may
        read. It shows no name of any other."""
        names = self.namespaces
        asked = (self._may_read(token, token_hash, each) for each in names if each != namespace)
        readable = {namespace, *compress((each for each in names if each != namespace), await gather(*asked))}
        return tuple((each, namespace_root(each, self.namespace)) for each in names if each in readable)

    async def _may_read(self, token: str, token_hash: bytes, namespace: str) -> bool:
        """Whether a person may list anything that the console shows of a namespace."""
        known, until = self._readable.get((token_hash, namespace), (False, 0.0))
        if until > self.monotonic():
            return known
        kube = self.client_factory.client_for(token, namespace)
        reviews = [kube.is_allowed("list", kind, group=GROUP) for kind in (EVENTS, ORGANIZATIONS)]
        try:
            known = any(await gather(*reviews))
        except ApiError as problem:
            _log.info("a namespace is left out of the menu: %s", problem, extra={"namespace": namespace})
            return False
        self._readable[token_hash, namespace] = known, self.monotonic() + self.limits.menu_seconds
        self._readable.move_to_end((token_hash, namespace))
        if len(self._readable) > self.limits.cached_menu_entries:
            self._readable.popitem(last=False)
        return known

    async def _review_access(self, token: str, kube: KubeClient) -> _CachedUser:
        name = await self.user_name(token)
        reviews = (kube.is_allowed(verb, kind, group=group) for verb, kind, group in _REVIEWED_ACCESS)
        allowed = compress(_REVIEWED_ACCESS, await gather(*reviews))
        rights = Rights(frozenset((verb, kind) for verb, kind, _ in allowed))
        return _CachedUser(name, rights, self.monotonic() + self.limits.rights_seconds)
