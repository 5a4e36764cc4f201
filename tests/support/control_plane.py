"""
One control plane for all tests that need one, and a separate namespace for each test.

Nothing in a namespace is ever deleted: without a controller-manager a namespace can't be, and the whole
control plane goes at the end. See ``sandbox.controlplane.control_plane`` for what else is different from a
whole cluster.

The folders' conftest files register this module as a plugin: a fixture that they import would be one of each
folder, with one control plane each.
"""

import itertools
import re
import signal
from collections.abc import AsyncIterator, Generator, Iterator

import pytest

from sandbox.controlplane.control_plane import ControlPlane, control_plane
from sandbox.controlplane.kubectl import Kubectl
from sandbox.environment.fork_server import FORK_SERVER, WORKER_SERVERS, fork_server
from sandbox.environment.forked_workers import worker_servers
from tests.support.scenes.controller import ControllerScene

SHOWN_LINES = 100
"""Number of lines of a controller's log that are shown with a failure."""

_numbers = itertools.count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with each failure what the controller of its scene logged last."""
    report = yield
    if report.failed:
        for scene in item.funcargs.values():
            if isinstance(scene, ControllerScene):
                lines = scene.controller.log.read_text(errors="replace").splitlines()
                report.sections.append(("log of the controller", "\n".join(lines[-SHOWN_LINES:])))
    return report


@pytest.fixture(scope="session", autouse=True)
def forked_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the processes of Counterfoil be forked from one that has imported everything, and their worker
    processes, too."""
    with (
        fork_server(tmp_path_factory.mktemp("fork-server")) as address,
        worker_servers(tmp_path_factory.mktemp("workers")) as workers,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv(FORK_SERVER, address)
        patch.setenv(WORKER_SERVERS, workers)
        yield


@pytest.fixture(scope="session")
async def plane() -> AsyncIterator[ControlPlane]:
    """A control plane that knows our kinds."""
    # A terminated test run ends its fixtures, as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    async with control_plane() as running:
        await running.apply_crds()
        yield running


@pytest.fixture
async def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> str:
    """The name of a fresh namespace that nobody else uses."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())
    name = f"{words[:40].strip('-')}-{next(_numbers)}"
    await plane.namespace(name)
    return name


@pytest.fixture
def kubectl(plane: ControlPlane) -> Kubectl:
    """``await kubectl("get", "ee", "-n", namespace) -> str``; raises KubectlError with what kubectl said."""
    return plane.kubectl
