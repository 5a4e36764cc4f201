"""
docs/start.md, typed as it is: from a clone to an archived envelope on a whole node, and to policy Delete.

The node is a new one, since the page installs the first release into a cluster. What a person does in eSAW
is done to the stand-in: pasting the callback URL, and sending and signing an envelope.
"""

import json
import os
import re
import shlex
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sandbox.controlplane.binaries import ensure
from sandbox.node.images import IMAGE, SANDBOX_IMAGE
from sandbox.node.node import Node
from sandbox.node.settings import ADDRESS
from tests.support.console_blocks import (
    ConsoleCommand,
    Typed,
    console_commands,
    missing_lines,
    protocol,
    report,
    typed,
)
from tests.support.neighbours import BUCKET, ESAW_PORT, S3_PORT, Neighbours
from tests.support.scenes.fresh_clone import fresh_clone
from tests.support.scenes.release import neighbour

PAGE_SECONDS = 1800.0
FIRST_ENVELOPE_SECONDS = 1800.0
"""From the clone to the first archived envelope, without the image's build and without a person's time."""
GIT_STATUS = ConsoleCommand("git status --porcelain --untracked-files=all")
EXPORTED = re.compile(r"export ([A-Z0-9_]+)=")
RESOLVING = """
mount --bind {resolver} /etc/resolv.conf
exec "$@"
"""


@dataclass
class Reader:
    """A person at a clone, whose machine resolves the names of the cluster."""

    node: Node
    neighbours: Neighbours
    clone: Path
    clone_seconds: float
    environment: Mapping[str, str]
    values: dict[str, str] = field(default_factory=dict)
    """Values of the variables that the page exports, which the reader replaces."""

    async def type(self, commands: Sequence[ConsoleCommand]) -> Typed:
        """Type these, and hold the page to what it says that they print."""
        resolver = self.clone.parent / "resolv.conf"
        resolver.write_text(f"nameserver {ADDRESS}\n")
        view = RESOLVING.format(resolver=shlex.quote(str(resolver)))
        within = ["unshare", "--mount", "--propagation=private", "sh", "-ec", view, "sh"]
        own = [ConsoleCommand(self._own(each.text), each.output) for each in commands]
        done = await typed(own, self.clone, self.environment, seconds=PAGE_SECONDS, within=within)
        assert done.status == 0, report(own, done)
        print(protocol(own, done))
        for command, printed in zip(own, done.printed, strict=True):
            assert missing_lines(command.output, printed) == [], report(own, done)
        return done

    def _own(self, command: str) -> str:
        exported = EXPORTED.match(command)
        name = exported[1] if exported is not None else ""
        return f"export {name}={shlex.quote(self.values[name])}" if name in self.values else command


@pytest.fixture(scope="module")
async def reader(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reader]:
    """A node with the images, with eSAW and S3 on it, and no Counterfoil."""
    # In the node's network nothing can be downloaded any more.
    programs = await ensure("helm", "kubectl")
    folder = tmp_path_factory.mktemp("start")
    began = time.monotonic()
    clone = fresh_clone(folder)
    clone_seconds = time.monotonic() - began
    async with Node() as node:
        await node.images()
        neighbours = Neighbours(node.kubectl, SANDBOX_IMAGE, node.folder)
        await neighbours.settle()
        try:
            search = [str(each.parent) for each in programs.values()]
            environment = {
                "PATH": os.pathsep.join([*search, os.environ["PATH"]]),
                "HOME": str(folder),
                "KUBECONFIG": str(node.kubeconfig),
            }
            yield Reader(node, neighbours, clone, clone_seconds, environment)
        finally:
            neighbours.close()


def chart_values(node: Node) -> str:
    """The reader's values: the imported image, and the way to private addresses."""
    repository, _, tag = IMAGE.rpartition(":")
    values = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "networkPolicy": {
            "egress": {
                "dns": {"to": [node.name_server]},
                "esaw": {"to": [neighbour("esaw")], "ports": [ESAW_PORT]},
                "archives": {"to": [neighbour("s3")], "ports": [S3_PORT]},
            }
        },
    }
    return json.dumps(values)


def seconds_of(commands: Sequence[ConsoleCommand], done: Typed, *, first: str, last: str) -> float:
    """Return how long the commands took, from one to another, each named by its beginning."""
    (begin,) = (at for at, each in enumerate(commands) if each.text.startswith(first))
    (end,) = (at for at, each in enumerate(commands) if each.text.startswith(last))
    return sum(done.seconds[begin : end + 1])


async def test_the_page_leads_from_a_clone_to_an_archived_envelope_and_to_delete(reader: Reader) -> None:
    commands = console_commands((reader.clone / "docs" / "start.md").read_text("utf-8"))
    (sent,) = (at for at, each in enumerate(commands) if each.text.startswith("export ENVELOPE="))
    async with reader.neighbours.esaw() as esaw:
        jane = await esaw.add_user(email="jane.doe@acme.example", given_name="Jane", surname="Doe")
    files = {
        "values.json": chart_values(reader.node),
        "token": jane.token,
        "s3": reader.neighbours.secret_key,
    }
    for name, content in files.items():
        (reader.clone.parent / name).write_text(content)
    reader.values |= {
        "VALUES": str(reader.clone.parent / "values.json"),
        "CALLBACK_URL": "http://counterfoil-receiver.contracts.svc.cluster.local",
        "ESAW_URL": reader.neighbours.esaw_url,
        "USER_ID": jane.user_id,
        "API_TOKEN_FILE": str(reader.clone.parent / "token"),
        "S3_ENDPOINT": reader.neighbours.s3_url,
        "S3_REGION": "us-east-1",
        "S3_BUCKET": BUCKET,
        "S3_KEY_ID": reader.neighbours.access_key,
        "S3_SECRET_FILE": str(reader.clone.parent / "s3"),
    }
    before = await reader.type([GIT_STATUS])
    done = await reader.type(commands[:sent])
    trial = seconds_of(
        commands, done, first="helm install trial", last="kubectl -n trial logs trial-archived"
    )
    installed = sum(
        done.seconds[next(at for at, each in enumerate(commands) if EXPORTED.match(each.text)) : sent]
    )

    (url,) = (
        out for each, out in zip(commands, done.printed, strict=False) if "counterfoil url" in each.text
    )
    pasted = re.search(r"http\S+", url)
    assert pasted is not None
    async with reader.neighbours.esaw() as esaw:
        await esaw.set_default_callbacks(completed=pasted[0], status_change=None)
        envelope = await esaw.add_envelope(sender=jane, status="Active")
        await esaw.complete(envelope)
        await esaw.callbacks_settled()
    reader.values["ENVELOPE"] = envelope
    # Another shell: the variables of the first one are exported again.
    exported = [each for each in commands[:sent] if EXPORTED.match(each.text)]
    after = [*exported, *commands[sent:]]
    done_after = await reader.type([*after, GIT_STATUS])
    first = seconds_of(after, done_after, first="export ENVELOPE=", last="kubectl -n $NAMESPACE wait ee")
    assert done_after.printed[-1] == before.printed[0], "files are left in the clone"
    print(f"{reader.clone_seconds:7.1f} s  the clone")
    print(f"{trial:7.1f} s  then to the archived envelope of the trial")
    print(f"{installed + first:7.1f} s  or to the first envelope of the installation")
    assert reader.clone_seconds + max(trial, installed + first) < FIRST_ENVELOPE_SECONDS
    async with reader.neighbours.esaw() as esaw:
        assert await esaw.exists(envelope), "it was archived in the shadow period"
        assert await esaw.delete_calls(envelope) == []
    assert any(envelope in each for each in await reader.neighbours.stored())
