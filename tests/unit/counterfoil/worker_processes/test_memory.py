"""The memory that all processes of the controller's pod may have together."""

import subprocess
import sys
from pathlib import Path

import yaml

from counterfoil.archives import tags_subprocess
from counterfoil.signatures import worker_pool

MIB = 1024 * 1024
UNITS = {"Mi": MIB, "Gi": 1024 * MIB}
VALUES = Path(__file__).parents[4] / "charts/counterfoil/values.yaml"


def size(quantity: str) -> int:
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def signature_worker_bytes() -> int:
    """Ask another process: the worker's module leaves a library out of its process."""
    script = "from counterfoil.signatures.worker.__main__ import MAX_MEMORY_BYTES as most; print(most)"
    return int(subprocess.run([sys.executable, "-I", "-c", script], check=True, capture_output=True).stdout)


def fork_server_bytes(module: str) -> int:
    """The memory that a fork server has for itself after its imports, without the files of libraries."""
    script = f"import {module}; print(open('/proc/self/smaps_rollup').read())"
    told = subprocess.run(
        [sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True
    ).stdout
    return int(told.split("Anonymous:")[1].split()[0]) * 1024


def test_the_limits_of_all_workers_and_the_controllers_own_memory_fit_into_the_pod() -> None:
    resources = yaml.safe_load(VALUES.read_text())["controller"]["resources"]
    workers = worker_pool.PROCESSES * signature_worker_bytes() + tags_subprocess.MAX_MEMORY_BYTES
    fork_servers = worker_pool.PROCESSES * fork_server_bytes("counterfoil.signatures.worker.__main__")
    fork_servers += fork_server_bytes("counterfoil.archives.tags_subprocess")
    assert workers + fork_servers + size(resources["requests"]["memory"]) <= size(
        resources["limits"]["memory"]
    )
