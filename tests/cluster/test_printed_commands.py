"""kubectl, the plugin and the API server accept each command about a reason as it is printed."""

import json
import re
import shlex
from functools import partial

import pytest

from counterfoil.i18n.commands import commands_in
from counterfoil.kube.secret import Placeholder, Secret, SecretUse, create_command
from counterfoil.resources import Language
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.kubectl import Kubectl
from sandbox.controlplane.processes import CommandResult, command_environment, run
from tests.support.advice import (
    ARCHIVE,
    EVENT,
    IMPORT,
    NAMESPACE,
    ORGANIZATION,
    SECRET,
    SENDER,
    catalogue_commands,
    printed_commands,
    type_line,
)
from tests.support.builders import ENVELOPE
from tests.support.scenes.plugin import BIN

WRITES = {"annotate", "create", "delete", "label", "patch"}
WAITS = {"sweep"}
"""Commands of the plugin that wait for a controller."""

PRINTED = sorted({each.line for each in printed_commands()})
OF_KUBECTL = [each for each in PRINTED if not each.startswith("kubectl counterfoil ")]
OF_PLUGIN = [
    each
    for each in PRINTED
    if each not in OF_KUBECTL
    and not WAITS & set(each.split())
    and ("--reason" not in each or "--reason NameOccupied" in each)
]
"""The commands about failed events differ in the reason only."""
LEASE = "counterfoil-shard-0-of-1"
EXAMPLES = {
    "archive": ARCHIVE,
    "envelopeevent": EVENT,
    "lease": LEASE,
    "secret": SECRET,
    "sender": SENDER,
}
"""Objects that stand for NAME or LEASE."""
COPIED = f"{ENVELOPE}-fedcba9876543210"
"""An event whose copy is missing."""


def owned(kind: str, name: str, **spec: object) -> dict[str, object]:
    return {"apiVersion": "counterfoil.dev/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}


ORGANIZATION_REF = {"organizationRef": {"name": ORGANIZATION}}
CALLBACK = {"tokenSecretRefs": [{"name": "callback", "key": "token"}]}
OAUTH = {
    "clientID": "counterfoil",
    "clientSecretRef": {"name": "oauth", "key": "secret"},
    "publicURL": "https://sign.acme.example",
}
OBJECTS = [
    owned("Archive", ARCHIVE, filesystem={"root": "/archive"}),
    owned("Archive", "worm", filesystem={"root": "/worm"}),
    owned(
        "Organization",
        ORGANIZATION,
        baseURL="https://esaw.acme.example",
        archiveRef={"name": ARCHIVE},
        copies=[{"archiveRef": {"name": "worm"}, "required": False}],
        callback=CALLBACK,
        oauth=OAUTH,
    ),
    owned("Sender", SENDER, **ORGANIZATION_REF, userID="5a1ee9a5-0000-4000-8000-000000000001"),
    owned("Import", IMPORT, **ORGANIZATION_REF, **{"from": "2020-01-01"}),
    *(
        owned(
            "EnvelopeEvent",
            name,
            **ORGANIZATION_REF,
            envelopeID=ENVELOPE,
            action="envelopeFinished",
            origin="Manual",
        )
        for name in (EVENT, COPIED)
    ),
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}},
    {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE}},
]
FOR_PLACEHOLDERS = {
    ("copy", "NAME"): ("copy", COPIED),
    ("suspend", "import", "NAME"): ("suspend", "import", IMPORT),
    ("retry", "--all-failed", "--reason", "REASON"): ("retry", "--all-failed", "--reason", "EsawFailing"),
}
"""Commands of the plugin in texts, and what a person types."""
OF_A_NEW_IMPORT = {"ORGANIZATION": ORGANIZATION, "DATE": "2019-01-31", "ARCHIVE": ARCHIVE}
"""The words that a person types for the placeholders of a command that creates an Import."""


def of_plugin(reason: str, words: list[str]) -> list[str]:
    """Return the words that a person types; each Import is another one, which counts only."""
    if words[0] != "import":
        return list(FOR_PLACEHOLDERS[tuple(words)])
    filled = [OF_A_NEW_IMPORT.get(each, each) for each in words]
    return [*filled, "--name", f"after-{reason.lower()}", "--dry-run"]


ARCHIVED = {
    "phase": "Succeeded",
    "archive": {"ref": {"name": ARCHIVE}, "manifest": "file:///archive/counterfoil.json"},
    "conditions": [
        {
            "type": each,
            "status": "True",
            "reason": "Done",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for each in ("Validated", "Collected", "Archived", "Cleaned")
    ],
}
"""Status of that event."""


@pytest.fixture(scope="module", autouse=True)
async def objects(plane: ControlPlane) -> None:
    await plane.namespace(NAMESPACE)
    for each in OBJECTS:
        await plane.kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(each))
    where = ["-n", NAMESPACE, "ee", COPIED, "--subresource=status", "--type=merge"]
    await plane.kubectl("patch", *where, "-p", json.dumps({"status": ARCHIVED}))


async def typed_of_plugin(plane: ControlPlane, words: list[str]) -> CommandResult:
    environment = {**command_environment(), "KUBECONFIG": str(plane.kubectl.kubeconfig)}
    return await run([BIN / "kubectl-counterfoil", *words], environment=environment)


async def typed(kubectl: Kubectl, *words: str, stdin: str | None = None) -> str:
    """Type a command of kubectl; what it would write, the API server checks and does not store."""
    verb = next(each for each in words if not each.startswith("-") and each != NAMESPACE)
    if verb == "edit":
        # An editor would wait for a person; it begins with the same object.
        words = tuple("get" if each == verb else each for each in words)
    is_written = verb in WRITES and not {"--dry-run=client", "--local"} & set(words)
    return await kubectl(*words, *(["--dry-run=server"] if is_written else []), stdin=stdin)


VALUES = {
    "a Windows account": r"CORP\berta",
    "a backslash before n": r"x\ny",
    "JSON": '{"type": "service_account", "key": "a\\nb"}',
    "several lines": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    "signs of the shell": 'a "b" $HOME `id` !c #d',
}


@pytest.mark.parametrize("name", VALUES)
async def test_a_value_is_stored_as_it_is_typed_for_its_placeholder(kubectl: Kubectl, name: str) -> None:
    secret = f"typed-{list(VALUES).index(name)}"
    printed = create_command(secret, {"value": Placeholder.PASSWORD}, SecretUse.ARCHIVE)
    message = f"Archive/{ARCHIVE}: Secret/{secret} does not exist. Put it there (type `{printed}`)."
    (command,) = commands_in(message, "ArchiveSecretMissing", NAMESPACE)
    program = shlex.join([str(kubectl.program), f"--kubeconfig={kubectl.kubeconfig}"])
    script = f'kubectl() {{ {program} "$@"; }}\n{command.line.replace(Placeholder.PASSWORD, VALUES[name])}'
    environment = {**command_environment(), "HOME": str(kubectl.home)}
    ended = await run(["bash", "-c", script], environment=environment)
    assert (ended.code, ended.err) == (0, "")
    stored = Secret.parse(json.loads(await kubectl("-n", NAMESPACE, "get", "secret", secret, "-o", "json")))
    assert stored.labels == {"counterfoil.dev/use": "archive"}
    assert stored.data == {"value": VALUES[name].encode()}


@pytest.mark.parametrize("line", OF_KUBECTL)
async def test_the_api_server_accepts_each_command_of_kubectl(kubectl: Kubectl, line: str) -> None:
    await type_line(partial(typed, kubectl), line.replace(" NAME", f" {SENDER}"))


@pytest.mark.parametrize(("reason", "line"), sorted(set(catalogue_commands(Language.ENGLISH))))
async def test_the_api_server_accepts_each_command_in_a_text_about_a_reason(
    plane: ControlPlane, kubectl: Kubectl, reason: str, line: str
) -> None:
    _, verb, *words = shlex.split(line)
    if verb == "counterfoil":
        # The text only names `why`, which has its own tests.
        if words != ["why"]:
            ended = await typed_of_plugin(plane, ["-n", NAMESPACE, *of_plugin(reason, words)])
            assert (ended.code, ended.err) == (0, ""), ended.out
        return
    name = EXAMPLES.get(words[0], IMPORT)
    text = re.sub("NAME|LEASE", name, " ".join(words)).replace("=USE", "=token")
    await typed(kubectl, "-n", NAMESPACE, verb, *shlex.split(text))


@pytest.mark.parametrize("line", OF_PLUGIN)
async def test_the_plugin_carries_out_each_of_its_commands(plane: ControlPlane, line: str) -> None:
    _, _, *words = shlex.split(line)
    ended = await typed_of_plugin(plane, words)
    assert (ended.code, ended.err) == (0, "")
