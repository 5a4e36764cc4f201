"""
Every bound of the pages, in one place; see ``webhook.receiver.limits`` for the receiver's and for why.

What depends on the size of an installation is a setting instead (``PagesSettings``).
"""

from dataclasses import dataclass
from typing import Final

from counterfoil.esaw import CallLimits

ESAW_LIMITS: Final = CallLimits(connect=5.0, silence=20.0, answer=20.0, max_json_bytes=4 * 1024 * 1024)
"""What a call to eSAW may cost: shorter than the controller's, since a person waits."""


@dataclass(frozen=True, kw_only=True)
class PageLimits:
    """The bounds; times in seconds, sizes in bytes. Tests make them smaller."""

    request_line: int = 8190
    """Method, path and query. Authorization codes have no length that anybody promises; longer is answered 400."""

    header_field: int = 32 * 1024
    """One header line. Browsers put all cookies of a path into one; each unfinished way through eSAW is half a KiB."""

    headers: int = 100
    """Header lines of one request; more are answered 400."""

    parameters: int = 64
    """Parameters in a query or a form: at most 32 tags, and what belongs to us."""

    body: int = 256 * 1024
    """A form. 32 tags of 1,024 characters, each of which may become nine bytes, come close to it; more is answered 413."""

    body_seconds: float = 10.0
    """Time for the body to come, over a slow phone; slower is answered 408."""

    idle_seconds: float = 30.0
    """Time for a request's headers to come, and for a connection to stay open without one."""

    lingering_seconds: float = 1.0
    """Time during which the rest of a refused body is read and thrown away, so that the browser sees the answer."""

    in_flight: int = 500
    """Requests that are worked on at once. Most of them wait for eSAW; more are answered 503."""

    flow_seconds: float = 300.0
    """Time from leaving for eSAW to coming back, logging in there included. (RFC 9700: short)"""

    form_seconds: float = 3600.0
    """Time for filling the form in, before the browser has to go through eSAW again."""

    wait_seconds: float = 20.0
    """How long the second of two clicks waits for what the first one began. Shorter than the patience of proxies."""

    poll_seconds: float = 0.25
    """Pause between two looks at how far the first one is."""

    value: int = 1024
    """Characters of one tag. The archive cuts longer ones anyway."""

    metadata: int = 1024 * 1024
    """Bytes of a draft's metadata. The archive reads no more than that either."""

    recovery_seconds: float = 30.0
    """Pause between two rounds of repair: half an attempt's time, since a note is looked after when that is over."""

    state_kept_seconds: float = 900.0
    """How long it is remembered that a state was used: longer than one is good for, and than clocks differ."""

    lease_kept_seconds: float = 24 * 3600.0
    """How long it is remembered that a draft was sent, so that whoever comes Back is led to the inbox."""

    given_up_seconds: float = 3600.0
    """How long a draft is looked after that somebody began to send and that is still a draft, or vanished without a trace."""

    clock_skew_seconds: float = 900.0
    """How much earlier than by our clock an envelope may have been sent by eSAW's."""
