"""
Keys stay sealed (rule 7), in every place that a person can read: after a run with consent, archive, lost
consent, mail and console, no secret is in a log at debug level, an object, a metric, a trace, a mail, a page,
the output of a crash, or Helm's release Secrets.

Each secret is a canary: known to the test, and searched in each form in which it gets into a text.
"""

import base64
import gzip
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from counterfoil.resources import consented_sender_name
from release.helm import CHART, helm
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw.browser import Browser
from sandbox.servers.plain_http import plain_http
from sandbox.servers.smtp import PASSWORD as SMTP_PASSWORD
from sandbox.servers.smtp import SmtpServer
from tests.support.pauses import eventually
from tests.support.scenes.chart import with_image
from tests.support.scenes.console import Person
from tests.support.scenes.hook_jobs import hook_jobs
from tests.support.scenes.pages import FIELDS, Scene, pages_scene
from tests.support.servers.trace_collector import Collector, trace_collector

CONSOLE_PAGES = ("/", "/events", "/senders", "/archives", "/organizations", "/imports", "/attention")


@dataclass
class Run:
    """A finished run: its secrets, and the texts that it left."""

    scene: Scene
    secrets: dict[str, str] = field(default_factory=dict)
    """By what they are."""
    texts: dict[str, str] = field(default_factory=dict)
    """By their place."""


def forms(secret: str) -> set[str]:
    """The forms in which a secret gets into a text."""
    raw = secret.encode()
    encoded = base64.b64encode(raw).decode()
    return {secret, quote(secret, safe=""), encoded, base64.b64encode(encoded.encode()).decode(), raw.hex()}


def found(secrets: Mapping[str, str], texts: Mapping[str, str]) -> list[str]:
    return [
        f"{name} in {place}"
        for name, secret in secrets.items()
        for place, text in texts.items()
        if any(form in text for form in forms(secret))
    ]


@pytest.fixture
async def run(
    plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Run]:
    async with trace_collector() as collector, SmtpServer() as smtp:
        # What is started from here inherits it.
        for name, value in {**collector.environment, "PYTHONFAULTHANDLER": "1"}.items():
            monkeypatch.setenv(name, value)
        async with pages_scene(plane, namespace, tmp_path, log_level="debug") as scene:
            run = Run(scene)
            processes = await start(scene, smtp)
            console = processes[-1]
            await work(run, smtp, console)
            await collect(run, processes, collector, smtp)
            await install_chart(run, plane, namespace, tmp_path)
            await crash(run, processes)
            yield run


async def start(scene: Scene, smtp: SmtpServer) -> list[CounterfoilProcess]:
    """Start every process at debug level, with an archive and mails."""
    environment = scene.local_environment
    root = environment.folder / "archive"
    root.mkdir()
    await environment.archive("folder", filesystem={"root": str(root)})
    mails = await environment.mails(smtp, "admin@acme.example")
    await scene.organization(notifications=mails, beforeSend={"fields": FIELDS})
    receiver = await environment.receiver(log_level="debug")
    controller = await environment.controller(log_level="debug")
    console = await environment.console(log_level="debug")
    await environment.ready("archive/folder", "organization/acme")
    scene.esaw.set_default_callbacks(completed=environment.callback_url("acme", receiver), status_change=None)
    return [scene.pages, receiver, controller, console]


async def work(run: Run, smtp: SmtpServer, console: CounterfoilProcess) -> None:
    """Send, archive, lose the consent, get a mail, and look at everything."""
    scene = run.scene
    async with await scene.sign_in() as browser:
        envelopes = [await send(run, browser, number) for number in range(2)]
        await scene.esaw.complete(envelopes[0])
        await eventually(lambda: phases_are(scene, ["Succeeded"]))
        (sender,) = await scene.senders()
        run.secrets["API token"] = await scene.token(sender)
        scene.esaw.withdraw_consent(scene.anna, scene.app.client_id)
        await scene.esaw.complete(envelopes[1])
        await eventually(lambda: phases_are(scene, ["AwaitingConsent", "Succeeded"]))
        await eventually(lambda: is_mailed(smtp))
        name = consented_sender_name("acme", scene.anna.user_id)
        link = (await scene.local_environment.read("sender", name))["status"]["consentURL"]
        await visit(run, browser, "consent", link)
        await browser.press("Allow")
        keep(run, browser, "consent given")
        await eventually(lambda: phases_are(scene, ["Succeeded", "Succeeded"]))
    run.secrets["renewed API token"] = await scene.token((await scene.senders())[0])
    await refuse_a_key(run)
    await look(run, console)


async def refuse_a_key(run: Run) -> None:
    """Let a user bring a key that eSAW refuses, and wait for the line of it at debug level."""
    environment = run.scene.local_environment
    run.secrets["refused key"] = secrets.token_hex(24)
    robot = run.scene.esaw.add_user(email="robot@example.com", given_name="Robot", surname="Acme")
    bad = msgspec.structs.replace(robot, token=run.secrets["refused key"])
    await environment.sender("robot", bad, organization="acme")

    async def is_logged() -> bool:
        return '"level":"debug"' in (environment.folder / "controller.log").read_text()

    await eventually(is_logged)


async def send(run: Run, browser: Browser, number: int) -> str:
    scene = run.scene
    draft = scene.esaw.add_draft(owner=scene.anna)
    await visit(run, browser, f"before sending {number}", scene.link(draft))
    if "Allow" in browser.page.buttons:
        await browser.press("Allow")
        keep(run, browser, f"before sending {number}")
    # Not what is asked for: the form comes back with words about it.
    await browser.press("Send envelope", **{"tag.costCenter": "none"})
    keep(run, browser, f"refused form {number}")
    await browser.press("Send envelope", **{"tag.costCenter": "4711"})
    envelope = scene.esaw.envelope_of(draft)
    assert envelope is not None, browser.page.text
    return envelope


async def visit(run: Run, browser: Browser, name: str, url: str) -> None:
    await browser.open(url)
    keep(run, browser, name)


def keep(run: Run, browser: Browser, name: str) -> None:
    """Keep a page, if it is ours: eSAW's own stand-in is not searched."""
    if not browser.page.url.startswith(run.scene.esaw.url):
        run.texts[f"page {name}"] = f"{browser.page.headers}\n{browser.page.html}"


async def look(run: Run, console: CounterfoilProcess) -> None:
    """Sign in to the console and open every page."""
    token = await run.scene.local_environment.person("jane", *rbac.ADMINISTRATOR)
    run.secrets["token of the person"] = token
    (event,) = (each["metadata"]["name"] for each in (await run.scene.local_environment.events())[:1])
    async with plain_http() as http:
        person = await Person(console, http).sign_in(token)
        for path in (*CONSOLE_PAGES, f"/events/{event}"):
            answer = (await person.get(path)).answer
            assert answer.status_code == 200, path
            run.texts[f"console {path}"] = f"{answer.headers}\n{answer.text}"


async def phases_are(scene: Scene, expected: list[str]) -> bool:
    events = await scene.local_environment.events()
    return sorted(each.get("status", {}).get("phase", "Pending") for each in events) == expected


async def is_mailed(smtp: SmtpServer) -> bool:
    return bool(smtp.mails)


async def collect(
    run: Run, processes: list[CounterfoilProcess], collector: Collector, smtp: SmtpServer
) -> None:
    """Name the secrets, and collect all that a person can read who may not read Secrets."""
    scene, environment = run.scene, run.scene.local_environment
    run.secrets |= {"client secret": scene.app.client_secret, "password of mails": SMTP_PASSWORD}
    run.secrets |= {f"callback token of {name}": token for name, token in environment.tokens.items()}
    run.secrets |= {f"account of {each.name}": bearer_of(each) for each in processes}
    for path in environment.sealing_keys.iterdir():
        run.secrets[f"sealing key {path.name}"] = path.read_text()

    async def have_arrived() -> bool:
        return {"callback", "event"} <= {each.name for each in collector.spans}

    await eventually(have_arrived)
    listed = (
        await environment.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name")
    ).split()
    kinds = ",".join(kind for kind in listed if kind != "secrets")
    run.texts["objects"] = await environment.kubectl("get", kinds, "-o", "yaml", "--show-managed-fields")
    run.texts |= {f"metrics of {each.name}": await each.metrics() for each in processes}
    run.texts["traces"] = collector.bytes.decode(errors="replace")
    for number, mail in enumerate(smtp.mails):
        run.texts[f"mail {number}"] = f"{mail.message}\n{mail.text}\n{mail.html}"


def bearer_of(process: CounterfoilProcess) -> str:
    """The token by which a process is known to the API server."""
    kubeconfig = json.loads(Path(process.environment["KUBECONFIG"]).read_text())
    return str(kubeconfig["users"][0]["user"]["token"])


async def install_chart(run: Run, plane: ControlPlane, namespace: str, folder: Path) -> None:
    """Install the chart beside the run, as a person does, and read what Helm has stored."""
    program = await helm(folder / "helm", kubeconfig=plane.kubeconfig)
    async with hook_jobs(plane, namespace) as jobs:
        values = with_image({"crds": {"enabled": False}, "clusterScoped": False})
        await program("install", "counterfoil", CHART, "-n", namespace, values=values)
    run.texts["Jobs of the chart"] = "\n".join(
        f"exit {each.code}\n{each.out}{each.err}" for each in jobs.values()
    )
    stored = json.loads(await run.scene.local_environment.kubectl("get", "secrets", "-o", "json"))["items"]
    for secret in stored:
        if secret["type"].startswith("helm.sh/"):
            packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
            run.texts["Helm's release"] = gzip.decompress(packed).decode()
        if secret["metadata"]["name"] == "counterfoil-sealing-keys":
            (value,) = secret["data"].values()
            run.secrets["created sealing key"] = base64.b64decode(value).decode()


async def crash(run: Run, processes: list[CounterfoilProcess]) -> None:
    """Abort every process, as a failed assertion in a C library does, and read the logs."""
    for process in processes:
        os.kill(process.pid, signal.SIGABRT)

    async def have_ended() -> bool:
        return all(each.server.ended for each in processes)

    await eventually(have_ended)
    run.texts |= {path.name: path.read_text() for path in run.scene.local_environment.folder.glob("*.log")}


async def test_no_secret_is_in_any_text_that_a_run_leaves(run: Run) -> None:
    assert {
        *("objects", "traces", "Helm's release", "Jobs of the chart", "mail 0"),
        *("page before sending 0", "page refused form 0", "page consent given"),
        *(f"console {path}" for path in CONSOLE_PAGES),
        *(f"{name}.log" for name in ("pages", "receiver", "controller", "console")),
        *(f"metrics of {name}" for name in ("pages", "receiver", "controller", "console")),
    } <= set(run.texts)
    assert [place for place, text in run.texts.items() if not text.strip()] == []
    assert len(run.secrets) >= 11

    assert found(run.secrets, run.texts) == []

    # The search is not blind: logs have debug lines and stacks of the crash, and the Secrets have secrets.
    logs = {place: text for place, text in run.texts.items() if place.endswith(".log")}
    assert all("Fatal Python error: Aborted" in text for text in logs.values())
    assert any('"level":"debug"' in text for text in logs.values())
    # Statuses and the Events of the controller are among the objects.
    assert "reason: EsawAnswers" in run.texts["objects"]
    assert "reportingController: counterfoil.dev/controller" in run.texts["objects"]
    stored = {"Secrets": await run.scene.local_environment.kubectl("get", "secrets", "-o", "yaml")}
    assert {each.partition(" in ")[0] for each in found(run.secrets, stored)} >= {
        "client secret",
        "password of mails",
        "callback token of acme",
        "created sealing key",
    }
    assert "counterfoil_callbacks_total" in run.texts["metrics of receiver"]
