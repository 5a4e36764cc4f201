"""The sample of a dry run: how many files some envelopes have, and how large these are."""

import asyncio

import pytest

from counterfoil.esaw import ApiToken, EsawUnreachable, EsawUserClient, HttpStatusError
from counterfoil.esaw.errors import EsawError, FileIdMissing
from counterfoil.esaw.file_sample import MAX_FILES, MAX_READ, MAX_SIZE, take_sample
from counterfoil.resources import FileKind
from counterfoil.resources.imports import ImportSample
from tests.support.builders import ORIGIN
from tests.support.fakes.finding_esaw import FindingEsawClient, key_of, numbered

FIRST, SECOND, THIRD = map(numbered, range(1, 4))


async def nothing() -> None:
    return


def user_of(esaw: FindingEsawClient) -> EsawUserClient:
    return esaw.as_user(ApiToken.parse(key_of("anna"), ORIGIN))


async def test_a_sample_has_the_number_and_the_declared_size_of_the_files() -> None:
    esaw = FindingEsawClient()
    esaw.files = {FIRST: (10, 20, 30), SECOND: ()}
    sample = await take_sample(user_of(esaw), [FIRST, SECOND], nothing)
    assert sample == ImportSample(envelopes=2, files=3, bytes=60)
    assert esaw.read == 0


async def test_a_file_without_a_declared_length_is_read_up_to_a_bound() -> None:
    esaw = FindingEsawClient()
    esaw.is_chunked = True
    esaw.files = {FIRST: (3 * 2**20 + 1,), SECOND: (2 * MAX_READ,)}
    assert (await take_sample(user_of(esaw), [FIRST], nothing)).bytes == 3 * 2**20 + 1
    esaw.read = 0
    assert (await take_sample(user_of(esaw), [SECOND], nothing)).bytes == MAX_READ
    assert esaw.read == MAX_READ


async def test_of_very_many_files_some_are_opened_and_the_others_count_with_their_mean() -> None:
    esaw = FindingEsawClient()
    esaw.files = {FIRST: (100,) * (3 * MAX_FILES)}
    sample = await take_sample(user_of(esaw), [FIRST], nothing)
    assert sample == ImportSample(envelopes=1, files=3 * MAX_FILES, bytes=300 * MAX_FILES)
    assert len(esaw.opened) == MAX_FILES


async def test_a_declared_length_that_no_file_has_counts_with_a_bound() -> None:
    esaw = FindingEsawClient()
    esaw.files = {FIRST: (10**30,)}
    assert (await take_sample(user_of(esaw), [FIRST], nothing)).bytes == MAX_SIZE


@pytest.mark.parametrize(
    "problem",
    [HttpStatusError(403), EsawUnreachable("timeout"), FileIdMissing("files", FileKind.DOCUMENT, "a.pdf")],
)
async def test_an_envelope_that_esaw_does_not_show_is_counted_and_stops_nothing(problem: EsawError) -> None:
    esaw = FindingEsawClient()
    esaw.files = {FIRST: problem, SECOND: (5,)}
    sample = await take_sample(user_of(esaw), [FIRST, SECOND], nothing)
    assert sample == ImportSample(envelopes=1, unreadable=1, files=1, bytes=5)


async def test_an_envelope_whose_files_never_come_is_left() -> None:
    esaw = FindingEsawClient()

    async def forever() -> None:
        await asyncio.Event().wait()

    esaw.while_opened = forever
    assert await take_sample(user_of(esaw), [FIRST], nothing, seconds=0) == ImportSample(unreadable=1)


async def test_a_sample_asks_before_each_request_whether_it_may_continue() -> None:
    esaw, checks = FindingEsawClient(), list[int]()
    esaw.files = {FIRST: (1, 2)}

    class Stopped(Exception):
        pass

    async def check() -> None:
        checks.append(len(esaw.opened))
        if esaw.opened:
            raise Stopped

    with pytest.raises(Stopped):
        await take_sample(user_of(esaw), [FIRST, SECOND, THIRD], check)
    assert checks == [0, 0, 1]
