"""Packages that tests need from Debian, which may be missing."""

import os
import subprocess
import sys
from pathlib import Path

ASKS = """
import asyncio, os
from concurrent.futures import ThreadPoolExecutor  # which nobody but root may be able to load later
from sandbox.packages import debian
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    asyncio.run(debian.ensure("no-such-package-1", "no-such-package-2"))
except debian.PackagesMissing as missing:
    print(missing)
"""


def test_a_user_who_is_not_root_gets_the_command_even_where_root_was_before(tmp_path: Path) -> None:
    lock = tmp_path / "counterfoil-debian.lock"
    lock.touch(mode=0o400)
    tmp_path.chmod(0o755)

    asked = subprocess.run(
        [sys.executable, "-c", ASKS],
        cwd=Path(__file__).parents[4],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert asked.stdout == (
        "Needed: no-such-package-1, no-such-package-2. On Debian, as root: apt-get update && apt-get install "
        "--no-install-recommends no-such-package-1 no-such-package-2\n"
    ), asked.stderr
