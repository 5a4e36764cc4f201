"""
The judge of the mails: how many come, to whom, and whether each says what is true. Pure.

A mail takes some seconds to arrive. So a claim is compared with what can't change back meanwhile: an envelope
that was gone, a key that never died, an event that is Failed when all has come to rest.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

CONSENT: Final = "Please allow us"
"""Beginning of the subject of a mail to a sender who gives consent."""
NEW_KEY: Final = "Please create a new API key"
"""Beginning of the subject of a mail to a sender whose key is in a Secret of a person."""
KEY_DIED: Final = "no longer accepts the key"
"""Sentence of such a mail to somebody who had given a key."""
FAILED: Final = re.compile(r"(?:An event|\d+ events) failed: (\w+)")
"""Subject of a mail about failed events, with their reason."""
OUTAGE: Final = re.compile(r"(.*(?:Archive \S+|eSignAnyWhere) can't be used): \w+")
"""Subject of a mail about an archive or an eSAW."""
SOLVED: Final = "Solved: "
ENDED: Final = "Ended: "
STAYS: Final = re.compile(r"stays? in eSignAnyWhere")
GONE: Final = re.compile(r"(?<!If the envelope )(?:is|are) no longer in eSignAnyWhere")
"""Sentences of mails and of statuses about envelopes."""
CLOCK_STEP: Final = timedelta(seconds=5)
"""Maximum difference between the clock of the API server, which a controller uses, and this one."""
NOT_USED: Final = "The Organization no longer uses the archive"
"""A claim that the removal of a copy makes true."""
NEVER_TRUE: Final = (
    NOT_USED,
    "spec.webhook was removed",
    "its sender is suspended",
    "A sender was deleted",
    "SealKeyUnknown",
    "SealBroken",
    "ArchiveMissing",
    "ArchiveReplaced",
)
"""Claims that no fault and no person of a round makes true; an older state of etcd may."""


@dataclass(frozen=True)
class Mail:
    """One mail as it arrived."""

    identity: str
    """Its Message-ID."""
    subject: str
    text: str = ""
    to: tuple[str, ...] = ()
    gone: frozenset[str] = frozenset()
    """Envelopes that were not in eSAW when it arrived."""
    time: datetime | None = None
    """When it arrived; None: not known."""


@dataclass(frozen=True)
class MailFacts:
    """The known state of a round, without its mails."""

    events: Sequence[Mapping[str, Any]]
    envelopes: AbstractSet[str]
    removed: AbstractSet[str]
    """Envelopes that a person deleted in eSAW, which the author of a mail may not have known."""
    dead_keys: Mapping[str, int]
    """Number of the keys that died, by the address of their owner; each is one problem."""
    consented: Mapping[str, str] = field(default_factory=dict)
    """Address of the person who gave the consent, by the name of the Sender."""
    usable: Mapping[str, bool] = field(default_factory=dict)
    """Whether what a mail says can't be used is Ready in the end, by the words of its subject."""
    interruptions: int = 0
    restores: int = 0
    archives: int = 1
    """Number of the Archives, also of copies: failures for one reason are one problem in each."""
    has_copies: bool = False
    """Whether persons add and remove copies."""


def wrong_mails(mails: Sequence[Mail], facts: MailFacts) -> Iterator[str]:
    """Yield everything that is wrong with the mails, and the mails that are missing."""
    to_senders = [each for each in mails if each.subject.startswith((CONSENT, NEW_KEY))]
    others = [each for each in mails if each not in to_senders]
    yield from _number_of_problems(others, facts)
    yield from _consents(to_senders, facts)
    for mail in others:
        if facts.dead_keys.keys() & set(mail.to):
            yield f"the sender {mail.to[0]} gets one of an administrator ({mail.subject})"
    if not facts.restores:
        yield from _ends(others, facts)
        yield from _early_ends(others, facts)
        for mail in mails:
            yield from _claims(mail, facts)


def cause(event: Mapping[str, Any]) -> str:
    """Return the reason for which an event failed; behind a deadline there is another one."""
    status = event.get("status", {})
    last = status.get("lastError") or {}
    is_late = status.get("reason") == "DeadlineExceeded"
    return str(last.get("reason") if is_late and last else status.get("reason"))


def _is_failed(event: Mapping[str, Any]) -> bool:
    return bool(event.get("status", {}).get("phase") == "Failed")


def untrue_place(text: str, envelope: str, gone: AbstractSet[str], removed: AbstractSet[str]) -> str | None:
    """Return what a text says about the place of an envelope, if that is not true."""
    if (said := STAYS.search(text)) and envelope in gone and envelope not in removed:
        return f"says “{said[0]}”, and it is gone"
    if (said := GONE.search(text)) and envelope not in gone:
        return f"says “{said[0]}”, and it is there"
    return None


def _number_of_problems(mails: Iterable[Mail], facts: MailFacts) -> Iterator[str]:
    sent: dict[str, list[str]] = defaultdict(list)
    solved: Counter[str] = Counter()
    for mail in mails:
        if mail.subject.startswith((SOLVED, ENDED)):
            solved[_problem(mail)] += 1
        else:
            sent[_topic(mail)].append(mail.identity)
    for topic, identities in sent.items():
        # An outage has a further mail for each reason for which a person must do something else.
        problem = OUTAGE.sub(r"\1", topic)
        problems = facts.archives if topic.partition("failed: ")[1] else 1
        if len(identities) - problems - solved[problem] > facts.interruptions:
            yield f"{len(identities)} mails about one problem ({topic})"


def _topic(mail: Mail) -> str:
    """Return what a mail is about, without its number."""
    is_end = mail.subject.startswith((SOLVED, ENDED))
    topic = mail.subject.partition(": ")[2] if is_end else mail.subject
    return re.sub(r"\b(An|A|\d+)\b|events?|senders?", "", topic).strip()


def _problem(mail: Mail) -> str:
    """Return the problem that a mail is about. The reason of an outage can change before its end."""
    return OUTAGE.sub(r"\1", _topic(mail))


def _consents(mails: Iterable[Mail], facts: MailFacts) -> Iterator[str]:
    sent = Counter(mail.to for mail in mails)
    for to, number in sent.items():
        address = to[0] if len(to) == 1 else ", ".join(to)
        keys = facts.dead_keys.get(address)
        if keys is None:
            yield f"one for a sender goes to {address}"
        elif number > keys + facts.interruptions:
            yield f"{number} mails to {address} about {keys} keys that died"
    for mail in mails:
        linked = re.search(r"/consent/[\w-]+/([\w-]+)", mail.text)
        owner = facts.consented.get(linked[1]) if linked else None
        if owner is not None and owner not in mail.to:
            yield f"the link for {owner} goes to {', '.join(mail.to)}"
        if owner is not None and KEY_DIED not in mail.text:
            yield f"{owner} has given a key, and is asked for the first one"


def _ends(mails: Sequence[Mail], facts: MailFacts) -> Iterator[str]:
    """A problem whose last mail says that it is solved is not there any more; one without a mail is not
    there either."""
    last = {_problem(mail): mail for mail in mails}
    # Failures for one reason are one problem in each Archive, which the subject does not name.
    still_open = Counter(_problem(mail) for mail in mails if not mail.subject.startswith((SOLVED, ENDED)))
    still_open.subtract(_problem(mail) for mail in mails if mail.subject.startswith((SOLVED, ENDED)))
    failed = {cause(each) for each in facts.events if _is_failed(each)}
    told = {found[1] for mail in last.values() if (found := FAILED.search(mail.subject))}
    for mail in last.values():
        if not mail.subject.startswith((SOLVED, ENDED)):
            continue
        found = FAILED.search(mail.subject)
        is_elsewhere = facts.archives > 1 and still_open[_problem(mail)] > 0
        if found and found[1] in failed and not is_elsewhere:
            yield f"“{mail.subject}”, but an event is Failed with {found[1]}"
        for what, is_usable in facts.usable.items():
            if f"{what} can't be used" in mail.subject and not is_usable:
                yield f"“{mail.subject}”, but it is not Ready"
    if facts.interruptions or all(facts.usable.values()) is False:
        return
    for reason in sorted(failed - told):
        yield f"an event failed with {reason}, and no mail reports it"


def _early_ends(mails: Iterable[Mail], facts: MailFacts) -> Iterator[str]:
    """
    A problem that is called solved during a round has no event that failed before its first mail, and that
    nobody opened again until the end: such an event was Failed whenever the mail was decided.

    A mail that a controller sends again after a pause has the identity of the first one, and is not judged.
    """
    ends, begins, known = _failure_ends(facts.events), dict[str, datetime | None](), set[str]()
    for mail in mails:
        problem, found = _problem(mail), FAILED.search(mail.subject)
        if mail.identity in known or found is None:
            continue
        known.add(mail.identity)
        if not mail.subject.startswith((SOLVED, ENDED)):
            begins.setdefault(problem, mail.time)
            continue
        began = begins.pop(problem, None)
        if began is not None and any(each + CLOCK_STEP < began for each in ends[found[1]]):
            yield f"“{mail.subject}”, but an event was Failed with {found[1]} from before until the end"


def _failure_ends(events: Iterable[Mapping[str, Any]]) -> dict[str, list[datetime]]:
    """Return when the events failed, by cause."""
    ends: dict[str, list[datetime]] = defaultdict(list)
    for event in events:
        ended = event.get("status", {}).get("completionTime")
        if _is_failed(event) and ended is not None:
            ends[cause(event)].append(datetime.fromisoformat(ended))
    return ends


def _claims(mail: Mail, facts: MailFacts) -> Iterator[str]:
    for claim in NEVER_TRUE:
        is_possible = claim == NOT_USED and facts.has_copies
        if not is_possible and (claim in mail.subject or claim in mail.text):
            yield f"“{mail.subject}” says “{claim}”, which nobody did"
    # An event that a callback or a person opened again has an end that the mail could not know.
    opened = {each["spec"]["envelopeID"] for each in facts.events if not _is_failed(each)}
    for envelope in sorted(each for each in facts.envelopes if each in mail.text):
        untrue = untrue_place(mail.text, envelope, mail.gone, {*facts.removed, *opened})
        if untrue is not None:
            yield f"“{mail.subject}” about {envelope} {untrue}"
