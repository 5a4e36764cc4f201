"""
S4: metadata of an envelope that makes the evaluation of a tag's rule arbitrarily expensive.

Each attack needs seconds, hours or gigabytes where it is evaluated. The tests measure the CPU time of the
thread that runs the event loop, so other work of the machine does not count.
"""

import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.tags import MetadataTooHeavy, MetadataUnreadable
from counterfoil.archives.tags_subprocess import TagWorkers
from counterfoil.resources.archive import TagRule
from tests.support.fakes.archives import a_spec, an_envelope

MAX_BLOCK_SECONDS = 0.25
RETRIES = "a" * 40 + "!"
"""A regular expression with a choice between equal parts tries 2^40 ways through it."""

LONG_TEXTS = f"<r><a>{'a' * 400_000}</a><b>{'a' * 200_000}b</b></r>"
"""XPath's ``contains`` compares each position of the first text with the whole second text."""

LAUGHS = "<!ENTITY e0 'lol'>" + "".join(f"<!ENTITY e{n + 1} '&e{n};&e{n};'>" for n in range(30))
"""Entities that double a text thirty times."""

TOO_HEAVY = {
    "XPath compares two long texts": (LONG_TEXTS, TagRule(xpath="/r/a[contains(., /r/b)]", required=True)),
    "XPath multiplies a long text": (
        f"<r a='{'x' * 1_000_000}'/>",
        TagRule(xpath=f"concat({','.join(['/r/@a'] * 160)})", required=True),
    ),
    "the rule's pattern is exponential": (
        json.dumps({"fields": [{"value": RETRIES}]}),
        TagRule(json_path="$.fields[?match(@.value, '(a|a)*b')].value", required=True),
    ),
    "the metadata's own pattern is exponential": (
        json.dumps({"fields": [{"value": RETRIES, "pattern": "(a|a)*b"}]}),
        TagRule(json_path="$.fields[?match(@.value, @.pattern)].value", required=True),
    ),
}

UNREADABLE = {
    "entities that grow": (f"<!DOCTYPE r [{LAUGHS}]><r>&e30;</r>", TagRule(xpath="/r", required=True)),
    "JSON a million levels deep": ("[" * 1_000_000, TagRule(json_path="$..no", required=True)),
    "closed JSON of 500,000 levels": (
        "[" * 500_000 + "]" * 500_000,
        TagRule(json_path="$..no", required=True),
    ),
    "XML 300,000 levels deep": ("<a>" * 300_000, TagRule(xpath="//a", required=True)),
    "a number of a million digits": ("9" * 1_000_000, TagRule(json_path="$", required=True)),
    "control characters": ("\x01" * 1_000_000, TagRule(json_path="$", required=True)),
}

EXPENSIVE_BUT_BOUNDED = {
    "JSON with 349,000 lists": ("[" + "[]," * 349_000 + "1]", TagRule(json_path="$..*", required=True)),
    "one attribute of a megabyte": (f"<r a='{'x' * 1_040_000}'/>", TagRule(xpath="/r/@a", required=True)),
}


@pytest.fixture(scope="module")
async def workers() -> AsyncIterator[TagWorkers]:
    # Each attack uses up the time that it gets; half of the product's is enough to see that.
    async with aclosing(TagWorkers(cpu_seconds=1)) as opened:
        yield opened


async def evaluated(workers: TagWorkers, metadata: str, **rules: TagRule) -> dict[str, str] | ArchiveError:
    """Evaluate the rules, and check that this thread computed for less than one block."""
    spec, envelope = a_spec(tags=rules), an_envelope(metadata=metadata)
    before = time.thread_time()
    result: dict[str, str] | ArchiveError
    try:
        result = await workers.collect(spec, envelope)
    except ArchiveError as error:
        result = error
    assert time.thread_time() - before < MAX_BLOCK_SECONDS
    return result


@pytest.mark.parametrize("attack", TOO_HEAVY)
async def test_metadata_that_is_too_heavy_stops_its_event_and_not_the_loop(
    workers: TagWorkers, attack: str
) -> None:
    metadata, rule = TOO_HEAVY[attack]
    result = await evaluated(workers, metadata, order=rule)
    assert isinstance(result, MetadataTooHeavy)
    assert f"`order` can't be determined: the {'xpath' if rule.xpath else 'jsonPath'} `" in str(result)
    assert (rule.xpath or rule.json_path or "") in str(result)


@pytest.mark.parametrize("attack", UNREADABLE)
async def test_metadata_that_no_parser_should_read_is_unreadable(workers: TagWorkers, attack: str) -> None:
    metadata, rule = UNREADABLE[attack]
    assert isinstance(await evaluated(workers, metadata, order=rule), MetadataUnreadable)


@pytest.mark.parametrize("case", EXPENSIVE_BUT_BOUNDED)
async def test_the_largest_metadata_that_fits_into_the_limits_is_not_the_loops_work(
    workers: TagWorkers, case: str
) -> None:
    metadata, rule = EXPENSIVE_BUT_BOUNDED[case]
    result = await evaluated(workers, metadata, order=rule)
    # Too heavy on a slow machine; on none it is the work of the event loop.
    assert isinstance(result, MetadataTooHeavy) or (isinstance(result, dict) and list(result) == ["order"])


async def test_the_reason_names_the_rule_that_is_too_heavy_and_no_other(
    workers: TagWorkers,
) -> None:
    rules = {
        "a": TagRule(xpath="/r/b", required=True),
        "order": TagRule(xpath="/r/a[contains(., /r/b)]"),
        "z": TagRule(xpath="/r/b", required=True),
    }
    result = await evaluated(workers, LONG_TEXTS, **rules)
    assert isinstance(result, MetadataTooHeavy)
    assert result.name == "order"


async def test_after_an_attack_the_next_envelope_is_evaluated(workers: TagWorkers) -> None:
    metadata, rule = TOO_HEAVY["XPath compares two long texts"]
    assert isinstance(await evaluated(workers, metadata, order=rule), MetadataTooHeavy)
    assert await evaluated(workers, "<r><no>7</no></r>", order=TagRule(xpath="/r/no", required=True)) == {
        "order": "7"
    }
