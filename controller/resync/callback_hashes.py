"""
Which hashes of callback tokens and of basic auth the status of an Organization has.

A hash of basic auth has a token as its key, so each token of the spec has a pair of hashes, and keeps it
alone while its Secret may not or can't be read. A token that was replaced, and a password that was changed,
are not valid any more because of another token's Secret. Whether a password was changed is known only from a
token that can be read, and was published before. Unless one shows that the password is unchanged, a token
that can't be read has no password until it can. Its calls are answered 503, which eSAW repeats.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from counterfoil.callback_auth import (
    SALT_BYTES,
    basic_auth_hash,
    is_valid_token,
    matches_basic_auth,
    token_hash,
)
from counterfoil.resources import Organization
from counterfoil.resources.base import SecretKeyRef
from counterfoil.resources.organization import MAX_CALLBACK_TOKENS, CallbackToken, OrganizationStatus

Credentials = tuple[str, str]
"""User name and password."""


@dataclass(frozen=True)
class CallbackSecrets:
    """The Secrets of an Organization's callbacks, as far as they can be read now."""

    tokens: Mapping[SecretKeyRef, str]
    """The valid tokens."""
    unread: frozenset[SecretKeyRef]
    """The tokens whose Secret may not be read."""
    credentials: Credentials | None
    """None: there are none, or they can't be used."""


def with_hashes(organization: Organization, read: CallbackSecrets) -> OrganizationStatus:
    """Return the Organization's status with the hashes of its callback secrets."""
    status, callback = organization.status, organization.spec.callback
    known = {SecretKeyRef(name=each.name, key=each.key): each for each in status.callback_tokens}
    token_hashes, basic_hashes = [*status.callback_token_hashes], [*status.basic_auth_hashes]
    basic_of_token = {each.hash: each.basic_auth_hash for each in status.callback_tokens}
    may_be_changed = _may_password_be_changed(known, read)
    tokens: list[CallbackToken] = []
    for ref in callback.token_secret_refs:
        before = known.get(ref)
        if ref in read.unread and before is not None:
            tokens.append(replace(before, basic_auth_hash=None) if may_be_changed else before)
        elif (token := read.tokens.get(ref)) is not None:
            own = _token_hash(token, token_hashes)
            basic = basic_of_token.get(own)
            if read.credentials is not None:
                basic = _basic_auth_hash(read.credentials, token, basic_hashes)
                basic_hashes.append(basic)
            token_hashes.append(own)
            tokens.append(CallbackToken(name=ref.name, key=ref.key, hash=own, basic_auth_hash=basic))
    if callback.basic_auth_secret_ref is None:
        tokens = [replace(each, basic_auth_hash=None) for each in tokens]
    published = [each.hash for each in tokens]
    published_basic = [each.basic_auth_hash for each in tokens if each.basic_auth_hash is not None]
    if not known:
        # An earlier version does not tell which hash is whose.
        published += _earlier_token_hashes(organization) if read.unread else ()
        is_unknown = read.unread or read.credentials is None
        if callback.basic_auth_secret_ref is not None and is_unknown:
            published_basic += status.basic_auth_hashes
    return replace(
        status,
        callback_tokens=tuple(tokens) if {each.hash for each in tokens}.issuperset(published) else (),
        callback_token_hashes=tuple(dict.fromkeys(published))[:MAX_CALLBACK_TOKENS],
        basic_auth_hashes=tuple(dict.fromkeys(published_basic))[:MAX_CALLBACK_TOKENS],
    )


def _may_password_be_changed(known: Mapping[SecretKeyRef, CallbackToken], read: CallbackSecrets) -> bool:
    """Whether tokens were read, and none with a published hash shows that user name and password are
    unchanged."""
    if read.credentials is None or not read.tokens:
        return False
    pairs = ((token, known[ref]) for ref, token in read.tokens.items() if ref in known)
    return not any(
        each.basic_auth_hash is not None
        and is_valid_token(token, (each.hash,))
        and matches_basic_auth(*read.credentials, token, each.basic_auth_hash)
        for token, each in pairs
    )


def _token_hash(token: str, published: Sequence[str]) -> str:
    """Return the hash of a token; the published one if there is one, since each new salt would cause a
    write."""
    known = (each for each in published if is_valid_token(token, (each,)))
    return next(known, None) or token_hash(token, secrets.token_bytes(SALT_BYTES))


def _basic_auth_hash(credentials: Credentials, token: str, published: Sequence[str]) -> str:
    """Return the hash of a user name and password for a token; the published one if there is one."""
    username, password = credentials
    known = (each for each in published if matches_basic_auth(username, password, token, each))
    new_salt = secrets.token_bytes(SALT_BYTES)
    return next(known, None) or basic_auth_hash(username, password, token=token, salt=new_salt)


def _earlier_token_hashes(organization: Organization) -> tuple[str, ...]:
    """
    Return the hashes in a status of an earlier version.

    Without them the receiver refuses every callback. Of another spec they say nothing: it may have taken a
    token away.
    """
    status = organization.status
    fits = status.observed_generation == organization.metadata.generation
    return status.callback_token_hashes if fits else ()
