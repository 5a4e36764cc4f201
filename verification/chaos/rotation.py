"""
The rotation of the sealing keys in a round, as docs/consent.md describes it: mount a new key, seal the key of
every sender again with it, and remove the old ones. The commands meet the faults of the API server.

A person waits five minutes between the first two steps. Here the clock of the command is ahead by that, since
every process reads the folder again at its next use of a key.
"""

import asyncio
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.controlplane.processes import run
from sandbox.environment.local import LocalEnvironment
from sandbox.environment.processes import REPOSITORY

CLOCK_SECONDS: Final = 420.0
"""Seconds by which the clock of the command is ahead: five minutes, and what the clock of a controller is."""
SETTLED_SECONDS: Final = 600.0
"""Age of the file of a key that the pages use at once."""
TRIES: Final = 5
"""Number of tries while faults strike."""
LAST_TRIES: Final = 60
"""Number of tries when all faults have ended. The controllers report a new key within ten seconds."""
PAUSE_SECONDS: Final = 1.0
COMMAND_SECONDS: Final = 60.0
_DIGEST: Final = re.compile(r"add --digest (\w+)")
_NOTHING: Final = "no key to seal again"


@dataclass(eq=False)
class Rotation:
    """Rotates the sealing keys of a round."""

    environment: LocalEnvironment
    kubeconfig: Path
    """That of an account with the rights of the command."""
    number: int = 0
    """Number of keys that were added."""

    async def begin(self, *, is_settled: bool) -> None:
        """Add a key, and try to seal all again. ``is_settled``: the pages use the key at once."""
        self.number += 1
        name = f"key-{self.number:03}"
        self.environment.sealing_key(name)
        if is_settled:
            since = time.time() - SETTLED_SECONDS
            os.utime(self.environment.sealing_keys / name, (since, since))
        await self._seal_again(TRIES)

    async def end(self) -> tuple[str, ...]:
        """Seal all again and remove the old keys, when all faults have ended; return what could not be
        done."""
        if not self.number:
            return ()
        if (problem := await self._seal_again(LAST_TRIES)) is not None:
            return (f"sealing keys: {problem}",)
        *old, _ = sorted(self.environment.sealing_keys.iterdir())
        for each in old:
            each.unlink()
        return ()

    async def _seal_again(self, tries: int) -> str | None:
        """Run the command until nothing is left; return its last output if something is."""
        said = ""
        for _ in range(tries):
            code, said = await self._reseal({})
            if code == 0 and _NOTHING in said:
                return None
            if code == 0 and (digest := _DIGEST.search(said)):
                await self._reseal({"digest": digest[1]})
            else:
                await asyncio.sleep(PAUSE_SECONDS)
        return said.strip()[-300:]

    async def _reseal(self, settings: Mapping[str, str]) -> tuple[int, str]:
        """Run the command; return its exit status and what it says."""
        clock = self.environment.folder / "reseal.clock"
        clock.write_text(str(CLOCK_SECONDS))
        settings = {
            "namespace": self.environment.namespace,
            "sealing_keys": str(self.environment.sealing_keys),
            **settings,
        }
        variables = {key: value for key, value in os.environ.items() if not key.startswith("COUNTERFOIL_")}
        variables |= {"KUBECONFIG": str(self.kubeconfig), "PYTHONPATH": str(REPOSITORY)}
        variables |= {f"COUNTERFOIL_{key.upper()}": value for key, value in settings.items()}
        command = ["-m", "sandbox.environment.set_clock", str(clock), "counterfoil.cli.reseal"]
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                done = await run([sys.executable, *command], environment=variables)
        except TimeoutError:
            return 1, f"it did not end within {COMMAND_SECONDS:.0f} seconds"
        said = f"{done.out}{done.err}"
        with (self.environment.folder / "reseal.log").open("a") as log:
            log.write(said)
        return done.code, said
