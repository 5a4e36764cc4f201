"""The lines of the plugin about a dry run: its estimate, and who must give a key."""

from typing import Any

import pytest

from counterfoil.cli.plugin.search.estimate import ask_lines, estimate_lines
from counterfoil.resources import Import
from tests.support.builders import an_organization
from tests.support.scenes.console_parts import a_sender_that, an_organization_that

MIB = 1024**2


def a_dry_run(*senders: dict[str, Any], sample_size: int = 20, **status: Any) -> Import:
    return Import.parse(
        {
            "metadata": {"name": "count", "resourceVersion": "1"},
            "spec": {
                "organizationRef": {"name": "acme"},
                "from": "2019-01-01",
                "dryRun": True,
                "sampleSize": sample_size,
            },
            "status": {**status, "senders": [*senders]},
        }
    )


def test_a_dry_run_shows_files_size_and_duration_of_what_has_no_event() -> None:
    organization = an_organization(limits={"requestsPerMinute": 100})
    sample = {"envelopes": 4, "files": 8, "bytes": 12 * MIB}

    lines = estimate_lines(a_dry_run(found=3100, known=90, refused=10, sample=sample), organization)

    assert lines == [
        "to import: 3000 envelopes, about 6000 files and 8.8 GiB, by a sample of 4",
        "duration: at least 4 hours, by the limits of the Organization",
    ]


@pytest.mark.parametrize(
    ("size", "sample", "said"),
    [
        (0, None, ["to import: 3 envelopes. Their size is unknown, since spec.sampleSize is 0"]),
        (
            20,
            {"unreadable": 2},
            [
                "to import: 3 envelopes. Their size is unknown",
                "2 envelopes of the sample could not be measured",
            ],
        ),
    ],
)
def test_without_a_measured_envelope_the_size_is_unknown(
    size: int, sample: dict[str, int] | None, said: list[str]
) -> None:
    status = {"sample": sample} if sample is not None else {}
    assert estimate_lines(a_dry_run(sample_size=size, found=3, **status), an_organization()) == [
        *said,
        "duration: limited by eSignAnyWhere and the archive; the Organization has no requestsPerMinute",
    ]


def test_nothing_is_estimated_where_each_envelope_has_an_event() -> None:
    assert estimate_lines(a_dry_run(found=5, known=4, refused=1), an_organization()) == []


def test_all_senders_who_can_be_asked_by_mail_are_in_one_command() -> None:
    lacking: list[dict[str, Any]] = [
        {"name": each, "reason": "ConsentRequired"} for each in ("anna", "ben", "dora")
    ]
    entries = [*lacking, {"name": "carla", "reason": "ConsentRequired", "searched": True}, {"name": "emil"}]
    senders = [a_sender_that(name=each) for each in ("anna", "ben", "carla")]

    assert ask_lines(a_dry_run(*entries), an_organization_that(), senders, "contracts") == [
        "ask 2 of 3 Senders for consent by mail:",
        "  kubectl -n contracts label senders anna ben counterfoil.dev/request=ask",
    ]


@pytest.mark.parametrize(
    ("reason", "spec"), [("EsawFailing", {}), ("ConsentRequired", {"notifications": None})]
)
def test_nobody_is_asked_whom_a_mail_does_not_help(reason: str, spec: dict[str, Any]) -> None:
    imported = a_dry_run({"name": "anna", "reason": reason})
    senders = [a_sender_that(name="anna")]
    assert ask_lines(imported, an_organization_that(**spec), senders, "contracts") == []
