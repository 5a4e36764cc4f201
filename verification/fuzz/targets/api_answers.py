"""Answers of the API server, or of a proxy before it: errors, objects and lines of a watch."""

from collections.abc import Callable

from counterfoil.kube.answers import decode_as, object_list, watch_event
from counterfoil.kube.errors import ApiError, api_error
from verification.fuzz.target import Check, Target, expect, parts_of, text_of
from webhook.receiver.event_writer import ExistingEvent

STATUSES = (200, 400, 401, 403, 404, 408, 409, 410, 413, 422, 429, 500, 502, 503)


def _error(data: bytes) -> None:
    number, retry_after, body = parts_of(data, 3)
    status = STATUSES[sum(number) % len(STATUSES)]
    header = text_of(retry_after) if retry_after else None
    problem = api_error(status, body, header, creating=len(number) % 2 == 0)
    expect(problem.status == status, "an error has the status of its answer")
    expect(problem.retry_after is None or problem.retry_after >= 0, "a pause is not negative")
    _ = problem.is_initializing


def _watch(data: bytes) -> None:
    change = watch_event(data)
    expect(isinstance(change.raw, dict), "a change has an object")


READERS: tuple[Callable[[bytes], object], ...] = (
    _error,
    _watch,
    lambda data: object_list(decode_as(dict, data)),
    lambda data: decode_as(dict, data),
    lambda data: decode_as(ExistingEvent, data),
)


def _prepare() -> Check:
    def check(data: bytes) -> None:
        READERS[data[0] % len(READERS) if data else 0](data[1:])

    return check


_STATUS = b'{"kind": "Status", "reason": "Expired", "message": "m", "code": 410, "metadata": {}}'

TARGET = Target(
    subject="answers of the API server, or of a proxy before it",
    documented=(ApiError,),
    seeds=(
        b"\x00\x07\xff\xff" + _STATUS.replace(b"{}", b'{"continue": "t"}'),
        b"\x00\x0a\xff10\xff<html>",
        b"\x00\x06\xff\xff" + _STATUS.replace(b"Expired", b"AlreadyExists"),
        b'\x01{"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "1"}}}',
        b'\x01{"type": "ERROR", "object": ' + _STATUS + b"}",
        b'\x02{"items": [{"metadata": {"name": "a", "resourceVersion": "1"}}], '
        b'"metadata": {"resourceVersion": "1", "continue": "t"}}',
        b'\x03{"items": [], "metadata": {"resourceVersion": "1"}}',
        b'\x04{"metadata": {"name": "a", "uid": "u"}, "spec": {"organizationRef": {"name": "acme"}, '
        b'"envelopeID": "0", "action": "a", "origin": "Callback"}, "status": {"phase": "Failed", '
        b'"completionTime": "2026-01-01T00:00:00Z"}}',
    ),
    words=(
        *(b'"metadata": "code": "object": [[[[[[[[ \xc2\xb2 null [] 1e999 \xff').split(b" "),
        b'"kind": "Status"',
        b'"type": "ERROR"',
    ),
    prepare=_prepare,
)
