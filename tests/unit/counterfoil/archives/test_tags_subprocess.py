"""
Tags out of metadata that takes long to look through, because it is long or because somebody wants that.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import psutil
import pytest

from counterfoil.archives.errors import SettingsInvalid
from counterfoil.archives.layout import ActionFacts
from counterfoil.archives.tags import (
    METADATA_LIMIT,
    MetadataTooHeavy,
    MetadataUnreadable,
    TagMissing,
    collect,
)
from counterfoil.archives.tags_subprocess import TagWorkers
from counterfoil.esaw.limits import MAX_METADATA_BYTES
from counterfoil.resources.archive import ArchiveSpec, Filesystem, TagRule
from counterfoil.worker_processes.pool import WorkerPool, WorkerStopped
from tests.support.event_loop import MAX_BLOCK_SECONDS, longest_block, slow_tag_rules
from tests.support.fakes.archives import a_spec, an_envelope
from webhook.pages.limits import PageLimits

FORM = json.dumps({f"field{number}": f"value {number}" for number in range(40)})
LONG = json.dumps({"items": [{"no": number} for number in range(2000)], "customer": "Müller \ud83d"})
DEEP_XML = f"{'<contract>' * 200}{'<no/>' * 20_000}{'</contract>' * 200}"
DEEP_JSON = '{"contract":' * 90 + json.dumps([{"no": ""}] * 40_000) + "}" * 90
AT_ONCE = TagRule(value="{{envelope.name}}")


@pytest.fixture(scope="module")
async def workers() -> AsyncIterator[TagWorkers]:
    """One process for the tests of which none needs its end."""
    async with aclosing(TagWorkers(cpu_seconds=5)) as shared:
        yield shared


async def found(workers: TagWorkers, metadata: str, **rules: TagRule) -> dict[str, str]:
    spec = ArchiveSpec(filesystem=Filesystem(root="/archive"), tags=rules)
    envelope = replace(an_envelope(metadata=metadata), actions=(ActionFacts("a", "", {"orderNo": "4711"}),))
    return await workers.collect(spec, envelope)


async def test_rules_that_are_slow_to_check_do_not_hold_the_event_loop(workers: TagWorkers) -> None:
    """The first event after a restart or a change of the Archive checks them."""
    assert await longest_block(found(workers, "", **slow_tag_rules("event"))) < MAX_BLOCK_SECONDS


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pool answer as it does after a process that the rule `no` made exceed its limits."""

    async def given_up(*_: object, **_owner: object) -> None:
        stopped = WorkerStopped(timed_out=False)
        stopped.note, stopped.by_own_limits = b"no", True
        raise stopped

    monkeypatch.setattr(WorkerPool, "request", given_up)


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [("", TagRule(json_path="$.no")), ("<" * 2_000_000, TagRule(xpath="//no")), (LONG, AT_ONCE)],
    ids=["no metadata", "longer than what is read", "no rule that reads it"],
)
async def test_without_metadata_to_parse_no_process_is_started(metadata: str, rule: TagRule) -> None:
    before = psutil.Process().children()
    async with aclosing(TagWorkers()) as workers:
        await workers.collect(a_spec(tags={"no": rule}), an_envelope(metadata=metadata))
        assert psutil.Process().children() == before


async def test_one_process_evaluates_one_envelope_after_another() -> None:
    before = set(psutil.Process().children())
    async with aclosing(TagWorkers()) as workers:
        spec = a_spec(tags={"no": TagRule(json_path="$.no")})
        found = [await workers.collect(spec, an_envelope(metadata=f'{{"no": {no}}}')) for no in (1, 2)]
        assert len(set(psutil.Process().children()) - before) == 1
    assert found == [{"no": "1"}, {"no": "2"}]
    assert set(psutil.Process().children()) == before


@pytest.mark.parametrize("metadata", [FORM, LONG])
async def test_organizations_of_one_name_in_two_namespaces_take_separate_turns(metadata: str) -> None:
    workers, order = TagWorkers(), list[str]()

    async def collect_in(namespace: str) -> None:
        await found(workers.in_namespace(namespace), metadata, no=TagRule(json_path="$.no"))
        order.append(namespace)

    async with aclosing(workers), asyncio.TaskGroup() as group:
        for namespace in ("sales", "sales", "sales", "sales", "legal"):
            group.create_task(collect_in(namespace))
    assert order == ["sales", "legal", "sales", "sales", "sales"]


@pytest.mark.parametrize("metadata", [FORM, LONG])
async def test_what_is_found_is_the_same_wherever_it_is_looked_for(
    workers: TagWorkers, metadata: str
) -> None:
    rules = {"no": TagRule(json_path="$.items[1999].no"), "any": TagRule(json_path="$.*"), "name": AT_ONCE}
    wanted = collect(rules, metadata, {"envelope.name": "Contract"})
    assert await found(workers, metadata, **rules) == wanted


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        (DEEP_XML, TagRule(xpath="//contract//no", required=True)),
        (DEEP_JSON, TagRule(json_path="$..contract..no", required=True)),
    ],
    ids=["XML", "JSON"],
)
async def test_metadata_that_is_made_to_take_long_is_given_up(metadata: str, rule: TagRule) -> None:
    # With no whole second of CPU: the limit is the next second of the process, which has used a fifth of one.
    async with aclosing(TagWorkers(cpu_seconds=0)) as limited:
        with pytest.raises(MetadataTooHeavy, match=r"`no` can't be determined: the (xpath|jsonPath) `"):
            await found(limited, metadata, no=rule)


async def test_a_tag_that_nobody_needs_is_left_out_and_the_others_are_there(given_up: None) -> None:
    assert await found(TagWorkers(), DEEP_XML, no=TagRule(xpath="//contract//no"), name=AT_ONCE) == {
        "name": "Contract"
    }


@pytest.mark.parametrize("required", [False, True])
async def test_a_process_that_was_killed_says_nothing_about_the_metadata(
    required: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A missing tag can't be added later, so the envelope waits for its next attempt.
    async def killed(*_: object, **_owner: object) -> None:
        stopped = WorkerStopped(timed_out=False)
        stopped.note = b"no"
        raise stopped

    monkeypatch.setattr(WorkerPool, "request", killed)
    with pytest.raises(WorkerStopped):
        await found(TagWorkers(), FORM, no=TagRule(json_path="$.field1", required=required))


async def test_what_is_missing_or_wrong_is_reported_as_before(workers: TagWorkers) -> None:
    with pytest.raises(TagMissing, match=r"`no` is required, but the jsonPath `\$\.no` finds nothing"):
        await found(workers, LONG, no=TagRule(json_path="$.no", required=True))
    with pytest.raises(MetadataUnreadable, match="it is not well-formed XML"):
        await found(workers, LONG, no=TagRule(xpath="//no", required=True))
    with pytest.raises(SettingsInvalid, match="does not compile"):
        await found(workers, LONG, no=TagRule(xpath="//["))


CALLBACK = {"order": TagRule(callback="orderno", required=True), "no": TagRule(xpath="//contract//no")}


@pytest.mark.parametrize("metadata", [FORM, LONG], ids=["light", "long"])
async def test_a_parameter_of_the_callback_is_found_with_any_metadata(
    workers: TagWorkers, metadata: str
) -> None:
    assert await found(workers, metadata, **CALLBACK) == {"order": "4711"}


async def test_a_parameter_of_the_callback_is_found_also_if_the_metadata_is_given_up(given_up: None) -> None:
    assert await found(TagWorkers(), DEEP_XML, **CALLBACK) == {"order": "4711"}


def test_the_maximum_size_of_metadata_is_the_same_wherever_it_is_read() -> None:
    assert METADATA_LIMIT == MAX_METADATA_BYTES == PageLimits().metadata
