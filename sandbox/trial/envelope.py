"""
The trial's one envelope: a Job has it signed, and `helm test` shows that it is archived.

``sign`` acts as three persons: a platform engineer, who applies an Archive, an Organization and a Sender with
their Secrets; an administrator of eSAW, who sets the callback URL; and a sender, whose envelope is signed. It
then sends one callback about an envelope that does not exist, so that the trial has a failure and its mail.

``check`` waits until the envelope's event is Succeeded, and runs Counterfoil's own audit against the bucket.
Neither of them does anything that Counterfoil does.
"""

import asyncio
import ssl
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from counterfoil.cli import verify
from counterfoil.kube.secret import USE_LABEL
from sandbox.controlplane.objects import NamespaceObjects, ObjectError
from sandbox.esaw import EnvelopeStatus, StandInControl, User
from sandbox.servers.plain_http import plain_http

BUCKET: Final = "contracts"
REGION: Final = "eu-central-1"
ORGANIZATION: Final = "acme"
SENDER_KEY: Final = "jane-key"
"""As all names of Secrets also in the Role of values-trial.yaml."""
ADMINISTRATOR: Final = "administrator@acme.example"
INTERVAL: Final = 1.0  # seconds between tries
READY_SECONDS: Final = 240.0
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
T = TypeVar("T")


class TrialFailed(Exception):
    """The trial did not end as it must; the message says why."""


@dataclass(frozen=True)
class Place:
    """Addresses and keys of a trial."""

    api_server: str
    account: Path
    """Folder with the files ``ca.crt``, ``token`` and ``namespace`` of a ServiceAccount."""
    esaw: str
    s3: str
    access_key: str
    secret_key: str
    receiver: str
    mail_host: str
    mail_port: int

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Place":
        """Read the environment of a pod. Raises ``TrialFailed`` that names what is missing."""
        try:
            host = environ["KUBERNETES_SERVICE_HOST"]
            address = f"[{host}]" if ":" in host else host
            return cls(
                api_server=f"https://{address}:{environ['KUBERNETES_SERVICE_PORT']}",
                account=Path(environ.get("TRIAL_ACCOUNT", ACCOUNT)),
                esaw=environ["TRIAL_ESAW"],
                s3=environ["TRIAL_S3"],
                access_key=environ["TRIAL_ACCESS_KEY"],
                secret_key=environ["TRIAL_SECRET_KEY"],
                receiver=environ["TRIAL_RECEIVER"],
                mail_host=environ["TRIAL_MAIL_HOST"],
                mail_port=int(environ["TRIAL_MAIL_PORT"]),
            )
        except KeyError as missing:
            raise TrialFailed(f"{missing.args[0]} is not set; this runs in a pod of the trial") from None

    def api(self) -> httpx.AsyncClient:
        """Return a client of the API server with the rights of the ServiceAccount."""
        token = (self.account / "token").read_text().strip()
        context = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
        # Python 3.13 demands extensions that the authorities of many clusters lack.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return httpx.AsyncClient(
            base_url=self.api_server,
            verify=context,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )

    def objects(self, api: httpx.AsyncClient) -> NamespaceObjects:
        """Return the objects of the trial's namespace."""
        return NamespaceObjects(api, (self.account / "namespace").read_text().strip())


async def sign(place: Place) -> None:
    """Apply what a release needs, and have one envelope signed. Raises ``TrialFailed``."""
    async with StandInControl(place.esaw) as esaw, place.api() as api:
        objects = place.objects(api)
        jane = await _until_possible(
            lambda: esaw.add_user(email="jane.doe@acme.example", given_name="Jane", surname="Doe")
        )
        # The stand-in forgets its users when it restarts, and a new user has another id.
        sender = f"jane-{jane.user_id[:8]}"
        token = uuid.uuid4().hex
        for body in trial_objects(place, sender, jane, token):
            await objects.apply(body)
        try:
            for kind, name in (("archive", BUCKET), ("sender", sender), ("organization", ORGANIZATION)):
                await objects.until_ready(kind, name, seconds=READY_SECONDS)
                print(f"{kind}/{name} is Ready", flush=True)
        except ObjectError as not_ready:
            raise TrialFailed(str(not_ready)) from None

        url = f"{place.receiver}/callbacks/{ORGANIZATION}/{token}?envelopeId=##EnvelopeId##&action=##Action##"
        await esaw.set_default_callbacks(completed=url, status_change=None)
        envelope = await esaw.add_envelope(sender=jane, name="Rental contract", status=EnvelopeStatus.ACTIVE)
        await esaw.complete(envelope)
        await esaw.callbacks_settled()
        print(f"envelope {envelope} is signed, and eSAW has called Counterfoil", flush=True)
    async with plain_http() as http:
        forged = url.replace("##EnvelopeId##", str(uuid.uuid4())).replace("##Action##", "envelopeFinished")
        answer = await http.get(forged)
        print(
            f"a callback about an envelope that does not exist was answered {answer.status_code}", flush=True
        )


async def check(place: Place) -> None:
    """Wait until an envelope is archived, and audit it. Raises ``TrialFailed``."""
    async with place.api() as api:
        objects = place.objects(api)
        event = await _until(lambda: _succeeded(objects))
    envelope, files = event["spec"]["envelopeID"], event["status"]["documents"]
    print(f"EnvelopeEvent/{event['metadata']['name']} is Succeeded, {event['status']['reason']}", flush=True)
    manifest = event["status"]["archive"]["manifest"]
    keys = {"AWS_ACCESS_KEY_ID": place.access_key, "AWS_SECRET_ACCESS_KEY": place.secret_key}
    # It has its own event loop.
    arguments = [manifest, "--endpoint", place.s3, "--region", REGION, "--path-style"]
    if await asyncio.to_thread(verify.main, arguments, keys, sys.stdout) != verify.INTACT:
        raise TrialFailed(f"the archive of envelope {envelope} is not as it must be")
    print(f"envelope {envelope} is archived: {len(files)} files beside {manifest}", flush=True)


def trial_objects(place: Place, sender: str, user: User, callback_token: str) -> list[dict[str, Any]]:
    """Return what the Job applies, in this order; ``sender`` is the name of the Sender."""
    return [*_secrets(place, callback_token), *_resources(place, sender), *_sender(sender, user)]


async def _succeeded(objects: NamespaceObjects) -> dict[str, Any] | None:
    found = [
        each for each in await objects.list("envelopeevents") if each["status"].get("phase") == "Succeeded"
    ]
    return max(found, key=lambda each: str(each["metadata"]["creationTimestamp"]), default=None)


async def _until(question: Callable[[], Awaitable[T | None]]) -> T:
    while (answer := await question()) is None:  # noqa: ASYNC110 - another process gives no event to wait for
        await asyncio.sleep(INTERVAL)
    return answer


async def _until_possible(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call until there is a server."""

    async def attempt() -> T | None:
        try:
            return await call()
        except httpx.TransportError:
            return None

    return await _until(attempt)


def _secrets(place: Place, callback_token: str) -> list[dict[str, Any]]:
    return [
        _secret("contracts-key", "archive", accessKeyId=place.access_key, secretAccessKey=place.secret_key),
        _secret("acme-callback", "callback", token=callback_token),
        _secret("acme-mail", "smtp", host=place.mail_host, port=str(place.mail_port), tls="none"),
    ]


def _resources(place: Place, sender: str) -> list[dict[str, Any]]:
    archive = {
        "bucket": BUCKET,
        "endpoint": place.s3,
        "region": REGION,
        "forcePathStyle": True,
        "credentialsSecretRef": {"name": "contracts-key"},
    }
    mails = {
        "smtpSecretRef": {"name": "acme-mail"},
        "from": "counterfoil@acme.example",
        "administrators": [ADMINISTRATOR],
    }
    return [
        _own("Archive", BUCKET, s3=archive),
        _own(
            "Organization",
            ORGANIZATION,
            baseURL=place.esaw,
            callback={"tokenSecretRefs": [{"name": "acme-callback", "key": "token"}]},
            archiveRef={"name": BUCKET},
            defaultSenderRef={"name": sender},
            notifications=mails,
        ),
    ]


def _sender(name: str, user: User) -> list[dict[str, Any]]:
    return [
        _secret(SENDER_KEY, "token", token=user.token),
        _own(
            "Sender",
            name,
            organizationRef={"name": ORGANIZATION},
            userID=user.user_id,
            email=user.email,
            tokenSecretRef={"name": SENDER_KEY, "key": "token"},
        ),
    ]


def _own(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "counterfoil.dev/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _secret(name: str, use: str, **values: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {USE_LABEL: use}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}
