"""
Pages: the HTML of eSAW's web side. Pure; plain forms and links, no script, every value escaped.

The words on the buttons are what people (and tests) press: Sign in, Sign out, Allow, Deny, Create draft, and
SEND or NEXT.
"""

import html
from collections.abc import Iterable
from typing import Final

from sandbox.esaw.core.model import Draft, OAuthApp, StoredEnvelope, User
from sandbox.esaw.http.sessions import FORM_FIELD, BrowserSession

_STYLE: Final = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}"
    "label{display:block;margin:.8rem 0}input,textarea{display:block;width:100%;font:inherit;padding:.3rem;"
    "box-sizing:border-box}button{font:inherit;padding:.4rem 1.2rem;margin:.4rem .4rem .4rem 0}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .8rem .3rem 0}"
    ".problem{color:#a00000}header{display:flex;justify-content:space-between;align-items:center}"
)


def login(session: BrowserSession, return_url: str, email: str = "", problem: str = "") -> str:
    """The login form."""
    return _page(
        "Sign in",
        f"""{_problem(problem)}<form method="post" action="/Account/Login">
{_hidden(session)}<input type="hidden" name="returnUrl" value="{_e(return_url)}">
<label>E-mail <input name="email" type="email" value="{_e(email)}" required autocomplete="username"></label>
<label>Password <input name="password" type="password" required autocomplete="current-password"></label>
<button>Sign in</button></form>""",
    )


def consent(session: BrowserSession, user: User, app: OAuthApp, host: str, action: str) -> str:
    """The question whether an application may have the user's token."""
    return _page(
        f"Allow {app.name}?",
        f"""<p><strong>{_e(app.name)}</strong> at <strong>{_e(host)}</strong> wants to act for you,
{_e(_name(user))}, in eSignAnyWhere: to see, send and delete your envelopes.</p>
<form method="post" action="{_e(action)}">{_hidden(session)}
<button name="decision" value="allow">Allow</button>
<button name="decision" value="deny">Deny</button></form>""",
        session,
    )


def inbox(session: BrowserSession, drafts: Iterable[Draft], envelopes: Iterable[StoredEnvelope]) -> str:
    """The drafts and envelopes of who is signed in."""
    draft_rows = "".join(
        f'<tr><td><a href="/Drafts/{_e(each.id)}">{_e(each.name)}</a></td><td>Draft</td></tr>'
        for each in drafts
    )
    envelope_rows = "".join(
        f'<tr id="{_e(each.id)}"><td>{_e(each.name)}</td><td>{_e(each.status)}</td></tr>'
        for each in envelopes
    )
    return _page(
        "Documents",
        f"""<p><a href="/Drafts/New">New draft</a></p>
<table><thead><tr><th>Name</th><th>Status</th></tr></thead><tbody>{draft_rows}{envelope_rows}</tbody></table>""",
        session,
    )


def new_draft(session: BrowserSession, *, asks_metadata: bool, problem: str = "") -> str:
    """The form for a new draft; the Meta Data input is hidden where a page before sending asks for it."""
    metadata = '<label>Meta Data <textarea name="metadata"></textarea></label>' if asks_metadata else ""
    return _page(
        "New draft",
        f"""{_problem(problem)}
<form method="post" action="/Drafts/New" enctype="multipart/form-data">{_hidden(session)}
<label>Name <input name="name" value="Contract" required></label>
<label>Recipient's e-mail <input name="email" type="email" value="signer@example.com" required></label>
<label>Recipient's given name <input name="given_name" value="Sigmund"></label>
<label>Recipient's surname <input name="surname" value="Signer"></label>
<label>Document (else a sample) <input name="document" type="file"></label>
{metadata}<button>Create draft</button></form>""",
        session,
    )


def summary(session: BrowserSession, draft: Draft) -> str:
    """The last page before a draft is sent: with NEXT if another page comes before that, else with SEND."""
    people = "".join(
        f"<li>{_e(each.given_name)} {_e(each.surname)}, {_e(each.email)}</li>" for each in draft.recipients
    )
    papers = "".join(f"<li>{_e(each.name)}</li>" for each in draft.uploads)
    return _page(
        f"Summary of {draft.name}",
        f"""<h2>Recipients</h2><ul>{people}</ul><h2>Documents</h2><ul>{papers}</ul>
<form method="post" action="/Drafts/{_e(draft.id)}">{_hidden(session)}
<button>{"NEXT" if draft.before_send_url else "SEND"}</button></form>""",
        session,
    )


def refusal(title: str, text: str) -> str:
    """Something cannot be done."""
    return _page(
        title, f'<p class="problem">{_e(text)}</p><p><a href="/Inbox/Index">To your documents</a></p>'
    )


def form_expired(again: str) -> str:
    """A form that does not belong to the session."""
    return _page(
        "This page is out of date",
        '<p class="problem">You have signed in or out since it was shown.</p><p><a '
        f'href="{_e(again)}">Again</a></p>',
    )


def _page(title: str, body: str, session: BrowserSession | None = None) -> str:
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{_e(title)}</title>
<style>{_STYLE}</style></head><body>{_header(session)}<main><h1>{_e(title)}</h1>
{body}</main></body></html>"""


def _header(session: BrowserSession | None) -> str:
    if session is None or session.user is None:
        return ""
    return f"""<header><span>{_e(_name(session.user))}, {_e(session.user.email)}</span>
<form method="post" action="/Auth/Logout">{_hidden(session)}<button>Sign out</button></form></header>"""


def _hidden(session: BrowserSession) -> str:
    return f'<input type="hidden" name="{FORM_FIELD}" value="{_e(session.form_token)}">'


def _problem(text: str) -> str:
    return f'<p class="problem" role="alert">{_e(text)}</p>' if text else ""


def _name(user: User) -> str:
    return f"{user.given_name} {user.surname}"


def _e(text: str) -> str:
    return html.escape(text)
