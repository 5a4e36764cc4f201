"""One attempt, against real HTTP servers on loopback that do what they should not."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from controller.outgoing_webhook.client import NoticeClient
from controller.outgoing_webhook.policy import AttemptResult, Delivered, NotDelivered
from counterfoil.untrusted.addresses import Addresses
from tests.support.builders import NOON, AClock
from tests.support.servers.scripted_esaw import (
    Script,
    answering,
    running,
    sending,
    server_tls,
    silence,
    then_cutting,
)

BODY = b'{"specversion":"1.0"}'
HEADERS = {"Content-Type": "application/cloudevents+json", "webhook-id": "msg_1"}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def resolved_to_loopback(host: str, port: int) -> Sequence[str]:
    return ("127.0.0.1",)


async def result_of(*scripts: Script, seconds: float = 5.0) -> AttemptResult:
    async with running(*scripts) as server:
        client = NoticeClient(AClock(), timeout_seconds=seconds)
        try:
            return await client.post(f"{server.url}/hook", HEADERS, BODY)
        finally:
            await client.close()


def reason_of(result: AttemptResult) -> str:
    assert isinstance(result, NotDelivered)
    return result.reason


async def test_the_body_arrives_as_it_is() -> None:
    async with running(answering(b"", 204)) as server:
        client = NoticeClient(AClock())
        assert await client.post(f"{server.url}/hook?code=1", HEADERS, BODY) == Delivered()
        await client.close()
    request = server.received[0]
    assert (request.method, request.target, request.body) == ("POST", "/hook?code=1", BODY)
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["webhook-id"] == "msg_1"
    assert request.headers["user-agent"] == "Counterfoil"
    assert request.headers["host"] == server.url.removeprefix("http://")


async def test_a_receiver_that_never_answers_costs_one_timeout() -> None:
    began = time.monotonic()
    assert reason_of(await result_of(silence, seconds=0.3)) == "WebhookUnreachable"
    assert time.monotonic() - began < 3


async def test_a_receiver_that_sends_single_bytes_costs_one_timeout() -> None:
    async def drips(writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Endless: " + b"x" * 1000:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0.05)

    assert reason_of(await result_of(drips, seconds=0.4)) == "WebhookUnreachable"


async def test_a_huge_body_is_not_read() -> None:
    sent = 0

    async def floods(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < 1_000_000_000:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536

    assert await result_of(floods) == Delivered(), "the status says that the notice is taken"
    assert sent < 20_000_000


async def test_endless_headers_are_no_answer() -> None:
    assert reason_of(await result_of(sending(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000))) == (
        "WebhookUnreachable"
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://erp..acme.example/x",
        f"https://{'a' * 64}.example/",
        "https://[10.0.0.1]/",
        "https://xn--a.example/",
    ],
)
async def test_a_name_that_nobody_can_look_up_is_a_failed_attempt(url: str) -> None:
    client = NoticeClient(AClock())
    assert reason_of(await client.post(url, HEADERS, BODY)) == "WebhookUnreachable"
    await client.close()


async def test_a_redirect_is_not_followed() -> None:
    async with running(answering(b"{}", 200)) as elsewhere:
        result = await result_of(answering(b"", 307, location=f"{elsewhere.url}/hook"))
        assert reason_of(result) == "WebhookRedirects"
        assert elsewhere.received == []


async def test_no_cookie_and_no_connection_is_kept() -> None:
    async with running(answering(b"", 200, set_cookie="a=b")) as server:
        client = NoticeClient(AClock())
        for _ in range(2):
            assert await client.post(server.url, HEADERS, BODY) == Delivered()
        await client.close()
    assert "cookie" not in server.received[1].headers
    assert server.connections == 2


async def test_retry_after_in_seconds_or_as_a_date() -> None:
    async def not_before(header: str) -> object:
        result = await result_of(answering(b"", 429, retry_after=header))
        assert isinstance(result, NotDelivered)
        return result.not_before

    assert await not_before("120") == NOON + timedelta(minutes=2)
    assert await not_before("Wed, 01 Jul 2026 12:05:00 GMT") == NOON + timedelta(minutes=5)
    assert await not_before("soon") is None
    # Bounded here, and only here.
    assert await not_before("86400") == NOON + timedelta(hours=1)
    assert await not_before("Fri, 01 Jan 2100 00:00:00 GMT") == NOON + timedelta(hours=1)


@pytest.mark.parametrize("header", ["9" * 400, "Thu, 01 Jan 2026 00:00:00 +99999999999999", "-1", "²"])
async def test_no_value_of_retry_after_ends_the_attempt_without_a_result(header: str) -> None:
    result = await result_of(answering(b"", 429, retry_after=header.encode().decode("latin-1")))
    assert reason_of(result) == "WebhookFailing"


async def test_a_closed_port_and_a_cut_connection() -> None:
    client = NoticeClient(AClock())
    result = await client.post("http://127.0.0.1:1/hook?secret=1", HEADERS, BODY)
    assert reason_of(result) == "WebhookUnreachable"
    assert isinstance(result, NotDelivered)
    assert "secret" not in result.message
    await client.close()
    assert reason_of(await result_of(then_cutting(sending(b"HTTP/1.1 20")))) == "WebhookUnreachable"


async def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    server_side, _ = server_tls(tmp_path)
    async with running(answering(b"", 200), tls=server_side) as server:
        client = NoticeClient(AClock())
        result = await client.post(server.url, HEADERS, BODY)
        await client.close()
    assert reason_of(result) == "WebhookTlsFailed"
    assert server.received == []


async def test_the_certificate_must_be_for_the_name_and_not_for_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_side, _ = server_tls(tmp_path)
    # The authority is trusted, and the certificate is for 127.0.0.1; the name only leads there.
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    async with running(answering(b"", 200), tls=server_side) as server:
        client = NoticeClient(AClock(), Addresses(allows_loopback=True, resolve=resolved_to_loopback))
        assert await client.post(server.url, HEADERS, BODY) == Delivered()
        port = server.url.rpartition(":")[2]
        assert reason_of(await client.post(f"https://localhost:{port}", HEADERS, BODY)) == "WebhookTlsFailed"
        await client.close()


async def test_a_name_is_looked_up_once_and_the_checked_address_is_used() -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ("127.0.0.1",) if len(asked) == 1 else ("169.254.169.254",)

    async with running(answering(b"", 200)) as server:
        port = server.url.rpartition(":")[2]
        client = NoticeClient(AClock(), Addresses(allows_loopback=True, resolve=rebinding))
        assert await client.post(f"http://localhost:{port}/", HEADERS, BODY) == Delivered()
        assert reason_of(await client.post(f"http://localhost:{port}/", HEADERS, BODY)) == (
            "WebhookAddressForbidden"
        )
        await client.close()
    assert asked == ["localhost", "localhost"]
    assert server.received[0].headers["host"] == f"localhost:{port}"
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "addresses",
    [("169.254.169.254",), ("203.0.113.7", "169.254.169.254"), ("127.0.0.1",), ("::ffff:169.254.169.254",)],
)
async def test_a_name_with_a_forbidden_address_is_refused(addresses: Sequence[str]) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    client = NoticeClient(AClock(), Addresses(allows_loopback=True, resolve=resolve))
    assert reason_of(await client.post("https://erp.acme.example/hook", HEADERS, BODY)) == (
        "WebhookAddressForbidden"
    )
    await client.close()


async def test_an_unknown_name_is_unreachable() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError("unknown")

    client = NoticeClient(AClock(), Addresses(allows_loopback=True, resolve=resolve))
    assert (
        reason_of(await client.post("https://erp.acme.example/hook", HEADERS, BODY)) == "WebhookUnreachable"
    )
    await client.close()


async def test_the_next_address_is_used_when_one_takes_no_connection() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ("127.0.0.2", "127.0.0.1")

    async with running(answering(b"", 200)) as server:
        client = NoticeClient(AClock(), Addresses(allows_loopback=True, resolve=resolve))
        port = server.url.rpartition(":")[2]
        assert await client.post(f"http://localhost:{port}/", HEADERS, BODY) == Delivered()
        await client.close()


async def test_a_proxy_of_the_environment_is_used_except_for_no_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(answering(b"", 200)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        client = NoticeClient(AClock())
        assert await client.post("http://receiver/hook", HEADERS, BODY) == Delivered()
        async with running(answering(b"", 200)) as direct:
            assert await client.post(f"{direct.url}/hook", HEADERS, BODY) == Delivered()
        await client.close()
    assert [each.target for each in proxy.received] == ["http://receiver/hook"]
    assert [each.target for each in direct.received] == ["/hook"]


async def test_a_proxy_gets_no_request_for_a_forbidden_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(answering(b"", 200)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        client = NoticeClient(AClock())
        result = await client.post("http://169.254.169.254/latest/meta-data", HEADERS, BODY)
        await client.close()
    assert reason_of(result) == "WebhookAddressForbidden"
    assert proxy.received == []
