"""
The request header that carries the API token.

eSAW documents two (Namirial, "Introduction REST"), and of either some integrations report that an instance
refuses it. So the client begins with the usual one. After eSAW's own 401 it tries the other one once, until a
call has shown which of them this instance accepts. This module sends no requests.
"""

import asyncio
from enum import StrEnum

from counterfoil.esaw.token import ApiToken


class TokenHeader(StrEnum):
    """A header for the API token, by its name."""

    BEARER = "Authorization"
    API_TOKEN = "ApiToken"  # noqa: S105 - the name of a header

    @property
    def other(self) -> "TokenHeader":
        """The other header."""
        return TokenHeader.API_TOKEN if self is TokenHeader.BEARER else TokenHeader.BEARER

    def content(self, token: ApiToken) -> str:
        """Return the content of the header. The caller must keep it secret."""
        return f"Bearer {token.reveal()}" if self is TokenHeader.BEARER else token.reveal()


class AcceptedHeader:
    """The header that one API of an organization's eSAW accepts, as far as this process knows."""

    def __init__(self, assumed: TokenHeader, *, is_known: bool = False) -> None:
        self.header = assumed
        """The header to send."""
        self.is_known = is_known
        """Whether a call has shown that eSAW accepts it."""
        self.turn = asyncio.Lock()
        """Held by the one call that tries the other header."""

    def confirm(self, header: TokenHeader) -> None:
        """Record that eSAW answered a call that needs a valid token, and that had this header."""
        self.header, self.is_known = header, True
