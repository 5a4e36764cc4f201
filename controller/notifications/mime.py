"""
From a letter to a message that a mail server takes: addresses, headers, text and HTML.

Nothing from outside reaches a header but through ``one_line`` and ``Address``, so no header can be injected. The
Message-ID is made of what the mail is about: one that is sent again after a crash is known to be the same by the
servers and programs that look for that.
"""

import hashlib
import re
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

import jinja2

from controller.notifications.render import MailContent

_POLICY = SMTP.clone(cte_type="7bit")
"""Mail servers without 8BITMIME exist; in seven bits a mail passes through all."""

_FOLDER = Path(__file__).parent / "templates"

_LOCAL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")

MAX_HEADER_LENGTH = 200

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=jinja2.select_autoescape(("html",)),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)


def address(text: str, name: str = "") -> Address | None:
    """Read an address as people write it; None for one that no mail can be sent to. A domain becomes ASCII (IDNA)."""
    local, at, domain = text.strip().rpartition("@")
    try:
        domain = domain.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    if not at or not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain) or len(domain) > 253:
        return None
    if local.startswith(".") or local.endswith(".") or ".." in local:
        return None
    return Address(one_line(name), username=local, domain=domain)


def one_line(text: str) -> str:
    """Make a text safe for a header: one line, no control characters, not too long."""
    printable = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(printable.split())[:MAX_HEADER_LENGTH]


def message(
    content: MailContent, *, sender: Address, to: tuple[Address, ...], about: str, now: datetime
) -> EmailMessage:
    """Make the message; ``about`` says what it is about, and is the same when it is sent again."""
    made = EmailMessage(policy=_POLICY)
    made["From"] = Address("Counterfoil", username=sender.username, domain=sender.domain)
    made["To"] = to
    made["Subject"] = one_line(content.subject)
    made["Date"] = format_datetime(now)
    made["Message-ID"] = f"<{hashlib.sha256(about.encode()).hexdigest()[:32]}@{sender.domain}>"
    made["Auto-Submitted"] = "auto-generated"
    made["X-Auto-Response-Suppress"] = "All"
    made.set_content(_templates.get_template("letter.txt").render(content=content))
    made.add_alternative(_templates.get_template("letter.html").render(content=content), subtype="html")
    # Last, since setting the content takes all headers that begin so away.
    made["Content-Language"] = content.language.value
    return made
