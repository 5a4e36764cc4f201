"""Downloads of files: complete or not at all, in chunks of bounded size, in bounded time."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from counterfoil.esaw import (
    ApiToken,
    CallLimits,
    EsawClient,
    EsawError,
    EsawUnreachable,
    EsawUserClient,
    FileDownload,
    HttpStatusError,
    ResponseInvalid,
    TransferBroken,
    new_http_client,
)
from counterfoil.untrusted.transfer_rate import MinimumRate
from tests.support.builders import AClock
from tests.support.servers.scripted_esaw import (
    START,
    TOKEN,
    RecordingObserver,
    Script,
    against,
    answering,
    head,
    running,
    sending,
    server_tls,
    then_closing,
    then_cutting,
    whole_file,
)

MIB = 1024 * 1024


def in_chunks(*pieces: bytes, ended: bool = True) -> Script:
    """A file without Content-Length, as eSAW sends what it makes on the fly."""
    coded = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return sending(head(200, Transfer_Encoding="chunked"), *coded, *([b"0\r\n\r\n"] if ended else []))


async def test_a_file_arrives_byte_for_byte_with_its_size_and_type() -> None:
    content = hashlib.shake_128(b"contract").digest(3 * MIB + 17)
    a_pdf = answering(content, Content_Type="application/pdf")
    async with against(a_pdf) as setup, setup.user.download("f1") as file:
        assert (file.size, file.content_type) == (len(content), "application/pdf")
        chunks = [chunk async for chunk in file.chunks]
    assert b"".join(chunks) == content
    assert setup.server.received[0].target == "/Api/v6/file/f1"
    assert setup.observer.codes == [("download", "200")]


async def test_the_connection_is_read_in_large_gulps() -> None:
    async with (
        against(answering(bytes(8 * MIB))) as setup,
        new_http_client() as http,
        http.stream("GET", f"{setup.server.url}/Api/v6/file/f1") as answer,
    ):
        gulps = [len(part) async for part in answer.aiter_raw()]
    assert max(gulps) > 128 * 1024


async def test_pieces_are_large_enough_to_be_cheap_and_small_enough_for_memory() -> None:
    async with against(answering(bytes(8 * MIB))) as setup, setup.user.download("f1") as file:
        sizes = [len(chunk) async for chunk in file.chunks]
    assert all(256 * 1024 <= size <= MIB for size in sizes[:-1])
    assert sizes[-1] <= MIB


async def test_a_file_in_chunks_has_no_size_and_arrives_as_well() -> None:
    async with against(in_chunks(b"a" * 10, b"b" * 100_000)) as setup, setup.user.download("f1") as file:
        assert file.size is None
        assert b"".join([chunk async for chunk in file.chunks]) == b"a" * 10 + b"b" * 100_000


async def test_an_empty_file_is_a_file() -> None:
    async with against(answering(b"")) as setup:
        assert await whole_file(setup.user) == b""


async def test_the_connection_is_used_again_after_a_whole_file() -> None:
    async with against(answering(bytes(MIB))) as setup:
        for _ in range(3):
            await whole_file(setup.user)
    assert setup.server.connections == 1


@pytest.mark.parametrize(
    ("file_id", "target"),
    [
        ("a b", "a%20b"),
        ("a/../b", "a%2F..%2Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("a%2fb", "a%252fb"),
        ("...", "..."),
    ],
)
async def test_a_file_id_is_opaque_and_stays_one_segment_of_the_url(file_id: str, target: str) -> None:
    async with against(answering(b"x")) as setup:
        await whole_file(setup.user, file_id)
    assert setup.server.received[0].target == f"/Api/v6/file/{target}"


@pytest.mark.parametrize("file_id", ["", ".", "..", "a\r\nHost: b", "ä", "x" * 513])
async def test_what_can_be_no_file_id_never_reaches_a_url(file_id: str) -> None:
    async with against(answering(b"x")) as setup:
        with pytest.raises(ValueError, match="id"):
            await whole_file(setup.user, file_id)
    assert setup.server.received == []


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (then_closing(sending(head(200, content_length=100), b"x" * 99)), "short"),
        (then_closing(in_chunks(b"x" * 99, ended=False)), "short"),
        (then_closing(sending(head(200, Transfer_Encoding="chunked"), b"no length\r\n")), "short"),
        (sending(head(200, content_length=100) + b"x" * 101), "long"),
        (sending(head(200, Transfer_Encoding="chunked") + b"1\r\nx\r\n0\r\n\r\nmore"), "long"),
        (then_closing(sending(head(200) + b"x" * 100)), "unframed"),
    ],
)
async def test_a_file_that_is_not_as_long_as_declared_never_looks_whole(script: Script, kind: str) -> None:
    async with against(script) as setup:
        with pytest.raises(TransferBroken) as broken:
            await whole_file(setup.user)
    assert broken.value.kind == kind
    assert setup.observer.codes == [("download", "unreadable")]


async def test_the_last_piece_is_not_given_before_the_end_is_proven() -> None:
    too_long = sending(head(200, content_length=10) + b"x" * 11)
    async with against(too_long) as setup, setup.user.download("f1") as file:
        with pytest.raises(TransferBroken):
            await anext(file.chunks)


async def test_surplus_that_comes_in_its_own_packet_is_noticed_when_it_is_there() -> None:
    arrived = asyncio.Event()

    async def in_two(writer: asyncio.StreamWriter) -> None:
        await sending(head(200, content_length=MIB), bytes(MIB), b"more")(writer)
        arrived.set()

    async def reading(file: FileDownload) -> None:
        async for _ in file.chunks:
            # All but the end is read before the surplus arrives.
            await asyncio.wait_for(arrived.wait(), timeout=5)

    async with against(in_two) as setup, setup.user.download("f1") as file:
        with pytest.raises(TransferBroken):
            await reading(file)


@pytest.mark.parametrize("behind", ["tls", "proxy"])
async def test_surplus_is_noticed_behind_tls_and_behind_a_proxy(
    behind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusting = server_tls(tmp_path) if behind == "tls" else (None, None)
    async with running(sending(head(200, content_length=10) + b"x" * 11), tls=tls) as server:
        if behind == "proxy":
            monkeypatch.setenv("HTTP_PROXY", server.url)
        base_url = server.url if behind == "tls" else "http://esaw.invalid"
        async with new_http_client(verify=trusting) as http:
            esaw = EsawClient(base_url, http=http, clock=AClock(START), observe=RecordingObserver())
            with pytest.raises(TransferBroken, match="more than the length"):
                await whole_file(esaw.as_user(ApiToken.parse(TOKEN, esaw.origin)))


async def test_a_connection_that_is_cut_in_the_middle_is_unreachable() -> None:
    async with against(then_cutting(sending(head(200, content_length=100), b"x" * 50))) as setup:
        with pytest.raises(EsawUnreachable) as met:
            await whole_file(setup.user)
    assert met.value.kind == "cut"
    assert setup.observer.codes == [("download", "unreachable")]


async def test_a_file_that_stands_still_is_given_up() -> None:
    async def stall(writer: asyncio.StreamWriter) -> None:
        await sending(head(200, content_length=100), b"x" * 50)(writer)
        await asyncio.Event().wait()

    async with against(stall, call_limits=CallLimits(silence=0.1)) as setup:
        with pytest.raises(EsawUnreachable) as met:
            await whole_file(setup.user)
    assert met.value.kind == "timeout"


async def test_a_file_that_trickles_is_given_up_though_no_single_wait_is_long() -> None:
    # The clock moves 20 s with each wait: three waits are a minute, in which a few bytes came.
    async def trickle(writer: asyncio.StreamWriter) -> None:
        await sending(head(200, content_length=100))(writer)
        for _ in range(10):
            await sending(b"x")(writer)
            await asyncio.sleep(0.02)

    async with against(
        trickle, clock=AClock(START, step=20), call_limits=CallLimits(minimum_rate=MinimumRate(window=20))
    ) as setup:
        with pytest.raises(EsawUnreachable) as met:
            await whole_file(setup.user)
    assert met.value.kind == "slow"


async def test_a_file_of_which_nothing_comes_is_given_up_before_the_silence_ends() -> None:
    async def stall(writer: asyncio.StreamWriter) -> None:
        await sending(head(200, content_length=100), b"x" * 50)(writer)
        await asyncio.Event().wait()

    impatient = CallLimits(minimum_rate=MinimumRate(window=0.1, bytes_per_second=10 * MIB))
    async with against(stall, call_limits=impatient) as setup:
        with pytest.raises(EsawUnreachable) as met:
            await whole_file(setup.user)
    assert met.value.kind == "slow"


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\n", head(200, content_length=100)])
async def test_an_answer_whose_head_or_body_trickles_ends_with_the_answers_timeout(sent: bytes) -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        while True:
            writer.write(b"X-A: b\r\n"[:9] if sent.endswith(b"OK\r\n") else b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with against(trickle, call_limits=CallLimits(silence=5, answer=0.3)) as setup:
        with pytest.raises(EsawUnreachable) as met:
            await setup.user.whoami()
    assert met.value.kind == "timeout"


async def test_a_large_file_may_take_its_time() -> None:
    call_limits = CallLimits(minimum_rate=MinimumRate(window=20, bytes_per_second=1))
    async with against(
        answering(bytes(4 * MIB)), clock=AClock(START, step=20), call_limits=call_limits
    ) as setup:
        assert len(await whole_file(setup.user)) == 4 * MIB


async def test_the_time_in_which_the_archive_is_slow_does_not_count() -> None:
    async with against(answering(bytes(4 * MIB))) as setup, setup.user.download("f1") as file:
        async for _ in file.chunks:
            setup.clock.advance(seconds=3600)
    assert setup.observer.calls == [("download", "200", 0.0)]


@pytest.mark.parametrize(
    ("script", "kind", "code"),
    [
        (answering({"ErrorId": "ERR0008"}, 404), HttpStatusError, "404"),
        (answering(b"", 401), HttpStatusError, "401"),
        (answering(b"", 204), ResponseInvalid, "unreadable"),
        (answering(b"half", 206, Content_Range="bytes 0-3/8"), ResponseInvalid, "unreadable"),
        (answering(b"\x1f\x8b", Content_Encoding="gzip"), ResponseInvalid, "unreadable"),
        (answering(b"<html>Log in", Content_Type="text/html; charset=utf-8"), ResponseInvalid, "unreadable"),
        (answering({"ErrorId": "ERR0001"}, Content_Type="Application/JSON"), ResponseInvalid, "unreadable"),
        (answering(b"upstream connect error", Content_Type="text/plain"), ResponseInvalid, "unreadable"),
        (answering({"title": "Bad"}, Content_Type="application/problem+json"), ResponseInvalid, "unreadable"),
    ],
)
async def test_what_is_no_whole_file_is_not_opened(script: Script, kind: type[EsawError], code: str) -> None:
    async with against(script) as setup:
        with pytest.raises(kind):
            await whole_file(setup.user)
    assert set(setup.observer.codes) == {("download", code)}


async def test_a_file_says_whether_esaw_named_it() -> None:
    named = answering(b"x", Content_Disposition="attachment; filename=a.txt", Content_Type="text/plain")
    async with against(named) as bench, bench.user.download("f1") as file:
        assert file.is_named
    async with against(answering(b"x")) as bench, bench.user.download("f1") as file:
        assert not file.is_named


async def test_an_attachment_that_is_a_web_page_is_still_a_file() -> None:
    page = answering(b"<html>", Content_Type="text/html", Content_Disposition="attachment; filename=a.html")
    async with against(page) as setup:
        assert await whole_file(setup.user) == b"<html>"


async def test_leaving_early_ends_the_transfer_and_keeps_the_client_usable() -> None:
    async with against(answering(bytes(64 * MIB)), answering(b"next")) as setup:
        async with setup.user.download("f1") as file:
            await anext(file.chunks)
        assert await whole_file(setup.user) == b"next"
    assert setup.server.connections == 2


async def test_an_error_of_the_archive_passes_through_as_it_is() -> None:
    class DiskFull(Exception):
        pass

    async def storing(user: EsawUserClient) -> None:
        async with user.download("f1") as file:
            async for _ in file.chunks:
                raise DiskFull

    async with against(answering(bytes(64 * MIB))) as setup:
        with pytest.raises(DiskFull):
            await storing(setup.user)
    assert setup.observer.codes == [("download", "200")]


async def test_a_download_that_is_cancelled_leaves_no_connection_behind() -> None:
    begun = asyncio.Event()

    async def endless(user: EsawUserClient) -> None:
        async with user.download("f1") as file:
            async for _ in file.chunks:
                begun.set()

    async def without_end(writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, content_length=1 << 40))
        while True:
            writer.write(bytes(MIB))
            await writer.drain()

    async with against(without_end, answering(b"next")) as setup:
        task = asyncio.create_task(endless(setup.user))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await whole_file(setup.user) == b"next"
