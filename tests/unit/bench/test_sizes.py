"""The size of an installation, computed from constants, and the simulation of more than one cluster."""

from random import Random
from statistics import mean

import pytest

from verification.bench import sizes
from verification.bench.sizes import Constants, cluster_of, largest_share, recording_seconds, size

CONSTANTS = Constants(
    creates=1000.0,
    archived=50.0,
    controller_cpu=20.0,
    cluster_cpu=20.0,
    controller_memory=130.0,
    event_bytes=5000.0,
    database_bytes=8192.0,
)


@pytest.fixture(autouse=True)
def few_arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "ARRIVALS", 4000)


def test_the_size_grows_with_the_envelopes_and_the_days() -> None:
    small, large = size(100_000, CONSTANTS), size(10_000_000, CONSTANTS)
    assert large.peak == pytest.approx(100 * small.peak) == pytest.approx(10e6 * 0.15 / 250 / 3600 * 5)
    assert large.recorded == pytest.approx(large.peak * 4 / 1000)
    assert large.etcd_mib[1] == pytest.approx(10 * large.etcd_mib[0])
    assert large.etcd_mib[0] == pytest.approx(10e6 / 365 * 3 * 8192 / 2**20)
    assert (small.shards, small.at_once) == (1, 1)
    assert (large.shards, large.at_once) == (1, 42)


def test_more_shards_are_needed_beyond_seven_tenths_of_a_controller() -> None:
    slow = CONSTANTS._replace(archived=1.0)
    assert size(10_000_000, slow).shards == 12


def test_a_cluster_at_rest_takes_a_write_and_one_beyond_its_limit_ever_longer() -> None:
    at_rest = recording_seconds(10.0, 1, CONSTANTS, Random(1))
    beyond = recording_seconds(500.0, 1, CONSTANTS, Random(1))
    assert mean(at_rest) == pytest.approx(0.001, rel=0.1)
    assert mean(beyond[-400:]) > 2 * mean(beyond[:400])


def test_an_organization_has_one_cluster_and_each_cluster_has_some() -> None:
    assert [cluster_of(number, 4) for number in range(40)] == [cluster_of(number, 4) for number in range(40)]
    assert {cluster_of(number, 4) for number in range(40)} == {0, 1, 2, 3}
    assert largest_share(1) == pytest.approx(1.0)
    assert 0.25 < largest_share(4) < 1.0


def test_two_clusters_carry_what_the_share_of_the_busier_one_allows() -> None:
    one, two = sizes.carried_rate(1, CONSTANTS), sizes.carried_rate(2, CONSTANTS)
    assert one == pytest.approx(CONSTANTS.creates / 4, rel=0.15)
    assert two / one == pytest.approx(1 / largest_share(2), rel=0.1)


def test_the_report_has_a_row_for_each_size_and_number_of_clusters() -> None:
    text = sizes.report(CONSTANTS)
    assert "| 10,000,000 | 8.3333 | 3.33% |" in text
    assert all(f"\n| {number} | " in text for number in sizes.CLUSTERS)
