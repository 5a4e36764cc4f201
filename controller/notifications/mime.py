"""
Build the MIME message of a mail: addresses, headers, text and HTML.

External text reaches a header only through ``one_line`` and ``Address``, so no header can be injected. The
Message-ID is derived from the subject of the notification. Mail servers and clients can therefore recognize a
mail that is sent again after a crash.
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
"""Mail servers without 8BITMIME exist; all of them accept seven-bit mails."""

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
    """Parse a mail address; None if it is invalid. The domain is converted to ASCII (IDNA)."""
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
    """Build the message. ``about`` identifies the notification and is equal for each attempt to send it."""
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
    # Last, since setting the content removes all headers that begin with "Content-".
    made["Content-Language"] = content.language.value
    return made
