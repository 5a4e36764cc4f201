"""
The last step of the image's build: ``python -m release.image.slim /opt/counterfoil`` takes away what is never
used, compiles the rest, and dates everything alike.

What goes: the generated models and calls of the official Kubernetes client, both its sides, which are three
quarters of all and which Counterfoil does without (docs/decisions/0002), except those of Leases; scripts for
shells. Then every process is imported once, so that nothing is missing that is needed, except in an image for
another architecture, where nothing can run. Compiled files are
bound to the hash of their source and not to its date.
"""

import compileall
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

from release.image.install import is_foreign

UNUSED = (
    "kubernetes/client/models",
    "kubernetes/client/api",
    "kubernetes/aio/client/models",
    "kubernetes/aio/client/api",
)
LEASE_MODULES = frozenset(
    f"{name}.py"
    for name in (
        "__init__",
        "coordination_v1_api",
        "v1_api_resource",
        "v1_api_resource_list",
        "v1_delete_options",
        "v1_lease",
        "v1_lease_list",
        "v1_lease_spec",
        "v1_list_meta",
        "v1_managed_fields_entry",
        "v1_object_meta",
        "v1_owner_reference",
        "v1_preconditions",
        "v1_shard_info",
        "v1_status",
        "v1_status_cause",
        "v1_status_details",
    )
)
"""Modules of the asynchronous client that stay: the elections of the controllers need them."""
SHELLS = ("activate*", "Activate.ps1")
IMPORT_CHECK = """
import controller.__main__, kopf
import counterfoil.cli.create_sealing_key, counterfoil.cli.reseal, counterfoil.cli.verify
import importlib.util, webhook.__main__
from counterfoil.archives import ARCHIVE_KINDS, find_opener
from counterfoil.signatures import check
for module in webhook.__main__.PROCESSES.values():
    importlib.import_module(module)
for kind in ARCHIVE_KINDS:
    find_opener(kind)
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration, V1Lease
if importlib.util.find_spec("opentelemetry"):
    from opentelemetry.exporter.otlp.proto.http import trace_exporter
    from opentelemetry.sdk import trace
owner = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "b"}
V1Lease.from_dict({"metadata": {"ownerReferences": [owner], "managedFields": [{}]}, "spec": {}})
"""


def main(environment: Path) -> None:
    """Slim down a virtual environment."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    for folder in UNUSED:
        for module in (packages / folder).iterdir():
            # The package itself stays, almost empty: others import it by name.
            if module.name not in LEASE_MODULES and module.is_file():
                module.unlink()
    for pattern in SHELLS:
        for script in (environment / "bin").glob(pattern):
            script.unlink()
    if not is_foreign(os.environ.get("TARGETARCH", ""), platform.machine()):
        subprocess.run([environment / "bin" / "python", "-B", "-c", IMPORT_CHECK], check=True, cwd="/")
    for cache in list(packages.rglob("__pycache__")):
        shutil.rmtree(cache)
    compileall.compile_dir(packages, quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    date = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    for path in (environment, *environment.rglob("*")):
        os.utime(path, (date, date), follow_symlinks=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
