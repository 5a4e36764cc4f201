"""The output of commands that need a controller, while no controller works."""

import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from counterfoil.cli.plugin import entry_point
from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.kube.errors import Forbidden
from counterfoil.resources import (
    REQUEST_LABEL,
    EnvelopeEvent,
    Import,
    LastRequest,
    Organization,
    Phase,
    RequestOutcome,
    to_json_dict,
)
from counterfoil.resources.lease import Lease
from counterfoil.resources.request import request_changes
from tests.support.builders import NOON, an_event, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import a_shard_lease

ENDED = a_shard_lease(0, 1, renewed=NOON)
NO_CONTROLLER = "no controller works"
LAST_RENEWAL = "pod-1 renewed Lease/counterfoil-shard-0-of-1 for the last time at 2026-07-01 12:00:00 UTC."
COPIED = an_organization(copies=[{"archiveRef": {"name": "worm"}}])
ARCHIVED = (
    an_event()
    .archived()
    .with_condition("Cleaned")
    .status(phase=Phase.SUCCEEDED, reason="ArchivedAndDeleted")
    .build()
)
FAILED = an_event().in_phase(Phase.FAILED, "NameOccupied").build()

COMMANDS: Mapping[str, tuple[EnvelopeEvent, tuple[str, ...]]] = {
    "retry": (FAILED, ("retry", FAILED.name)),
    "skip": (FAILED, ("skip", FAILED.name, "--because", "a duplicate")),
    "copy": (ARCHIVED, ("copy", ARCHIVED.name)),
    "sweep": (FAILED, ("sweep", "acme", "--timeout", "0")),
    "import": (FAILED, ("import", "acme", "--from", "2019-01-01")),
}
"""Each command that asks without a wait for the answer, and an event for which it does something."""

REFUSED = {
    plural: Forbidden(403, "Forbidden", f'User "jane" cannot list resource "{plural}"')
    for plural in (Lease.PLURAL, Organization.PLURAL, "pods")
}


def held() -> Lease:
    """Return a Lease that is held now."""
    return a_shard_lease(0, 1, renewed=datetime.now(UTC))


async def said(kube: InMemoryKubeClient, words: Sequence[str], output: str = "text") -> str:
    """Run a command that succeeds; return what it prints."""
    out = io.StringIO()
    args = entry_point.parsers()[0].parse_args([*words, "-o", output])
    assert await entry_point.COMMANDS[args.command].run(args, kube, out) is ExitStatus.DONE
    return out.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_request_while_no_controller_works_names_the_last_renewal(command: str) -> None:
    event, words = COMMANDS[command]
    text = await said(InMemoryKubeClient(COPIED, event, ENDED), words)
    assert NO_CONTROLLER in text
    assert LAST_RENEWAL in text
    assert "within seconds" not in text


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_request_while_one_works_has_no_such_warning(command: str) -> None:
    event, words = COMMANDS[command]
    assert NO_CONTROLLER not in await said(InMemoryKubeClient(COPIED, event, held()), words)


@pytest.mark.parametrize("command", [each for each in COMMANDS if each != "import"])
async def test_the_output_for_programs_names_it_too(command: str) -> None:
    event, words = COMMANDS[command]
    answer = json.loads(await said(InMemoryKubeClient(COPIED, event, ENDED), words, "json"))
    assert LAST_RENEWAL in json.dumps(answer)


@pytest.mark.parametrize("command", COMMANDS)
async def test_who_may_not_list_leases_makes_the_request_still(command: str) -> None:
    event, words = COMMANDS[command]
    kube = InMemoryKubeClient(COPIED, event, ENDED)
    kube.refused["page", Lease.PLURAL] = REFUSED[Lease.PLURAL]
    assert NO_CONTROLLER not in await said(kube, words)


@pytest.mark.parametrize("command", COMMANDS)
async def test_in_a_further_namespace_the_organization_that_may_be_read_says_whose_leases_count(
    command: str,
) -> None:
    class Further(InMemoryKubeClient):
        """A namespace that the release in the namespace ``release`` serves."""

        def in_namespace(self, namespace: str) -> Any:
            assert namespace == "release"
            return InMemoryKubeClient(held())

    event, words = COMMANDS[command]
    # A Lease of an earlier release is still here.
    kube = Further(COPIED, event, ENDED)
    kube.edit(Organization, "acme", {"status": {"releaseNamespace": "release"}})
    kube.refused["page", Organization.PLURAL] = REFUSED[Organization.PLURAL]
    assert NO_CONTROLLER not in await said(kube, words)


@pytest.mark.parametrize(("distance", "is_warned"), [(0, True), (1, False)], ids=["its", "the other"])
async def test_only_the_events_of_a_shard_without_a_controller_wait(
    distance: int, *, is_warned: bool
) -> None:
    absent = (FAILED.shard_number + distance) % 2
    leases = a_shard_lease(absent, 2, renewed=NOON), a_shard_lease(1 - absent, 2, renewed=datetime.now(UTC))
    text = await said(InMemoryKubeClient(FAILED, *leases), COMMANDS["retry"][1])
    assert (NO_CONTROLLER in text) is is_warned


async def test_an_import_that_is_shown_says_that_no_controller_works() -> None:
    kube = InMemoryKubeClient(COPIED, ENDED)
    await said(kube, COMMANDS["import"][1])
    assert LAST_RENEWAL in await said(kube, ("import", "acme-2019-01-01"))
    complete = {"status": {"completionTime": NOON.isoformat()}}
    kube.edit(Import, "acme-2019-01-01", complete)
    assert LAST_RENEWAL not in await said(kube, ("import", "acme-2019-01-01"))


# -- A request that replaces another one ---------------------------------------------------------------------


def asked_before(kube: InMemoryKubeClient, request: str, **status: Any) -> None:
    """Let somebody have asked for something on the event before."""
    change = request_changes(request, id_="1", by="bob\x1b[2J")
    kube.edit(EnvelopeEvent, FAILED.name, {"metadata": change, "status": status})


async def test_a_skip_that_replaces_a_retry_names_it() -> None:
    kube = InMemoryKubeClient(FAILED, held())
    asked_before(kube, "retry")
    text = await said(kube, COMMANDS["skip"][1])
    assert (
        "skip is asked for, it was Failed. It replaces the request to retry, in the name of bob?[2J" in text
    )
    assert kube.stored(FAILED.name).metadata.labels[REQUEST_LABEL] == "skip"


async def test_what_is_asked_for_again_or_was_carried_out_is_not_replaced() -> None:
    kube = InMemoryKubeClient(FAILED, held())
    asked_before(kube, "retry")
    assert "replaces" not in await said(kube, COMMANDS["retry"][1])
    kube = InMemoryKubeClient(FAILED, held())
    last = LastRequest(request="retry", outcome=RequestOutcome.DONE, handled_time=NOON, id="1")
    asked_before(kube, "retry", lastRequest=to_json_dict(last))
    assert "replaces" not in await said(kube, COMMANDS["skip"][1])


async def test_a_request_that_comes_between_is_named() -> None:
    kube = InMemoryKubeClient(FAILED, held())
    kube.just_before("patch", lambda: asked_before(kube, "retry"))
    assert "It replaces the request to retry" in await said(kube, COMMANDS["skip"][1])
