"""
The programs of the archive contract, for ``gcs`` at a server of this machine.

``python -m tests.support.scenes.gcs_runs URL ...``: the rest is for ``archive_contract.runs``.
"""

import sys
from functools import partial

from counterfoil.archives.backends import gcs
from counterfoil.testing.archive_contract import runs

if __name__ == "__main__":
    gcs.OPENER = partial(gcs.open_gcs, address=sys.argv[1])
    runs.main(*sys.argv[2:])
