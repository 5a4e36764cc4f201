"""Which Sender reads the envelope of an event next?"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache
from itertools import product

import pytest
from msgspec.structs import replace

from controller.reader import (
    Claims,
    KeyState,
    Reader,
    answers_in_row,
    claims_of,
    key_of,
    key_state,
    lacks_proof,
    next_reader,
    reader_of,
    to_try_again,
    untried_reader,
    with_refused,
    with_tried,
)
from counterfoil.resources import (
    LISTED_BY_LABEL,
    EnvelopeSummary,
    Phase,
    Sender,
    SenderReference,
)
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.envelopeevent import MAX_NOT_SHOWN_TO, TriedKey
from tests.support.builders import (
    ANNA,
    KEY,
    NOON,
    a_history,
    a_sender,
    an_event,
    an_organization,
    known_to_work,
)

BEN = "0a7c2c11-5f0e-4d3a-9a61-6f2b8e1d4c55"
"""Another user of eSAW."""
WORKS, UNVERIFIED, REFUSED = KeyState.WORKS, KeyState.UNVERIFIED, KeyState.REFUSED
NOT_SHOWN, FOREIGN, MISSING = KeyState.NOT_SHOWN, KeyState.FOREIGN, KeyState.MISSING
NOT_PERMITTED = KeyState.NOT_PERMITTED
USABLE: tuple[KeyState | None, ...] = (WORKS, UNVERIFIED)
EVENT = an_event().in_phase(Phase.FAILED, "EnvelopeNotFound")
NAMES = ("proved", "recorded", "finder", "default")


def chosen(**states: KeyState) -> tuple[str, KeyState] | None:
    """Return who reads next if the claims with these states are made, each about another Sender."""
    claims = Claims(*(each if each in states else None for each in NAMES))
    return next_reader(claims, states.__getitem__)


def all_states() -> Iterator[dict[str, KeyState]]:
    """Yield each combination of claims, each absent or with each state."""
    for states in product((None, *KeyState), repeat=len(NAMES)):
        yield {name: state for name, state in zip(NAMES, states, strict=True) if state is not None}


def may_replace(name: str, states: dict[str, KeyState]) -> bool:
    """Whether no better claim keeps this one out, once all usable keys with such a claim were tried."""
    kept_out_by = {"finder": ["proved"], "default": ["proved", "recorded"]}.get(name, [])
    is_deleted = states.get("proved") is MISSING
    if states.get("proved") is NOT_PERMITTED:
        return name in ("proved", "recorded")
    return not any(
        states.get(each) in (REFUSED, FOREIGN, MISSING) and not (each == "proved" and is_deleted)
        for each in kept_out_by
    )


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({}, None),
        ({"default": WORKS}, "default"),
        ({"proved": WORKS, "recorded": WORKS, "finder": WORKS, "default": WORKS}, "proved"),
        ({"recorded": UNVERIFIED, "finder": WORKS, "default": WORKS}, "recorded"),
        ({"finder": WORKS, "default": WORKS}, "finder"),
        # Nothing shows that they see what eSAW showed to another key.
        ({"proved": REFUSED, "finder": WORKS, "default": WORKS}, "proved"),
        ({"proved": MISSING, "default": REFUSED}, "proved"),
        ({"proved": FOREIGN, "default": WORKS}, "proved"),
        ({"proved": REFUSED, "recorded": NOT_SHOWN, "default": WORKS}, "proved"),
        ({"proved": REFUSED, "recorded": WORKS}, "recorded"),
        # It sees the envelope, and needs a permission.
        ({"proved": NOT_PERMITTED, "recorded": WORKS}, "recorded"),
        ({"proved": NOT_PERMITTED, "recorded": REFUSED, "default": WORKS}, "recorded"),
        ({"proved": NOT_PERMITTED, "finder": WORKS, "default": REFUSED}, "proved"),
        ({"proved": NOT_PERMITTED, "recorded": NOT_PERMITTED, "default": WORKS}, "proved"),
        ({"recorded": NOT_PERMITTED, "default": WORKS}, "default"),
        ({"proved": NOT_SHOWN, "finder": WORKS}, "finder"),
        ({"proved": NOT_SHOWN, "default": WORKS}, "default"),
        # A Sender that was deleted gets no consent.
        ({"proved": MISSING, "finder": WORKS, "default": WORKS}, "finder"),
        ({"proved": MISSING, "default": WORKS}, "default"),
        ({"proved": MISSING, "recorded": MISSING, "default": WORKS}, "proved"),
        # A consent is enough, and only that user can give it.
        ({"proved": MISSING, "recorded": REFUSED, "default": WORKS}, "recorded"),
        ({"proved": MISSING, "recorded": REFUSED, "finder": WORKS}, "finder"),
        ({"proved": MISSING, "finder": REFUSED, "default": REFUSED}, "proved"),
        ({"proved": MISSING, "default": NOT_SHOWN}, "proved"),
        # A list of eSAW shows that the finder's key can read it.
        ({"recorded": REFUSED, "finder": WORKS}, "finder"),
        ({"recorded": NOT_SHOWN, "finder": WORKS}, "finder"),
        ({"recorded": MISSING, "finder": WORKS}, "finder"),
        # Nothing shows that the default Sender sees the envelope of another one.
        ({"recorded": REFUSED, "default": WORKS}, "recorded"),
        ({"recorded": MISSING, "default": WORKS}, "recorded"),
        ({"recorded": FOREIGN, "default": WORKS}, "recorded"),
        ({"recorded": NOT_SHOWN, "default": WORKS}, "default"),
        ({"finder": REFUSED, "default": WORKS}, "default"),
        ({"proved": REFUSED, "default": WORKS}, "proved"),
        # Then the event waits for a consent, or for a Sender.
        ({"proved": REFUSED, "recorded": REFUSED}, "proved"),
        ({"finder": NOT_SHOWN, "default": REFUSED}, "default"),
        ({"finder": REFUSED, "default": NOT_SHOWN}, "finder"),
        ({"finder": MISSING}, "finder"),
        ({"finder": MISSING, "default": MISSING}, "default"),
        ({"finder": MISSING, "default": NOT_SHOWN}, "default"),
        ({"finder": FOREIGN}, None),
        ({"default": FOREIGN}, "default"),
        # Each was tried: the best of them is asked again.
        ({"recorded": NOT_SHOWN, "finder": NOT_SHOWN, "default": NOT_SHOWN}, "recorded"),
    ],
)
def test_the_best_claim_whose_key_may_work_decides(states: dict[str, KeyState], expected: str | None) -> None:
    found = chosen(**states)
    assert (found[0] if found is not None else None) == expected


def test_a_sender_with_a_proof_reads_before_all_others_and_no_foreign_or_missing_one_does() -> None:
    for states in all_states():
        reader = chosen(**states)
        proofs = [each for each in NAMES[:-1] if states.get(each) in USABLE and may_replace(each, states)]
        if proofs:
            assert reader == Reader(proofs[0], states[proofs[0]]), states
        elif reader is not None and reader[1] in (FOREIGN, MISSING):
            named = states.keys() & {"recorded", "default"}
            assert reader[0] == "proved" or reader[0] in named or not named, states
            is_named = states.keys() & {"proved", "recorded"}
            assert is_named or states.get("default") not in USABLE, states


def test_only_the_sender_of_an_envelope_reads_in_place_of_one_whose_key_saw_it() -> None:
    for states in all_states():
        reader = chosen(**states)
        if states.get("proved") in (WORKS, UNVERIFIED, REFUSED, FOREIGN):
            assert reader is not None
            assert reader[0] == "proved" or reader[0] == "recorded", states
            assert reader[0] == "proved" or reader[1] in USABLE, states


def test_each_candidate_is_tried_once_and_no_working_key_with_a_proof_is_left_out() -> None:
    for states in all_states():
        known, tried = dict(states), list[str]()
        while (reader := chosen(**known)) is not None and reader[1] in USABLE:
            known[reader[0]] = NOT_SHOWN
            tried.append(reader[0])
        assert len(tried) == len(set(tried)) <= len(NAMES), states
        usable = {each for each in NAMES if states.get(each) in USABLE}
        assert {each for each in usable if may_replace(each, states)} == set(tried), states


SUSPENDED = "Suspended"
"""A Sender whose key works and that a person suspended."""


@cache
def a_sender_in(name: str, state: KeyState | str) -> Sender | None:
    """Return a Sender of this name whose key has this state; None: there is none."""
    if state is MISSING:
        return None
    if state is SUSPENDED:
        return a_sender(name, suspend=True)
    authorized: dict[KeyState | str, ConditionStatus] = {REFUSED: "False", UNVERIFIED: "Unknown"}
    organization = "other" if state is FOREIGN else "acme"
    return a_sender(name, authorized=authorized.get(state, "True"), organization=organization)


def untried(states: dict[str, KeyState | str]) -> str | None:
    """Return the Sender for which an event starts again, if the claims with these states are made."""
    tried: tuple[TriedKey, ...] = ()
    for name, state in states.items():
        if state is NOT_SHOWN:
            tried = with_tried(tried, a_sender(name), 3)
        elif state is NOT_PERMITTED:
            tried = with_refused(tried, a_sender(name))
    claims = Claims(*(each if each in states else None for each in NAMES))
    event = EVENT.status(not_shown_to=tried).build()
    return untried_reader(event, claims, lambda name: a_sender_in(name, states[name]))


def test_an_event_starts_again_only_for_the_next_reader_if_its_key_may_be_used_and_was_not_tried() -> None:
    for states in all_states():
        reader = chosen(**states)
        expected = reader[0] if reader is not None and reader[1] in USABLE else None
        assert untried({**states}) == expected, states


def test_an_event_starts_again_for_each_key_at_most_once_if_nothing_changes() -> None:
    for states in all_states():
        for end in (NOT_SHOWN, REFUSED, MISSING, SUSPENDED):
            known: dict[str, KeyState | str] = {**states}
            started = list[str]()
            while (reader := untried(known)) is not None:
                assert reader not in started, states
                started.append(reader)
                # What the run learns about this key.
                known[reader] = end


def test_a_suspended_sender_keeps_its_turn_and_starts_nothing() -> None:
    assert untried({"proved": SUSPENDED, "recorded": WORKS}) is None
    assert untried({"proved": REFUSED, "recorded": SUSPENDED}) is None


def test_an_event_with_as_many_tried_keys_as_its_status_has_room_for_does_not_start_again() -> None:
    tried: tuple[TriedKey, ...] = ()
    for number in range(MAX_NOT_SHOWN_TO):
        tried = with_tried(tried, a_sender(f"sender-{number}"), 3)
    claims = Claims(None, "anna", None, None)
    for kept, expected in ((tried, None), (tried[1:], "anna")):
        event = an_event().status(not_shown_to=kept).build()
        assert untried_reader(event, claims, a_sender) == expected


def test_several_claims_about_one_sender_are_one_candidate() -> None:
    claims = Claims("anna", "ben", "anna", "ben")
    states = {"anna": NOT_SHOWN, "ben": WORKS}
    assert next_reader(claims, states.__getitem__) == Reader("ben", WORKS)
    # An Envelope that names the Sender with the proof says no more than the proof.
    states = {"anna": MISSING, "dora": WORKS}
    assert next_reader(Claims("anna", "anna", None, "dora"), states.__getitem__) == Reader("dora", WORKS)
    # An Envelope that names the default Sender rules nobody out.
    assert next_reader(Claims(None, "anna", None, "anna"), {"anna": WORKS}.__getitem__) == Reader(
        "anna", WORKS
    )


def test_the_claims_come_from_the_status_the_envelope_a_label_and_the_organization() -> None:
    shown = EnvelopeSummary(status="Completed", sender_ref=SenderReference(name="anna", user_id=ANNA))
    event = an_event().labelled(LISTED_BY_LABEL, "ben").status(envelope=shown).build()
    organization = an_organization(defaultSenderRef={"name": "dora"})
    assert claims_of(event, organization, recorded="emil", finder=None) == ("anna", "emil", "ben", "dora")
    assert claims_of(event, organization, recorded=None, finder="carla").finder == "carla"
    assert claims_of(an_event().build(), None, recorded=None, finder=None) == (None,) * 4


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        (None, MISSING),
        (a_sender(organization="other"), FOREIGN),
        (a_sender(authorized="True"), WORKS),
        (a_sender(authorized="False"), REFUSED),
        (a_sender(authorized="Unknown"), UNVERIFIED),
        (a_sender(authorized=None), UNVERIFIED),
    ],
)
def test_the_condition_of_a_sender_shows_whether_its_key_may_be_used(
    sender: Sender | None, expected: KeyState
) -> None:
    assert key_state(an_event().build(), sender) is expected


def test_a_key_is_tried_for_one_sender_and_one_token() -> None:
    anna = known_to_work(a_sender(), KEY)
    event = an_event().in_phase(Phase.FAILED).status(not_shown_to=with_tried((), anna, 3)).build()
    assert key_state(event, anna) is NOT_SHOWN
    assert key_state(event, replace(anna, metadata=replace(anna.metadata, uid="another"))) is WORKS
    assert key_state(event, known_to_work(a_sender(), KEY[::-1] + "0")) is WORKS


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.VALIDATING, Phase.FAILED])
@pytest.mark.parametrize(("answers", "expected"), [(1, WORKS), (2, WORKS), (3, NOT_SHOWN)])
def test_a_key_is_asked_until_its_row_of_answers_is_full(
    phase: Phase, answers: int, expected: KeyState
) -> None:
    """eSAW's own index may be slower than its callback."""
    anna = known_to_work(a_sender(), KEY)
    event = an_event().in_phase(phase, "ArchiveSuspended").status(not_shown_to=with_tried((), anna, answers))
    assert key_state(event.build(), anna) is expected


NOT_FOUND = "EnvelopeNotFound"


@pytest.mark.parametrize(
    ("reasons", "attempts", "answers", "expected"),
    [
        ([NOT_FOUND] * 2, 2, 2, 2),
        # The answers of before were to another key.
        ([NOT_FOUND] * 2, 2, 1, 1),
        # A failure of another kind ends the row.
        ([NOT_FOUND, "EsawFailing"], 2, 1, 0),
        ([NOT_FOUND, "EsawFailing", NOT_FOUND], 3, 2, 1),
        # Started again since.
        ([NOT_FOUND] * 2, 0, 2, 0),
    ],
)
def test_a_row_of_answers_is_of_one_key(
    reasons: list[str], attempts: int, answers: int, expected: int
) -> None:
    anna, ben = known_to_work(a_sender(), KEY), a_sender("ben")
    history = a_history(*reasons)
    event = an_event().status(attempts=attempts, attempt_history=history)
    tried = event.status(not_shown_to=with_tried((), anna, answers)).build()
    assert answers_in_row(tried, anna) == expected
    assert answers_in_row(tried, ben) == 0


def test_an_answer_to_a_key_without_the_proof_of_the_event_is_in_no_row() -> None:
    shown = EnvelopeSummary(status="Completed", sender_ref=SenderReference(name="anna", user_id=ANNA))
    event = an_event().status(attempts=2, attempt_history=a_history(NOT_FOUND, NOT_FOUND), envelope=shown)
    assert answers_in_row(event.build(), a_sender("anna")) == 2
    assert answers_in_row(event.build(), a_sender("dora")) == 0


@pytest.mark.parametrize(
    ("name", "user", "stored", "created", "expected"),
    [
        ("anna", ANNA, ANNA, None, False),
        ("anna", ANNA, ANNA.upper(), None, False),
        ("anna", BEN, ANNA, None, True),
        # Another Sender of the same user is shown the same envelopes.
        ("dora", ANNA, ANNA, None, False),
        ("dora", BEN, ANNA, None, True),
        # Nothing shows that a Sender of this name is the one of then, unless it is older than the event.
        ("anna", ANNA, None, None, True),
        ("anna", ANNA, None, NOON - timedelta(seconds=1), False),
        ("anna", ANNA, None, NOON, True),
        ("dora", ANNA, None, NOON - timedelta(seconds=1), True),
    ],
)
def test_the_proof_is_of_the_user_to_whom_the_envelope_was_shown(
    name: str, user: str, stored: str | None, created: datetime | None, *, expected: bool
) -> None:
    shown = EnvelopeSummary(status="Completed", sender_ref=SenderReference(name="anna", user_id=stored))
    sender = a_sender(name, userID=user)
    sender = replace(sender, metadata=replace(sender.metadata, creation_timestamp=created))
    assert lacks_proof(an_event().status(envelope=shown).build(), sender) is expected


def read_without_proof(claims: Claims, states: Mapping[str, KeyState]) -> Reader | None:
    """Return who reads next if the Sender ``proved`` has another user by now. All Senders exist."""
    shown = EnvelopeSummary(status="Completed", sender_ref=SenderReference(name="proved", user_id=BEN))
    event = an_event().status(envelope=shown).build()
    return reader_of(event, claims, a_sender, lambda _, each: states[each.name] if each else MISSING)


def test_the_sender_with_the_proof_is_missing_if_another_user_has_its_name() -> None:
    for states in all_states():
        if "proved" in states:
            claims = Claims(*(each if each in states else None for each in NAMES))
            found = read_without_proof(claims, states)
            assert found == chosen(**{**states, "proved": MISSING}), states


def test_a_sender_with_the_name_of_the_one_with_the_proof_reads_by_another_claim() -> None:
    claims = Claims("proved", None, None, None)
    for other in (claims._replace(recorded="proved"), claims._replace(default="proved")):
        assert read_without_proof(other, {"proved": WORKS}) == Reader("proved", WORKS)
        for state in (NOT_SHOWN, REFUSED):
            assert read_without_proof(other, {"proved": state}) == Reader("proved", MISSING)


def test_a_row_fills_beside_an_unfinished_row_of_another_key() -> None:
    tried = with_tried(with_tried((), a_sender("ben"), 1), a_sender("anna"), 3)
    event = an_event().status(attempts=2, attempt_history=a_history(NOT_FOUND, NOT_FOUND), not_shown_to=tried)
    assert answers_in_row(event.build(), a_sender("anna")) == 2


def test_a_refusal_to_an_earlier_sender_of_a_name_is_not_one_to_this_sender() -> None:
    earlier, ben = a_sender("ben"), a_sender("ben")
    ben = replace(ben, metadata=replace(ben.metadata, uid="uid-other"))
    tried = with_tried(with_refused((), earlier), ben, 3)
    assert [(each.uid, each.refused) for each in tried] == [(earlier.uid, True), ("uid-other", False)]
    event = EVENT.status(not_shown_to=tried).build()
    assert key_state(event, ben) is NOT_SHOWN
    assert key_state(event, earlier) is NOT_PERMITTED
    assert with_refused(tried, ben)[-1].refused
    assert [each.uid for each in with_tried(tried, ben, 3)] == [earlier.uid, "uid-other"]


def test_a_refusal_stays_known_when_the_keys_are_tried_again() -> None:
    anna, ben = known_to_work(a_sender(), KEY), a_sender("ben")
    tried = with_tried(with_refused((), anna), ben, 3)
    again = to_try_again(tried)
    assert again == (replace(key_of(anna), answers=1, refused=True),)
    event = EVENT.status(not_shown_to=again, attempts=2, attempt_history=a_history(NOT_FOUND, NOT_FOUND))
    assert key_state(event.build(), anna) is WORKS
    assert answers_in_row(event.build(), ben) == 2
    assert with_tried(again, anna, 3)[0].refused


def test_the_tried_keys_are_bounded_and_have_one_of_each_name() -> None:
    tried = with_tried((), a_sender("anna"), 3)
    for number in range(MAX_NOT_SHOWN_TO + 3):
        tried = with_tried(tried, a_sender(f"sender-{number}"), 3)
    assert len(tried) == MAX_NOT_SHOWN_TO
    again = with_tried(tried, known_to_work(a_sender("sender-9"), KEY), 3)
    assert len(again) == MAX_NOT_SHOWN_TO
    assert again[-1] == key_of(known_to_work(a_sender("sender-9"), KEY))
