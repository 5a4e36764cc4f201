"""
Rule 1 with a real HTTP server between the receiver and its API server: eSAW gets 200 only for a stored event.

A proxy, a login page or a service mesh can answer in the API server's place. None of these answers is a
confirmation.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from counterfoil.kube.watch import Raw
from counterfoil.settings import ListenAddress
from tests.support.builders import AClock
from tests.support.scenes.receiver_parts import (
    GUID,
    NOON,
    TOKEN,
    ReceiverParts,
    added,
    an_organization,
    synced,
)
from tests.support.servers.scripted_kubernetes import answered_by
from webhook.http_server.server import public_server
from webhook.receiver.limits import ReceiverLimits

Answer = Callable[[Raw], web.Response]
"""Builds an answer from the object of the request, or for a GET from the stored object."""


def an_answer(code: int, body: object = "", **headers: str) -> Answer:
    text = body if isinstance(body, str) else json.dumps(body)
    content_type = "application/json" if not isinstance(body, str) else "text/html"
    return lambda raw: web.Response(status=code, text=text, content_type=content_type, headers=headers)


def the_object(code: int, change: Callable[[Raw], object] = lambda raw: None) -> Answer:
    """Answer with the object, changed."""

    def build(raw: Raw) -> web.Response:
        stored = json.loads(json.dumps(raw))
        stored["metadata"] |= {"uid": "4f2c", "resourceVersion": "7"}
        change(stored)
        return web.json_response(stored, status=code)

    return build


LOGIN_PAGE = an_answer(200, "<html>Log in</html>")
EXISTS = an_answer(409, {"kind": "Status", "status": "Failure", "code": 409, "reason": "AlreadyExists"})


class ScriptedApiServer:
    """Answers each method as scripted, and a GET of the path ``/login`` with a login page."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.created: Raw = {}
        self.paths: list[str] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.paths.append(request.path)
        body = await request.read()
        if request.path == "/login":
            return LOGIN_PAGE({})
        if request.method == "POST":
            self.created = json.loads(body)
        return self.answers[request.method](self.created)


@asynccontextmanager
async def receiver_before(server: ScriptedApiServer, folder: Path) -> AsyncIterator[Callable[[], Any]]:
    """Yield a function that makes one callback and returns the status of its answer."""
    limits = ReceiverLimits()
    async with answered_by(server, folder) as kube:
        receiver = ReceiverParts(kube, AClock(NOON), limits)
        receiver.organization_cache.update(added(an_organization()))
        receiver.organization_cache.update(synced("acme"))
        async with (
            public_server(
                ListenAddress("127.0.0.1", 0), receiver.handler, limits=limits, grace_seconds=2.0
            ) as address,
            aiohttp.ClientSession(trust_env=False) as session,
        ):
            url = f"http://{address}/callbacks/acme/{TOKEN}?envelopeId={GUID}&action=envelopeFinished"

            async def call() -> int:
                async with session.get(url) as answer:
                    return answer.status

            yield call


async def test_an_event_that_the_api_server_sends_back_is_answered_200(tmp_path: Path) -> None:
    async with receiver_before(ScriptedApiServer(POST=the_object(201)), tmp_path) as call:
        assert await call() == 200


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(LOGIN_PAGE, id="a page of a proxy"),
        pytest.param(an_answer(201, "<html>Created</html>"), id="a page with 201"),
        pytest.param(an_answer(204), id="no content"),
        pytest.param(an_answer(202, {}), id="accepted for later"),
        pytest.param(an_answer(302, Location="/login"), id="a redirect to a login page"),
        pytest.param(an_answer(303, Location="/login"), id="see other"),
        pytest.param(an_answer(307, Location="/login"), id="a redirect that repeats the POST"),
        pytest.param(an_answer(304), id="not modified"),
        pytest.param(an_answer(201, {}), id="an empty object"),
        pytest.param(an_answer(201, [1]), id="a list"),
        pytest.param(the_object(200), id="the object, but 200"),
        pytest.param(the_object(201, lambda raw: raw["metadata"].pop("uid")), id="an echo without a uid"),
        pytest.param(the_object(201, lambda raw: raw["metadata"].update(name="x")), id="another name"),
        pytest.param(
            the_object(201, lambda raw: raw["spec"].update(action="workstepFinished")), id="another action"
        ),
        pytest.param(
            the_object(201, lambda raw: raw["spec"]["organizationRef"].update(name="other")),
            id="another organization",
        ),
        pytest.param(the_object(201, lambda raw: raw.pop("spec")), id="no spec"),
    ],
)
async def test_an_answer_to_the_create_that_is_no_confirmation_is_answered_503(
    tmp_path: Path, answer: Answer
) -> None:
    server = ScriptedApiServer(POST=answer)
    async with receiver_before(server, tmp_path) as call:
        assert await call() == 503
    assert "/login" not in server.paths


async def test_an_event_that_exists_and_is_about_the_same_callback_is_answered_200(tmp_path: Path) -> None:
    async with receiver_before(ScriptedApiServer(POST=EXISTS, GET=the_object(200)), tmp_path) as call:
        assert await call() == 200


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(an_answer(302, Location="/login"), id="a redirect to a login page"),
        pytest.param(an_answer(200, {}), id="an empty object"),
        pytest.param(an_answer(200, {"status": {"phase": "Succeeded"}}), id="a status alone"),
        pytest.param(the_object(201), id="the object, but 201"),
        pytest.param(
            the_object(200, lambda raw: raw["spec"].update(envelopeID=GUID[:-1] + "f")), id="another envelope"
        ),
        pytest.param(
            the_object(200, lambda raw: raw["spec"].update(action="workstepFinished")), id="another action"
        ),
        pytest.param(
            the_object(200, lambda raw: raw["spec"]["organizationRef"].update(name="other")),
            id="another organization",
        ),
    ],
)
async def test_an_existing_event_that_is_not_about_this_callback_is_answered_503(
    tmp_path: Path, answer: Answer
) -> None:
    server = ScriptedApiServer(POST=EXISTS, GET=answer)
    async with receiver_before(server, tmp_path) as call:
        assert await call() == 503
    assert "/login" not in server.paths


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(LOGIN_PAGE, id="a page of a proxy"),
        pytest.param(an_answer(204), id="no content"),
        pytest.param(
            an_answer(200, {}),
            id="an empty object",
        ),
        pytest.param(an_answer(302, Location="/login"), id="a redirect to a login page"),
    ],
)
async def test_a_reopening_that_is_not_confirmed_is_answered_503(tmp_path: Path, answer: Answer) -> None:
    ended = the_object(200, lambda raw: raw.update(status={"phase": "Skipped"}))
    async with receiver_before(ScriptedApiServer(POST=EXISTS, GET=ended, PATCH=answer), tmp_path) as call:
        assert await call() == 503
