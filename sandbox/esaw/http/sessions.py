"""
Sessions: who sits at which browser.

A browser is known by a cookie, and signed in or not; signing in changes the cookie, so that nobody can
prepare a session for somebody else. Each form carries a token of its session, without which it is not taken.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from sandbox.esaw.core.model import User
from sandbox.esaw.core.store import EsawStore

COOKIE: Final = "esaw_session"
FORM_FIELD: Final = "__RequestVerificationToken"
"""The name of the field that carries a session's token."""


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """One browser's session."""

    id: str
    form_token: str
    user: User | None

    def accepts_form(self, form: Mapping[str, str]) -> bool:
        """Whether the form is one that this session was given."""
        return hmac.compare_digest(form.get(FORM_FIELD, "").encode(), self.form_token.encode())


class BrowserSessions:
    """All sessions there are."""

    def __init__(self, store: EsawStore) -> None:
        self._store = store
        self._all: dict[str, BrowserSession] = {}

    def of(self, request: web.Request) -> BrowserSession | None:
        """The session of this browser; none if its user is not active any more."""
        session = self._all.get(request.cookies.get(COOKIE, ""))
        if session is None or session.user is None or self._store.is_active(session.user.user_id):
            return session
        return None

    def user_of(self, request: web.Request) -> User | None:
        """The signed-in user."""
        session = self.of(request)
        return session.user if session else None

    def begin(self, user: User | None = None) -> BrowserSession:
        """A new session: of this user, or of somebody who has not signed in yet."""
        session = BrowserSession(self._store.new_secret(32), self._store.new_secret(32), user)
        self._all[session.id] = session
        return session

    def end(self, session: BrowserSession) -> None:
        """Sign out."""
        self._all.pop(session.id, None)


def session_cookie(session: BrowserSession) -> dict[str, str]:
    """The header that gives a browser its session."""
    return {"Set-Cookie": f"{COOKIE}={session.id}; Path=/; HttpOnly; SameSite=Lax"}


def expired_cookie() -> dict[str, str]:
    """The header that takes it away."""
    return {"Set-Cookie": f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"}
