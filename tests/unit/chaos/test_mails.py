"""The judge of the mails finds each kind of untruth in handmade mails, and none in good ones."""

import tomllib
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import NOON
from verification.chaos.mails import (
    CONSENT,
    FAILED,
    GONE,
    KEY_DIED,
    NEVER_TRUE,
    NEW_KEY,
    OUTAGE,
    STAYS,
    Mail,
    MailFacts,
    wrong_mails,
)

ENVELOPE = "0f9c1c2e-0000-4000-8000-000000000001"
ANNA, BRUNO, OPS = "anna@x.example", "bruno@x.example", "ops@x.example"
FULL, SOLVED = "[acme] 2 events failed: ArchiveFull", "[acme] An event failed: ArchiveFull"
MAILS = Path(__file__).parents[3] / "counterfoil" / "i18n" / "mails" / "en.toml"


def event(phase: str = "Failed", reason: str = "ArchiveFull", **status: Any) -> dict[str, Any]:
    return {"spec": {"envelopeID": ENVELOPE}, "status": {"phase": phase, "reason": reason, **status}}


FACTS = MailFacts(
    events=(),
    envelopes=frozenset({ENVELOPE}),
    removed=frozenset(),
    dead_keys={ANNA: 1, BRUNO: 0},
    consented={"sender-a": ANNA},
    usable={"Archive dms": True},
)
FAILING = replace(FACTS, events=(event(),))

OUTAGE_OF_DMS = "[acme] Archive dms can't be used"


def to_sender(to: str = ANNA, text: str = f"It {KEY_DIED}. https://x/consent/desk/sender-a") -> Mail:
    return Mail("<1@x>", CONSENT, text, (to,))


def to_administrator(subject: str = FULL, text: str = "", **changed: Any) -> Mail:
    return Mail("<1@x>", subject, text, (OPS,), **changed)


def solved_between(first: datetime, second: datetime) -> list[Mail]:
    """Return the mails about a problem that began, was solved a second later, and began again."""
    return [
        Mail("<1@x>", FULL, to=(OPS,), time=first),
        Mail("<2@x>", f"Solved: {SOLVED}", to=(OPS,), time=first + timedelta(seconds=1)),
        Mail("<3@x>", FULL, to=(OPS,), time=second),
    ]


FAILED_AT_NOON = replace(FACTS, events=(event(completionTime="2026-07-01T12:00:00Z"),))


@pytest.mark.parametrize(
    ("mails", "facts"),
    [
        # It failed after the end of the problem, or so shortly before that nobody can tell.
        (solved_between(NOON - timedelta(seconds=10), NOON), FAILED_AT_NOON),
        (solved_between(NOON + timedelta(seconds=4), NOON + timedelta(seconds=9)), FAILED_AT_NOON),
        # A controller sends a mail again after a pause.
        (
            [
                *solved_between(NOON - timedelta(seconds=30), NOON + timedelta(seconds=9)),
                Mail("<2@x>", f"Solved: {SOLVED}", to=(OPS,), time=NOON + timedelta(seconds=20)),
                Mail("<3@x>", FULL, to=(OPS,), time=NOON + timedelta(seconds=21)),
            ],
            FAILED_AT_NOON,
        ),
        ([], FACTS),
        ([to_sender()], FACTS),
        ([to_administrator()], FAILING),
        ([to_administrator(), to_administrator(f"Solved: {SOLVED}")], FACTS),
        ([to_administrator(), to_administrator(f"Solved: {SOLVED}"), to_administrator()], FAILING),
        # The events of one Archive are archived, and those of another one are not.
        (
            [to_administrator(), to_administrator(), to_administrator(f"Solved: {SOLVED}")],
            replace(FAILING, archives=2),
        ),
        # Another action is necessary.
        ([to_administrator(f"{OUTAGE_OF_DMS}: {each}") for each in ("Unreachable", "RootChanged")], FACTS),
        (
            [to_administrator("[acme] An event failed: Late")],
            replace(FACTS, events=(event(reason="DeadlineExceeded", lastError={"reason": "Late"}),)),
        ),
        # A mail about the archive covers the events; a kill can lose a mail.
        ([], replace(FAILING, usable={"Archive dms": False})),
        ([], replace(FAILING, interruptions=1)),
        # A person deleted the envelope after the mail was written.
        (
            [
                to_administrator(
                    text=f"Its envelope stays in eSignAnyWhere. {ENVELOPE}-1", gone=frozenset({ENVELOPE})
                )
            ],
            replace(FAILING, removed=frozenset({ENVELOPE})),
        ),
        (
            [
                to_administrator(
                    text=f"Its envelope is no longer in eSignAnyWhere. {ENVELOPE}-1",
                    gone=frozenset({ENVELOPE}),
                )
            ],
            FAILING,
        ),
        # The event was opened again.
        (
            [
                to_administrator(
                    text=f"Its envelope stays in eSignAnyWhere. {ENVELOPE}-1", gone=frozenset({ENVELOPE})
                )
            ],
            replace(FACTS, events=(event("Succeeded", "ArchivedAndDeleted"),)),
        ),
        (
            [
                to_administrator(
                    text=f"If the envelope is no longer in eSignAnyWhere, delete it. {ENVELOPE}-1"
                )
            ],
            FAILING,
        ),
        ([to_administrator("Ended: [acme] x", NEVER_TRUE[0])], replace(FACTS, restores=1)),
        ([Mail("<1@x>", NEW_KEY, "", (ANNA,))], FACTS),
    ],
)
def test_nothing_is_wrong_with_true_mails(mails: list[Mail], facts: MailFacts) -> None:
    assert list(wrong_mails(mails, facts)) == []


WRONG = {
    "2 mails about one problem": ([to_administrator(), to_administrator(SOLVED)], FAILING),
    "2 mails about one problem ([acme] Archive dms can't be used: Full)": (
        [to_administrator(f"{OUTAGE_OF_DMS}: {each}") for each in ("Full", "Locked", "Full")],
        FACTS,
    ),
    "1 mails to bruno@x.example about 0 keys that died": ([to_sender(BRUNO, "")], FACTS),
    "the link for anna@x.example goes to bruno@x.example": ([to_sender(BRUNO)], FACTS),
    "anna@x.example has given a key, and is asked for the first one": (
        [to_sender(text="We need it once. https://x/consent/desk/sender-a")],
        FACTS,
    ),
    "2 mails to anna@x.example about 1 keys that died": ([Mail("<1@x>", NEW_KEY, "", (ANNA,))] * 2, FACTS),
    "one for a sender goes to ops@x.example": ([to_sender(OPS, "")], FACTS),
    "the sender anna@x.example gets one of an administrator": ([Mail("<1@x>", FULL, "", (ANNA,))], FAILING),
    "but an event is Failed with ArchiveFull": (
        [to_administrator(), to_administrator(f"Solved: {SOLVED}")],
        FAILING,
    ),
    "but an event was Failed with ArchiveFull from before until the end": (
        solved_between(NOON - timedelta(seconds=10), NOON),
        replace(FACTS, events=(event(completionTime="2026-07-01T11:59:40Z"),)),
    ),
    "but it is not Ready": (
        [to_administrator("Solved: [acme] Archive dms can't be used: Full")],
        replace(FACTS, usable={"Archive dms": False}),
    ),
    "an event failed with ArchiveFull, and no mail reports it": ([], FAILING),
    "which nobody did": ([to_administrator("Ended: [acme] x", NEVER_TRUE[0])], FACTS),
    "says “stay in eSignAnyWhere”, and it is gone": (
        [
            to_administrator(
                text=f"Their envelopes stay in eSignAnyWhere. {ENVELOPE}-1", gone=frozenset({ENVELOPE})
            )
        ],
        FAILING,
    ),
    "says “is no longer in eSignAnyWhere”, and it is there": (
        [to_administrator(text=f"Its envelope is no longer in eSignAnyWhere. {ENVELOPE}-1")],
        FAILING,
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_each_untruth_is_found(wrong: str) -> None:
    mails, facts = WRONG[wrong]
    found = list(wrong_mails(mails, facts))
    assert any(wrong in each for each in found), found


def test_the_sentences_that_are_judged_are_those_of_the_mails() -> None:
    texts = tomllib.loads(MAILS.read_text(encoding="utf-8"))
    failed, said = texts["failed"], [each for section in texts.values() for each in section.values()]
    assert {texts["consent"][each].startswith(CONSENT) for each in ("subject", "first")} == {True}
    assert texts["consent"]["brought_subject"].startswith(NEW_KEY)
    assert KEY_DIED in texts["consent"]["died"]
    assert all(
        FAILED.fullmatch(failed[each].format(count=2, reason="Full")) for each in ("subject", "subject_one")
    )
    assert all(
        OUTAGE.fullmatch(texts[each]["subject"].format(archive="dms", reason="Full"))
        for each in ("archive", "esaw")
    )
    assert all(STAYS.search(failed[each]) for each in ("stays", "stays_one"))
    assert all(GONE.search(failed[each]) for each in ("gone", "gone_one"))
    claims = [each for each in NEVER_TRUE if " " in each]
    assert [each for each in claims if not any(each in text for text in said)] == []
    assert texts["solved"]["subject"].startswith("Solved: ")
    assert texts["ended"]["subject"].startswith("Ended: ")
