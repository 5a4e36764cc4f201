"""The sample of a dry run: how many files some envelopes have, and how large these are."""

import asyncio
from datetime import timedelta

import pytest

from counterfoil.esaw import ApiToken, EsawUnreachable, EsawUserClient, HttpStatusError
from counterfoil.esaw.errors import EsawError, FileIdMissing, RateLimited
from counterfoil.esaw.file_sample import MAX_FILES, MAX_INTERRUPTIONS, MAX_READ, MAX_SIZE, FileSampling
from counterfoil.esaw.limits import MAX_FILE_CONTAINERS
from counterfoil.esaw.rate_limit import RateLimiter
from counterfoil.resources import FileKind
from counterfoil.resources.imports import MAX_SAMPLE, ImportSample
from tests.support.builders import NOON, ORIGIN
from tests.support.fakes.finding_esaw import FindingEsawClient, key_of, numbered
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop, run_in_virtual_time

FIRST, SECOND, THIRD = map(numbered, range(1, 4))


async def nothing() -> None:
    return


def user_of(esaw: FindingEsawClient) -> EsawUserClient:
    return esaw.as_user(ApiToken.parse(key_of("anna"), ORIGIN))


async def test_a_sample_has_the_number_and_the_declared_size_of_the_files() -> None:
    esaw = FindingEsawClient()
    esaw.files = {FIRST: (10, 20, 30), SECOND: ()}
    sample = await FileSampling().take(user_of(esaw), [FIRST, SECOND], nothing)
    assert sample == ImportSample(envelopes=2, files=3, bytes=60)
    assert esaw.read == 0


async def test_a_file_without_a_declared_length_is_read_up_to_a_bound() -> None:
    esaw = FindingEsawClient()
    esaw.is_chunked = True
    esaw.files = {FIRST: (3 * 2**20 + 1,), SECOND: (2 * MAX_READ,)}
    assert (await FileSampling().take(user_of(esaw), [FIRST], nothing)).bytes == 3 * 2**20 + 1
    esaw.read = 0
    assert (await FileSampling().take(user_of(esaw), [SECOND], nothing)).bytes == MAX_READ
    assert esaw.read == MAX_READ


async def test_of_very_many_files_some_are_opened_and_the_others_count_with_their_mean() -> None:
    esaw = FindingEsawClient()
    esaw.files = {FIRST: (100,) * (3 * MAX_FILES)}
    sample = await FileSampling().take(user_of(esaw), [FIRST], nothing)
    assert sample == ImportSample(envelopes=1, files=3 * MAX_FILES, bytes=300 * MAX_FILES)
    assert len(esaw.opened) == MAX_FILES


async def test_a_declared_length_that_no_file_has_counts_with_a_bound() -> None:
    esaw = FindingEsawClient()
    esaw.files = {FIRST: (10**30,)}
    assert (await FileSampling().take(user_of(esaw), [FIRST], nothing)).bytes == MAX_SIZE


async def test_the_size_of_the_largest_sample_can_be_stored() -> None:
    esaw, sample = FindingEsawClient(), ImportSample()
    esaw.files = {FIRST: (10**30,) * (MAX_FILE_CONTAINERS - 1)}
    largest = await FileSampling().take(user_of(esaw), [FIRST], nothing)
    for _ in range(MAX_SAMPLE):
        sample = sample.with_more(largest)
    assert sample.envelopes == MAX_SAMPLE
    assert sample.bytes == 2**63 - 1


@pytest.mark.parametrize(
    "problem",
    [HttpStatusError(403), HttpStatusError(500), FileIdMissing("files", FileKind.DOCUMENT, "a.pdf")],
)
async def test_an_envelope_that_esaw_does_not_show_is_counted_and_stops_nothing(problem: EsawError) -> None:
    esaw = FindingEsawClient()
    esaw.files = {FIRST: problem, SECOND: (5,)}
    sample = await FileSampling().take(user_of(esaw), [FIRST, SECOND], nothing)
    assert sample == ImportSample(envelopes=1, unreadable=1, files=1, bytes=5)


async def test_an_envelope_whose_files_never_come_is_left() -> None:
    esaw = FindingEsawClient()

    async def forever() -> None:
        await asyncio.Event().wait()

    esaw.while_opened = forever
    assert await FileSampling(seconds=0).take(user_of(esaw), [FIRST], nothing) == ImportSample(unreadable=1)


PAUSE = RateLimited(429, until=NOON + timedelta(seconds=30), retry_after=30)
OF_NO_ENVELOPE = [PAUSE, *map(HttpStatusError, (401, 429, 502, 503, 504)), EsawUnreachable("connect")]


@pytest.mark.parametrize("problem", OF_NO_ENVELOPE, ids=str)
async def test_what_says_nothing_about_an_envelope_leaves_the_sample_which_continues(
    problem: EsawError,
) -> None:
    esaw, sampling = FindingEsawClient(), FileSampling()
    esaw.files = {FIRST: (5,), SECOND: problem, THIRD: (1, 2)}
    with pytest.raises(type(problem)):
        await sampling.take(user_of(esaw), [FIRST, SECOND, THIRD], nothing)
    esaw.files[SECOND] = (20,)

    sample = await sampling.take(user_of(esaw), [FIRST, SECOND, THIRD], nothing)

    assert sample == ImportSample(envelopes=3, files=4, bytes=28)
    assert esaw.listed == [FIRST, SECOND, SECOND, THIRD], "the first one is not measured again"


async def test_files_that_esaw_never_shows_leave_the_sample_a_few_times_only() -> None:
    esaw, sampling = FindingEsawClient(), FileSampling()
    esaw.files = dict.fromkeys((FIRST, SECOND, THIRD), HttpStatusError(503))
    for _ in range(MAX_INTERRUPTIONS):
        with pytest.raises(HttpStatusError):
            await sampling.take(user_of(esaw), [FIRST, SECOND], nothing)
    assert await sampling.take(user_of(esaw), [FIRST, SECOND], nothing) == ImportSample(unreadable=2)
    assert await sampling.take(user_of(esaw), [THIRD], nothing) == ImportSample(unreadable=1)


async def test_after_a_measured_envelope_an_outage_leaves_the_sample_as_before() -> None:
    esaw, sampling = FindingEsawClient(), FileSampling()
    for _ in range(2 * MAX_INTERRUPTIONS):
        esaw.files = {SECOND: HttpStatusError(503)}
        with pytest.raises(HttpStatusError):
            await sampling.take(user_of(esaw), [FIRST, SECOND], nothing)
        esaw.files = {}
        assert (await sampling.take(user_of(esaw), [FIRST, SECOND], nothing)).unreadable == 0


@pytest.mark.parametrize(("seconds", "unreadable"), [(4.0, 0), (6.0, 1)])
def test_only_the_time_that_esaw_takes_counts(seconds: float, unreadable: int) -> None:
    """Neither the turn of a request nor a wait of the search does."""

    async def taken() -> ImportSample:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        limiter = RateLimiter(VirtualClock(loop), per_second=0.1, max_retry_after=60)
        esaw = FindingEsawClient()
        esaw.files = {FIRST: (5,) * 25}

        async def answer_slowly() -> None:
            await limiter.acquire()
            await asyncio.sleep(seconds)

        async def check() -> None:
            await asyncio.sleep(2)

        esaw.while_opened = answer_slowly
        return await FileSampling(seconds=25 * 5.0).take(user_of(esaw), [FIRST], check)

    assert run_in_virtual_time(taken()).unreadable == unreadable


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
        await FileSampling().take(user_of(esaw), [FIRST, SECOND, THIRD], check)
    assert checks == [0, 0, 1]
