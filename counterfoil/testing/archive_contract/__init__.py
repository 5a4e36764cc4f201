"""
The contract of every kind of archive, as tests that run against a real server of that kind.

They are part of the package, so that the author of a kind with the entry point ``counterfoil.archives`` can
run the same tests. Such a test module, run by pytest with ``asyncio_mode = "auto"``, is as short as this::

    class TestOurDms(FilingContract, ListingContract, WireContract, RefusalContract):
        @pytest.fixture
        async def ground(self) -> AsyncIterator[ArchiveFixture]:
            async with our_server() as server:
                yield ArchiveFixture(spec_of(server), {"token": server.token}, address=("127.0.0.1",
                server.port))

``ArchiveFixture`` describes the other arguments. pytest is needed here, and nowhere else in the package.
"""

import pytest

pytest.register_assert_rewrite("counterfoil.testing.archive_contract.cases")

# Behind the line above, which is for what it loads.
from counterfoil.testing.archive_contract.cases import (  # noqa: E402
    FilingContract,
    FullContract,
    ListingContract,
    LoginContract,
    PermissionContract,
    RefusalContract,
    RootContract,
    WireContract,
)
from counterfoil.testing.archive_contract.fault_proxy import FaultProxy  # noqa: E402
from counterfoil.testing.archive_contract.fixture import ArchiveFixture  # noqa: E402

__all__ = [
    "ArchiveFixture",
    "FaultProxy",
    "FilingContract",
    "FullContract",
    "ListingContract",
    "LoginContract",
    "PermissionContract",
    "RefusalContract",
    "RootContract",
    "WireContract",
]
