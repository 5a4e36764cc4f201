"""The flags of the plugin about the API server, and what it says without a usable one."""

import base64
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from counterfoil.cli.plugin import entry_point
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, format_answer
from counterfoil.kube.errors import ApiError
from counterfoil.resources import API_VERSION

DATA = base64.b64encode(b"no certificate").decode()
NONE = "Name another one by --kubeconfig FILE or $KUBECONFIG."


def run(*words: str) -> tuple[int, str]:
    err = io.StringIO()
    return entry_point.run(words, io.StringIO(), err), err.getvalue()


def test_no_error_controls_the_terminal() -> None:
    _, text = run("status", "--kubeconfig", "/nowhere/\x1b[2J\x07config")
    assert "/nowhere/?[2J?config" in text
    assert text.endswith("\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", f"it is empty. {NONE}"),
        ("just text", f"it has no fields. {NONE}"),
        ("{", f"it is no YAML. {NONE}"),
        (b"\x80\xff", f"it is no YAML. {NONE}"),
        (
            "contexts: [{name: one}]",
            "it names no current context. There are: one. Type `kubectl config use-context NAME`.",
        ),
        ("apiVersion: v1", f"it has no context at all. {NONE}"),
        ("current-context: two\ncontexts: [two]", f"it has no context at all. {NONE}"),
        (
            "current-context: two\ncontexts: [{name: one}]",
            "it has no context 'two'. There are: one. Type `kubectl config use-context NAME`.",
        ),
    ],
)
def test_a_file_that_is_no_kubeconfig_is_described_with_what_to_type(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    path = tmp_path / "config"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, err = run("why", "x", "--kubeconfig", str(path))
    assert code == ExitStatus.NO_ANSWER
    assert says in err
    assert err.count("\n") == 1


def test_a_missing_kubeconfig_is_called_missing(tmp_path: Path) -> None:
    code, err = run("status", "--kubeconfig", str(tmp_path / "nothing"))
    assert (code, f"the file does not exist. {NONE}" in err) == (ExitStatus.NO_ANSWER, True)


def test_without_a_kubeconfig_the_place_is_named_where_one_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    code, err = run("status")
    assert code == ExitStatus.NO_ANSWER
    assert f"~/.kube/config leads to no API server: the file does not exist. {NONE}" in err


@asynccontextmanager
async def an_api_server(
    *, status: int = 200, text: str = "", served: Sequence[str] = ()
) -> AsyncIterator[tuple[str, list[web.Request]]]:
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        if served and request.path == f"/apis/{API_VERSION}":
            return web.json_response({"resources": [{"name": each} for each in served]})
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


def a_kubeconfig(folder: Path, url: str = "https://127.0.0.1:1", **lists: list[dict[str, Any]]) -> Path:
    path = folder / "config"
    named = {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "jane"}}],
        "clusters": [{"name": "it", "cluster": {"server": url}}],
        "users": [{"name": "jane", "user": {"token": "t"}}],
        **lists,
    }
    path.write_text(yaml.safe_dump(named))
    return path


def a_login_by(program: str) -> dict[str, Any]:
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": program, "interactiveMode": "Never"}}


UNREADABLE = (
    "can't be asked: a certificate or key for it can't be read (SSLError). Get a new kubeconfig for this "
    "cluster."
)

INCOMPLETE: dict[str, tuple[dict[str, list[dict[str, Any]]], str]] = {
    "a cluster that it has not": (
        {"clusters": []},
        f"the context 'it' names the cluster 'it', which the file does not have. {NONE}",
    ),
    "a user that it has not": (
        {"users": [{"name": "joe", "user": {}}]},
        "the context 'it' names the user 'jane', which the file does not have. There are: joe. Type `kubectl "
        "config set-context it --user NAME`.",
    ),
    "a server without https": (
        {"clusters": [{"name": "it", "cluster": {"server": "api.example.com:6443"}}]},
        "the server of the cluster 'it' has no https://. Type `kubectl config set-cluster it "
        "--server https://api.example.com:6443`.",
    ),
    "a server without https in a kubeconfig of somebody else": (
        {
            "contexts": [{"name": "it", "context": {"cluster": "x; id", "user": "jane"}}],
            "clusters": [{"name": "x; id", "cluster": {"server": "a$(id)"}}],
        },
        "the server of the cluster 'x; id' has no https://. Type `kubectl config set-cluster 'x; id' "
        "--server 'https://a$(id)'`.",
    ),
    "a list in place of a name": (
        {"contexts": [{"name": "it", "context": {"cluster": ["x"], "user": "jane"}}]},
        "the context 'it' names the cluster \"['x']\", which the file does not have. There are: it. Type "
        "`kubectl config set-context it --cluster NAME`.",
    ),
    "a file of the certificate authority that does not exist": (
        {"clusters": [{"name": "it", "cluster": {"server": "https://a", "certificate-authority": "ca.crt"}}]},
        "the cluster 'it' names the file ca.crt, which does not exist. Get a new kubeconfig for this "
        "cluster.",
    ),
    "a file of a token that does not exist": (
        {"users": [{"name": "jane", "user": {"tokenFile": "/nowhere/token"}}]},
        "the user 'jane' names the file /nowhere/token, which does not exist. Get a new kubeconfig for this "
        "cluster.",
    ),
    "a certificate of a user that does not exist": (
        {"users": [{"name": "jane", "user": {"client-certificate": "c", "client-key-data": DATA}}]},
        "the user 'jane' names the file c, which does not exist. Get a new kubeconfig for this cluster.",
    ),
    "a way to sign in that kubectl does not have any more": (
        {"users": [{"name": "jane", "user": {"auth-provider": {"name": "gcp"}}}]},
        "the auth-provider 'gcp', by which the user 'jane' signs in, gave no key. Get a new kubeconfig for "
        "this cluster.",
    ),
    "a program that is not installed": (
        {"users": [{"name": "jane", "user": a_login_by("aws-of-nobody")}]},
        "the program 'aws-of-nobody', by which the user 'jane' signs in, is not on your PATH. Install it.",
    ),
    "a program that signs nobody in": (
        {"users": [{"name": "jane", "user": a_login_by("false")}]},
        "the program 'false', by which the user 'jane' signs in, gave no key. Sign in again with it.",
    ),
    "a certificate that is none": (
        {"users": [{"name": "jane", "user": {"client-certificate-data": DATA, "client-key-data": DATA}}]},
        UNREADABLE,
    ),
    "a certificate authority that is none": (
        {
            "clusters": [
                {"name": "it", "cluster": {"server": "https://a", "certificate-authority-data": DATA}}
            ]
        },
        UNREADABLE,
    ),
}


@pytest.mark.parametrize(("lists", "says"), INCOMPLETE.values(), ids=INCOMPLETE)
def test_an_incomplete_kubeconfig_is_described_with_what_to_type(
    tmp_path: Path, lists: dict[str, Any], says: str
) -> None:
    code, err = run("status", "--kubeconfig", str(a_kubeconfig(tmp_path, **lists)))
    assert code == ExitStatus.NO_ANSWER
    assert err.endswith(f" {says}\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["status", "preflight"])
async def test_an_api_server_that_does_not_answer_is_no_success_and_its_address_is_asked_for(
    tmp_path: Path, command: str
) -> None:
    code, text = await asked(tmp_path, "http://127.0.0.1:1", command)
    assert code == ExitStatus.NO_ANSWER
    assert "`kubectl config view --minify` shows its address" in text


@pytest.mark.parametrize("command", ["status", "preflight"])
async def test_a_user_whom_the_api_server_does_not_know_is_asked_to_sign_in(
    tmp_path: Path, command: str
) -> None:
    refusal = {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"}
    async with an_api_server(status=401, text=json.dumps(refusal)) as (url, _):
        code, text = await asked(tmp_path, url, command)
    assert code == ExitStatus.NOT_ALLOWED
    assert text.endswith("Sign in again.")


async def test_a_server_without_a_version_is_no_api_server(tmp_path: Path) -> None:
    async with an_api_server(status=404, text="404 page not found") as (url, _):
        code, text = await asked(tmp_path, url, "preflight")
    assert code == ExitStatus.NO_ANSWER
    assert "what answered is not the API server" in text
    assert "`kubectl config view --minify` shows its address" in text


@pytest.mark.parametrize(
    ("lacks", "says"),
    [
        (
            'list resource "organizations" in API group "counterfoil.dev" in the namespace "contracts"',
            "`kubectl -n contracts create rolebinding counterfoil-view --clusterrole=view --user=jane`",
        ),
        (
            'patch resource "envelopeevents" in API group "counterfoil.dev" in the namespace "contracts"',
            "`kubectl -n contracts create role counterfoil-patch-envelopeevents --verb=patch "
            "--resource=envelopeevents.counterfoil.dev && kubectl -n contracts create rolebinding NAME "
            "--role=counterfoil-patch-envelopeevents --user=jane`",
        ),
        (
            'patch resource "senders/status" in API group "counterfoil.dev" in the namespace "contracts"',
            "`kubectl -n contracts create role counterfoil-patch-senders-status --verb=patch "
            "--resource=senders.counterfoil.dev/status && kubectl -n contracts create rolebinding NAME "
            "--role=counterfoil-patch-senders-status --user=jane`",
        ),
        (
            'create resource "pods/exec" in API group "" in the namespace "contracts"',
            "`kubectl -n contracts create role counterfoil-create-pods-exec --verb=create "
            "--resource=pods/exec && kubectl -n contracts create rolebinding NAME "
            "--role=counterfoil-create-pods-exec --user=jane`",
        ),
        (
            'list resource "organizations" in API group "counterfoil.dev" in the namespace "a; reboot"',
            "`kubectl -n 'a; reboot' create rolebinding counterfoil-view --clusterrole=view --user=jane`",
        ),
    ],
)
async def test_a_missing_right_is_named_with_the_command_that_gives_it(
    tmp_path: Path, lacks: str, says: str
) -> None:
    text = await told_of_a_refusal(tmp_path, f'organizations is forbidden: User "jane" cannot {lacks}')
    assert lacks in text
    assert text.endswith(f"Who administers the cluster can give it by {says}.")


async def test_a_missing_right_to_one_secret_is_given_for_this_secret_alone(tmp_path: Path) -> None:
    text = await told_of_a_refusal(
        tmp_path,
        'secrets "oauth" is forbidden: User "jane" cannot get resource "secrets" in API group "" in the '
        'namespace "contracts"',
    )
    assert text.endswith(
        "`kubectl -n contracts create role counterfoil-get-secrets-oauth --verb=get --resource=secrets "
        "--resource-name=oauth && kubectl -n contracts create rolebinding NAME "
        "--role=counterfoil-get-secrets-oauth --user=jane`."
    )


@pytest.mark.parametrize("resource", ["organizations", "secrets"])
async def test_no_right_in_all_namespaces_is_asked_for(tmp_path: Path, resource: str) -> None:
    """A role in the whole cluster would show the pods and settings of all others."""
    group = "" if resource == "secrets" else "counterfoil.dev"
    lacks = f'cannot list resource "{resource}" in API group "{group}" at the cluster scope'
    text = await told_of_a_refusal(tmp_path, f'{resource} is forbidden: User "jane" {lacks}')
    assert text.endswith(f"{lacks}. Name a namespace with -n.")


@pytest.mark.parametrize("namespace", ["a; touch x", "$(id)", "-A", "Sales"])
def test_what_is_no_name_of_a_namespace_is_refused(tmp_path: Path, namespace: str) -> None:
    """The plugin prints commands with the namespace, and a kubeconfig can be of somebody else."""
    context = {"cluster": "it", "user": "jane", "namespace": namespace}
    path = a_kubeconfig(tmp_path, contexts=[{"name": "it", "context": context}])
    code, err = run("status", "--kubeconfig", str(path))
    assert (code, f"{namespace!r} is no name of a namespace" in err) == (ExitStatus.MISUSED, True)


async def test_another_refusal_is_no_missing_right(tmp_path: Path) -> None:
    assert "rolebinding" not in await told_of_a_refusal(tmp_path, "denied by a policy")


async def told_of_a_refusal(folder: Path, message: str) -> str:
    refusal = {"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": message}
    async with an_api_server(status=403, text=json.dumps(refusal)) as (url, _):
        code, text = await asked(folder, url, "status")
    assert code == ExitStatus.NOT_ALLOWED
    return text


async def asked(folder: Path, url: str, *words: str) -> tuple[int, str]:
    err = io.StringIO()
    args = entry_point.parsers()[0].parse_args([*words, "--kubeconfig", str(a_kubeconfig(folder, url))])
    args.output = "text"
    try:
        return await entry_point.carry_out(args, io.StringIO()), ""
    except (CommandError, ApiError) as problem:
        code, text = entry_point.describe(problem)
        err.write(text)
        return code, err.getvalue()


async def test_a_request_is_made_in_the_name_of_another_user(tmp_path: Path) -> None:
    async with an_api_server(status=403) as (url, requests):
        code, _ = await asked(tmp_path, url, "status", "--as", "jane")
    assert code == ExitStatus.NOT_ALLOWED
    assert {each.headers["Impersonate-User"] for each in requests} == {"jane"}


async def test_without_the_flag_nobody_is_impersonated(tmp_path: Path) -> None:
    async with an_api_server(status=403) as (url, requests):
        await asked(tmp_path, url, "status")
    assert all("Impersonate-User" not in each.headers for each in requests)


async def test_a_cluster_without_counterfoil_is_called_that(tmp_path: Path) -> None:
    async with an_api_server(status=404, text="404 page not found") as (url, _):
        code, text = await asked(tmp_path, url, "status")
    assert code == ExitStatus.NOT_FOUND
    assert "Counterfoil is not installed there" in text


KINDS = ("archives", "envelopes", "envelopeevents", "imports", "organizations", "senders")


@pytest.mark.parametrize(
    ("served", "code", "says"),
    [
        (KINDS[:3] + KINDS[4:], ExitStatus.NOT_FOUND, "the API server has no kind Import. Apply the Custom"),
        (KINDS[:2] + KINDS[5:], ExitStatus.NOT_FOUND, "no kind EnvelopeEvent, Import, Organization."),
        # A proxy answered, for example.
        (
            KINDS,
            ExitStatus.NO_ANSWER,
            "404 was the answer, without a Status object of the API server. Try again",
        ),
        (("deployments",), ExitStatus.NOT_FOUND, "Counterfoil is not installed there"),
    ],
    ids=["Imports", "several", "none", "all"],
)
async def test_kinds_that_are_missing_beside_others_are_named(
    tmp_path: Path, served: tuple[str, ...], code: ExitStatus, says: str
) -> None:
    async with an_api_server(status=404, text="404 page not found", served=served) as (url, _):
        ended, text = await asked(tmp_path, url, "import", "status")
    assert ended is code
    assert says in text
    assert ("not installed" in text) is ("not installed" in says)


@pytest.mark.parametrize(("text", "seconds"), [("5s", 5), ("1m", 60), ("7", 7)])
def test_a_timeout_is_written_as_for_kubectl(text: str, seconds: float) -> None:
    args = entry_point.parsers()[0].parse_args(["status", "--request-timeout", text])
    assert args.request_timeout == seconds


@pytest.mark.parametrize("text", ["0", "soon", "-1s"])
def test_a_timeout_that_is_none_is_refused(text: str) -> None:
    code, err = run("status", f"--request-timeout={text}")
    assert (code, "--request-timeout" in err) == (ExitStatus.MISUSED, True)


def test_what_is_found_can_be_read_as_yaml() -> None:
    answer = {"b": [1, {"a": "ü"}], "a": None}
    assert yaml.safe_load(format_answer("yaml", answer)) == answer
