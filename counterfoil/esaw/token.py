"""
The API token of one eSAW user, in a type that does not reveal it accidentally (rule 7, "keys stay sealed"),
with the origin that it belongs to (rule 11, "a token goes home only").

``parse`` reads the token of a Secret or a token endpoint; ``reveal`` returns it, for the encryption of keys
and for requests to eSAW. Any other output of the value (print, format, a traceback's variables, pickle, JSON)
shows the fingerprint or fails.

eSAW documents two request headers that carry it (Namirial, "Introduction REST"), and of either some
integrations report that an instance refuses it. So the client begins with the usual one. After eSAW's own 401
it tries the other one once, until a call has shown which of them this instance accepts.
"""

import hashlib
import hmac
from enum import StrEnum
from typing import NoReturn, Self

from counterfoil.esaw.limits import TOKEN_LENGTH


class ApiToken:
    """A user's API token, and the origin that it may be sent to. Tokens are compared in constant time."""

    __slots__ = ("_secret", "origin")

    _secret: str

    origin: str
    """Origin of the eSAW that issued it (``counterfoil.origin.origin_of``). The client refuses any other."""

    @classmethod
    def parse(cls, raw: bytes | str, origin: str) -> Self:
        """
        Read the token of a file or a response, without surrounding white space. It belongs to ``origin``.

        Raises ``ValueError``, which never contains the value, when the text is not a valid token.
        """
        # Looked at before decoding: a UnicodeDecodeError would carry the value.
        if not raw.isascii():
            raise ValueError(
                "an API token has ASCII characters only; is this the right key of the Secret, in plain text?"
            )
        text = (raw.decode("ascii") if isinstance(raw, bytes) else raw).strip()
        if not text:
            raise ValueError("the API token is empty")
        if len(text) > TOKEN_LENGTH:
            raise ValueError(f"an API token has at most {TOKEN_LENGTH} characters")
        if not all("!" <= char <= "~" for char in text):
            raise ValueError("an API token has no spaces, line breaks or control characters inside")
        token = cls()
        token._secret = text
        token.origin = origin
        return token

    def reveal(self) -> str:
        """Return the token itself. The caller must keep it secret."""
        return self._secret

    @property
    def fingerprint(self) -> str:
        """The first 8 hex digits of its SHA-256: tells two tokens apart, and tells nothing about either."""
        return hashlib.sha256(self._secret.encode()).hexdigest()[:8]

    def __repr__(self) -> str:
        return f"<ApiToken {self.fingerprint}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ApiToken):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret) and self.origin == other.origin

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __getstate__(self) -> NoReturn:
        """Refuse to be pickled or copied field by field."""
        raise TypeError("an ApiToken is not serialised; seal what reveal() returns")

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise TypeError("an ApiToken is not serialised; seal what reveal() returns")


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

    def confirm(self, header: TokenHeader) -> None:
        """Record that eSAW answered a call that needs a valid token, and that had this header."""
        self.header, self.is_known = header, True
