"""S9: write lines and links into a mail with a name, an error of eSAW or an archive's answer."""

import re

import lxml.html
import pytest

from controller.mails.policy import Notification
from controller.mails.render import MailRenderer, message
from controller.mails.smtp import MailServer, SmtpMailer
from counterfoil.metrics import MailKind
from counterfoil.resources import Organization
from sandbox.servers.smtp import ReceivedMail, SmtpServer
from tests.support.builders import NOON, an_organization
from tests.support.scenes.notifications import ADMIN, FROM, MAILS, PUBLIC, a_problem, an_unauthorized_sender

ATTACK = (
    "Anna\r\n\r\nYour mailbox is full. Sign in:\u2028https://evil.example/a \u202ehttp://evil.example/b\n"
    "www.evil.example <a href='https://evil.example/c'>here</a> evil.example/d " + "x" * 5000
)
OWN_ADDRESSES = ("https://pages.acme.example/consent/acme/anna", "https://console.acme.example/attention")

A_SENDER = an_unauthorized_sender(givenName=ATTACK, surname=ATTACK, waiting=2)
NOTIFICATIONS = {
    "a sender's name, to the sender": Notification(MailKind.CONSENT, NOON, senders=(A_SENDER,)),
    "a sender's name, to the administrators": Notification(
        MailKind.ESCALATION, NOON, a_problem("consent", reason="TokenRejected"), (A_SENDER,)
    ),
    "the message of an error": Notification(
        MailKind.FAILED, NOON, a_problem("failed/EsawRefused", message=ATTACK)
    ),
    "an example": Notification(MailKind.FAILED, NOON, a_problem("failed/EsawRefused", examples=(ATTACK,))),
}


def an_organization_with_console() -> Organization:
    notifications = {**MAILS, "consoleURL": "https://console.acme.example"}
    return an_organization(notifications=notifications, oauth=PUBLIC)


async def arrived(notification: Notification) -> ReceivedMail:
    """Send the mail through a real mail server."""
    organization = an_organization_with_console()
    content = MailRenderer(organization, "contracts").content(notification)
    async with SmtpServer() as server:
        where = MailServer.read("smtp", {key: value.encode() for key, value in server.secret.items()})
        mail = message(content, sender=FROM, to=(ADMIN,), about="test", now=NOON)
        await SmtpMailer().send(where, mail, sender=FROM.addr_spec, to=(ADMIN.addr_spec,))
        return server.mails[0]


@pytest.mark.parametrize("notification", NOTIFICATIONS.values(), ids=list(NOTIFICATIONS))
async def test_text_of_others_adds_no_line_and_no_link_to_a_mail(notification: Notification) -> None:
    mail = await arrived(notification)

    assert not re.search(r"^\W*Your mailbox is full", mail.text, re.MULTILINE)
    assert not re.search("[\u2028\u202e]", mail.text + mail.html)
    links = set(re.findall(r"\w+://[^\s<>\"]+", mail.text + mail.html))
    assert all(link.startswith(OWN_ADDRESSES) for link in links)
    # Mail programs make links of these, too.
    assert not re.search(r"www\.|evil\.example", mail.text + mail.html)
    page = lxml.html.document_fromstring(mail.html)
    assert all(link.startswith(OWN_ADDRESSES) for link in page.xpath("//a/@href"))
    assert "x" * 600 not in mail.text.replace("\n", "")
