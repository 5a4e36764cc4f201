"""kubectl and the API server accept the pages' commands and manifests unchanged."""

import json
import re
import shlex
from pathlib import Path

import pytest

from sandbox.controlplane.kubectl import Kubectl
from tests.support.builders import ENVELOPE

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
async def test_what_is_to_be_typed_about_an_event_works_as_it_is_written(
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
