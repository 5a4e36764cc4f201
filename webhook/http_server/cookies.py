"""Sealed cookies and form tokens, which nobody can read or make: each for one purpose, until it expires."""

import base64
import binascii
import hmac
from datetime import datetime
from typing import Protocol, TypeVar

import msgspec

from counterfoil.clock import Clock
from counterfoil.sealing import SealBroken, SealKeyUnknown


def parse_cookies(header: str) -> dict[str, str]:
    """
    Return the cookies of a header line by their names; of two with one name the last.

    Only splits: http.cookies takes 20 ms for 12 KiB, and none of our cookies is quoted. (RFC 6265, 5.4)
    """
    pairs = (part.partition("=") for part in header.split(";"))
    return {name.strip(): value.strip() for name, separator, value in pairs if separator}


class CookieCipher(Protocol):
    """Encrypts cookies, and seals Leases: ``counterfoil.sealing.Sealing``, or a key of this process."""

    def seal_for(self, purpose: str, plain: bytes) -> bytes:
        """Seal something for a purpose."""
        ...

    def open_for(self, purpose: str, data: bytes) -> bytes:
        """Open what was sealed for the same purpose. Raises ``SealBroken`` and ``SealKeyUnknown``."""
        ...


class CookieState(msgspec.Struct, frozen=True, kw_only=True):
    """State in a sealed cookie."""

    expires: datetime


class FormState(CookieState, frozen=True, kw_only=True):
    """State that binds a form to a browser."""

    id: str


C = TypeVar("C", bound=CookieState)


class SealedCookies:
    """Seals and opens cookies and the tokens of forms; pages and console add the states."""

    def __init__(self, cipher: CookieCipher, clock: Clock, *, form_purpose: str, max_characters: int) -> None:
        self._cipher = cipher
        self._clock = clock
        self._form_purpose = form_purpose
        self._max_characters = max_characters

    def form_token(self, session: FormState, scope: str = "") -> str:
        """Return the token in every form of a session, so that nobody else's page can send one (CSRF). With a
        scope, the form is good for nothing outside it."""
        return _base64url(self._cipher.seal_for(self._form_purpose, _form_id(session, scope)))

    def is_valid_form_token(self, session: FormState, token: str, scope: str = "") -> bool:
        """Whether a form carries a token of this session and scope."""
        opened = self._unseal(self._form_purpose, token)
        return opened is not None and hmac.compare_digest(opened, _form_id(session, scope))

    def seal_for(self, purpose: str, state: CookieState) -> str:
        """Return the value of a cookie."""
        return _base64url(self._cipher.seal_for(purpose, msgspec.json.encode(state)))

    def open_for(self, purpose: str, kind: type[C], text: str) -> C | None:
        """Return the state in a cookie; None for one that is missing, expired, or of another purpose."""
        opened = self._unseal(purpose, text)
        if opened is None:
            return None
        try:
            state = msgspec.json.decode(opened, type=kind)
        except msgspec.MsgspecError:
            # Another version of this program sealed it; the person starts again.
            return None
        return state if self._clock.now() < state.expires else None

    def _unseal(self, purpose: str, text: str) -> bytes | None:
        if not text or len(text) > self._max_characters or not text.isascii():
            return None
        try:
            return self._cipher.open_for(purpose, base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (binascii.Error, SealBroken, SealKeyUnknown):
            return None


def _form_id(session: FormState, scope: str) -> bytes:
    # No id has a space in it, so that nothing else has the same text.
    return f"{session.id} {scope}".encode() if scope else session.id.encode()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
