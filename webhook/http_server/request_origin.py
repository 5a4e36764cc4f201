"""
Whether a person came to a page by pressing a button in eSAW, according to the browser. Pure.

Any page can link to a person's draft, and eSAW's OAuth does not ask a person who consented before. So the
pages send a draft without a form only if the request comes from eSAW's pages; otherwise they ask the person.
"""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit


def is_from(sites: Iterable[str], headers: Mapping[str, str]) -> bool:
    """
    Whether a request comes from one of these sites' pages, or from a client that is no browser.

    A page can hide its referrer but cannot forge another origin. A client that sends neither a referrer nor
    ``Sec-Fetch-Site`` is no browser (since 2023), and so has no session that another page could use.
    (Fetch Metadata; the same rule as in Go's ``net/http.CrossOriginProtection``)
    """
    referrer = headers.get("Referer")
    if referrer is None:
        return "Sec-Fetch-Site" not in headers
    return _origin(referrer) in {_origin(each) for each in sites}


def _origin(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ("", url)
    default = {"https": ":443", "http": ":80"}.get(parts.scheme, "")
    return (parts.scheme, parts.netloc.lower().removesuffix(default))
