"""
OAuth 2.0: obtains a user's API token with the user's consent (RFC 6749, 4.1, with PKCE of RFC 7636).

eSAW is the provider, and its access token *is* the user's API token (Namirial, "Retrieving the User API Token
via OAuth"). This module has the authorization URL of the browser and the request to the token endpoint. The
pages decide who may return with a code, and for which sender. The client secret, the code and the verifier
are only in the token request: in its body, or the secret in its ``Authorization`` header.
"""

import hmac
import secrets
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from urllib.parse import urlencode

import msgspec

from counterfoil.esaw.client import EsawClient
from counterfoil.esaw.errors import ResponseInvalid
from counterfoil.esaw.models import decode
from counterfoil.esaw.token import ApiToken
from counterfoil.esaw.transport import EsawCall
from counterfoil.http_client import basic_client_credentials, code_challenge
from counterfoil.resources.organization import ClientAuthentication

OPERATION: Final = "token"

_RANDOM_BYTES: Final = 32
"""256 bits make 43 characters, the shortest code verifier that RFC 7636 allows."""


@dataclass(frozen=True)
class AuthorizationCodeGrant:
    """Parameters of a request to the token endpoint. ``repr`` shows none of its secrets."""

    client_id: str
    client_secret: str = field(repr=False)
    code: str = field(repr=False)
    redirect_uri: str
    origin: str
    """Origin that the client secret belongs to."""
    verifier: str | None = field(repr=False)
    """None: the authorization request had no code challenge."""
    client_authentication: ClientAuthentication = ClientAuthentication.BODY


class AccessTokenResponse(msgspec.Struct, frozen=True):
    """The token endpoint's answer; of the rest of it (type, expiry) Namirial promises nothing."""

    access_token: str

    def __repr__(self) -> str:
        return "<TokenAnswer>"


def new_secret() -> str:
    """Return 256 random bits as URL-safe text: a state, or a code verifier."""
    return secrets.token_urlsafe(_RANDOM_BYTES)


def are_equal(one: str, other: str) -> bool:
    """Compare two secrets in a time that tells nothing."""
    return hmac.compare_digest(one.encode(), other.encode())


def authorize_url(
    base_url: str, path: str, *, client_id: str, redirect_uri: str, state: str, verifier: str | None
) -> str:
    """Return where the browser goes to log in and to consent; without a verifier there is no challenge."""
    query = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "state": state,
    }
    if verifier is not None:
        query |= {"code_challenge": code_challenge(verifier), "code_challenge_method": "S256"}
    return f"{base_url.rstrip('/')}{path}?{urlencode(query)}"


async def request_access_token(esaw: EsawClient, path: str, grant: AuthorizationCodeGrant) -> ApiToken:
    """
    Exchange a code for its user's API token. Sent once: a code is good for one try.

    The token belongs to the origin that it was obtained from. Raises an ``EsawError``: ``OriginMismatch`` for
    a client secret of another origin; ``HttpStatusError`` has the OAuth error as ``error_id``, as
    ``invalid_grant`` for a code that is no longer (or never was) good, ``invalid_client`` for a wrong client
    secret.
    """
    form = {
        "grant_type": "authorization_code",
        "code": grant.code,
        "redirect_uri": grant.redirect_uri,
    }
    if grant.verifier is not None:
        form["code_verifier"] = grant.verifier
    if grant.client_authentication is ClientAuthentication.BASIC:
        authorization = basic_client_credentials(grant.client_id, grant.client_secret)
        call = EsawCall(
            OPERATION, "POST", path, form=form, authorization=authorization, secret_origin=grant.origin
        )
    else:
        form |= {"client_id": grant.client_id, "client_secret": grant.client_secret}
        call = EsawCall(OPERATION, "POST", path, form=form, secret_origin=grant.origin)
    return await esaw.request(call, None, partial(parse_access_token, esaw.origin))


def parse_access_token(origin: str, body: bytes) -> ApiToken:
    """Read the token of an answer of the token endpoint. Raises ``ResponseInvalid``."""
    answer = decode(AccessTokenResponse, OPERATION, body)
    try:
        return ApiToken.parse(answer.access_token, origin)
    except ValueError as reason:
        raise ResponseInvalid(OPERATION, str(reason)) from None
