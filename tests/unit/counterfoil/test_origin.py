"""Origins: one server has one spelling, two servers never share one, and what is ambiguous is refused."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.origin import origin_of


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://saas.esignanywhere.net", "https://saas.esignanywhere.net"),
        ("https://saas.esignanywhere.net/", "https://saas.esignanywhere.net"),
        ("HTTPS://SaaS.eSignAnyWhere.NET:443/esaw/path?x#y", "https://saas.esignanywhere.net"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080"),
        ("https://host:0443", "https://host"),
        ("http://host:443", "http://host:443"),
        ("https://[2001:DB8:0:0::1]:8443/", "https://[2001:db8::1]:8443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://BÜCHER.example", "https://xn--bcher-kva.example"),
        ("https://XN--bcher-KVA.example", "https://xn--bcher-kva.example"),
        ("sftp://sftp.acme.example:22", "sftp://sftp.acme.example"),
        ("https://host/@evil.example", "https://host"),
        ("https://host?@evil.example", "https://host"),
        ("https://a_b.example", "https://a_b.example"),
    ],
)
def test_one_server_has_one_spelling(url: str, origin: str) -> None:
    assert origin_of(url) == origin
    assert origin_of(origin) == origin


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://host", "http://host"),
        ("https://host", "https://host:8443"),
        ("https://host.example", "https://host.example.evil.example"),
        ("https://host.example", "https://host.example."),
        ("https://host.example", "https://h\u03bfst.example"),
        ("https://host", "sftp://host"),
    ],
)
def test_two_servers_have_two(one: str, other: str) -> None:
    assert origin_of(one) != origin_of(other)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "//host",
        "https:",
        "https://",
        "https:///path",
        "https:/host",
        "ftp://host",
        "javascript://host",
        "https://user@host",
        "https://user:password@host",
        "https://good.example\\@evil.example",
        "https://good.example\\.evil.example",
        "https://good.example%2f@evil.example",
        "https://good.example%00.evil.example",
        "https://good.example\n.evil.example",
        "https://good.\texample",
        " https://host",
        "https://host:port",
        "https://host:65536",
        "https://host:-1",
        "https://[::1",
        "https://[::1%eth0]",
        "https://[nonsense]",
        "https://-host",
        "https://a..b\u3002\u3002c",
        "https://" + "a" * 254,
        "https://\u2100.example",
    ],
)
def test_what_is_no_origin_or_is_read_in_different_ways_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        origin_of(url)


@given(st.text(st.sampled_from("htps:/\\@?#%.[]abcÄ1 \t-_"), max_size=40))
def test_the_client_connects_to_the_host_that_was_compared(tail: str) -> None:
    url = f"https://{tail}"
    try:
        origin = origin_of(url)
    except ValueError:
        return
    try:
        sent = httpx.URL(url)
    except httpx.InvalidURL:
        return
    compared = httpx.URL(origin)
    assert (sent.scheme, sent.raw_host, sent.port) == (compared.scheme, compared.raw_host, compared.port)
