"""kopf as the controller runs it: it outlasts any answer of the API server, and any end of it is noticed."""

import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from controller.watch.kopf_operator import operator_settings


def test_kopf_never_gives_up_on_the_api_server_and_never_pauses_for_long() -> None:
    backoffs = operator_settings("").networking.error_backoffs
    assert not isinstance(backoffs, float)
    pauses = list(islice(backoffs, 1000))
    assert len(pauses) == 1000
    assert max(pauses) <= 5
    assert list(islice(backoffs, 3)) == pauses[:3], "each request begins again with the first pause"


# In its own process: kopf cancels each task that is younger than its own.
RUN_OPERATOR = """
import asyncio, json, os, sys
from contextlib import suppress
from pathlib import Path
from aiohttp import web
from controller.cache import Cache
from controller.watch.watched_namespaces import WatchHeartbeat
from controller.watch.kopf_operator import WATCHED_PLURALS, OperatorEnded, build_registry, run_operator
from controller.watch.kopf_session import KopfSessions
from controller.watch.reflector import Reflector
from controller.watch.watched_namespaces import NamespaceWatch, WatchedNamespaces
from counterfoil.clock import WallClock
from tests.support.servers.scripted_kubernetes import answered_by

BOOKMARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"2"}}}\\n'
VERSION = {"version": "v1beta1"}

def resources(*plurals):
    other = {"singularName": "", "namespaced": True, "verbs": ["list", "watch"]}
    return {"resources": [{"name": each, "kind": each, **other} for each in plurals]}

DISCOVERY = {
    "/api": {"versions": ["v1"]},
    "/api/v1": resources("namespaces"),
    "/apis": {"groups": [{"name": "counterfoil.dev", "versions": [VERSION], "preferredVersion": VERSION}]},
    "/apis/counterfoil.dev/v1beta1": resources(*WATCHED_PLURALS),
}

# Custom resources are missing in the discovery of an API server that has just started.
INCOMPLETE = {
    "/apis": [b'{"groups": []}', b"<html>", b"[]"],
    "/apis/counterfoil.dev/v1beta1": [json.dumps(resources("archives")).encode(), b'{"resources": null}'],
}

class ApiServer:
    def __init__(self):
        self.incomplete = {}
        self.token = "none"
        self.bad = {}
        self.bad_answers = dict[tuple[str, bool], int]()
        self.credentials = lambda: None
        self.watched = set()
        self.cut, self.changed = asyncio.Event(), asyncio.Event()

    async def authorization(self):
        await asyncio.sleep(0)
        if (problem := self.credentials()) is not None:
            await problem
        return {"Authorization": f"Bearer {self.token}"}

    async def answer(self, request):
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"kind": "Status", "code": 401}, status=401)
        if self.incomplete.get(request.path):
            body = self.incomplete[request.path].pop(0)
            return web.Response(body=body, headers={"Content-Type": "application/json"})
        if request.path in DISCOVERY:
            return web.json_response(DISCOVERY[request.path])
        plural, is_watch = request.path.rpartition("/")[2], request.query.get("watch") == "true"
        if self.bad_answers.get((plural, is_watch)):
            self.bad_answers[plural, is_watch] -= 1
            headers = {"Content-Type": "application/json", **self.bad.get("headers", {})}
            return web.Response(status=self.bad["status"], headers=headers, body=self.bad["body"])
        if not is_watch:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(BOOKMARK)
        self.watched.add(plural)
        self.changed.set()
        await self.cut.wait()
        return response

    async def all_are_watched(self):
        while self.watched != set(WATCHED_PLURALS):
            self.changed.clear()
            await self.changed.wait()

    def cut_watches(self):
        self.watched.clear()
        cut, self.cut = self.cut, asyncio.Event()
        cut.set()

async def fail():
    api.credentials = lambda: None
    raise ValueError("an error that kopf does not expect")

async def swallow_cancellations():
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

async def run(mode, bad_answers, folder):
    os.environ["KUBECONFIG"] = str(folder / "kubeconfig")
    ready, stop = asyncio.Event(), asyncio.Event()
    watched = WatchedNamespaces()
    sessions = KopfSessions(WallClock(), WATCHED_PLURALS, watched, authorization=api.authorization)
    heartbeat = WatchHeartbeat(WallClock(), WATCHED_PLURALS)
    await watched.add("acme", NamespaceWatch(Reflector(None, Cache()), heartbeat, lambda plural: None))
    async with answered_by(api.answer, folder):
        registry = build_registry(watched, sessions)
        # All tasks of this test are older than kopf.
        begin, back = asyncio.Event(), asyncio.Event()
        async def attack():
            await begin.wait()
            for name, api.bad in bad_answers.items():
                for is_watch in (True, False):
                    api.bad_answers |= {(each, is_watch): 1 for each in WATCHED_PLURALS}
                api.token = name
                api.cut_watches()
                await api.all_are_watched()
                print(name, flush=True)
            if mode == "fails":
                api.credentials = fail
                api.cut_watches()
            elif mode == "hangs":
                api.credentials = swallow_cancellations
                api.cut_watches()
            if mode != "fails":
                stop.set()
        attacking = asyncio.create_task(attack())
        async def start():
            await api.all_are_watched()
            begin.set()
        starting = asyncio.create_task(start())
        try:
            await run_operator(
                registry, watched, labels="", ready=ready, stop=stop, stop_seconds=STOP_SECONDS
            )
            print("stopped")
        except OperatorEnded as ended:
            print(ended)
        sys.stdout.flush()
        os._exit(0)

STOP_SECONDS = 1.0 if sys.argv[1] == "hangs" else 15.0
api = ApiServer()
if sys.argv[1] == "starts":
    api.incomplete = INCOMPLETE
asyncio.run(run(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])))
"""


def outcomes(
    mode: str, folder: Path, bad_answers: Mapping[str, Mapping[str, Any]] | None = None
) -> list[str]:
    """Run kopf against an API server; return what happened."""
    command = [sys.executable, "-c", RUN_OPERATOR, mode, json.dumps(bad_answers or {}), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            printed, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            # One that hangs printed what came before.
            process.kill()
            printed, _ = process.communicate()
    return printed.splitlines()


BAD_ANSWERS = {
    "401": {"status": 401, "body": ""},
    "429 with a date": {
        "status": 429,
        "body": "",
        "headers": {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"},
    },
    "503 in an unknown charset": {
        "status": 503,
        "body": "",
        "headers": {"Content-Type": "text/plain; charset=unknown"},
    },
    "HTML": {"status": 200, "body": "<html>\n"},
    "a number": {"status": 200, "body": "5\n"},
    "no object": {"status": 200, "body": '{"type":"ADDED"}\n'},
}


@pytest.fixture(scope="module")
def survived_answers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Give kopf each of the answers; return those after which all watches came back. Its end takes five
    seconds."""
    return outcomes("answers", tmp_path_factory.mktemp("kopf"), BAD_ANSWERS)


@pytest.mark.parametrize("bad", BAD_ANSWERS)
def test_all_watches_come_back_with_a_new_token_after_any_answer(
    survived_answers: list[str], bad: str
) -> None:
    # The token changes together with the answer; the watches that still have the old one get 401.
    assert bad in survived_answers


def test_kopf_ends_after_such_answers(survived_answers: list[str]) -> None:
    assert survived_answers[-1] == "stopped"


def test_all_kinds_are_watched_although_the_api_server_did_not_list_them_at_first(tmp_path: Path) -> None:
    # kopf reads the discovery once, and never watches a kind that is missing in it.
    assert outcomes("starts", tmp_path) == ["stopped"]


def test_the_failure_of_one_watch_is_reported_at_once(tmp_path: Path) -> None:
    # kopf waits for the other watches without end.
    assert outcomes("fails", tmp_path) == ["kopf ended its watches; its error is logged"]


def test_the_end_of_kopf_has_a_time_limit(tmp_path: Path) -> None:
    assert outcomes("hangs", tmp_path) == ["kopf does not end"]
