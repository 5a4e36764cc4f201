"""
Rendering: what a page of the console is made of, and the headers that keep it safe. Every value is escaped by
the template engine.

Style and scripts are our own files under names that contain their hash, so that a browser keeps them
permanently and runs nothing else: no page has a script or a style in itself, and nothing comes from anywhere
else. Without scripts every page works, but does not reload automatically.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import yaml
from aiohttp import web

from counterfoil.i18n.attention import AttentionItem, sender_of, title_of
from counterfoil.i18n.catalogue import Catalogue
from counterfoil.i18n.commands import commands_about, is_retried_in_vain
from counterfoil.i18n.reasons import ReasonText, find_reason, responsible_of, text_of
from counterfoil.i18n.sizes import readable_bytes
from counterfoil.resources import Language
from counterfoil.resources.audit_annotation import audit_entries
from counterfoil.settings import SignIn
from webhook.console.actions import Action
from webhook.console.limits import ConsoleLimits
from webhook.console.objects import document_link, kind_of, target_of
from webhook.console.sessions import THEMES
from webhook.http_server.responses import security_headers, template_environment

_FOLDER: Final = Path(__file__).parent

_DUMPER: Final = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper

_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain"}

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_SPANS: Final = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


@dataclass(frozen=True)
class Asset:
    """A file that pages load."""

    path: str
    integrity: str
    content: bytes
    type: str


class ConsoleRenderer:
    """Makes pages."""

    def __init__(
        self,
        limits: ConsoleLimits,
        sign_in: SignIn = SignIn.TOKEN,
        oidc_name: str | None = None,
    ) -> None:
        self._limits = limits
        self.assets = {asset.path: asset for asset in map(_asset, sorted((_FOLDER / "static").iterdir()))}
        self._environment = template_environment(_FOLDER / "templates")
        filters = {
            "bytes": readable_bytes,
            "time": readable_time,
            "iso": datetime.isoformat,
            "yaml": self._yaml,
        }
        self._environment.filters.update(filters)
        self._environment.globals.update(
            poll=limits.poll_seconds,
            limits=limits,
            htmx=self._named("htmx*.js"),
            script=self._named("console*.js"),
            style=self._named("console*.css"),
            is_proxied=sign_in is SignIn.PROXY,
            oidc_name=oidc_name,
            title_of=title_of,
            first_sentence=first_sentence,
            sender_of=sender_of,
            acts_of=audit_entries,
            actions=frozenset(Action),
            kind_of=kind_of,
            target_of=target_of,
            document_link=document_link,
            commands_about=commands_about,
            is_retried_in_vain=is_retried_in_vain,
            responsible_of=responsible_of,
        )

    def page(self, template: str, words: Catalogue, now: datetime, **values: Any) -> str:
        """Return a page."""
        language = Language(words.language)

        def ago(when: datetime) -> str:
            count, unit = _span(now, when)
            return words.say("time", unit, count=count)

        def reason(name: str) -> ReasonText:
            return find_reason(name).localized_text(language)

        def responsible(name: str) -> str:
            return str(find_reason(name).responsible)

        def presence(name: str) -> str:
            return str(find_reason(name).envelope)

        shared: dict[str, Any] = {
            "words": words,
            "now": now,
            "say": words.say,
            "ago": ago,
            "reason": reason,
            "text_of": partial(text_of, language=language),
            "text_of_entry": partial(AttentionItem.text, language=language),
            "responsible": responsible,
            "presence": presence,
        }
        defaults = {"auth_user": None, "here": "/", "done": None, "theme": THEMES[0], "themes": THEMES}
        return self._environment.get_template(template).render(shared | defaults | values)

    def headers(self, *, is_https: bool = False) -> dict[str, str]:
        """Return the headers of every page."""
        headers = security_headers(policy=POLICY, referrer_policy="same-origin", is_https=is_https)
        return headers | {"Cross-Origin-Resource-Policy": "same-origin"}

    def static(self, name: str) -> web.Response | None:
        """Return a file that pages load; None when there is none of this name."""
        asset = self.assets.get(f"/static/{name}")
        if asset is None:
            return None
        headers = {
            "Server": "counterfoil",
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        return web.Response(body=asset.content, content_type=asset.type, charset="utf-8", headers=headers)

    def _named(self, pattern: str) -> Asset:
        return next(asset for path, asset in self.assets.items() if fnmatch(path, f"/static/{pattern}"))

    def _yaml(self, raw: Mapping[str, Any]) -> str:
        """Write an object as kubectl would, without the bookkeeping of its fields."""
        metadata = {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
        shown = self._cut({**raw, "metadata": metadata})
        text: str = yaml.dump(shown, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=100)
        return text if len(text) <= self._limits.raw else f"{text[: self._limits.raw]}\n…"

    def _cut(self, value: Any) -> Any:
        """Return as much of a value as can be written at once, with how many entries were left out."""
        max_entries = self._limits.entries
        if isinstance(value, str) and len(value) > self._limits.text:
            return f"{value[: self._limits.text]}…"
        if isinstance(value, list):
            left_out = [f"… {len(value) - max_entries}"] if len(value) > max_entries else []
            return [self._cut(each) for each in value[:max_entries]] + left_out
        if isinstance(value, dict):
            kept = {self._cut(key): self._cut(each) for key, each in islice(value.items(), max_entries)}
            return kept | ({"…": len(value) - max_entries} if len(value) > max_entries else {})
        return value


def readable_time(when: datetime) -> str:
    """Write a time for people: to the second, and in which zone."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def first_sentence(text: str) -> tuple[str, str]:
    """Return the first sentence of a text without its full stop, and the rest."""
    first, stop, rest = text.partition(". ")
    return (first, rest) if stop else (first.removesuffix("."), "")


def _span(now: datetime, when: datetime) -> tuple[int, str]:
    seconds = int((now - when).total_seconds())
    if seconds < 0:
        ahead, unit = _span(when, now)
        return ahead, f"in_{unit}"
    spans = ((seconds // size, unit) for size, unit in _SPANS if seconds >= 2 * size)
    return next(spans, (seconds, "seconds"))


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    name = f"{path.stem}.{hashlib.sha256(content).hexdigest()[:16]}{path.suffix}"
    digest = base64.b64encode(hashlib.sha384(content).digest()).decode()
    return Asset(f"/static/{name}", f"sha384-{digest}", content, _TYPES[path.suffix])
