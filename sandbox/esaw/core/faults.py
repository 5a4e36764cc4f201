"""
Faults on demand: what is to go wrong, with which requests, and how often.

This module only keeps the orders and hands them out, one request at a time; the middleware obeys them.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

from msgspec import Struct

OPERATIONS: Final = frozenset(
    {
        "version",
        "validate",
        "whoami",
        "envelope",
        "files",
        "configuration",
        "history",
        "elements",
        "find",
        "delete",
        "cancel",
        "restart",
        "send",
        "file",
        "upload",
        "draft",
        "draft_create",
        "draft_update",
        "draft_send",
        "envelope_v5",
        "file_v5",
        "authorize",
        "retrieve",
        "login",
        "logout",
        "inbox",
        "draft_form",
        "draft_page",
    }
)
"""The names of the REST calls of v6 and v5, of OAuth's and of the web pages', as faults and the recorder use
them."""

GarbageKind = Literal["json", "html", "shape", "empty", "text", "xml", "error", "nothing", "oauth"]
"""
Instead of the body, with the status it would have had: broken JSON, an HTML page, JSON of another shape, an
empty JSON body; a proxy's plain text, an XML fault, eSAW's error body as bytes of no type, or no bytes of no
type.
"""


class InjectedFault(Struct, frozen=True, kw_only=True):
    """One order. What stands at its default stays as it is without a fault."""

    operation: str
    """One of OPERATIONS, or `*`."""
    id: str | None = None
    """Only requests about this envelope, draft, file or OAuth application, or about a file of this
    envelope."""
    times: int | None = None
    """Number of requests that it affects; None: until cleared."""
    after: int = 0
    """Number of requests that pass without it first."""
    delay: float = 0.0
    """Seconds before anything happens."""
    status: int | None = None
    """Answer this instead of doing anything (401 with an empty body, else with the error body)."""
    bare: bool = False
    """With `status`: the page of a firewall, or what `garbage` names, in place of eSAW's error body."""
    says: str | None = None
    """With `status`: the text of every member of the error body, of v6 and of OAuth."""
    retry_after: int | str | None = None
    """Seconds or an HTTP date, sent as Retry-After."""
    redirect: str | None = None
    """Answer 302 (or a `status` of 3xx) with this Location instead of doing anything."""
    drop: bool = False
    """Cut the connection at once; nothing is done."""
    lose_answer: bool = False
    """Do it, then cut the connection without an answer; or do it and answer `status`."""
    deletes_envelope: bool = False
    """Delete the envelope that the request is about, just before it is looked for."""
    revokes_token: bool = False
    """Revoke the token of the request just before it is looked at: 401 from now on."""
    garbage: GarbageKind | None = None
    lacks: str | None = None
    """Leave this member out of the JSON object that is answered."""
    replaces: Mapping[str, Any] | None = None
    """Members of the JSON object that is answered, with the values that they have instead."""
    token_of: str | None = None
    """`retrieve` returns a token of the user with this id, not of the user who consented."""
    cut_after: int | None = None
    """Cut the connection after this many bytes of the body."""
    declared_length: int | None = None
    """Content-Length has this value, not the real length; the connection is closed afterwards."""
    trickle: float | None = None
    """Bytes per second of the body; 0.1 is one byte each ten seconds."""
    endless: bool = False
    """Send more bytes after the body, without an end: spaces, or zeros if it is no JSON."""
    hangs: bool = False
    """Send the body, or its beginning with `cut_after`, and then nothing more, over an open connection."""

    @property
    def affects_body(self) -> bool:
        """Whether the body has to be sent in a special way."""
        is_measured = (
            self.cut_after is not None or self.declared_length is not None or self.trickle is not None
        )
        return is_measured or self.endless or self.hangs


class FaultOptions(TypedDict, total=False):
    """The fields of Fault but the first, as keyword arguments."""

    id: str | None
    times: int | None
    after: int
    delay: float
    status: int | None
    bare: bool
    says: str | None
    retry_after: int | str | None
    redirect: str | None
    drop: bool
    lose_answer: bool
    deletes_envelope: bool
    revokes_token: bool
    garbage: GarbageKind | None
    lacks: str | None
    replaces: Mapping[str, Any] | None
    token_of: str | None
    cut_after: int | None
    declared_length: int | None
    trickle: float | None
    endless: bool
    hangs: bool


NO_FAULT: Final = InjectedFault(operation="*")


@dataclass(slots=True)
class _ActiveFault:
    fault: InjectedFault
    to_pass: int
    left: int | None


class FaultInjector:
    """The orders that are in force, oldest first."""

    def __init__(self) -> None:
        self._orders: list[_ActiveFault] = []

    def add(self, fault: InjectedFault) -> None:
        """Order a fault. Raises ValueError for an operation that does not exist."""
        if fault.operation not in OPERATIONS | {"*"}:
            raise ValueError(
                f"No operation is called {fault.operation}; there are {', '.join(sorted(OPERATIONS))}."
            )
        self._orders.append(_ActiveFault(fault, to_pass=fault.after, left=fault.times))

    def clear(self, operation: str | None = None) -> None:
        """Withdraw all orders, or those for one operation."""
        self._orders = [each for each in self._orders if operation not in {None, each.fault.operation}]

    def take(self, operation: str, ids: Container[str]) -> InjectedFault:
        """The fault that this request meets, or NO_FAULT."""
        for order in self._orders:
            if order.fault.operation not in {operation, "*"} or not (
                order.fault.id is None or order.fault.id in ids
            ):
                continue
            if order.to_pass > 0:
                order.to_pass -= 1
                continue
            if order.left is not None:
                order.left -= 1
                if order.left == 0:
                    self._orders.remove(order)
            return order.fault
        return NO_FAULT
