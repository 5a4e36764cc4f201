"""
The API token of one eSAW user, in a type that does not reveal it accidentally (rule 7, "keys stay sealed"),
with the origin that it belongs to (rule 11, "a token goes home only").

``parse`` reads the token of a Secret or a token endpoint; ``reveal`` returns it, for the encryption of keys
and for requests to eSAW. Any other output of the value (print, format, a traceback's variables, pickle, JSON)
shows the fingerprint or fails.
"""

import hashlib
import hmac
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
