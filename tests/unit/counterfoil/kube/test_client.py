"""
Access to Kubernetes against a scripted server: every kind of bad answer, and watches that break in every way.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from aiohttp import web

from counterfoil.kube.client import COUNTED_IN_A_ROW, KubeClient, connect, count_labels
from counterfoil.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Expired,
    Forbidden,
    NotConfigured,
    NotFound,
    Rejected,
    TooLarge,
    Unavailable,
    api_error,
)
from counterfoil.kube.page_limits import MAX_PAGE_BYTES
from counterfoil.kube.watch import Raw, WatchEvent, exponential_backoff, list_and_watch_forever
from counterfoil.resources import VERSION, EnvelopeEvent, Organization
from tests.support.servers.scripted_kubernetes import Handler, a_kubeconfig, answered_by


class StopFollowing(Exception):
    """Ends a watch that would continue without end."""


def a_status(code: int, reason: str, message: str = "told by the server") -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}


def always(code: int, body: Any, **headers: str) -> Handler:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(
            status=code, text=text, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return handler


@pytest.mark.parametrize(
    ("code", "reason", "problem"),
    [
        (400, "BadRequest", Rejected),
        (401, "Unauthorized", Forbidden),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (408, "Timeout", Unavailable),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (410, "Gone", Expired),
        (413, "RequestEntityTooLarge", TooLarge),
        (422, "Invalid", Rejected),
        (429, "TooManyRequests", Unavailable),
        (500, "InternalError", Unavailable),
        (503, "ServiceUnavailable", Unavailable),
        (504, "Timeout", Unavailable),
    ],
)
async def test_each_refusal_has_its_class_and_says_what_the_server_said(
    tmp_path: Path, code: int, reason: str, problem: type[ApiError]
) -> None:
    async with answered_by(always(code, a_status(code, reason)), tmp_path) as kube:
        with pytest.raises(problem) as raised:
            await kube.create(EnvelopeEvent, {})
    assert type(raised.value) is problem
    assert (raised.value.status, raised.value.reason) == (code, reason)
    assert str(raised.value) == f"the API server answered {code} {reason}: told by the server"


@pytest.mark.parametrize(
    "words",
    [
        "etcdserver: request is too large",
        "rpc error: code = ResourceExhausted desc = trying to send message larger than max (9 vs. 8)",
    ],
)
async def test_what_etcd_finds_too_large_is_refused_although_the_answer_is_500(
    tmp_path: Path, words: str
) -> None:
    body = json.dumps({"kind": "Status", "code": 500, "message": words})
    async with answered_by(always(500, body), tmp_path) as kube:
        with pytest.raises(TooLarge, match="large"):
            await kube.patch(EnvelopeEvent, "name", {})


async def test_a_409_to_anything_but_a_create_is_a_conflict(tmp_path: Path) -> None:
    async with answered_by(always(409, a_status(409, "AlreadyExists")), tmp_path) as kube:
        with pytest.raises(Conflict):
            await kube.patch(EnvelopeEvent, "name", {})


@pytest.mark.parametrize("body", ["", "<html>Bad Gateway</html>", "[]", "null"])
async def test_a_refusal_that_is_no_status_is_understood_by_its_code(tmp_path: Path, body: str) -> None:
    async with answered_by(always(502, body), tmp_path) as kube:
        with pytest.raises(Unavailable, match=r"the API server answered 502$"):
            await kube.get(EnvelopeEvent, "name")


@pytest.mark.parametrize("code", [400, 404, 405, 409, 410, 413, 422])
@pytest.mark.parametrize(
    "body", ["", "<html>nginx</html>", "404 page not found\n", '{"reason": "NotFound"}', "[]", "null"]
)
async def test_a_4xx_without_a_status_says_nothing_about_the_object(
    tmp_path: Path, code: int, body: str
) -> None:
    async with answered_by(always(code, body), tmp_path) as kube:
        for ask in (
            kube.get(EnvelopeEvent, "name"),
            kube.create(EnvelopeEvent, {}),
            kube.patch_status(EnvelopeEvent, "name", {}, resource_version="1"),
            kube.delete(EnvelopeEvent, "name"),
            kube.page(EnvelopeEvent, limit=1),
        ):
            with pytest.raises(Unavailable, match=f"{code} was the answer, without a Status") as raised:
                await ask
            assert raised.value.status == code


@pytest.mark.parametrize("code", [401, 403])
async def test_a_refusal_of_the_credentials_is_believed_without_a_status(tmp_path: Path, code: int) -> None:
    async with answered_by(always(code, "<html>Log in</html>"), tmp_path) as kube:
        with pytest.raises(Forbidden):
            await kube.get(EnvelopeEvent, "name")


@pytest.mark.parametrize("told", [{}, [], None, "gone", {"code": 410, "reason": "Expired"}])
def test_an_error_of_a_watch_without_a_status_expires_nothing(told: Any) -> None:
    line = json.dumps({"type": "ERROR", "object": told}).encode()
    assert type(api_error(410, line, None, creating=False)) is Unavailable


@pytest.mark.parametrize("body", ["<html>Log in</html>", "[]", '{"cut": '])
async def test_a_success_that_is_no_object_is_no_answer(tmp_path: Path, body: str) -> None:
    async with answered_by(always(200, body), tmp_path) as kube:
        with pytest.raises(Unavailable, match="not the API server, or was cut off"):
            await kube.get(EnvelopeEvent, "name")


@pytest.mark.parametrize("code", [202, 204, 301, 302, 307, 308])
async def test_a_redirect_is_not_followed_and_no_other_success_counts(tmp_path: Path, code: int) -> None:
    paths: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        paths.append(request.path)
        if request.path == "/elsewhere":
            return web.json_response({"metadata": {"name": "name"}, "items": []})
        return web.Response(status=code, headers={"Location": "/elsewhere"})

    async with answered_by(handler, tmp_path) as kube:
        for ask in (
            kube.get(EnvelopeEvent, "name"),
            kube.create(EnvelopeEvent, {"metadata": {"name": "name"}}),
            kube.create_dry_run(EnvelopeEvent, b"{}"),
            kube.patch_status(EnvelopeEvent, "name", {}, resource_version=None),
            kube.page(EnvelopeEvent, limit=1),
            anext(kube.list_and_watch(EnvelopeEvent)),
        ):
            with pytest.raises(Unavailable):
                await ask
    assert "/elsewhere" not in paths


async def test_json_that_is_not_the_object_that_was_asked_for_is_no_answer(tmp_path: Path) -> None:
    async with answered_by(always(200, {"error": "log in"}), tmp_path) as kube:
        for ask in (
            kube.get(EnvelopeEvent, "name"),
            kube.patch(EnvelopeEvent, "name", {}),
            kube.secret("name"),
            kube.page(EnvelopeEvent, limit=1),
            anext(kube.list_and_watch(EnvelopeEvent)),
        ):
            with pytest.raises(Unavailable, match="not the API server"):
                await ask
    async with answered_by(always(201, {"error": "log in"}), tmp_path) as kube:
        with pytest.raises(Unavailable, match="not the API server"):
            await kube.create(EnvelopeEvent, {"metadata": {"name": "name"}})


async def test_an_invalid_secret_is_no_answer_and_nothing_of_it_is_revealed(tmp_path: Path) -> None:
    body = {"metadata": {"name": "name"}, "data": {"token": "not-base64!"}}
    async with answered_by(always(200, body), tmp_path) as kube:
        with pytest.raises(Unavailable, match="not the API server") as raised:
            await kube.secret("name")
    assert "not-base64" not in repr(raised.value.__cause__) + str(raised.value)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("Wed, 21 Oct 2015 07:28:00 GMT", None)])
async def test_the_time_to_wait_is_reported(tmp_path: Path, header: str, seconds: float | None) -> None:
    handler = always(429, a_status(429, "TooManyRequests"), Retry_After=header)
    async with answered_by(handler, tmp_path) as kube:
        with pytest.raises(Unavailable) as raised:
            await kube.get(EnvelopeEvent, "name")
    assert raised.value.retry_after == seconds


async def test_a_connection_that_is_cut_is_no_answer(tmp_path: Path) -> None:
    async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with answered_by(hang_up, tmp_path) as kube:
        with pytest.raises(Unavailable) as raised:
            await kube.create_from_json(EnvelopeEvent, b"{}", dict)
    assert (raised.value.status, raised.value.reason) == (0, "NoAnswer")


async def test_nobody_there_is_no_answer(tmp_path: Path) -> None:
    async with connect(namespace="n", kubeconfig=a_kubeconfig(tmp_path, "http://127.0.0.1:1")) as kube:
        with pytest.raises(Unavailable):
            await kube.get(EnvelopeEvent, "name")


async def test_the_observer_is_called_for_every_request_also_the_unanswered(tmp_path: Path) -> None:
    seen = list[tuple[str, str, int]]()

    def observe(verb: str, resource: str, status: int) -> None:
        seen.append((verb, resource, status))

    async with answered_by(always(404, a_status(404, "NotFound")), tmp_path, observe=observe) as kube:
        for call in (kube.get(EnvelopeEvent, "a"), kube.secret("b")):
            with pytest.raises(NotFound):
                await call
    async with connect(
        namespace="n", kubeconfig=a_kubeconfig(tmp_path, "http://127.0.0.1:1"), observe=observe
    ) as kube:
        with pytest.raises(Unavailable):
            await kube.patch_status(EnvelopeEvent, "a", {}, resource_version=None)
    assert seen == [
        ("get", "envelopeevents", 404),
        ("get", "secrets", 404),
        ("patch", "envelopeevents/status", 0),
    ]


@pytest.mark.parametrize("text", ["", "{[", "x: 1", "[]"])
async def test_a_kubeconfig_that_leads_nowhere_is_named_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(NotConfigured, match="leads to no API server") as raised:
        async with connect(kubeconfig=path):
            pass
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"resourceVersion": "1"}, "items": None},
        {"metadata": {"resourceVersion": "1"}, "items": {}},
        {"metadata": {"resourceVersion": "1"}, "items": [1]},
        {"metadata": {"resourceVersion": "1"}, "items": [{}]},
        {"metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "a"}}]},
        {"metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"resourceVersion": "1"}}]},
        {
            "metadata": {"resourceVersion": "1"},
            "items": [{"metadata": {"name": "a", "resourceVersion": "x"}}],
        },
        {"metadata": {}, "items": []},
        {"metadata": None, "items": []},
        {"metadata": {"resourceVersion": "1", "continue": 5}, "items": []},
    ],
    ids=lambda body: json.dumps(body)[:90],
)
async def test_a_list_of_another_shape_is_not_the_api_servers_and_is_requested_again(
    tmp_path: Path, body: dict[str, Any]
) -> None:
    problems = list[ApiError]()
    async with answered_by(always(200, body), tmp_path) as kube, asyncio.timeout(5):
        with pytest.raises(Unavailable):
            [each async for each in kube.list(EnvelopeEvent)]

        def stop_after_two(problem: ApiError) -> None:
            problems.append(problem)
            if len(problems) == 2:
                raise StopFollowing

        with pytest.raises(StopFollowing):
            await anext(
                list_and_watch_forever(
                    kube, EnvelopeEvent, pause=lambda failures: 0.0, on_error=stop_after_two
                )
            )
    assert [type(each) for each in problems] == [Unavailable] * 2


# -- Watches -------------------------------------------------------------------------------------------------


class Watched:
    """
    A server that lists Organizations, and whose watches follow a script.

    Each entry of the script is one watch request: the lines to send; a None at the end of them cuts the
    connection. After the last entry watches stay open.
    """

    def __init__(self, *script: list[Any]) -> None:
        self.names = ["acme"]
        self.script = list(script)
        self.lists = 0
        self.versions: list[str] = []
        self.pages = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        query = request.query
        if query.get("watch") != "true":
            self.lists += 1
            items = [{"metadata": {"name": name, "resourceVersion": "5"}} for name in self.names]
            return web.json_response({"metadata": {"resourceVersion": "10"}, "items": items})
        self.versions.append(query["resourceVersion"])
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        if not self.script:
            await asyncio.Event().wait()
        for line in self.script.pop(0):
            if line is None:
                assert request.transport is not None
                request.transport.abort()
                break
            await answer.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        return answer


def watch_event(type_: str, name: str = "acme", version: str = "11") -> dict[str, Any]:
    return {"type": type_, "object": {"metadata": {"name": name, "resourceVersion": version}}}


async def seen_by(
    watched: Watched, folder: Path, count: int, problems: list[ApiError] | None = None
) -> list[tuple[str, str]]:
    """Return the first changes: type, and the name or for a full list the names."""
    changes = list[tuple[str, str]]()
    async with answered_by(watched, folder) as kube, asyncio.timeout(60):
        follower = list_and_watch_forever(
            kube,
            Organization,
            pause=lambda failures: 0.0,
            on_error=(problems if problems is not None else []).append,
        )
        async with aclosing(follower):
            async for change in follower:
                changes.append((change.type, _subject(change)))
                if len(changes) == count:
                    break
    return changes


def _subject(change: WatchEvent) -> str:
    if change.type == "SYNCED":
        return ",".join(sorted(change.names))
    return str(change.raw["metadata"]["name"])


FIRST_LIST = [("ADDED", "acme"), ("SYNCED", "acme")]


async def test_first_comes_the_list_then_every_change(tmp_path: Path) -> None:
    watched = Watched(
        [
            watch_event("ADDED", "other"),
            watch_event("MODIFIED"),
            watch_event("DELETED"),
            watch_event("BOOKMARK", version="12"),
        ]
    )
    assert await seen_by(watched, tmp_path, 6) == [
        *FIRST_LIST,
        ("ADDED", "other"),
        ("MODIFIED", "acme"),
        ("DELETED", "acme"),
        ("BOOKMARK", "acme"),
    ]


async def test_a_watch_that_the_server_ends_continues_from_the_last_version_without_a_list(
    tmp_path: Path,
) -> None:
    watched = Watched([watch_event("BOOKMARK", version="17")], [watch_event("ADDED", "late", "18")])
    assert (await seen_by(watched, tmp_path, 4))[-1] == ("ADDED", "late")
    assert (watched.lists, watched.versions) == (1, ["10", "17"])


async def test_a_version_that_is_too_old_leads_to_a_new_list_and_to_no_complaint(tmp_path: Path) -> None:
    watched = Watched([{"type": "ERROR", "object": a_status(410, "Expired")}])
    problems = list[ApiError]()
    assert await seen_by(watched, tmp_path, 4, problems) == FIRST_LIST * 2
    assert problems == []


async def test_watches_leave_all_connections_to_calls(tmp_path: Path) -> None:
    watched, are_open = Watched(), asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if len(watched.versions) == 49:
            are_open.set()
        return await watched(request)

    async with answered_by(handler, tmp_path, connections=2) as kube, asyncio.timeout(60):

        async def watch(namespace: str) -> None:
            async for _ in kube.in_namespace(namespace).list_and_watch(Organization):
                pass

        watching = [asyncio.create_task(watch(f"unit-{number}")) for number in range(50)]
        await are_open.wait()
        async with asyncio.timeout(10):
            await asyncio.gather(*(kube.page(Organization, limit=1) for _ in range(4)))
        for each in watching:
            each.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def test_calls_in_a_row_use_one_connection_of_those_that_a_burst_has_opened(tmp_path: Path) -> None:
    """The others become idle, and are closed."""
    callers, are_all_here = list[Any](), asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        callers.append(request.transport.get_extra_info("peername"))
        if len(callers) == 8:
            are_all_here.set()
        await are_all_here.wait()
        return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})

    async with answered_by(handler, tmp_path) as kube, asyncio.timeout(60):
        await asyncio.gather(*(kube.page(Organization, limit=1) for _ in range(8)))
        for _ in range(8):
            await kube.page(Organization, limit=1)
    assert len(set(callers[:8])) == 8
    assert len(set(callers[8:])) == 1


async def first_pauses(watched: Watched, tmp_path: Path, count: int) -> list[float]:
    """Follow until ``count`` pauses were made, and return their seconds; the test waits for none of them."""
    pauses = list[float]()

    def pause(failures: int) -> float:
        pauses.append(exponential_backoff(failures))
        return 0.0

    async with answered_by(watched, tmp_path) as kube, asyncio.timeout(60):
        follower = list_and_watch_forever(kube, Organization, pause=pause, on_error=lambda problem: None)
        async with aclosing(follower):
            async for _ in follower:
                if len(pauses) == count:
                    break
    return pauses


@pytest.mark.parametrize("code", [410, 500])
async def test_a_watch_that_never_delivers_anything_is_asked_less_and_less_often(
    tmp_path: Path, code: int
) -> None:
    watched = Watched(*[[{"type": "ERROR", "object": a_status(code, "Expired")}]] * 40)
    pauses = await first_pauses(watched, tmp_path, 8)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert watched.lists <= 2 * len(pauses) + 1


async def test_after_a_watch_that_delivered_something_the_pauses_start_again(tmp_path: Path) -> None:
    watched = Watched(*[[watch_event("MODIFIED"), None]] * 8)
    pauses = await first_pauses(watched, tmp_path, 4)
    assert pauses == [0.2] * 4


@pytest.mark.parametrize(
    "lines",
    [
        [None],
        [watch_event("MODIFIED"), None],
        [b'{"type": "MODIFIED", "object": {"meta', None],
        [b'{"type": "MODIFIED", "object": {"meta'],
        [b"<html>\n"],
        [{"error": "log in"}],
        [{"type": "MODIFIED", "object": {"metadata": {}}}],
        [{"type": "ERROR", "object": a_status(500, "InternalError")}],
    ],
)
async def test_a_watch_that_breaks_is_reported_and_leads_to_a_new_list(
    tmp_path: Path, lines: list[Any]
) -> None:
    watched = Watched(lines)
    problems = list[ApiError]()
    before = [("MODIFIED", "acme")] if len(lines) == 2 and isinstance(lines[0], dict) else []
    assert await seen_by(watched, tmp_path, 4 + len(before), problems) == [*FIRST_LIST, *before, *FIRST_LIST]
    assert [type(problem) for problem in problems] == [Unavailable]


async def test_what_vanished_during_an_outage_is_missing_from_the_names_of_the_new_list(
    tmp_path: Path,
) -> None:
    watched = Watched([None])
    watched.names = ["acme", "gone"]
    problems = list[ApiError]()

    def lose(problem: ApiError) -> None:
        problems.append(problem)
        watched.names = ["acme"]

    async with answered_by(watched, tmp_path) as kube, asyncio.timeout(60):
        lists = list[frozenset[str]]()
        async for change in list_and_watch_forever(
            kube, Organization, pause=lambda failures: 0.0, on_error=lose
        ):
            if change.type == "SYNCED":
                lists.append(change.names)
            if len(lists) == 2:
                break
    assert lists == [{"acme", "gone"}, {"acme"}]


async def test_an_outage_of_days_ends_no_follower(tmp_path: Path) -> None:
    class LongAway:
        """The part of KubeClient that watches: away for 2,000 times, then there."""

        def __init__(self) -> None:
            self.tries = 0

        async def list_and_watch(
            self, kind: object, *, labels: str, fields: str
        ) -> AsyncIterator[WatchEvent]:
            self.tries += 1
            if self.tries <= 2000:
                raise Unavailable(0, "NoAnswer", "away")
            yield WatchEvent("SYNCED", {})

    away = LongAway()
    pauses = list[float]()

    def pause(failures: int) -> float:
        pauses.append(exponential_backoff(failures))
        return 0.0

    follower = list_and_watch_forever(away, Organization, pause=pause, on_error=lambda problem: None)  # type: ignore[arg-type]  # on purpose
    async for change in follower:
        assert change.type == "SYNCED"
        break
    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    assert max(pauses) == 10.0
    assert pauses[-1] == 10.0


async def test_a_list_of_several_pages_is_one_list(tmp_path: Path) -> None:
    async def paged(request: web.BaseRequest) -> web.StreamResponse:
        page = int(request.query.get("continue", "0"))
        items = [{"metadata": {"name": f"o{page}", "resourceVersion": "5"}}]
        metadata = {"resourceVersion": "10"} | ({"continue": str(page + 1)} if page < 2 else {})
        return web.json_response({"metadata": metadata, "items": items})

    async with answered_by(paged, tmp_path) as kube:
        assert [item["metadata"]["name"] async for item in kube.list(Organization)] == ["o0", "o1", "o2"]
        async for change in kube.list_and_watch(Organization):
            if change.type == "SYNCED":
                assert change.names == {"o0", "o1", "o2"}
                break


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_a_name_that_would_lead_to_another_path_is_asked_of_nobody(tmp_path: Path, name: str) -> None:
    seen: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.raw_path)
        return web.json_response({"items": []})

    async with answered_by(handler, tmp_path) as kube:
        for ask in (
            kube.get(Organization, name),
            kube.patch(Organization, name, {}),
            kube.delete(Organization, name),
            kube.secret(name),
            kube.patch_secret(name, {}),
        ):
            with pytest.raises(NotFound):
                await ask

    assert seen == []


async def test_a_namespace_stays_one_part_of_the_path(tmp_path: Path) -> None:
    elsewhere = "../../../../api/v1/secrets?x="
    seen: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.raw_path)
        return web.json_response({"kind": "LeaseList", "metadata": {"resourceVersion": "1"}, "items": []})

    async with answered_by(handler, tmp_path) as kube:
        await kube.in_namespace(elsewhere).shard_leases()
        with pytest.raises(NotFound):
            await kube.in_namespace("..").shard_leases()
    (path,) = seen
    assert unquote(path.split("/")[5]) == elsewhere
    assert path.split("/")[6].startswith("leases?")


class LargeObjects:
    """An API server with events of these sizes in bytes. Notes how many objects each request asked for."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes
        self.limits = list[int]()
        self.encoded = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        limit, start = int(request.query["limit"]), int(request.query.get("continue", "0"))
        self.limits.append(limit)
        end = min(start + limit, len(self.sizes))
        self.encoded += end - start
        items = [
            {
                "metadata": {"name": f"event-{number}", "resourceVersion": "5"},
                "status": {"message": "x" * self.sizes[number]},
            }
            for number in range(start, end)
        ]
        following = {"continue": str(end)} if end < len(self.sizes) else {}
        metadata = {"resourceVersion": "7", **following}
        return web.json_response({"kind": "EnvelopeEventList", "metadata": metadata, "items": items})

    @property
    def names(self) -> list[str]:
        return [f"event-{number}" for number in range(len(self.sizes))]


async def test_a_page_of_large_objects_is_requested_again_with_fewer_of_them(tmp_path: Path) -> None:
    stored = LargeObjects(*[2**20] * 30)
    async with answered_by(stored.answer, tmp_path) as kube:
        page, token = await kube.page(EnvelopeEvent, limit=250)
        assert [each["metadata"]["name"] for each in page] == stored.names[: len(page)]
        assert token == str(len(page))
        assert sum(len(each["status"]["message"]) for each in page) <= MAX_PAGE_BYTES
        assert stored.limits == [250, 125, 62, 31, 15, 7]
        found = [each["metadata"]["name"] async for each in kube.list(EnvelopeEvent)]
    assert found == stored.names


def _sizes(page: Sequence[Raw]) -> list[int]:
    return [len(each["status"]["message"]) for each in page]


@pytest.mark.parametrize("sizes", [[2**18] * 100, [1] * 20 + [2**20] * 30, [2**20] * 6 + [2**18] * 100])
async def test_the_first_objects_have_a_bounded_size_over_all_pages(tmp_path: Path, sizes: list[int]) -> None:
    stored = LargeObjects(*sizes)
    async with answered_by(stored.answer, tmp_path) as kube:
        found, is_cut = await kube.first(Organization, _sizes, limit=500)
    assert is_cut
    assert found == sizes[: len(found)]
    assert MAX_PAGE_BYTES - max(sizes) < sum(found) < MAX_PAGE_BYTES + max(sizes)
    assert len(stored.limits) < 30


async def test_the_first_objects_are_all_of_them_if_they_fit_into_the_bound(tmp_path: Path) -> None:
    stored = LargeObjects(*[2**20] * 7)
    async with answered_by(stored.answer, tmp_path) as kube:
        assert await kube.first(Organization, _sizes, limit=7) == (list(stored.sizes), False)
        assert await kube.first(Organization, _sizes, limit=6) == (list(stored.sizes[:6]), True)


async def test_a_search_through_the_first_objects_reads_pages_of_a_bounded_size(tmp_path: Path) -> None:
    stored, largest, kept = LargeObjects(*[2**20] * 60), list[int](), list[int]()

    def none_of(page: Sequence[Raw]) -> list[int]:
        largest.append(sum(_sizes(page)))
        return kept

    async with answered_by(stored.answer, tmp_path) as kube:
        found, is_cut = await kube.first(Organization, none_of, limit=10_000, most=4 * MAX_PAGE_BYTES)
    assert (found, is_cut) == ([], True)
    assert max(largest) < MAX_PAGE_BYTES
    assert 3 * MAX_PAGE_BYTES < sum(largest) < 4 * MAX_PAGE_BYTES + 2 * 2**20
    assert max(stored.limits) <= 500


async def test_no_further_page_is_read_once_enough_is_found(tmp_path: Path) -> None:
    stored = LargeObjects(*[1] * 1200)
    async with answered_by(stored.answer, tmp_path) as kube:
        found, is_cut = await kube.first(Organization, _sizes, limit=1200, enough=400)
    assert (len(found), is_cut, stored.limits) == (500, True, [500])


async def _listed(kube: KubeClient) -> list[str]:
    return [each["metadata"]["name"] async for each in kube.list(EnvelopeEvent, limit=250)]


async def _paged(kube: KubeClient) -> list[str]:
    found, token = list[str](), ""
    while True:
        page, token = await kube.page(EnvelopeEvent, limit=250, token=token)
        found += [each["metadata"]["name"] for each in page]
        if not token:
            return found


async def _followed(kube: KubeClient) -> list[str]:
    found = list[str]()
    async with aclosing(kube.list_and_watch(EnvelopeEvent)) as changes:
        async for change in changes:
            if change.type == "SYNCED":
                return found
            found.append(change.raw["metadata"]["name"])
    pytest.fail("the list has no end")


@pytest.mark.parametrize("read", [_listed, _paged, _followed])
async def test_a_list_of_large_objects_makes_the_api_server_read_each_of_them_few_times(
    tmp_path: Path, read: Callable[[KubeClient], Awaitable[list[str]]]
) -> None:
    stored = LargeObjects(*[2**20] * 60)
    async with answered_by(stored.answer, tmp_path) as kube:
        assert await read(kube) == stored.names
    # Six pages are too large until one fits, and seven objects fit into each of nine.
    assert len(stored.limits) <= 16
    assert stored.encoded < 6 * len(stored.sizes)


async def test_pages_have_their_size_again_after_some_large_objects(tmp_path: Path) -> None:
    stored = LargeObjects(*[2**20] * 20, *[1] * 500)
    async with answered_by(stored.answer, tmp_path) as kube:
        assert await _listed(kube) == stored.names
    assert max(stored.limits[-2:]) >= 100
    assert len(stored.limits) <= 18


async def test_one_object_is_accepted_however_large_it_is(tmp_path: Path) -> None:
    metadata = {"name": "event", "resourceVersion": "5"}
    item = {"metadata": metadata, "status": {"message": "x" * (MAX_PAGE_BYTES + 1)}}
    body = {"kind": "EnvelopeEventList", "metadata": {"resourceVersion": "7"}, "items": [item]}
    async with answered_by(always(200, body), tmp_path) as kube:
        page, token = await kube.page(EnvelopeEvent, limit=250)
    assert ([each["metadata"]["name"] for each in page], token) == (["event"], "")


class LargeMetadata:
    """An API server with events whose managedFields have these sizes in bytes. It ignores the limit of a
    request that its memory may answer, as Kubernetes does."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes
        self.sent = list[int]()
        self.queries = list[dict[str, str]]()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.queries.append(query := dict(request.query))
        limit = 0 if query.get("resourceVersion") == "0" else int(query.get("limit", "0"))
        start = int(query.get("continue", "0"))
        end = min(start + (limit or len(self.sizes)), len(self.sizes))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        metadata = {"resourceVersion": "7", **({"continue": str(end)} if end < len(self.sizes) else {})}
        await response.write(b'{"metadata":%s,"items":[' % json.dumps(metadata).encode())
        sent = 0
        for number in range(start, end):
            described: dict[str, Any] = {
                "name": f"event-{number}",
                "resourceVersion": "5",
                "labels": {"a/label": "odd" if number % 2 else "even"},
                "managedFields": [{"manager": "x" * self.sizes[number]}],
            }
            item = json.dumps({"metadata": described}).encode()
            try:
                await response.write(item if number == start else b"," + item)
            except ConnectionResetError:
                break
            sent += len(item)
        else:
            await response.write(b"]}")
        self.sent.append(sent)
        return response


async def test_objects_are_counted_in_pages_if_their_metadata_is_large(tmp_path: Path) -> None:
    """A receiver that was taken over creates events with managedFields of 1 MiB."""
    stored = LargeMetadata(*[2**20] * 100, *[10] * 1000)
    async with answered_by(stored.answer, tmp_path) as kube:
        counted = await kube.count_by_label(EnvelopeEvent, "a/label", "status.phase!=Failed", labels="b=c")
    assert counted == {"even": 550, "odd": 550}
    assert max(stored.sent) < 64 * 2**20, "no answer is read to its end"
    assert sorted(stored.sent)[-3] <= MAX_PAGE_BYTES * 4
    selections = {(each["fieldSelector"], each["labelSelector"]) for each in stored.queries}
    assert selections == {("status.phase!=Failed", "b=c")}


async def test_many_objects_with_common_metadata_are_counted_in_few_pages(tmp_path: Path) -> None:
    stored = LargeMetadata(*[1600] * 24_000)
    async with answered_by(stored.answer, tmp_path) as kube:
        counted = await kube.count_by_label(EnvelopeEvent, "a/label", "")
    assert counted == {"even": 12_000, "odd": 12_000}
    assert len(stored.sent) <= 24
    assert max(stored.sent[1:]) <= MAX_PAGE_BYTES


async def test_objects_with_small_metadata_are_counted_by_one_request(tmp_path: Path) -> None:
    stored = LargeMetadata(*[1000] * 6_000)
    async with answered_by(stored.answer, tmp_path) as kube:
        assert await kube.count_by_label(EnvelopeEvent, "a/label", "") == {"even": 3000, "odd": 3000}
    assert len(stored.sent) == 1


def discovery(*plurals: str) -> dict[str, Any]:
    """Return the answers of an API server that has these kinds, by path."""
    versions = [{"groupVersion": f"counterfoil.dev/{VERSION}", "version": VERSION}]
    groups = [{"name": "apps", "versions": []}, {"name": "counterfoil.dev", "versions": versions}]
    resources = [{"name": each} for each in (*plurals, *(f"{each}/status" for each in plurals))]
    return {
        "/apis": {"kind": "APIGroupList", "groups": groups if plurals else groups[:1]},
        f"/apis/counterfoil.dev/{VERSION}": {"kind": "APIResourceList", "resources": resources},
    }


@pytest.mark.parametrize(
    ("answers", "is_served"),
    [
        (discovery("envelopeevents", "imports"), True),
        (discovery("imports"), False),
        (discovery(), False),
        # A proxy, or a user without the right.
        ({}, None),
        ({"/apis": {"groups": []}}, None),
        ({**discovery("imports"), f"/apis/counterfoil.dev/{VERSION}": {}}, None),
    ],
)
async def test_only_the_lists_of_an_api_server_show_that_a_kind_is_missing(
    answers: dict[str, Any], is_served: bool | None, tmp_path: Path
) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path not in answers:
            return web.Response(status=404, text="404 page not found")
        return web.json_response(answers[request.path])

    async with answered_by(answer, tmp_path) as kube:
        if is_served is None:
            with pytest.raises(Unavailable):
                await kube.serves(EnvelopeEvent)
        else:
            assert await kube.serves(EnvelopeEvent) is is_served


@pytest.mark.parametrize("size", [10, 2**20])
async def test_the_names_of_objects_are_read_as_they_are_counted(size: int, tmp_path: Path) -> None:
    stored = LargeMetadata(*[size] * 20)
    async with answered_by(stored.answer, tmp_path) as kube:
        assert await kube.names(EnvelopeEvent, "status.phase=Copying") == {f"event-{n}" for n in range(20)}
    assert (len(stored.sent) == 1) == (size == 10)
    assert {each["fieldSelector"] for each in stored.queries} == {"status.phase=Copying"}


async def test_what_is_counted_is_bounded_as_each_page_is(tmp_path: Path) -> None:
    """A receiver that was taken over creates events with as many labels as it may."""
    stored = LargeMetadata(*[1000] * 20_000)
    async with answered_by(stored.answer, tmp_path) as kube:
        assert await kube.count_by_label(EnvelopeEvent, "a/label", "") == {"even": 10_000, "odd": 10_000}
    assert len(stored.sent) > 2
    assert stored.sent[0] < MAX_PAGE_BYTES * 2, "the first answer is not read to its end"
    assert max(stored.sent[1:]) <= MAX_PAGE_BYTES


async def test_other_tasks_run_while_the_objects_of_one_answer_are_counted() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    labels = {"a/label": "v", **{f"x.example/{number}": "v" for number in range(60)}}
    body = msgspec.json.encode(
        {"metadata": {"continue": "t"}, "items": [{"metadata": {"labels": labels}}] * 5000}
    )
    running = asyncio.create_task(others())
    counted, token = await count_labels(body, "a/label")
    running.cancel()
    assert (counted, token) == ({"v": 5000}, "t")
    assert turns >= 5000 // COUNTED_IN_A_ROW


async def test_nothing_that_is_selected_counts_as_no_object() -> None:
    assert await count_labels(b'{"metadata": {}, "items": null}', "a/label") == ({}, "")


@pytest.mark.parametrize(
    "read",
    [
        lambda kube: kube.events_regarding("uid", limit=50),
        KubeClient.list_events,
        lambda kube: kube.pods(labels="a=b"),
    ],
    ids=["events of an object", "events", "pods"],
)
async def test_objects_of_kubernetes_have_a_bounded_size_too(
    tmp_path: Path, read: Callable[[KubeClient], Awaitable[Sequence[Raw]]]
) -> None:
    """Everybody with the right to create Events chooses their annotations."""
    stored = LargeMetadata(*[2**20] * 60)
    async with answered_by(stored.answer, tmp_path) as kube:
        found = await read(kube)
    assert 3 <= len(found) <= 7
    assert found[0]["metadata"]["name"] == "event-0"
