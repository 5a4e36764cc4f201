"""Mails reach a real mail server, encrypted and logged in; failures have stable texts."""

import asyncio
import socket
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.message import EmailMessage
from functools import partial
from typing import Any

import pytest

from controller.mails.render import message
from controller.mails.smtp import MailError, MailServer, MessageRejected, SmtpMailer, Tls
from counterfoil.untrusted.host_lookup import HostLookup
from sandbox.servers import smtp
from tests.support.builders import NOON
from tests.support.scenes.notifications import ADMIN, FROM, a_mail_content

ANNA = "anna@acme.example"
SENDER = "counterfoil@acme.example"


def a_message() -> EmailMessage:
    return message(a_mail_content(), sender=FROM, to=(ADMIN,), about="test", now=NOON)


def reached_by(values: Mapping[str, str]) -> MailServer:
    return MailServer.read("smtp", {key: value.encode() for key, value in values.items()})


async def send(server: smtp.SmtpServer, *to: str, **changes: str) -> None:
    where = reached_by({**server.secret, **changes})
    await SmtpMailer().send(where, a_message(), sender=SENDER, to=to or (ANNA,))


async def trouble(server: smtp.SmtpServer, *to: str, **changes: str) -> MailError:
    with pytest.raises(MailError) as found:
        await send(server, *to, **changes)
    return found.value


@pytest.mark.parametrize(
    ("tls", "login"),
    [("starttls", True), ("starttls", False), ("implicit", True), ("implicit", False), ("none", False)],
)
async def test_a_mail_arrives_just_as_it_was_written(tls: str, login: bool) -> None:
    async with smtp.SmtpServer(tls=tls, login=login) as server:
        await send(server)
        (arrived,) = server.mails
        assert (arrived.sender, arrived.to) == (SENDER, (ANNA,))
        assert arrived.encrypted == (tls != "none")
        assert arrived.user == (smtp.USERNAME if login else None)
        assert arrived.subject == a_mail_content().subject
        assert "Gruß aus Südtirol" in arrived.text
        assert "Gruß aus Südtirol" in arrived.html


async def test_checking_logs_in_and_sends_nothing() -> None:
    async with smtp.SmtpServer() as server:
        await SmtpMailer().check(reached_by(server.secret))
        assert (server.connections, server.mails) == (1, [])


async def test_a_server_without_encryption_gets_neither_password_nor_mail() -> None:
    async with smtp.SmtpServer(tls="none") as server:
        found = await trouble(server, tls="starttls")
        assert found.reason == "MailServerLacksTls"
        assert server.mails == []


async def test_a_certificate_of_an_unknown_authority_is_not_trusted() -> None:
    async with smtp.SmtpServer() as server:
        assert (await trouble(server, **{"ca.crt": ""})).reason == "MailServerNotTrusted"
    async with smtp.SmtpServer(tls="implicit") as server:
        assert (await trouble(server, **{"ca.crt": ""})).reason == "MailServerNotTrusted"


async def test_a_certificate_of_another_host_is_not_trusted() -> None:
    async with smtp.SmtpServer() as server:
        assert (await trouble(server, host="localhost")).reason == "MailServerNotTrusted"


async def test_a_wrong_password_is_reported_as_such_and_is_in_no_text() -> None:
    async with smtp.SmtpServer() as server:
        found = await trouble(server, password="a-wrong-password")
        assert found.reason == "MailLoginRefused"
        assert "a-wrong-password" not in f"{found!r} {found.__cause__!r}"


async def test_a_login_that_is_not_offered_is_reported_as_such() -> None:
    async with smtp.SmtpServer(tls="implicit", login=False) as server:
        found = await trouble(server, username="u", password="p")
        assert found.reason == "MailLoginRefused"


async def test_a_server_that_is_not_there_is_reported_as_such() -> None:
    async with smtp.SmtpServer() as server:
        await server.stop()
        found = await trouble(server)
        assert found.reason == "MailServerUnreachable"
        assert str(found) == f"The mail server 127.0.0.1:{server.port} can't be reached."


async def test_a_mail_server_whose_name_hangs_stops_no_other_work_in_threads() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    go = threading.Event()

    def look_up(_: str) -> Sequence[str]:
        go.wait(30)
        return ("127.0.0.1",)

    values = {"host": "mail.slow.example", "port": "25", "tls": "none"}
    mailer = SmtpMailer(command_seconds=0.3, resolve=HostLookup(look_up).addresses)
    check = asyncio.create_task(mailer.check(reached_by(values)))
    async with asyncio.timeout(10):
        assert await asyncio.to_thread(sum, (1, 2)) == 3
    with pytest.raises(MailError) as found:
        await check
    go.set()
    assert found.value.reason == "MailServerUnreachable"


async def test_a_second_address_of_a_mail_server_is_tried() -> None:
    async def resolve(*_: object) -> Sequence[str]:
        return ("::1", "127.0.0.1")

    async with smtp.SmtpServer(tls="none", login=False) as server:
        where = reached_by({"host": "localhost", "port": server.secret["port"], "tls": "none"})
        await SmtpMailer(resolve=resolve).check(where)
        assert server.connections == 1


async def test_no_thread_of_the_event_loop_looks_anything_up_for_a_mail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a look-up in a thread of the event loop")

    for name in ("getaddrinfo", "getfqdn", "gethostbyaddr"):
        monkeypatch.setattr(socket, name, refuse)
    async with smtp.SmtpServer() as server:
        await SmtpMailer().check(reached_by(server.secret))


async def test_a_server_that_says_nothing_is_not_waited_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        values = {"host": "127.0.0.1", "port": str(silent.getsockname()[1]), "tls": "none"}
        with pytest.raises(MailError) as found:
            await SmtpMailer(command_seconds=0.2).check(reached_by(values))
    assert found.value.reason == "MailServerUnreachable"


async def test_a_mail_that_the_server_does_not_read_leaves_no_connection() -> None:
    is_over, is_closed = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail\r\n")
        for answer in (b"250 mail\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 Send it\r\n"):
            await reader.readline()
            writer.write(answer)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await is_over.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        with suppress(ConnectionError):
            while len(block := await reader.read(65536)) > 0:
                received.append(len(block))
        is_closed.set()
        writer.close()

    received: list[int] = []
    large = EmailMessage()
    large.set_payload(("x" * 75 + "\n") * 150_000)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        values = {"host": "127.0.0.1", "port": str(server.sockets[0].getsockname()[1]), "tls": "none"}
        with pytest.raises(MailError):
            await SmtpMailer(data_reply_seconds=0.2).send(
                reached_by(values), large, sender=SENDER, to=(ANNA,)
            )
        await asyncio.sleep(0.1)
        is_over.set()
        async with asyncio.timeout(10):
            await is_closed.wait()
    assert sum(received) < len(large.as_bytes())


async def test_a_recipient_that_is_refused_is_a_matter_of_this_mail_only() -> None:
    async with smtp.SmtpServer() as server:
        server.behaviour.refuses = lambda address: "550 No such user" if address == ANNA else None
        found = await trouble(server)
        assert isinstance(found, MessageRejected)
        assert str(found).endswith("does not take mail for a recipient (550).")
        await send(server, "ben@acme.example", ANNA)
        assert [each.to for each in server.mails] == [("ben@acme.example",)]


async def test_a_mail_that_is_refused_is_reported_with_the_servers_number_only() -> None:
    async with smtp.SmtpServer() as server:
        server.behaviour.refuses_data = "554 5.7.1 spam, id 8f7a6b"
        found = await trouble(server)
        assert isinstance(found, MessageRejected)
        assert "8f7a6b" not in str(found)
        assert "554" in str(found)


async def test_a_server_may_take_longer_to_say_that_it_took_a_mail_than_for_anything_else() -> None:
    """Otherwise it would be sent again, and arrive twice. (RFC 5321, 4.5.3.2.6)"""
    async with smtp.SmtpServer(tls="none", login=False) as server:
        server.behaviour.answers = partial(asyncio.sleep, 3.0)
        where = reached_by(server.secret)
        mailer = SmtpMailer(command_seconds=1.5, session_seconds=2.0)
        await mailer.send(where, a_message(), sender=SENDER, to=(ANNA,))
        assert len(server.mails) == 1


async def test_a_server_that_never_says_whether_it_took_a_mail_is_not_waited_for_indefinitely() -> None:
    async with smtp.SmtpServer(tls="none", login=False) as server:
        server.behaviour.answers = asyncio.Event().wait
        where = reached_by(server.secret)
        with pytest.raises(MailError) as found:
            await SmtpMailer(data_reply_seconds=0.2).send(where, a_message(), sender=SENDER, to=(ANNA,))
        assert found.value.reason == "MailServerUnreachable"


async def test_a_mail_that_was_accepted_is_sent_although_the_server_does_not_end_the_session() -> None:
    async with smtp.SmtpServer(tls="none", login=False) as server:
        server.behaviour.answers_quit = False
        # As long as the farewell alone is waited for.
        await SmtpMailer(session_seconds=2.0).send(
            reached_by(server.secret), a_message(), sender=SENDER, to=(ANNA,)
        )
        assert len(server.mails) == 1


async def test_a_server_that_hangs_up_after_a_mail_counts_as_one_that_does_not_work() -> None:
    async with smtp.SmtpServer() as server:
        server.behaviour.hangs_up = True
        assert (await trouble(server)).reason == "MailServerUnreachable"


SECRETS: list[tuple[dict[str, Any], str]] = [
    ({}, "has no `host`"),
    ({"host": b"mail.example\r\nHELO x"}, "has no `host`"),
    ({"host": b"mail example"}, "has no `host`"),
    ({"host": b"\xff"}, "has a `host` that is no UTF-8"),
    ({"host": b"mail.example", "port": b"smtp"}, "has a `port` that is no port"),
    ({"host": b"mail.example", "port": b"70000"}, "has a `port` that is no port"),
    ({"host": b"mail.example", "tls": b"maybe"}, "has a `tls` that is none of"),
    ({"host": b"mail.example", "username": b"u"}, "needs both `username` and `password`"),
    (
        {"host": b"mail.example", "tls": b"none", "username": b"u", "password": b"p"},
        "a password is never sent without encryption",
    ),
]


@pytest.mark.parametrize(("data", "words"), SECRETS)
def test_a_secret_that_names_no_mail_server_says_what_is_wrong(data: dict[str, bytes], words: str) -> None:
    with pytest.raises(MailError) as found:
        MailServer.read("smtp", data)
    assert found.value.reason == "MailSettingsInvalid"
    assert words in str(found.value)


def test_encryption_is_the_default_and_follows_the_port() -> None:
    assert MailServer.read("smtp", {"host": b"mail.example"}) == MailServer("mail.example", 587, Tls.STARTTLS)
    assert MailServer.read("smtp", {"host": b"mail.example", "port": b"465"}).tls is Tls.IMPLICIT
    assert MailServer.read("smtp", {"host": b"mail.example", "port": b"25"}).tls is Tls.STARTTLS


def test_a_password_is_in_no_description_of_the_server() -> None:
    data = {"host": b"mail.example", "username": b"u", "password": b"very-secret"}
    assert "very-secret" not in repr(MailServer.read("smtp", data))


async def test_an_authority_that_can_not_be_read_is_reported_as_such() -> None:
    async with smtp.SmtpServer() as server:
        found = await trouble(server, **{"ca.crt": "no certificate"})
        assert found.reason == "MailSettingsInvalid"
        assert "ca.crt" in str(found)
