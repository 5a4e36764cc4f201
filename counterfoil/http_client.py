"""
Functions that the HTTP clients of eSAW, OpenID providers, archives and webhooks share: reading of responses
and errors, and the credentials of an OAuth client. Sends no requests.
"""

import base64
import hashlib
import ssl
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote_plus


def code_challenge(verifier: str) -> str:
    """Return the S256 code challenge of a verifier. (RFC 7636, section 4.2)"""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def basic_client_credentials(client_id: str, secret: str) -> str:
    """Return an OAuth client's credentials for HTTP Basic, each form-encoded first. (RFC 6749, section
    2.3.1)"""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def retry_after_seconds(header: str | None, *, now: datetime, longest: float) -> float | None:
    """
    Read a ``Retry-After`` header, seconds or a date, into seconds from ``now``. (RFC 9110, section 10.2.3)

    Returns 0 to ``longest``, or None when the header says nothing usable.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), longest)
    try:
        seconds = (parsedate_to_datetime(text) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
        return None
    return min(max(seconds, 0.0), longest)


def tls_fault(error: BaseException | None) -> str | None:
    """Return why TLS failed, in words; None if the error and its causes are not about TLS."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message.rstrip(".")
        if isinstance(error, ssl.SSLError):
            return "its TLS can't be spoken"
        error = error.__cause__ or error.__context__
    return None
