"""The plan of a round: repeatable, and with every kind of fault."""

import math
from collections import Counter
from functools import cache
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from counterfoil.resources.organization import OAuth
from sandbox.servers.proxies import Passage, TrapPoint
from verification.chaos import faults
from verification.chaos.plan import (
    AREAS,
    CLOCKS,
    DRAFT,
    KINDS,
    OF_COPIES,
    OF_DRAFTS,
    OF_ROUTES,
    PLANTED,
    RECORD,
    USUAL,
    WAYS,
    Round,
    plan,
)
from verification.chaos.stage import Stage, operation


@cache
def rounds() -> list[Round]:
    """59 rounds; made when a test needs them, since each takes milliseconds."""
    return [plan(1, number) for number in range(1, 60)]


def test_the_same_seed_and_number_give_the_same_plan() -> None:
    assert plan(7, 3, 50) == plan(7, 3, 50)


@pytest.mark.parametrize(("seed", "number"), [(8, 3), (7, 4)])
def test_another_seed_or_number_gives_another_plan(seed: int, number: int) -> None:
    assert plan(seed, number, 50) != plan(7, 3, 50)


def test_a_plan_has_the_number_of_faults_that_was_asked_for() -> None:
    assert {len(plan(1, number, 33).faults) for number in range(20)} == {33}


def test_every_kind_of_fault_is_planned_and_has_an_effect() -> None:
    planned = {fault.kind for each in rounds() for fault in each.faults}
    assert planned == set(KINDS) == set(faults.EFFECTS)


@pytest.mark.parametrize(
    "kind",
    [
        "esaw-envelope-deleted",
        "esaw-envelope-restarted",
        "person-skips",
        "person-relabels",
        "person-requests-copy",
    ],
)
async def test_a_fault_of_an_envelope_finds_nothing_to_strike_before_there_is_one(kind: str) -> None:
    stage = SimpleNamespace(envelopes=[], esaw=None)
    fault = next(each for round_ in rounds() for each in round_.faults if each.kind == kind)
    passage = Passage(arrived=1, method="GET", path="/", query="", body=b"")
    assert not await faults.EFFECTS[kind](faults.Injector(cast("Stage", stage)), fault, passage)


def test_every_archive_number_of_processes_and_policy_is_planned() -> None:
    assert {each.archive for each in rounds()} == {"filesystem", "s3", "webdav"}
    assert {each.controllers for each in rounds()} == {1, 2, 3}
    assert {each.receivers for each in rounds()} == {1, 2}
    assert {each.policy for each in rounds()} == {"Delete", "Keep"}
    assert all(1 <= each.shards <= each.controllers for each in rounds())


def test_no_fault_is_planned_more_often_than_its_kind_allows() -> None:
    for each in rounds():
        count = Counter(fault.kind for fault in each.faults)
        assert all(
            count[name] <= math.ceil(kind.at_most * len(each.faults) / 100) for name, kind in KINDS.items()
        )


def test_a_controller_can_be_killed_before_and_after_each_of_its_requests() -> None:
    steps = KINDS["controller-killed"]
    assert set(steps.operations) == set(WAYS) - {"create", "watch", "list", "discovery", *DRAFT, *RECORD}
    assert steps.points == ("ARRIVED", "DONE")


def test_the_requests_of_the_pages_for_a_sender_have_the_names_of_the_plan() -> None:
    exchange = {each.name: each.default for each in msgspec.structs.fields(OAuth)}["token_path"]
    requests = (
        Passage(arrived=1, method="POST", path=path, query="", body=b"")
        for path in (exchange, "/Api/v6/draft/send")
    )
    assert tuple(operation("esaw", each) for each in requests) == DRAFT


def test_some_rounds_restore_etcd_and_some_set_clocks() -> None:
    for kind in ("etcd-restored", *CLOCKS):
        having = sum(any(fault.kind == kind for fault in each.faults) for each in rounds())
        assert 0 < having < len(rounds()) / 2


def test_drafts_and_bulks_are_sent_in_half_of_the_rounds_and_only_these_have_faults_of_drafts() -> None:
    having = [each for each in rounds() if each.drafts]
    assert len(rounds()) / 3 < len(having) < len(rounds()) * 2 / 3
    assert {bool(order.bulk) for each in having for order in each.drafts} == {True, False}
    others = [fault.kind for each in rounds() if not each.drafts for fault in each.faults]
    assert OF_DRAFTS.isdisjoint(others)


def test_copies_are_at_another_server_and_only_rounds_with_copies_have_their_faults() -> None:
    having = [each for each in rounds() if each.copies is not None]
    assert len(rounds()) / 3 < len(having) < len(rounds()) * 4 / 5
    assert all(each.copies is not None and each.copies.server != each.archive for each in having)
    assert {each.copies.by_import for each in having if each.copies is not None} == {True, False}
    others = [each for each in rounds() if each.copies is None]
    assert OF_COPIES.isdisjoint(fault.kind for each in others for fault in each.faults)
    assert not any(fault.way == "copy" for each in others for fault in each.faults)
    assert not any(order.planted_copy for each in others for order in each.envelopes)
    assert {order.planted_copy for each in having for order in each.envelopes} == {"", *PLANTED}


def test_a_tag_leads_some_envelopes_of_half_of_the_rounds_elsewhere() -> None:
    having = [each for each in rounds() if each.has_routes]
    assert len(rounds()) / 3 < len(having) < len(rounds()) * 2 / 3
    assert {order.area for each in having for order in each.envelopes} == set(AREAS)
    others = [each for each in rounds() if not each.has_routes]
    assert not any(order.area for each in others for order in each.envelopes)
    assert OF_ROUTES.isdisjoint(fault.kind for each in others for fault in each.faults)


def test_each_fault_of_an_archive_also_strikes_the_server_of_the_copies() -> None:
    of_archives = {name.removeprefix("archive-") for name, kind in KINDS.items() if kind.way == "archive"}
    assert {name.removeprefix("copy-") for name, kind in KINDS.items() if kind.way == "copy"} == of_archives


def test_in_some_rounds_only_the_first_organization_has_faults() -> None:
    sparing = [each for each in rounds() if each.spares_shared]
    assert 0 < len(sparing) < len(rounds()) / 3
    assert all(KINDS[fault.kind].is_of_first_organization for each in sparing for fault in each.faults)


def test_a_fault_of_the_api_server_a_process_or_the_mail_server_strikes_both_organizations() -> None:
    shared = {name for name, kind in KINDS.items() if not kind.is_of_first_organization}
    assert {"api-429", "controller-killed", "shards-changed", "mail-down", "clock-set"} <= shared
    assert shared.isdisjoint({"archive-hangs-all", "archive-down", "esaw-down", "person-suspends"})


def test_no_clock_passes_the_time_in_which_esaw_lists_files_late() -> None:
    for each in rounds():
        lags = (each.papers_lag, each.legal_documents_lag, each.documents_lag)
        assert not any(lags) or all(fault.kind not in CLOCKS for fault in each.faults)


def test_some_rounds_list_documents_or_legal_documents_after_the_audit_trail() -> None:
    assert any(each.documents_lag > each.papers_lag for each in rounds())
    assert any(each.legal_documents_lag > each.papers_lag for each in rounds())


def test_no_round_lists_a_legal_document_after_documents_and_audit_trail() -> None:
    """A first list that has both is final for the product (decision 0046)."""
    for each in rounds():
        assert each.legal_documents_lag <= max(each.papers_lag, each.documents_lag)


def test_each_way_of_planting_is_planned_and_most_folders_are_empty() -> None:
    orders = [order for each in rounds() for order in each.envelopes]
    planted = [order.planted for order in orders if order.planted]
    assert set(planted) == set(PLANTED)
    assert len(planted) < len(orders) / 4
    assert {each.is_sealed for each in rounds()} == {True, False}


def test_only_a_folder_has_a_disk_that_can_be_filled() -> None:
    full = [each for each in rounds() if any(fault.kind == "archive-disk-full" for fault in each.faults)]
    assert {each.archive for each in full} == {"filesystem"}


def test_a_folder_has_no_connection_that_could_break() -> None:
    folders = [each for each in rounds() if each.archive == "filesystem"]
    assert folders
    assert not any(fault.way == "archive" for each in folders for fault in each.faults)


def test_each_fault_has_a_moment_a_point_and_a_known_operation() -> None:
    for each in rounds():
        for fault in each.faults:
            assert fault.point in TrapPoint.__members__
            assert 0 <= fault.after < max(1, USUAL[fault.operation] * len(each.envelopes))
            assert fault.way == WAYS.get(fault.operation, fault.way)
            assert fault.times >= 1
