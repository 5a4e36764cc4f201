"""
Helm with one kubeconfig or none, and nothing of the user's: no plugins, no repositories, no ~/.kube.

It renders the chart, installs, upgrades, rolls back and uninstalls it. The program is built on its first use.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.controlplane.binaries import Report, ensure, say
from sandbox.controlplane.processes import command_environment, run

CHART = Path(__file__).parents[1] / "charts" / "counterfoil"


class HelmError(Exception):
    """Helm ended with an error; the message is what it said."""


@dataclass(frozen=True)
class Helm:
    """``await helm("lint", CHART)`` returns what Helm printed, or raises HelmError."""

    program: Path
    home: Path
    """A folder for Helm's caches; it is created. It can be shared by several of these."""
    kubeconfig: Path | None = None
    """Without one, Helm can only lint and render."""

    async def __call__(self, *arguments: object, values: Mapping[str, Any] | None = None) -> str:
        """Run one command; ``values`` go in as ``--values -``."""
        given = () if values is None else ("--values", "-")
        ended = await run(
            [self.program, *arguments, *given],
            environment={
                **command_environment(),
                "HOME": str(self.home),
                "KUBECONFIG": str(self.kubeconfig or "/dev/null"),
            },
            stdin=None if values is None else json.dumps(values),
        )
        if ended.code != 0:
            raise HelmError(f"helm {' '.join(map(str, arguments))}: {ended.err.strip() or ended.out.strip()}")
        return ended.out


async def helm(home: Path, *, kubeconfig: Path | None = None, report: Report = say) -> Helm:
    """Return a Helm, which is built first if need be. Raises BuildError."""
    return Helm((await ensure("helm", report=report))["helm"], home, kubeconfig)
