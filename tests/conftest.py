"""
The profiles of Hypothesis, for all tests of properties, and what makes all tests faster: bytecode that is
kept, few searches for cyclic garbage, and the longest files first.

``test`` has the same examples in each run, so that no change is red by chance. ``HYPOTHESIS_PROFILE=long``
has other examples in each run, and far more of them. ``mutation`` makes no failing example smaller.
"""

import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from counterfoil.untrusted.addresses import ALLOWED, Addresses

# The tests start Python hundreds of times, and pytest rewrites every assertion. Where the environment forbids
# bytecode, as in many containers, each start would compile all that it imports again: half of the CPU time.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Programs in Go take more memory and less CPU: the API server starts with a quarter less.
os.environ.setdefault("GOGC", "800")

# Of several processes, the one that gets a long file last would be the only one that has something to do.
LONGEST_FILES = (
    "chaos/test_leases.py",
    "chaos/test_pages_kills.py",
    "cluster/test_chart_in_cluster.py",
    "cluster/test_notifications.py",
    "cluster/test_model.py",
    "chaos/test_outages.py",
    "security/test_s04_operation_memory.py",
    "security/test_s04_answer_memory.py",
    "security/test_s04_kept_answer_memory.py",
    "chaos/test_stale_workers.py",
    "cluster/test_kstatus.py",
    "cluster/test_controller.py",
    "cluster/test_advice.py",
    "cluster/test_advice_of_archives.py",
    "cluster/test_archive_trust.py",
    "security/test_s04_event_loop.py",
    "chaos/test_kills.py",
    "cluster/test_controlplane.py",
    "cluster/test_demo.py",
    "cluster/test_docs_commands.py",
    "security/test_s03_flood.py",
    "cluster/test_alerts.py",
    "security/test_s01_use_labels.py",
    "security/test_s13_sealing_key.py",
    "chaos/test_soak.py",
    "chaos/test_campaign.py",
    "security/test_canaries.py",
    "cluster/test_chart_upgrade.py",
    "chaos/test_connections.py",
    "security/test_s04_metadata.py",
    "cluster/test_plugin.py",
    "cluster/test_webhook.py",
    "cluster/bench/test_transfer.py",
    "cluster/test_archive_contract_sftp.py",
    "cluster/test_archive_contract_s3.py",
    "chaos/test_waiting.py",
)
_RANKS = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST_FILES)}


# The servers of the tests are on loopback.
ALLOWED.set(Addresses(allows_loopback=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files begin first, so that all processes end at the same time."""
    items.sort(key=lambda item: _RANKS.get(item.path, len(_RANKS)))


def pytest_collection_finish() -> None:
    """
    Spare the modules and the collected tests the search for cyclic garbage, and search less often.

    Each full search goes through all of them, and takes up to half a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


settings.register_profile(
    "test",
    derandomize=True,
    # Neither limit holds on a machine that does something else at the same time.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # An explanation of a failure takes longer than to find it.
    phases=[phase for phase in Phase if phase is not Phase.explain],
    stateful_step_count=30,
)
settings.register_profile(
    "long",
    settings.get_profile("test"),
    derandomize=False,
    max_examples=3000,
    stateful_step_count=80,
    print_blob=True,
)
settings.register_profile(
    "mutation",
    settings.get_profile("test"),
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))
