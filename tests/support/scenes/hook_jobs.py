"""
Jobs of Helm hooks where no kubelet is: each runs its command here, with the rights of its ServiceAccount.

``helm install`` waits for such a Job, so a test needs this around every command of Helm that runs hooks.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from release.helm import Helm
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.objects import NamespaceObjects, ObjectError
from sandbox.controlplane.processes import CommandResult, run

PAUSE = 0.1
"""Seconds between lists of the Jobs."""


@dataclass(frozen=True, kw_only=True)
class HelmWithHookJobs(Helm):
    """A Helm that runs the Jobs of its hooks; each command that has hooks names its namespace by ``-n``."""

    plane: ControlPlane

    async def __call__(self, *arguments: object, values: Mapping[str, Any] | None = None) -> str:
        """Run one command; ``values`` go in as ``--values -``."""
        if arguments[0] not in ("install", "upgrade", "rollback"):
            return await super().__call__(*arguments, values=values)
        async with hook_jobs(self.plane, str(arguments[arguments.index("-n") + 1])):
            return await super().__call__(*arguments, values=values)


@asynccontextmanager
async def hook_jobs(plane: ControlPlane, namespace: str) -> AsyncIterator[dict[str, CommandResult]]:
    """Run the Jobs of hooks in a namespace until the block ends; yield their results by the Jobs' uid."""
    results: dict[str, CommandResult] = {}
    task = asyncio.create_task(_run_all(plane, namespace, results))
    try:
        yield results
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def _run_all(plane: ControlPlane, namespace: str, results: dict[str, CommandResult]) -> None:
    objects = plane.objects(namespace)
    while True:
        for job in await objects.list("job"):
            is_hook = "helm.sh/hook" in job["metadata"].get("annotations", {})
            if is_hook and job["metadata"]["uid"] not in results:
                results[job["metadata"]["uid"]] = result = await _run(plane, namespace, job)
                await _finish(objects, job, result)
        await asyncio.sleep(PAUSE)


async def _run(plane: ControlPlane, namespace: str, job: Mapping[str, Any]) -> CommandResult:
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    kubeconfig = await plane.kubeconfig_for(pod["serviceAccountName"], namespace)
    variables = {each["name"]: each["value"] for each in container["env"]}
    # In a pod, both are files that the kubelet mounts.
    variables |= {"KUBECONFIG": str(kubeconfig), "COUNTERFOIL_NAMESPACE": namespace}
    # As the image's entry point, `python -m`.
    return await run([sys.executable, "-m", *container["args"]], environment=variables)


async def _finish(objects: NamespaceObjects, job: Mapping[str, Any], result: CommandResult) -> None:
    """Write what the Job controller writes, and the error as the message: Helm reports it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    is_complete = result.code == 0
    kinds = ("SuccessCriteriaMet", "Complete") if is_complete else ("FailureTarget", "Failed")
    status: dict[str, Any] = {
        "startTime": now,
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "lastTransitionTime": now,
                "lastProbeTime": now,
                "message": result.err[-1000:],
            }
            for kind in kinds
        ],
    }
    status |= {"succeeded": 1, "completionTime": now} if is_complete else {"failed": 1}
    try:
        await objects.merge_status("job", job["metadata"]["name"], status)
    except ObjectError as refusal:
        # Helm gave up waiting and deleted it.
        if "not found" not in str(refusal):
            raise
