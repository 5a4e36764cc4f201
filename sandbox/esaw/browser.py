"""
A browser without a screen: it opens pages, follows redirects (also those of a page itself) and links, fills
forms and presses buttons, as a person would.

For pages of plain HTML, this side's and the product's alike; it runs no script. Cookies are kept per host for
all ports, and Secure ones go over HTTPS only, also to loopback addresses. It knows neither SameSite nor CSP:
what these prevent, only a real browser shows.
"""

import ssl
from dataclasses import dataclass
from functools import cache
from http.cookiejar import CookieJar
from types import TracebackType
from typing import Final, Self
from urllib.parse import urljoin

import httpx
import lxml.html

FieldValue = str | tuple[str, bytes]
"""Value of a field: a text, or a file's name and bytes."""

_MAX_REDIRECTS: Final = 20
_BUTTONS: Final = ".//button | .//input[@type='submit']"


@dataclass(frozen=True, slots=True)
class BrowserPage:
    """The page that the window shows."""

    url: str
    status: int
    headers: httpx.Headers
    html: str

    @property
    def document(self) -> lxml.html.HtmlElement:
        """The parsed page."""
        return lxml.html.document_fromstring(self.html or "<html></html>")

    @property
    def title(self) -> str:
        """The heading of the window."""
        return (self.document.findtext(".//title") or "").strip()

    @property
    def text(self) -> str:
        """The readable text, with single spaces."""
        return " ".join(" ".join(self.document.xpath("//body//text()")).split())

    @property
    def buttons(self) -> list[str]:
        """The words on the buttons, in order."""
        return [_label(each) for each in self.document.xpath(_BUTTONS)]


class Browser:
    """One browser with its cookies; use as an async context manager, or `close` it."""

    def __init__(
        self, *, followed_prefix: str | None = None, language: str = "en", trust: ssl.SSLContext | None = None
    ) -> None:
        """
        With `followed_prefix`, the beginning of a URL, a redirect to elsewhere is not followed but shown as
        the page; `trust` says whose certificates are good (None: those of the public authorities).
        """
        self.page = BrowserPage("about:blank", 0, httpx.Headers(), "")
        self.visited: list[str] = []
        """Every URL that was asked for, redirects included."""
        self._followed_prefix = followed_prefix or ""
        self._http = httpx.AsyncClient(
            headers={"Accept-Language": language},
            timeout=30,
            trust_env=False,
            verify=trust or _public_authorities(),
        )

    @property
    def cookies(self) -> CookieJar:
        """All cookies it has."""
        return self._http.cookies.jar

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections and forget the cookies."""
        await self._http.aclose()

    async def open(self, url: str) -> BrowserPage:
        """Go to this URL, and to wherever it leads."""
        return await self._follow_redirects(self._http.build_request("GET", urljoin(self.page.url, url)))

    async def follow(self, label: str) -> BrowserPage:
        """Click the link with these words. Raises LookupError if there is none."""
        for link in self.page.document.xpath("//a[@href]"):
            if _label(link) == label:
                return await self.open(link.get("href"))
        raise LookupError(f"{self.page.url} has no link {label!r}.")

    async def press(self, label: str, **given: FieldValue) -> BrowserPage:
        """Fill the fields of these names, and press the button with these words. Raises LookupError."""
        return await self._follow_redirects(self.request_for(label, **given))

    def request_for(self, label: str, **given: FieldValue) -> httpx.Request:
        """The request that pressing the button would send, for those who send it twice. Raises
        LookupError."""
        form, button = self._form_with_button(label)
        files = {name: value for name, value in given.items() if not isinstance(value, str)}
        if unknown := set(given) - {*form.fields, *files}:
            raise LookupError(f"The form of {label!r} has no field {', '.join(sorted(unknown))}.")
        for name, value in given.items():
            if isinstance(value, str):
                form.fields[name] = value
        fields = [(name, value) for name, value in form.form_values() if name not in files]
        if own_name := button.get("name"):
            fields.append((own_name, button.get("value", "")))
        url = urljoin(self.page.url, button.get("formaction") or form.get("action") or "")
        many = _by_name(fields)
        if form.method == "GET":
            return self._http.build_request("GET", url, params=httpx.QueryParams(many))
        if form.get("enctype") == "multipart/form-data":
            return self._http.build_request("POST", url, data=many, files=files or {"": ("", b"")})
        return self._http.build_request("POST", url, data=many)

    async def send(self, request: httpx.Request) -> BrowserPage:
        """Send a request of `request_for`, and go to wherever it leads."""
        return await self._follow_redirects(request)

    def _form_with_button(self, label: str) -> tuple[lxml.html.FormElement, lxml.html.HtmlElement]:
        for form in self.page.document.forms:
            for button in form.xpath(_BUTTONS):
                if _label(button) == label:
                    return form, button
        raise LookupError(f"{self.page.url} has no button {label!r} in a form, but {self.page.buttons}.")

    async def _follow_redirects(self, request: httpx.Request) -> BrowserPage:
        for _ in range(_MAX_REDIRECTS):
            self.visited.append(str(request.url))
            response = await self._http.send(request)
            onward = response.next_request or self._meta_refresh(response)
            if onward is None or not str(onward.url).startswith(self._followed_prefix):
                where = str(response.url if onward is None else onward.url)
                self.page = BrowserPage(where, response.status_code, response.headers, response.text)
                return self.page
            request = onward
        raise RecursionError(f"More than {_MAX_REDIRECTS} redirects, the last to {request.url}.")

    def _meta_refresh(self, response: httpx.Response) -> httpx.Request | None:
        """The request that a page makes automatically at once
        (``<meta http-equiv="refresh" content="0; url=...">``), if it does."""
        if not response.headers.get("Content-Type", "").startswith("text/html"):
            return None
        document = BrowserPage(
            str(response.url), response.status_code, response.headers, response.text
        ).document
        for content in document.xpath("//meta[@http-equiv='refresh']/@content"):
            seconds, _, rest = content.partition(";")
            name, _, url = rest.strip().partition("=")
            if seconds.strip() == "0" and name.strip().lower() == "url":
                return self._http.build_request("GET", urljoin(str(response.url), url.strip()))
        return None


@cache
def _public_authorities() -> ssl.SSLContext:
    return ssl.create_default_context()  # it reads hundreds of certificates, once for all browsers


def _label(element: lxml.html.HtmlElement) -> str:
    return " ".join((element.text_content() or element.get("value") or "").split())


def _by_name(fields: list[tuple[str, str]]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for name, value in fields:
        named.setdefault(name, []).append(value)
    return named
