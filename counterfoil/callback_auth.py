"""
Authenticate callbacks by a token in the path, and optionally by basic auth.

The controller reads the Secrets and writes hashes into the Organization's status (``token_hash``,
``basic_auth_hash``). The receiver checks callbacks against these hashes (``is_valid_token``,
``is_valid_basic_auth``), so it needs no right to read Secrets. A hash does not reveal its secret: tokens are
too long to guess, and the hash of a password has a token as its key. Both checks take microseconds, so a
client that guesses delays no other one.
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

SALT_BYTES = 16
"""Length of a salt: two organizations with one token have two hashes, and no table has them."""

_TOKEN_HASH = re.compile(r"sha256\$(?P<salt>[0-9a-f]{32})\$(?P<digest>[0-9a-f]{64})")

_BASIC_AUTH_HASH = re.compile(r"hmac-sha256\$(?P<salt>[0-9a-f]{32})\$(?P<digest>[0-9a-f]{64})")

_URL_PATH_SAFE = re.compile(r"[A-Za-z0-9._~-]+")  # "unreserved" of RFC 3986, section 2.3


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
    ``SALT_BYTES``.

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


def basic_auth_hash(username: str, password: str, *, token: str, salt: bytes) -> str:
    """
    Return ``hmac-sha256$salt$hash`` of a user name and password for calls with this token, both in
    lower-case hex; ``salt`` has ``SALT_BYTES``.

    The token is the key of the hash, so nobody who reads the hash alone can try passwords on it.

    Raises as ``check_credentials``.
    """
    check_credentials(username, password)
    credentials = f"{username}:{password}".encode()
    return f"hmac-sha256${salt.hex()}${_keyed_digest(token, salt, credentials)}"


def check_credentials(username: str, password: str) -> None:
    """Raise ``CallbackSecretInvalid`` for values that RFC 7617 cannot carry: a colon in the user name, or an
    empty one."""
    if not username or ":" in username or not password:
        raise CallbackSecretInvalid("basic auth needs a username without a colon and a password")


def is_basic_auth_hash(text: str) -> bool:
    """Whether this has the form of a hash from ``basic_auth_hash``."""
    return _BASIC_AUTH_HASH.fullmatch(text) is not None


def is_valid_basic_auth(header: str | None, token: str, hashes: Iterable[str]) -> bool:
    """Whether the ``Authorization`` header has the user name and password that belong to this token."""
    credentials = basic_auth_credentials(header)
    if credentials is None:
        return False
    found = False
    for each in hashes:
        found |= _is_keyed_hash_of(credentials, token, each)
    return found


def matches_basic_auth(username: str, password: str, token: str, text: str) -> bool:
    """Whether a hash belongs to this user name, password and token; then the controller keeps the hash."""
    return _is_keyed_hash_of(f"{username}:{password}".encode(), token, text)


def _is_hash_of(token: bytes, text: str) -> bool:
    parts = _TOKEN_HASH.fullmatch(text)
    if parts is None:
        # Another version's, or written by hand: no token matches it.
        return False
    digest = _salted_digest(bytes.fromhex(parts["salt"]), token)
    return hmac.compare_digest(digest, parts["digest"])


def _salted_digest(salt: bytes, token: bytes) -> str:
    return hashlib.sha256(salt + token).hexdigest()


def _is_keyed_hash_of(credentials: bytes, token: str, text: str) -> bool:
    parts = _BASIC_AUTH_HASH.fullmatch(text)
    if parts is None:
        return False
    digest = _keyed_digest(token, bytes.fromhex(parts["salt"]), credentials)
    return hmac.compare_digest(digest, parts["digest"])


def _keyed_digest(token: str, salt: bytes, credentials: bytes) -> str:
    key = token.encode("utf-8", "surrogatepass")
    return hmac.digest(key, salt + credentials, "sha256").hex()


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
