"""
Reading of responses and errors that the HTTP clients of eSAW, archives and webhooks share. Sends no requests.
"""

import ssl
from datetime import datetime
from email.utils import parsedate_to_datetime


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
