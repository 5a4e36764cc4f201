"""
Authenticate callbacks by a token in the path, and optionally by basic auth.

The controller reads the Secrets and writes hashes into the Organization's status (``token_hash``,
``basic_auth_hash``). The receiver checks callbacks against these hashes (``is_valid_token``,
``matches_credentials``), so it needs no right to read Secrets. A hash does not reveal its token: tokens are
too long to guess, and passwords are hashed with scrypt.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable

MIN_TOKEN_LENGTH = 16
"""Minimum length of a token, which alone protects event creation; 16 random characters have about 95 bits."""

MAX_TOKEN_LENGTH = 256
"""Maximum length of a token; proxies accept path segments of this length."""

TOKEN_SALT_BYTES = 16
"""Length of a token's salt: two organizations with one token have two hashes, and no table has them."""

_TOKEN_HASH = re.compile(r"sha256\$(?P<salt>[0-9a-f]{32})\$(?P<digest>[0-9a-f]{64})")

_URL_PATH_SAFE = re.compile(r"[A-Za-z0-9._~-]+")  # "unreserved" of RFC 3986, section 2.3

_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1  # 16 MiB and some 40 ms, as RFC 7914 says for log-ins
_MAX_SCRYPT_N = 2**17
_MAX_SCRYPT_MEMORY = 2**28  # bytes; N of the bound takes half of it with the usual r


class CallbackSecretInvalid(ValueError):
    """A callback token or basic auth Secret cannot be used; the message has the remedy and no part of the
    secret."""


def callback_token(token: str | bytes) -> str:
    """
    Return a callback token from a Secret as text, without a line break at its end.

    Raises ``CallbackSecretInvalid`` for a token that is too short, too long or not safe in a URL's path.
    """
    try:
        text = token if isinstance(token, str) else token.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    text = text.rstrip("\r\n")
    if _URL_PATH_SAFE.fullmatch(text) is None:
        raise CallbackSecretInvalid("a callback token may have letters, digits, '-', '.', '_' and '~' only")
    if not MIN_TOKEN_LENGTH <= len(text) <= MAX_TOKEN_LENGTH:
        raise CallbackSecretInvalid(
            f"a callback token has {MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH} characters, not {len(text)}"
        )
    return text


def token_hash(token: str, salt: bytes) -> str:
    """
    Return ``sha256$salt$hash`` of a callback token, both in lower-case hex; ``salt`` has
    ``TOKEN_SALT_BYTES``.

    One fast hash is enough: only Secrets that are labelled as callback tokens are hashed, and a callback must
    cost the receiver little.
    """
    return f"sha256${salt.hex()}${_salted_digest(salt, token.encode())}"


def is_token_hash(text: str) -> bool:
    """Whether this has the form of a hash from ``token_hash``."""
    return _TOKEN_HASH.fullmatch(text) is not None


def is_valid_token(presented: str, hashes: Iterable[str]) -> bool:
    """Whether the token in a callback's path is one of the organization's; in constant time."""
    token = presented.encode("utf-8", "surrogatepass")
    found = False
    for each in hashes:
        # The loop never ends early, so the duration does not reveal which token matched.
        found |= _is_hash_of(token, each)
    return found


def basic_auth_hash(username: str, password: str, salt: bytes) -> str:
    """
    Return ``scrypt$N$r$p$salt$hash`` of a user name and password (base64 except the numbers).

    Raises ``CallbackSecretInvalid`` for values that RFC 7617 cannot carry: a colon in the user name, or an
    empty value.
    """
    if not username or ":" in username or not password:
        raise CallbackSecretInvalid("basic auth needs a username without a colon and a password")
    digest = _scrypt(f"{username}:{password}".encode(), salt, _SCRYPT_N, _SCRYPT_R, _SCRYPT_P)
    text = (base64.b64encode(part).decode() for part in (salt, digest))
    return "$".join(("scrypt", str(_SCRYPT_N), str(_SCRYPT_R), str(_SCRYPT_P), *text))


def matches_basic_auth(username: str, password: str, expected: str) -> bool:
    """Whether a hash belongs to this user name and password; then the controller keeps the hash."""
    return matches_credentials(f"{username}:{password}".encode(), expected)


def _is_hash_of(token: bytes, text: str) -> bool:
    parts = _TOKEN_HASH.fullmatch(text)
    if parts is None:
        # Another version's, or written by hand: no token matches it.
        return False
    digest = _salted_digest(bytes.fromhex(parts["salt"]), token)
    return hmac.compare_digest(digest, parts["digest"])


def _salted_digest(salt: bytes, token: bytes) -> str:
    return hashlib.sha256(salt + token).hexdigest()


def basic_auth_credentials(header: str | None) -> bytes | None:
    """Return ``user:password`` of a basic ``Authorization`` header, None for any other. (RFC 7617, section
    2)"""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None


def matches_credentials(credentials: bytes, expected: str) -> bool:
    """Whether ``user:password`` is what a hash from ``basic_auth_hash`` was made of; slow on purpose."""
    try:
        kind, n, r, p, salt, digest = expected.split("$")
        if kind != "scrypt" or int(n) > _MAX_SCRYPT_N:
            return False
        computed = _scrypt(credentials, base64.b64decode(salt), int(n), int(r), int(p))
        return hmac.compare_digest(computed, base64.b64decode(digest))
    except ValueError:
        # The hash was written by hand or by a newer version: no header matches it.
        return False


def _scrypt(credentials: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(credentials, salt=salt, n=n, r=r, p=p, maxmem=_MAX_SCRYPT_MEMORY, dklen=32)
