"""
kubectl with one kubeconfig, and nothing of the user's: no ~/.kube, no $KUBECONFIG, no proxy.
"""

from dataclasses import dataclass
from pathlib import Path

from sandbox.controlplane.processes import command_environment, run


class KubectlError(Exception):
    """Kubectl ended with an error; the message is what it said."""

    @property
    def is_not_found(self) -> bool:
        """Whether the API server does not have the object."""
        return "(NotFound)" in str(self)


@dataclass(frozen=True)
class Kubectl:
    """``await kubectl("get", "pods", "-n", "default")`` returns what kubectl printed, or raises
    KubectlError."""

    program: Path
    kubeconfig: Path
    home: Path
    """A folder for kubectl's caches; it is created. It can be shared by several of these."""

    async def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run one command; ``stdin`` is for ``-f -``."""
        ended = await run(
            [self.program, f"--kubeconfig={self.kubeconfig}", *arguments],
            environment={**command_environment(), "HOME": str(self.home)},
            stdin=stdin,
        )
        if ended.code != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {ended.err.strip() or ended.out.strip()}")
        return ended.out
