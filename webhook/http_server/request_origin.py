"""
Whether a person came to a page by pressing a button in eSAW, according to the browser. Pure.

Any page can link to a person's draft, and eSAW's OAuth does not ask a person who consented before. So the
pages send a draft without a form only if the request comes from eSAW's pages; otherwise they ask the person.
"""

from collections.abc import Mapping
from contextlib import suppress

from counterfoil.origin import origin_of


def is_from(site: str, headers: Mapping[str, str]) -> bool:
    """
    Whether a request comes from a page of this site, or from a client that is no browser.

    A page can hide its referrer but cannot forge another origin. A client that sends neither a referrer nor
    ``Sec-Fetch-Site`` is no browser (since 2023), and so has no session that another page could use.
    (Fetch Metadata; the same rule as in Go's ``net/http.CrossOriginProtection``)
    """
    referrer = headers.get("Referer")
    if referrer is None:
        return "Sec-Fetch-Site" not in headers
    with suppress(ValueError):
        return origin_of(referrer) == origin_of(site)
    return False
