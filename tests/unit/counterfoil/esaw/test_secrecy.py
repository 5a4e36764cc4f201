"""
Rule 7 at the wire: after no error is the token in a message, a chain of exceptions, a log or a traceback.
"""

import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace

import pytest

from counterfoil.esaw import ApiToken, CallLimits, EsawClient, EsawError, new_http_client
from tests.support.builders import AClock
from tests.support.servers.scripted_esaw import (
    ENVELOPE,
    START,
    TOKEN,
    ClientSetup,
    RecordingObserver,
    Script,
    against,
    an_envelope,
    answering,
    head,
    running,
    sending,
    silence,
    then_closing,
    then_cutting,
    whole_file,
)


def failures(echo: str) -> dict[str, Script]:
    """Every way to fail, in which a server repeats the given text wherever it can."""
    error = {"ErrorId": echo, "Message": f"the token {echo} is unknown", "TraceId": echo}
    return {
        "error": answering(error, 401, WWW_Authenticate=f"Bearer {echo}"),
        "redirect": answering(b"", 302, Location=f"https://elsewhere.example/?token={echo}"),
        "redirect with a user": answering(b"", 302, Location=f"https://{echo}@elsewhere.example/"),
        "garbage": answering(echo.encode()),
        "unknown status": answering(an_envelope(EnvelopeStatus=echo)),
        "wrong shape": answering({"Id": [echo]}),
        "other envelope": answering(an_envelope(Id=echo)),
        "too large": answering(echo.encode() * 100),
        "compressed": answering(b"", Content_Encoding=echo),
        "no answer": silence,
        "closed": then_closing(sending()),
        "reset": then_cutting(sending()),
        "no HTTP": then_closing(sending(f"{echo}\r\n\r\n".encode())),
        "short": then_closing(sending(head(200, content_length=100))),
        "long": sending(head(200, content_length=2) + b"{}" + echo.encode()),
        "busy": answering({**error, "ErrorId": None}, 429, Retry_After="30"),
    }


BOUNDS = CallLimits(silence=0.1, max_json_bytes=1000)
PATIENT = replace(BOUNDS, silence=30.0)
"""A failure that does not wait for the time limit comes before it, however busy the machine is."""
NAMES = tuple(failures(""))


def chain(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        yield from chain(problem.__context__ if problem.__context__ is not problem.__cause__ else None)
        problem = problem.__cause__


def words(problem: BaseException) -> str:
    """All that could be printed of it: its chain, its traceback, its attributes."""
    printed = "".join(traceback.format_exception(problem))
    return printed + "".join(f"{each!r} {each} {vars(each)}" for each in chain(problem))


def variables(problem: BaseException) -> str:
    """Return the variables of each frame but the test's own, as crash reporters add them."""
    frames = problem.__traceback__.tb_next if problem.__traceback__ else None
    return "".join(traceback.TracebackException(type(problem), problem, frames, capture_locals=True).format())


async def both_problems(setup: ClientSetup) -> tuple[BaseException, ...]:
    """Return the error of the envelope request, and the error of a download unless it succeeds."""
    with pytest.raises(EsawError) as envelope:
        await setup.user.envelope(ENVELOPE)
    setup.clock.advance(seconds=60)
    try:
        await whole_file(setup.user)
    except EsawError as download:
        return envelope.value, download
    return (envelope.value,)


@pytest.mark.parametrize("name", NAMES)
async def test_no_failure_reveals_the_token_even_if_esaw_does(name: str) -> None:
    async with against(failures(TOKEN)[name], call_limits=BOUNDS) as setup:
        problems = await both_problems(setup)
    assert all(TOKEN not in words(each) for each in problems)
    assert TOKEN not in str(setup.observer.calls)


@pytest.mark.parametrize("name", NAMES)
async def test_neither_logs_nor_variables_of_frames_hold_the_token(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with against(failures("something")[name], call_limits=BOUNDS) as setup:
        problems = await both_problems(setup)
    assert all(TOKEN not in variables(each) for each in problems)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("name", NAMES)
async def test_no_failure_drags_an_exception_of_the_http_library_along(name: str) -> None:
    async with against(failures(TOKEN)[name], call_limits=BOUNDS) as setup:
        problems = await both_problems(setup)
    for problem in problems:
        assert [type(each).__module__.split(".")[0] for each in chain(problem)] == ["counterfoil"]


async def test_a_missing_host_reveals_no_token_either() -> None:
    async with running(silence) as gone:
        pass
    async with new_http_client() as http:
        user = EsawClient(gone.url, http=http, clock=AClock(START), observe=RecordingObserver()).as_user(
            ApiToken.parse(TOKEN, gone.url)
        )
        with pytest.raises(EsawError) as met:
            await user.whoami()
    assert TOKEN not in words(met.value) + variables(met.value)
    assert [type(each).__module__.split(".")[0] for each in chain(met.value)] == ["counterfoil"]


@pytest.mark.parametrize("name", NAMES)
async def test_the_same_failure_is_reported_in_the_same_words_again(name: str) -> None:
    told = set()
    limits = BOUNDS if name == "no answer" else PATIENT
    async with against(failures("something")[name], call_limits=limits) as setup:
        for _ in range(3):
            with pytest.raises(EsawError) as met:
                await setup.user.envelope(ENVELOPE)
            told.add(str(met.value))
            setup.clock.advance(seconds=60)
    assert len(told) == 1
