"""The stand-in eSAW: recorded facts about a real eSAW become its behaviour."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from sandbox.esaw import (
    Behaviour,
    DocumentSpec,
    EsawProfile,
    InvalidProfile,
    StandIn,
    User,
    parse_profile,
    read_profile,
)
from sandbox.esaw.__main__ import main
from tests.support.servers.standin_peers import anna, client_of


def a_profile(*facts: dict[str, Any], **members: Any) -> bytes:
    """The JSON of a profile with these facts."""
    profile = {
        "kind": "EsawProfile",
        "version": 1,
        "time": "2026-07-01T12:00:00Z",
        "esawVersion": "26.14.0.7",
        "facts": facts,
    }
    return json.dumps({**profile, **members}).encode()


def a_fact(name: str, found: str | None, outcome: str = "Deviates") -> dict[str, Any]:
    return {"id": name, "outcome": outcome, "found": found}


def profile_of(**facts: str) -> EsawProfile:
    """A profile with these facts; ids with `_` for `-`."""
    return parse_profile(a_profile(*(a_fact(name.replace("_", "-"), found) for name, found in facts.items())))


@asynccontextmanager
async def standin(**facts: str) -> AsyncIterator[tuple[StandIn, User, httpx.AsyncClient]]:
    """A stand-in with a profile of these facts, a user and the user's client."""
    async with StandIn(profile=profile_of(**facts)) as esaw:
        user = anna(esaw)
        async with client_of(esaw, user) as api:
            yield esaw, user, api


async def files_of(api: httpx.AsyncClient, envelope: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await api.get(f"envelope/{envelope}/files")).json()
    return answer


# -- Facts that have a switch --


async def test_the_recorded_version_is_returned() -> None:
    async with standin() as (_, _, api):
        assert (await api.get("system/version")).json() == {"Version": "26.14.0.7"}


async def test_a_profile_without_a_version_leaves_the_stand_ins_one() -> None:
    async with (
        StandIn(profile=parse_profile(a_profile(esawVersion=None))) as esaw,
        httpx.AsyncClient() as plain,
    ):
        assert (await plain.get(f"{esaw.url}/Api/v6/system/version")).json()["Version"].startswith("25.")


@pytest.mark.parametrize("status", [200, 401])
async def test_the_version_needs_a_token_where_it_was_recorded(status: int) -> None:
    async with standin(version_without_token=str(status)) as (esaw, _, api), httpx.AsyncClient() as plain:
        assert (await plain.get(f"{esaw.url}/Api/v6/system/version")).status_code == status
        assert (await api.get("system/version")).status_code == 200


@pytest.mark.parametrize(
    ("facts", "statuses"),
    [
        ({"header_bearer": "accepted", "header_api_token": "accepted"}, [200, 200]),
        ({"header_bearer": "rejected", "header_api_token": "accepted"}, [200, 401]),
        ({"header_bearer": "accepted", "header_api_token": "rejected"}, [401, 200]),
        ({"header_bearer": "rejected"}, [200, 401]),
    ],
)
async def test_a_token_is_accepted_in_the_headers_in_which_it_was(
    facts: dict[str, str], statuses: list[int]
) -> None:
    async with standin(**facts) as (esaw, user, _), httpx.AsyncClient(base_url=esaw.url) as plain:
        answers = [
            await plain.get("/Api/v6/authorization/whoami", headers={name: value})
            for name, value in (("ApiToken", user.token), ("Authorization", f"Bearer {user.token}"))
        ]
    assert [each.status_code for each in answers] == statuses


async def test_whoami_has_the_recorded_fields_only() -> None:
    async with standin(whoami_fields="UserId,Email,Licence") as (_, user, api):
        answer = (await api.get("authorization/whoami")).json()
    assert answer == {"UserId": user.user_id, "Email": user.email, "Licence": None}


async def test_a_truncated_search_ends_at_the_recorded_number_of_hits() -> None:
    async with standin(find_thirty_days="2,truncated") as (esaw, user, api):
        for _ in range(3):
            esaw.add_envelope(sender=user)
        assert len((await api.post("envelope/find", json={})).json()["Envelopes"]) == 2


async def test_a_complete_search_has_no_maximum() -> None:
    assert profile_of(find_thirty_days="2", find_one_day="1").apply(Behaviour()) == Behaviour()


async def test_file_ids_are_null_where_it_was_recorded() -> None:
    async with standin(envelope_null_file_ids="2") as (esaw, user, api):
        envelope = esaw.add_envelope(
            sender=user,
            attachments=[DocumentSpec(name="plan.png")],
            legal_documents=[DocumentSpec(name="CA22D.pdf")],
        )
        files = await files_of(api, envelope)
    document = files["Documents"][0]
    assert document["FileId"] is not None
    assert document["Attachments"][0]["FileId"] is None
    assert files["LegalDocuments"][0]["FileId"] is None
    assert files["AuditTrail"]["FileId"] is not None


async def test_more_null_file_ids_than_files_make_all_null() -> None:
    async with standin(envelope_null_file_ids="7") as (esaw, user, api):
        files = await files_of(api, esaw.add_envelope(sender=user, empty_as="absent"))
    assert files["Documents"][0]["FileId"] is None


async def test_audit_trails_are_absent_where_it_was_recorded() -> None:
    async with standin(envelope_status="Completed", envelope_audit_trail="absent") as (esaw, user, api):
        files = await files_of(api, esaw.add_envelope(sender=user, audit_trail_per_document=True))
    assert files["AuditTrail"] is None
    assert files["Documents"][0]["AuditTrailFileId"] is None


async def test_only_completed_envelopes_have_files_where_a_rejected_one_had_none() -> None:
    facts = {"envelope_status": "Rejected", "envelope_audit_trail": "absent"}
    async with standin(envelope_files="Document=0,AuditTrail=0", **facts) as (esaw, user, api):
        rejected = await files_of(api, esaw.add_envelope(sender=user, status="Rejected"))
        completed = await files_of(api, esaw.add_envelope(sender=user))
    assert rejected["Documents"] == []
    assert completed["AuditTrail"]["FileId"] is not None


def test_a_missing_trail_of_an_envelope_that_is_not_completed_records_nothing_about_completed_ones() -> None:
    profile = profile_of(envelope_status="Rejected", envelope_audit_trail="absent")
    assert profile.apply(Behaviour()) == Behaviour()
    assert profile.warnings == (
        "`envelope-audit-trail` is ignored: the envelope of the check was not Completed.",
    )


@pytest.mark.parametrize(("found", "status"), [("allowed", 200), ("forbidden", 403)])
async def test_the_history_is_as_readable_as_it_was(found: str, status: int) -> None:
    async with standin(envelope_history=found) as (esaw, user, api):
        answer = await api.get(f"envelope/{esaw.add_envelope(sender=user)}/history")
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("found", "kind", "has_length"),
    [
        ("application/pdf;length", "application/pdf", True),
        ("application/octet-stream;chunked", "application/octet-stream", False),
        (";chunked", "application/pdf", False),
    ],
)
async def test_downloads_have_the_recorded_headers(found: str, kind: str, *, has_length: bool) -> None:
    async with standin(download_headers=found) as (esaw, user, api):
        envelope = esaw.add_envelope(sender=user)
        answer = await api.get(f"file/{esaw.files(envelope)[0].file_id}")
    assert answer.headers["Content-Type"] == kind
    assert ("Content-Length" in answer.headers) is has_length
    assert answer.content.startswith(b"%PDF")


async def test_a_recorded_pdf_says_nothing_about_the_type_of_an_audit_trail_in_xml() -> None:
    async with standin(download_headers="application/pdf;chunked") as (esaw, user, api):
        trail = next(
            each for each in esaw.files(esaw.add_envelope(sender=user)) if each.name.endswith(".xml")
        )
        assert "xml" in (await api.get(f"file/{trail.file_id}")).headers["Content-Type"]


@pytest.mark.parametrize("call", ["", "/files", "/history", "/configuration"])
async def test_an_unknown_envelope_has_the_recorded_error(call: str) -> None:
    async with standin(unknown_envelope_body="ERR0010") as (_, _, api):
        answer = await api.get(f"envelope/{uuid4()}{call}")
        posted = await api.post("envelope/delete", json={"EnvelopeId": str(uuid4())})
    assert (answer.status_code, answer.json()["ErrorId"]) == (404, "ERR0010")
    assert (posted.status_code, posted.json()["ErrorId"]) == (404, "ERR0010")


async def test_an_unknown_envelope_has_no_body_where_it_was_recorded() -> None:
    async with standin(unknown_envelope_body="none") as (_, _, api):
        answer = await api.get(f"envelope/{uuid4()}")
    assert (answer.status_code, answer.content) == (404, b"")


def test_the_recorded_switches_replace_those_of_the_constructor_and_no_others() -> None:
    behaviour = profile_of(version_without_token="401").apply(Behaviour(most_hits=3))
    assert behaviour == Behaviour(most_hits=3, version_needs_token=True)


def test_facts_as_expected_do_not_change_the_behaviour_of_the_server() -> None:
    facts = {
        "base-url": "v6",
        "version-without-token": "200",
        "version-with-token": "200",
        "header-bearer": "accepted",
        "header-api-token": "accepted",
        "find-one-day": "12",
        "find-thirty-days": "300",
        "envelope-statuses": "none",
        "v5-envelopes": "0/300",
        "envelope-status": "Completed",
        "envelope-files": "Document=2,AuditTrail=1,LegalDocument=0",
        "envelope-null-file-ids": "none",
        "envelope-audit-trail": "present",
        "envelope-history": "allowed",
        "download-headers": "application/pdf;length",
        "download-repeated": "equal",
        "unknown-envelope-body": "ERR0007",
        "token-endpoint": "invalid_grant",
        "callback-url": "equal",
        "callback-port": "ok",
        "unlisted-actions": "workstepOpened=3,workstepFinished=12",
        "draft": "found",
        "envelope-metadata": "absent",
        "before-send-redirect": "unknown",
    }
    profile = parse_profile(a_profile(*(a_fact(name, found, "AsExpected") for name, found in facts.items())))
    assert profile.apply(Behaviour()) == Behaviour()
    assert profile.warnings == ()


@pytest.mark.parametrize("outcome", ["AsExpected", "Deviates"])
def test_a_fact_of_which_nothing_was_found_records_nothing(outcome: str) -> None:
    profile = parse_profile(a_profile(a_fact("envelope-history", None, outcome)))
    assert (profile.switches, profile.warnings) == ({}, ())


def test_a_fact_that_was_not_testable_records_nothing() -> None:
    profile = parse_profile(a_profile(a_fact("envelope-history", "no --envelope was given", "NotTestable")))
    assert (profile.switches, profile.warnings) == ({}, ())


# -- What a profile can't do, and files that are none --


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("version-with-token", "404"),
        ("version-without-token", "503"),
        ("envelope-statuses", "Paused,OnHold"),
        ("download-repeated", "different"),
        ("token-endpoint", "html"),
    ],
)
def test_a_deviation_that_can_not_be_replayed_is_a_warning(name: str, found: str) -> None:
    assert parse_profile(a_profile(a_fact(name, found))).warnings == (
        f"The stand-in can't replay `{name}: {found}`, so this is ignored.",
    )


def test_an_unknown_fact_is_ignored_with_a_warning() -> None:
    profile = parse_profile(a_profile(a_fact("colour", "blue"), a_fact("envelope-history", "forbidden")))
    assert profile.warnings == ("The fact `colour` is unknown and is ignored.",)
    assert profile.switches == {"history_forbidden": True}


INVALID: list[tuple[bytes, str]] = [
    (b"", "this is no profile: it is no JSON"),
    (b"\xff\xfe", "this is no profile: it is no JSON"),
    (b"[" * 100_000, "this is no profile: it is no JSON"),
    (b"[]", "this is no profile: it is no JSON object of kind EsawProfile"),
    (b'{"kind": "List", "items": []}', "this is no profile: it is no JSON object of kind EsawProfile"),
    (a_profile(version=2), "the profile has the version 2; this stand-in reads version 1"),
    (a_profile(version=True), "the profile has the version True; this stand-in reads version 1"),
    (a_profile(version="1"), "the profile has the version '1'; this stand-in reads version 1"),
    (a_profile(time="yesterday"), "the profile is invalid: Invalid RFC3339 encoded datetime - at `$.time`"),
    (a_profile(time="2026-07-01T12:00:00"), "- at `$.time`"),
    (a_profile(esawVersion=""), "- at `$.esawVersion`"),
    (a_profile(facts=None), "- at `$.facts`"),
    (a_profile({"id": "draft"}), "missing required field `outcome` - at `$.facts[0]`"),
    (a_profile(a_fact("draft", "found", "Perhaps")), "'Perhaps' - at `$.facts[0].outcome`"),
    (a_profile({"id": "draft", "outcome": "Deviates", "found": 7}), "got `int` - at `$.facts[0].found`"),
    (a_profile(*[a_fact("draft", "found")] * 2), "the fact `draft` is there twice"),
    (a_profile(a_fact("draft", "perhaps")), "the fact `draft` can't be `perhaps`"),
    *(
        (
            a_profile(a_fact("base-url", found)),
            f"the check found no eSignAnyWhere with API v6 (`base-url: {found}`)",
        )
        for found in ("not-esaw", "v5", "api-suffix", "unreachable")
    ),
    (a_profile(a_fact("version-without-token", "")), "the fact `version-without-token` can't be ``"),
    (a_profile(a_fact("envelope-null-file-ids", "-1")), "the fact `envelope-null-file-ids` can't be `-1`"),
    (a_profile(a_fact("find-thirty-days", "9" * 5000)), "the fact `find-thirty-days` can't be"),
    (a_profile(a_fact("envelope-history", "allowed\n")), "the fact `envelope-history` can't be"),
    (a_profile(a_fact("unknown-envelope-body", "ERR")), "the fact `unknown-envelope-body` can't be `ERR`"),
]


@pytest.mark.parametrize(("data", "message"), INVALID, ids=[message for _, message in INVALID])
def test_a_file_that_can_not_be_a_profile_is_refused_with_the_fault(data: bytes, message: str) -> None:
    with pytest.raises(InvalidProfile) as refused:
        parse_profile(data)
    assert message in str(refused.value)


def test_the_fault_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "acme.json"
    with pytest.raises(InvalidProfile, match=r"acme\.json: No such file"):
        read_profile(file)
    file.write_text("{}")
    with pytest.raises(InvalidProfile, match=r"acme\.json: this is no profile"):
        read_profile(file)


# -- The option of the command line --


async def run_standin(*arguments: str) -> tuple[asyncio.subprocess.Process, bytes]:
    """Start the stand-in as a process; return it with its first line of output, empty if it ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox.esaw", "--port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return process, await process.stdout.readline()


async def test_the_process_behaves_as_its_profile_says_and_warns_of_unknown_facts(tmp_path: Path) -> None:
    file = tmp_path / "acme.json"
    file.write_bytes(a_profile(a_fact("version-without-token", "401"), a_fact("colour", "blue")))
    process, line = await run_standin("--profile", str(file))
    url = next(word for word in line.decode().split() if word.startswith("http")).rstrip(",")
    async with httpx.AsyncClient() as plain:
        assert (await plain.get(f"{url}/Api/v6/system/version")).status_code == 401
    process.terminate()
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    assert process.returncode == 0
    assert b"warning: The fact `colour` is unknown and is ignored." in errors


def test_the_process_ends_with_status_2_for_an_invalid_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "acme.json"
    file.write_bytes(a_profile(a_fact("draft", "perhaps")))
    monkeypatch.setattr(sys, "argv", ["sandbox.esaw", "--port", "0", "--profile", str(file)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert "acme.json: the fact `draft` can't be `perhaps`" in printed.err
