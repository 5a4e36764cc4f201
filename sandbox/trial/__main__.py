"""
``python -m sandbox.trial mail|sign|check``: the trial's processes, with the addresses in the environment.

``mail`` serves until it is stopped. ``sign`` and ``check`` end, with the exit status 0 if all went well.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping

from sandbox.trial.envelope import Place, TrialFailed, check, sign
from sandbox.trial.mail_catcher import catch_mails

ACTIONS: Mapping[str, Callable[[Place], Awaitable[None]]] = {"sign": sign, "check": check}


async def _run(action: str) -> None:
    if action == "mail":
        await catch_mails()
    else:
        async with asyncio.timeout(float(os.environ.get("TRIAL_SECONDS", "300"))):
            await ACTIONS[action](Place.read(os.environ))


def main() -> int:
    """Do what the first argument names; return the exit status."""
    action = " ".join(sys.argv[1:])
    if action not in {"mail", *ACTIONS}:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        asyncio.run(_run(action))
    except TrialFailed as failed:
        print(f"trial: {failed}", file=sys.stderr)
        return 1
    except TimeoutError:
        print("trial: not done in time; `kubectl get events` and the pods' logs say more", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
