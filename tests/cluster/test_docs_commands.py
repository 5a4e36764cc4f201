"""kubectl and the API server accept the pages' commands and manifests unchanged."""

import json
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.kubectl import Kubectl
from sandbox.controlplane.ports import free_port
from sandbox.controlplane.processes import run
from tests.support.builders import ENVELOPE
from tests.support.console_blocks import ConsoleCommand, console_commands, missing_lines, report, typed
from tests.support.scenes.fresh_clone import fresh_clone, replace_in

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
EXAMPLES = [ROOT / "docs" / "first-minutes.yaml", *sorted((ROOT / "docs" / "examples").glob("*.yaml"))]

COMMAND = re.compile(r"kubectl (?:label|annotate|patch) (?:-[^`\n#|]*?)?ee [^`\n#|]+")
COMMANDS = sorted({found[0].strip() for page in PAGES for found in COMMAND.finditer(page.read_text("utf-8"))})

NAME = f"{ENVELOPE}-0123456789abcdef"
EVENT = {
    "apiVersion": "counterfoil.dev/v1beta1",
    "kind": "EnvelopeEvent",
    "metadata": {"name": NAME},
    "spec": {
        "organizationRef": {"name": "acme"},
        "envelopeID": ENVELOPE,
        "action": "envelopeFinished",
        "origin": "Manual",
    },
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_the_commands_about_an_event_work_as_they_are_written(
    kubectl: Kubectl, namespace: str, command: str
) -> None:
    await kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(EVENT))
    failed = '{"status":{"phase":"Failed","notice":{"id":"n","state":"Failed"}}}'
    await kubectl(
        "patch", f"ee/{NAME}", "-n", namespace, "--subresource=status", "--type=merge", "-p", failed
    )
    _, *arguments = shlex.split(command.replace("NAME", NAME))
    said = await kubectl(*arguments, "-n", namespace)
    assert f"envelopeevent.counterfoil.dev/{NAME}" in said


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
async def test_every_example_is_taken_by_the_api_server(
    kubectl: Kubectl, namespace: str, example: Path
) -> None:
    assert "created" in await kubectl("apply", "-n", namespace, "--dry-run=server", "-f", str(example))


# -- The steps of the demo -----------------------------------------------------------------------------------

FIRST_MINUTES = re.compile(r"^## The same by hand$(.*)", re.MULTILINE | re.DOTALL)
FIRST_MINUTES_SECONDS = 600.0


@dataclass(frozen=True)
class Clone:
    """A fresh clone, and the folder and environment of the person who types there."""

    folder: Path
    archive: Path
    environment: dict[str, str]


@pytest.fixture
async def clone(tmp_path: Path) -> AsyncIterator[Clone]:
    """A clone in which the ports and the archive's folder are this test's own; its cluster ends with it."""
    folder = fresh_clone(tmp_path)
    archive = tmp_path / "counterfoil-archive"
    stand_in, receiver, private, controller = (free_port() for _ in range(4))
    moved = {":8090": f":{stand_in}", "/tmp/counterfoil-archive": str(archive)}
    replace_in(folder / "docs" / "first-minutes.yaml", moved)
    others = {
        "--port 8090": f"--port {stand_in}",
        ":8080": f":{receiver}",
        ":9090": f":{controller}",
        ":9091": f":{private}",
    }
    replace_in(folder / "docs" / "demo.md", {**moved, **others})
    programs = await ensure("kubectl", "etcd", "kube-apiserver")
    environment = {
        **os.environ,
        "PATH": f"{programs['kubectl'].parent}:{os.environ['PATH']}",
    }
    for name in ("KUBECONFIG", "COUNTERFOIL_LISTEN", "COUNTERFOIL_PRIVATE_LISTEN"):
        environment.pop(name, None)
    try:
        yield Clone(folder, archive, environment)
    finally:
        down = [sys.executable, "-m", "sandbox.controlplane.cluster", "down"]
        await run(down, cwd=folder, environment=environment)


async def test_the_steps_of_the_demo_typed_in_a_fresh_clone_end_with_a_filed_envelope(clone: Clone) -> None:
    section = FIRST_MINUTES.search((clone.folder / "docs" / "demo.md").read_text("utf-8"))
    assert section is not None
    commands = console_commands(section[1])
    # The last commands remove the archive again.
    end = next(at for at, each in enumerate(commands) if each.text.startswith("kill "))
    git_status = ConsoleCommand("git status --porcelain --untracked-files=all")
    commands = [git_status, *commands, git_status]
    end += 1
    commands.insert(end, ConsoleCommand(f"find {clone.archive} -type f -printf '%f\\n'"))
    done = await typed(commands, clone.folder, clone.environment, seconds=FIRST_MINUTES_SECONDS)
    assert done.status == 0, report(commands, done)
    assert len(done.printed) == len(commands)
    for command, printed in zip(commands, done.printed, strict=True):
        assert missing_lines(command.output, printed) == [], report(commands, done)
    filed = done.printed[end].splitlines()
    assert {"counterfoil.json", "counterfoil.sha256"} < set(filed)
    assert len(filed) > 3
    assert not clone.archive.exists()
    assert done.printed[-1] == done.printed[0], "files are left in the clone"
