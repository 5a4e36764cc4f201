"""
The API token of one eSAW user, wrapped so that it can't slip out (rule 7, "keys stay sealed").

``parse`` takes it from a Secret or a token endpoint; ``reveal`` gives it back, to the sealing of keys and to the request
that carries it. Everything else that would show a value (print, format, a traceback's variables, pickle, JSON) shows the
fingerprint or refuses.
"""

import hashlib
import hmac
from typing import NoReturn, Self

from counterfoil.esaw.limits import TOKEN_LENGTH


class ApiToken:
    """A user's API token. Equal tokens are equal; comparing takes the same time whatever they hold."""

    __slots__ = ("_secret",)

    _secret: str

    @classmethod
    def parse(cls, raw: bytes | str) -> Self:
        """
        Take a token as it stands in a file or an answer, without the white space around it.

        Raises ``ValueError``, which never contains the value, when this can't be a token.
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
        return token

    def reveal(self) -> str:
        """Return the token itself. Whoever calls this answers for where it goes."""
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
        return hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __getstate__(self) -> NoReturn:
        """Refuse to be pickled or copied field by field."""
        raise TypeError("an ApiToken is not serialised; seal what reveal() returns")

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise TypeError("an ApiToken is not serialised; seal what reveal() returns")
