"""
Consents: the OAuth applications, who has allowed which of them, and the codes that are not redeemed yet.

An application is allowed by a user once. Each way through `Auth/Authorize` gives a code, each code is worth
the user's token for that application once (RFC 6749, with the proof of RFC 7636 where one was promised). The
rules are here, their HTTP is in oauth.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from sandbox.esaw.core.behaviour import Behaviour
from sandbox.esaw.core.model import OAuthApp, User
from sandbox.esaw.core.store import EsawStore

CODE_LENGTH: Final = 43
SECRET_LENGTH: Final = 44
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class OAuthError(Exception):
    """A request that OAuth refuses: an error code of RFC 6749, and what it means here."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.error = error
        self.description = description


@dataclass(frozen=True, slots=True)
class PkceChallenge:
    """The proof that the client that redeems a code is the client that requested it (PKCE)."""

    value: str
    method: str

    def is_met_by(self, verifier: str) -> bool:
        """Whether the verifier is the one that the challenge was made of."""
        if not _VERIFIER.fullmatch(verifier):
            return False
        if self.method == "plain":
            return hmac.compare_digest(verifier, self.value)
        digest = hashlib.sha256(verifier.encode()).digest()
        return hmac.compare_digest(base64.urlsafe_b64encode(digest).decode().rstrip("="), self.value)


def parse_challenge(value: str, method: str) -> PkceChallenge:
    """The challenge that a request names; without a method it is a plain one. Raises OAuthProblem."""
    method = method or "plain"
    if method not in {"plain", "S256"}:
        raise OAuthError("invalid_request", "code_challenge_method is S256 or plain.")
    if not _VERIFIER.fullmatch(value):
        raise OAuthError("invalid_request", "code_challenge has 43 to 128 unreserved characters.")
    return PkceChallenge(value, method)


@dataclass(slots=True)
class _Code:
    client_id: str
    redirect_uri: str
    user: User
    expires_at: datetime
    challenge: PkceChallenge | None
    is_spent: bool = False
    token: str | None = None
    """The token that the code was redeemed for."""


class ConsentStore:
    """All applications, consents and codes of one eSAW."""

    def __init__(self, store: EsawStore, behaviour: Callable[[], Behaviour]) -> None:
        self._store = store
        self._behaviour = behaviour
        self._apps: dict[str, OAuthApp] = {}
        self._granted: set[tuple[str, str]] = set()  # user id, client id
        self._tokens: dict[tuple[str, str], str] = {}
        self._codes: dict[str, _Code] = {}

    # Applications

    def register(self, name: str, redirect_uris: Sequence[str]) -> OAuthApp:
        """A new application. Raises ValueError for a redirect URI that is none."""
        for uri in redirect_uris:
            parts = urlsplit(uri)
            if parts.scheme not in {"http", "https"} or not parts.netloc or "#" in uri:
                raise ValueError(f"A redirect URI is absolute and has no fragment, unlike {uri!r}.")
        app = OAuthApp(
            client_id=self._store.new_id(),
            client_secret=self._store.new_secret(SECRET_LENGTH - 3) + "+/=",
            name=name,
            redirect_uris=tuple(redirect_uris),
        )
        self._apps[app.client_id] = app
        return app

    def app(self, client_id: str) -> OAuthApp | None:
        """The application with exactly this id."""
        return self._apps.get(client_id)

    def known_app(self, client_id: str) -> OAuthApp:
        """The application with exactly this id. Raises ValueError."""
        if client_id not in self._apps:
            raise ValueError(f"The stand-in has no OAuth application {client_id}.")
        return self._apps[client_id]

    # Consents

    def has_granted(self, user: User, app: OAuthApp) -> bool:
        """Whether the user has allowed the application."""
        return (user.user_id, app.client_id) in self._granted

    def grant(self, user: User, app: OAuthApp) -> None:
        """The user allows the application."""
        self._granted.add((user.user_id, app.client_id))

    def withdraw(self, user: User, app: OAuthApp) -> None:
        """The user no longer allows it: its token is disabled, its codes are worth nothing. Raises ValueError
        if they never did."""
        both = (user.user_id, app.client_id)
        if both not in self._granted:
            raise ValueError(f"{user.email} has not allowed {app.name} anything.")
        self._granted.discard(both)
        token = self._tokens.pop(both, None)
        if token is not None:
            self._store.revoke(user.user_id, token)
        self._codes = {
            code: each for code, each in self._codes.items() if (each.user.user_id, each.client_id) != both
        }

    def token_for(self, user: User, app: OAuthApp) -> str:
        """The user's token for this application: the same as before, or a new one if that was disabled."""
        both = (user.user_id, app.client_id)
        token = self._tokens.get(both)
        if token is None or not self._store.is_valid_token(token):
            token = self._tokens[both] = self._store.new_token(user.user_id)
        return token

    # Codes

    def new_code(
        self, user: User, app: OAuthApp, redirect_uri: str, code_challenge: PkceChallenge | None
    ) -> str:
        """A code for the application, to be redeemed once and soon."""
        code = self._store.new_secret(CODE_LENGTH)
        self._codes[code] = _Code(
            client_id=app.client_id,
            redirect_uri=redirect_uri,
            user=user,
            expires_at=self._store.now() + timedelta(seconds=self._behaviour().code_lifetime),
            challenge=code_challenge,
        )
        return code

    def redeem(self, app: OAuthApp, code: str, redirect_uri: str, verifier: str) -> str:
        """
        The token that the code is worth. Raises OAuthProblem.

        A code of this application is spent at the first try, also at a faulty one; a second try also disables
        the token that the first one got (RFC 6749, 4.1.2).
        """
        known = self._codes.get(code)
        if known is None or known.client_id != app.client_id:
            raise OAuthError("invalid_grant", "There is no such code.")
        if known.is_spent:
            if known.token is not None:
                self._store.revoke(known.user.user_id, known.token)
            raise OAuthError("invalid_grant", "The code was used before.")
        known.is_spent = True
        self._check(known, redirect_uri, verifier)
        known.token = self.token_for(known.user, app)
        return known.token

    def _check(self, known: _Code, redirect_uri: str, verifier: str) -> None:
        if self._store.now() > known.expires_at:
            raise OAuthError("invalid_grant", "The code has expired.")
        if redirect_uri != known.redirect_uri:
            raise OAuthError("invalid_grant", "The redirect_uri is another one than before.")
        if not self._store.is_active(known.user.user_id):
            raise OAuthError("invalid_grant", "The user is not active.")
        if self._behaviour().ignores_pkce:
            return
        if known.challenge is None and verifier:
            raise OAuthError("invalid_grant", "A code_verifier came, but there was no code_challenge.")
        if known.challenge is not None and not known.challenge.is_met_by(verifier):
            raise OAuthError("invalid_grant", "The code_verifier does not fit the code_challenge.")
