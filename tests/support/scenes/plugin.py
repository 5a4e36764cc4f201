"""``kubectl counterfoil`` typed at a terminal, in a namespace with a running controller."""

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterfoil.resources import Phase
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.processes import run
from tests.support.scenes.controller import ControllerScene, a_controller_scene

COUNTERFOIL = ["counterfoil.dev"]


READS: tuple[rbac.Rule, ...] = (
    {"apiGroups": COUNTERFOIL, "resources": ["*"], "verbs": ["get", "list", "watch"]},
)


ADMINISTERS: tuple[rbac.Rule, ...] = (
    {"apiGroups": COUNTERFOIL, "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "patch"]},
    {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["get", "list"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "list"]},
)


BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Answer:
    """Result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, read as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Terminal:
    """Somebody's terminal: their kubeconfig, kubectl and the plugin on PATH."""

    kubectl: Path
    kubeconfig: Path
    home: Path
    plugin: Path = BIN
    """Folder of the plugin, for PATH."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment of programs started here."""
        path = f"{self.plugin}:{self.kubectl.parent}:/usr/bin:/bin"
        return {"PATH": path, "HOME": str(self.home), "KUBECONFIG": str(self.kubeconfig)}

    async def __call__(self, *arguments: str) -> Answer:
        """Type ``kubectl counterfoil ...``; the namespace is the one of the kubeconfig's context."""
        ended = await run([self.kubectl, "counterfoil", *arguments], environment=self.environment)
        return Answer(ended.code, ended.out, ended.err)

    async def complete(self, *words: str) -> list[str]:
        """Completions that kubectl itself offers for the last word."""
        ended = await run([self.kubectl, "__complete", "counterfoil", *words], environment=self.environment)
        return [line for line in ended.out.splitlines() if not line.startswith(":")]


@asynccontextmanager
async def a_scene_with_people(plane: ControlPlane, folder: Path) -> AsyncIterator[ControllerScene]:
    """A namespace with a running controller, and two people."""
    async with a_controller_scene(plane, folder) as built:
        await built.local_environment.apply(
            *rbac.service_account_with_rules("administrator", ADMINISTERS),
            *rbac.service_account_with_rules("looker", READS),
        )
        await built.local_environment.ready("archive/dms", "organization/acme")
        yield built


async def terminal(scene: ControllerScene, name: str) -> Terminal:
    kubeconfig = await scene.local_environment.plane.kubeconfig_for(name, scene.local_environment.namespace)
    return Terminal(scene.local_environment.plane.kubectl.program, kubeconfig, scene.local_environment.folder)


async def refused(scene: ControllerScene) -> str:
    """An event that failed because eSAW refused what was asked, once."""
    envelope = scene.envelope()
    scene.esaw.fault("envelope", id=envelope, status=400, times=1)
    event = await scene.note(envelope)
    await scene.reaches(event, Phase.FAILED, "EsawRefused")
    return event
