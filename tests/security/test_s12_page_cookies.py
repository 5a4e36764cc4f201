"""S12: plant a cookie of the pages from a neighbouring host, and keep a handle on the window of the pages."""

import base64
import os
from pathlib import Path

from counterfoil.sealing import Sealing
from tests.support.builders import AClock, an_organization
from webhook.pages.cookies import FlowCookies, PageUrls
from webhook.pages.rendering import PageRenderer


def a_name_and_value(cookie: str) -> tuple[str, str]:
    name, _, rest = cookie.partition("=")
    return name, rest.partition(";")[0]


def test_a_cookie_that_a_neighbour_planted_is_not_the_pages_own(tmp_path: Path) -> None:
    (tmp_path / "k1").write_bytes(base64.b64encode(os.urandom(32)))
    flows = FlowCookies(Sealing(tmp_path), AClock(), flow_seconds=300, form_seconds=3600)
    urls = PageUrls(an_organization(), "https://pages.example.com")
    attackers = flows.begin("acme", "u", "0123456789abcdef", None)
    name, value = a_name_and_value(urls.set_cookie(attackers, flows.seal(attackers), seconds=300))
    # A host below the same domain sets cookies for the whole domain, but without https none with the
    # prefix in its name. (RFC 6265bis, 4.1.3)
    planted = {name.removeprefix("__Secure-"): value}

    assert flows.read_flow(urls.own_cookies(planted), "acme", attackers.state) is None
    assert flows.read_flow(urls.own_cookies({name: value}), "acme", attackers.state) == attackers


def test_no_other_site_keeps_a_handle_on_the_window_of_a_page() -> None:
    assert PageRenderer().headers()["Cross-Origin-Opener-Policy"] == "same-origin"
