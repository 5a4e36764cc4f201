"""
Keys stay sealed (rule 7): after a run in which much went wrong, no secret is anywhere but where it belongs.

Searched are all logs at their most talkative, all objects but Secrets, everything that the controller sent to
the API server, eSAW (but headers) and the archive, and all metrics.
"""

import base64
import json
from functools import partial
from pathlib import Path
from urllib.parse import quote

import httpx

from counterfoil.resources import Phase, Sender
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw.core.faults import FaultOptions
from sandbox.servers.proxies import Cut, TrapPoint, asks, puts, stores
from sandbox.servers.s3_rclone import S3Server
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene, kills, opened

FORGED = "f0rg3d0n3" * 6
"""A token that somebody sent; it may be a good one elsewhere."""

UNUSABLE = "n0t4t0k3n " * 5
"""A text that a person mistook for a token and put into a Secret."""

PASSWORD = "corr3ct-h0rse-b4ttery"


async def test_no_secret_is_in_any_log_object_metric_url_or_document_after_a_run_full_of_failures(
    plane: ControlPlane, namespace: str, tmp_path: Path, s3: S3Server
) -> None:
    async with opened(plane, namespace, tmp_path, s3=s3) as scene:
        await lock_callbacks(scene)
        controller = await scene.controller(log_level="debug")
        receiver = await scene.local_environment.receiver(log_level="debug")

        secrets = {
            scene.anna.token,
            *scene.local_environment.tokens.values(),
            s3.secret_key,
            FORGED,
            UNUSABLE,
            PASSWORD,
        }
        secrets |= {bearer_of(each) for each in (controller, receiver)}
        await call_in_every_wrong_way(scene, receiver)
        await go_through_trouble(scene, controller)
        secrets.add(await replace_the_key(scene))

        written = await all_that_is_written(scene, [controller, receiver])
        assert any("TokenRejected" in text for text in written.values()), "the search sees nothing"
        assert found(
            secrets, {"secrets": await scene.local_environment.kubectl("get", "secrets", "-o", "yaml")}
        )
        assert found(secrets, written) == []


async def lock_callbacks(scene: Scene) -> None:
    """Ask for basic auth too."""
    await scene.local_environment.secret("acme-login", "callback", username="esaw", password=PASSWORD)
    token = {"name": "acme-callback", "key": "token"}
    await scene.local_environment.organization(
        "acme",
        archive="dms",
        sender="anna",
        baseURL=scene.esaw.url,
        callback={"tokenSecretRefs": [token], "basicAuthSecretRef": {"name": "acme-login"}},
    )


def bearer_of(process: CounterfoilProcess) -> str:
    """The token by which a process is known to the API server."""
    kubeconfig = json.loads(Path(process.environment["KUBECONFIG"]).read_text())
    return str(kubeconfig["users"][0]["user"]["token"])


async def call_in_every_wrong_way(scene: Scene, receiver: CounterfoilProcess) -> None:
    """URLs and headers with secrets that are refused, each for another reason."""
    good = scene.local_environment.callback_url("acme", receiver).partition("?")[0]
    fine = f"envelopeId={scene.envelope(100)}&action=envelopeFinished"
    wrong = {
        f"{receiver.public}/callbacks/acme/{FORGED}?{fine}": 404,
        f"{receiver.public}/callbacks/{FORGED}/{FORGED}?{fine}": 404,
        f"{good}/more?{fine}": 404,
        f"{good}?envelopeId={FORGED}&action=envelopeFinished": 400,
        f"{good}?{fine}&{'padding=' + 'x' * 9000}": 400,
    }
    async with httpx.AsyncClient(trust_env=False, auth=("esaw", PASSWORD)) as http:
        for url, status in wrong.items():
            assert (await http.get(url)).status_code == status, url
        assert (await http.put(f"{good}?{fine}")).status_code == 405
        assert (await http.get(f"{good}?{fine}", auth=("esaw", FORGED))).status_code == 401
        assert (await http.get(f"{good}?{fine}")).status_code == 200


async def go_through_trouble(scene: Scene, controller: CounterfoilProcess) -> None:
    """Let everything fail once, and come to its end all the same."""
    leak = f"https://elsewhere.example/?token={scene.anna.token}"
    troubles: list[tuple[str, FaultOptions]] = [
        ("envelope", {"status": 500, "times": 1}),
        ("envelope", {"redirect": leak, "times": 1}),
        ("configuration", {"garbage": "json", "times": 1}),
        ("files", {"garbage": "html", "times": 1}),
        ("file", {"cut_after": 10, "times": 1}),
        ("file", {"declared_length": 10, "times": 1}),
        ("delete", {"lose_answer": True, "times": 1}),
    ]
    for operation, options in troubles:
        scene.standin.fault(operation, **options)
        await scene.holds(await scene.note(scene.envelope(2000)))
    assert scene.s3 is not None
    scene.s3.trap(puts("contract-1.pdf"), TrapPoint.DONE, cuts)
    scene.api.trap(stores(phase="Archiving"), TrapPoint.DONE, cuts)
    scene.esaw.trap(asks("delete"), TrapPoint.DONE, kills(controller))
    event = await scene.note(scene.envelope(2000))
    await eventually(lambda: controller.server.ended)
    await controller.start()
    await scene.holds(event)


async def cuts() -> None:
    raise Cut


async def replace_the_key(scene: Scene) -> str:
    """Let the key be refused, then give one that is none, then a new one, which is returned."""
    scene.standin.revoke(scene.anna)
    event = await scene.note(scene.envelope(2000))
    await eventually(partial(awaits_consent, scene, event))
    await give_key(scene, "mistaken", UNUSABLE)
    await eventually(partial(key_is, scene, "KeyUnreadable"))
    token = scene.standin.new_token(scene.anna)
    await give_key(scene, "renewed", token)
    await scene.holds(event)
    return token


async def give_key(scene: Scene, name: str, token: str) -> None:
    await scene.local_environment.secret(name, "token", token=token)
    await scene.kube.patch(Sender, "anna", {"spec": {"tokenSecretRef": {"name": name, "key": "token"}}})


async def awaits_consent(scene: Scene, event: str) -> bool:
    return (await scene.event(event)).status.phase is Phase.AWAITING_CONSENT


async def key_is(scene: Scene, reason: str) -> bool:
    anna = Sender.parse(await scene.kube.get(Sender, "anna"))
    return any(each.type == "Authorized" and each.reason == reason for each in anna.status.conditions)


async def all_that_is_written(scene: Scene, processes: list[CounterfoilProcess]) -> dict[str, str]:
    """Every text that anybody could read who may not read Secrets, by where it stands."""
    kubectl = scene.local_environment.kubectl
    listed = (await kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name")).split()
    kinds = ",".join(kind for kind in listed if kind != "secrets")
    written = {"objects": await kubectl("get", kinds, "-o", "yaml", "--show-managed-fields")}
    written |= {path.name: path.read_text() for path in scene.local_environment.folder.glob("*.log")}
    written |= {f"metrics of {each.name}": await each.metrics() for each in processes}
    written |= {str(path): path.read_text(errors="replace") for path in scene.archive_folder.files()}
    for name, way in {"Kubernetes": scene.api, "eSAW": scene.esaw, "S3": scene.s3}.items():
        asked = [] if way is None else way.passages
        written[f"to {name}"] = "\n".join(
            f"{each.path}?{each.query} {each.body.decode(errors='replace')}" for each in asked
        )
    return written


def found(secrets: set[str], written: dict[str, str]) -> list[str]:
    """Which secrets stand where, in the forms in which they get into a text."""
    return [
        f"{secret} in {place}"
        for secret in secrets
        for place, text in written.items()
        if any(form in text for form in (secret, quote(secret), base64.b64encode(secret.encode()).decode()))
    ]
