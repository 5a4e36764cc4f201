"""Settings of kopf: it outlasts any outage of the API server."""

from itertools import islice

from controller.watch.operator import operator_settings


def test_kopf_never_gives_up_on_the_api_server_and_never_pauses_for_long() -> None:
    backoffs = operator_settings("").networking.error_backoffs
    assert not isinstance(backoffs, float)
    pauses = list(islice(backoffs, 1000))
    assert len(pauses) == 1000
    assert max(pauses) <= 5
    assert list(islice(backoffs, 3)) == pauses[:3], "each request begins again with the first pause"
