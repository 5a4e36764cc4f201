"""
``python -m counterfoil.cli.create_sealing_key``: create the Secret with the first sealing key, if it is
absent.

The chart runs it before each installation and upgrade, so the key is in no output of Helm. Its only right is
to create Secrets. It reads no Secret: the refusal tells it that one exists, and that one stays as it is. A
Secret with this name and no key stays too, and the processes that mount it report it.
"""

import asyncio
import base64
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from counterfoil import logs
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.errors import AlreadyExists, ApiError, NotConfigured
from counterfoil.kube.secret import USE_LABEL
from counterfoil.sealing import KEY_BYTES, key_hash
from counterfoil.settings import CreateSealingKeySettings, load
from counterfoil.worker_processes.sandbox import hide_memory

_log = logging.getLogger(__name__)

KEY_ID_PREFIX = "0-generated-"
"""Begin of the key's id. It sorts before every year, so the key that a rotation adds is the last and
seals."""

ID_CHARACTERS = 16
"""Number of characters of the key's hash in its id: another key never has the same id. What was sealed with a
key that is lost then names a missing key, and does not look like data that somebody changed."""

USE = {USE_LABEL: "sealing"}
"""Label of the Secret. No reference in a resource is allowed to read a Secret for this use."""


def sealing_key_secret(
    name: str, labels: Mapping[str, str], random: Callable[[int], bytes]
) -> dict[str, Any]:
    """Return the Secret. ``random`` returns as many random bytes as it is asked for."""
    key = random(KEY_BYTES)
    key_file = base64.b64encode(key)
    return {
        "metadata": {"name": name, "labels": {**labels, **USE}},
        "type": "Opaque",
        # A rotation adds a Secret. Without this key, every sealed token would be unreadable.
        "immutable": True,
        "data": {f"{KEY_ID_PREFIX}{key_hash(key)[:ID_CHARACTERS]}": base64.b64encode(key_file).decode()},
    }


async def create(
    kube: KubeClient, name: str, labels: Mapping[str, str], random: Callable[[int], bytes] = os.urandom
) -> bool:
    """Create the Secret, and return whether it was absent. Raises ``ApiError``."""
    try:
        await kube.create_secret(sealing_key_secret(name, labels, random))
    except AlreadyExists:
        return False
    return True


async def run(settings: CreateSealingKeySettings) -> None:
    """Create the Secret, and say whether it was absent. Raises ``ApiError`` and ``NotConfigured``."""
    assert settings.secret is not None  # noqa: S101 - the settings' check refuses None
    labels = dict(each.split("=", 1) for each in settings.labels.split(",") if each)
    async with connect(namespace=settings.namespace) as kube:
        is_new = await create(kube, settings.secret, labels)
    outcome = "has a new sealing key" if is_new else "exists and stays as it is"
    _log.info("the Secret %s %s", settings.secret, outcome)


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run as a program; return the exit status."""
    settings = load(CreateSealingKeySettings, argv, environ)
    logs.configure(settings.log_level, settings.log_format)
    hide_memory()
    try:
        asyncio.run(run(settings))
    except (NotConfigured, ApiError) as trouble:
        # The person who reads the Job's log can fix this error: no stack trace.
        _log.critical("the Secret %s cannot be created: %s", settings.secret, trouble)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
