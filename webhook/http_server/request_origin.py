"""
Clicks: whether a person came to a page by pressing a button in eSAW, as far as the browser tells. Pure.

A link from anywhere may name somebody's own draft, and the way through eSAW asks nothing of who consented before. So what is
sent without a form is sent only if the request comes from eSAW's pages; everybody else is asked.
"""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit


def is_from(sites: Iterable[str], headers: Mapping[str, str]) -> bool:
    """
    Whether a request was begun on one of these sites' pages, or by something that is no browser.

    No page can make a browser name another origin than its own as the referrer, though it can keep it to itself. What has
    neither that nor ``Sec-Fetch-Site`` is no browser since 2023, and so has no session that another page could use.
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
