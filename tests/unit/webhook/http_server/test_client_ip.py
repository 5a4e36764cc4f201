"""The client address of a request: only the headers that the configured proxies add are trusted."""

import pytest

from webhook.http_server.request_headers import client_ip

PROXY, ANNA, FORGED = "10.0.0.9", "203.0.113.7", "198.51.100.66"


@pytest.mark.parametrize(
    ("forwarded", "proxies", "found"),
    [
        pytest.param((), 0, PROXY, id="without a proxy it is the client that connects"),
        pytest.param((ANNA,), 0, PROXY, id="without a proxy nobody is believed"),
        pytest.param((ANNA,), 1, ANNA, id="a proxy tells whom it was called by"),
        pytest.param((f"{FORGED}, {ANNA}",), 1, ANNA, id="the caller's own header is before that"),
        pytest.param((FORGED, ANNA), 1, ANNA, id="also on a separate line"),
        pytest.param((f"{FORGED}, {ANNA}, 10.0.0.8",), 2, ANNA, id="of two proxies the outer one tells"),
        pytest.param((ANNA,), 2, PROXY, id="one proxy was passed by: only the connection is sure"),
        pytest.param((), 1, PROXY, id="the proxy says nothing"),
        pytest.param(("unknown",), 1, PROXY, id="the proxy does not know"),
        pytest.param((f"{FORGED}, ",), 1, PROXY, id="an empty place is nobody's"),
        pytest.param((f"{ANNA}:52044",), 1, ANNA, id="some write the port as well"),
        pytest.param(("[2001:db8:1:2::a]:52044",), 1, "2001:db8:1:2::/64", id="also of IPv6"),
        pytest.param(("2001:db8:1:2:3:4:5:6",), 1, "2001:db8:1:2::/64", id="one household has a whole /64"),
        pytest.param(("2001:DB8:1:2::1",), 1, "2001:db8:1:2::/64", id="however it is written"),
        pytest.param((f"::ffff:{ANNA}",), 1, ANNA, id="IPv4 in the clothes of IPv6"),
    ],
)
def test_a_caller_is_known_by_the_nearest_place_that_is_sure(
    forwarded: tuple[str, ...], proxies: int, found: str
) -> None:
    assert client_ip(PROXY, forwarded, proxies=proxies) == found


def test_a_client_without_an_address_still_has_a_name() -> None:
    assert client_ip(None, (), proxies=0) == client_ip("", (), proxies=1) == "nowhere"


def test_only_the_address_that_the_outermost_proxy_wrote_is_parsed() -> None:
    class CountingLine(str):
        """A header line that counts the parts that are made of it."""

        __slots__ = ()
        parts = 0

        def split(self, *arguments: object, **options: object) -> list[str]:
            return self._counted(super().split(*arguments, **options))  # type: ignore[arg-type]

        def rsplit(self, *arguments: object, **options: object) -> list[str]:
            return self._counted(super().rsplit(*arguments, **options))  # type: ignore[arg-type]

        def _counted(self, parts: list[str]) -> list[str]:
            type(self).parts += len(parts)
            return parts

    line = CountingLine("," * 12_000 + ANNA)
    assert client_ip(PROXY, [line] * 100, proxies=1) == ANNA
    assert CountingLine.parts <= 2
