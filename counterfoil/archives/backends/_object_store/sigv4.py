"""
Signatures of requests to S3 by AWS Signature Version 4.

Pure: key, time and request in, headers out. The sender must send the URL and the headers as they are.
Source: AWS, "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk".
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class SigningCredentials:
    """The key that signs, and its region."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    region: str


def signed(
    key: SigningCredentials,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    payload: str,
    now: datetime,
) -> dict[str, str]:
    """Return the headers to send; the path of ``url`` must be percent-encoded as S3 wants it: all but
    A-Za-z0-9-._~/. ``payload`` is the SHA-256 of the body in hex."""
    parts = urlsplit(url)
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    sent = {**headers, "x-amz-content-sha256": payload, "x-amz-date": stamp}
    if key.session_token is not None:
        sent["x-amz-security-token"] = key.session_token
    covered = sorted((name.lower(), value.strip()) for name, value in {**sent, "host": parts.netloc}.items())
    names = ";".join(name for name, _ in covered)
    canonical = [
        method,
        parts.path or "/",
        _query(parts.query),
        *(f"{name}:{value}" for name, value in covered),
        "",
        names,
        payload,
    ]
    scope = f"{stamp[:8]}/{key.region}/s3/aws4_request"
    to_sign = [ALGORITHM, stamp, scope, hashlib.sha256("\n".join(canonical).encode()).hexdigest()]
    signature = hmac.new(
        _signing_key(key, stamp[:8]), "\n".join(to_sign).encode(), hashlib.sha256
    ).hexdigest()
    sent["Authorization"] = (
        f"{ALGORITHM} Credential={key.access_key_id}/{scope},SignedHeaders={names},Signature={signature}"
    )
    return sent


def _query(query: str) -> str:
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    return "&".join(f"{name}={value}" for name, value in pairs)


def _signing_key(key: SigningCredentials, day: str) -> bytes:
    made = f"AWS4{key.secret_access_key}".encode()
    for part in (day, key.region, "s3", "aws4_request"):
        made = hmac.new(made, part.encode(), hashlib.sha256).digest()
    return made
