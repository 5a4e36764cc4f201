"""A problem ends by its own solution only; what ended it otherwise has a text in every language."""

import pytest

from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.i18n.problems import (
    ENDS_WITHOUT_MAIL,
    Ending,
    ProblemKind,
    archive_ending,
    is_solved,
    key_ending,
)
from counterfoil.resources import Language, ReportedProblem, Sender
from tests.support.builders import a_sender, an_organization
from tests.support.scenes.notifications import PUBLIC, a_problem, an_archive_that_is, an_unauthorized_sender

REASON = "SealKeyUnknown"


def keys(*names: str, count: int = 0) -> ReportedProblem:
    return a_problem(f"key/{REASON}", count=count or len(names), examples=names)


def broken(name: str = "anna", reason: str = REASON, **options: object) -> Sender:
    return an_unauthorized_sender(name, reason=reason, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("problem", "senders", "ending"),
    [
        (keys("anna"), [a_sender()], Ending.SOLVED),
        (keys("anna"), [a_sender(), broken("ben", "TokenRejected")], Ending.SOLVED),
        (keys("anna"), [broken(suspend=True)], Ending.SENDER_SUSPENDED),
        (keys("anna"), [], Ending.SENDER_DELETED),
        (keys("anna"), [broken(reason="TokenRejected")], Ending.KEY_OTHER_REASON),
        (keys("anna"), [broken(verified=False)], Ending.KEY_UNUSED),
        (keys("anna", count=9), [a_sender(), broken("ben", suspend=True)], Ending.SENDER_SUSPENDED),
        (keys("anna", "ben"), [a_sender()], Ending.SENDER_DELETED),
        (keys("anna"), [a_sender(authorized=None, suspend=True)], Ending.SENDER_SUSPENDED),
        (keys("anna"), [a_sender(authorized=None)], Ending.KEY_UNUSED),
        (keys("anna"), [a_sender(), a_sender("ben", authorized=None, suspend=True)], Ending.SOLVED),
    ],
)
def test_a_problem_with_keys_is_solved_only_by_keys_that_work(
    problem: ReportedProblem, senders: list[Sender], ending: Ending
) -> None:
    assert key_ending(problem, senders, an_organization(oauth=PUBLIC)) is ending


@pytest.mark.parametrize(
    ("truth", "archive", "ending"),
    [("True", "dms", Ending.SOLVED), ("False", "dms", None), ("True", "other", Ending.ARCHIVE_UNUSED)],
)
def test_a_problem_with_an_archive_is_solved_only_if_the_archive_in_use_works(
    truth: str, archive: str, ending: Ending | None
) -> None:
    assert archive_ending(a_problem("archive/dms"), [archive], an_archive_that_is(truth)) is ending


def test_a_problem_with_an_archive_that_does_not_exist_is_open() -> None:
    assert archive_ending(a_problem("archive/dms"), ["dms"], None) is None


def test_an_ending_that_no_version_stored_counts_as_the_solution() -> None:
    assert is_solved(a_problem())
    assert is_solved(a_problem(ending="Solved"))
    assert not is_solved(a_problem(ending="ArchiveUnused"))


@pytest.mark.parametrize("language", Language)
def test_each_ending_and_each_kind_that_is_mailed_has_a_text(language: Language) -> None:
    mails = load_catalogue(CatalogueName.MAILS, language)
    assert all(mails.has("ended", each) for each in Ending if each is not Ending.SOLVED)
    assert all(mails.has(kind, "subject") for kind in ProblemKind if kind not in ENDS_WITHOUT_MAIL)
