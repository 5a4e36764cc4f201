"""The stand-in eSAW: REST v6 as the facts say it, from whoami to delete."""

import re
from datetime import timedelta

import httpx
import pytest

from sandbox.esaw import DocumentSpec, EnvelopeStatus, Recipient, StandIn, User
from sandbox.esaw.core.behaviour import Behaviour, FilesOfV5, TokenHeader
from sandbox.esaw.core.model import EmptyAs
from sandbox.esaw.facts import read_facts
from tests.support.servers.standin_peers import anna, bruno, client_of

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FACTS = read_facts()
NOBODYS = "00000000-0000-0000-0000-000000000000"


def test_a_token_has_66_letters_and_digits(user: User) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]{66}", user.token)


@pytest.mark.parametrize("base", ["Api/v6", "Api/v6.0", "api/v6", "API/V6"])
async def test_the_base_path_is_known_in_each_spelling(esaw: StandIn, user: User, base: str) -> None:
    async with client_of(esaw, user) as client:
        answer = await client.get(f"{esaw.url}/{base}/authorization/whoami")
    assert answer.json()["UserId"] == user.user_id


@pytest.mark.parametrize("header", ["ApiToken", "apitoken", "Authorization"])
async def test_either_header_carries_the_token(esaw: StandIn, user: User, header: str) -> None:
    value = f"Bearer {user.token}" if header == "Authorization" else user.token
    async with httpx.AsyncClient(base_url=esaw.url, headers={header: value}) as client:
        assert (await client.get("/Api/v6/authorization/validate")).status_code == 200


@pytest.mark.parametrize(
    ("accepted", "statuses"),
    [
        (("Authorization",), {"ApiToken": 401, "Authorization": 200}),
        (("ApiToken",), {"ApiToken": 200, "Authorization": 401}),
        ((), {"ApiToken": 401, "Authorization": 401}),
    ],
)
async def test_a_token_in_a_header_that_is_not_accepted_is_refused(
    esaw: StandIn, user: User, accepted: tuple[TokenHeader, ...], statuses: dict[str, int]
) -> None:
    esaw.set_behaviour(Behaviour(token_headers=accepted))
    answers = {}
    for header, value in (("ApiToken", user.token), ("Authorization", f"Bearer {user.token}")):
        async with httpx.AsyncClient(base_url=esaw.url, headers={header: value}) as client:
            answers[header] = (await client.get("/Api/v6/authorization/whoami")).status_code
    assert answers == statuses


async def test_whoami_says_who_the_token_belongs_to(api: httpx.AsyncClient, user: User) -> None:
    body = (await api.get("authorization/whoami")).json()
    assert body == {
        "UserId": user.user_id,
        "Email": "anna@example.com",
        "GivenName": "Anna",
        "Surname": "Kofler",
        "UserName": "anna@example.com",
        "Sid": None,
        "SamlAssignments": [],
        "OAuthAssignments": [],
        "Roles": ["Sender"],
    }


@pytest.mark.parametrize(
    "headers", [{}, {"ApiToken": "x" * 66}, {"ApiToken": ""}, {"Authorization": "Basic YTpi"}]
)
async def test_without_a_good_token_the_answer_is_401_with_no_body(
    esaw: StandIn, headers: dict[str, str]
) -> None:
    async with httpx.AsyncClient(base_url=esaw.url, headers=headers) as client:
        answer = await client.get(f"/Api/v6/envelope/{NOBODYS}")
    assert (answer.status_code, answer.content) == (401, b"")


async def test_a_token_in_the_url_does_not_count_and_is_flagged(esaw: StandIn, user: User) -> None:
    async with httpx.AsyncClient(base_url=esaw.url) as client:
        answer = await client.get("/Api/v6/authorization/whoami", params={"apiToken": user.token})
    assert answer.status_code == 401
    recorded = esaw.requests("whoami")[0]
    assert recorded.token_in_url
    assert user.token not in recorded.path


async def test_a_revoked_token_is_refused_while_a_new_one_works(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    esaw.revoke(user)
    assert (await api.get("authorization/whoami")).status_code == 401
    async with client_of(esaw, esaw.new_token(user)) as renewed:
        assert (await renewed.get("authorization/whoami")).json()["UserId"] == user.user_id


async def test_one_of_several_tokens_can_be_revoked(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    esaw.revoke(user, esaw.new_token(user))
    assert (await api.get("authorization/whoami")).status_code == 200
    assert esaw.revocations(user) == 1


async def test_a_user_who_is_not_active_is_refused(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    esaw.set_active(user, active=False)
    assert (await api.get("authorization/whoami")).status_code == 401
    esaw.set_active(user, active=True)
    assert (await api.get("authorization/whoami")).status_code == 200


async def test_the_version_is_reported_without_a_token(esaw: StandIn) -> None:
    async with httpx.AsyncClient(base_url=esaw.url) as client:
        assert (await client.get("/Api/v6/system/version")).json()["Version"]


async def test_an_envelope_has_its_exact_shape(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    envelope = esaw.add_envelope(sender=user, status="Active", name="Lease")
    body = (await api.get(f"envelope/{envelope}")).json()
    activity = body["Activities"][0]
    assert GUID.fullmatch(envelope)
    assert body == {
        "Id": envelope,
        "EnvelopeStatus": "Active",
        "Name": "Lease",
        "SentDate": body["SentDate"],
        "EnvelopeBulkParentId": None,
        "Activities": [
            {
                "Id": activity["Id"],
                "Status": "Pending",
                "StatusReason": None,
                "FinishedDate": None,
                "OpenedDate": None,
                "Action": {
                    "Sign": {
                        "ContactInformation": {
                            "Email": "signer@example.com",
                            "GivenName": "Sigmund",
                            "Surname": "Signer",
                            "PhoneNumber": None,
                            "LanguageCode": "EN",
                        },
                        "LongLivedDisposableCertificateWarnings": [],
                        "SigningGroup": 1,
                    },
                    "View": None,
                    "SendCopy": None,
                    "SignAutomatic": None,
                    "SignAsP7M": None,
                },
            }
        ],
        "SenderUserInformation": {"Email": "anna@example.com", "GivenName": "Anna", "Surname": "Kofler"},
    }
    assert body["SentDate"].endswith("Z")


async def test_an_envelope_id_is_read_in_either_case(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user)
    assert (await api.get(f"envelope/{envelope.upper()}")).json()["Id"] == envelope


async def test_the_files_have_their_exact_shape(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    envelope = esaw.add_envelope(
        sender=user,
        documents=[DocumentSpec(name="contract.pdf", pages=3), DocumentSpec(name="annex.pdf")],
        attachments=[DocumentSpec(name="id-card.png")],
        legal_documents=[DocumentSpec(name="CA22D.pdf")],
        audit_trail_per_document=True,
    )
    ids = {(file.kind.value, file.name): file.file_id for file in esaw.files(envelope)}
    body = (await api.get(f"envelope/{envelope}/files")).json()
    assert body == {
        "Documents": [
            {
                "FileId": ids["Document", "contract.pdf"],
                "FileName": "contract.pdf",
                "AuditTrailFileId": ids["AuditTrail", "audittrail-1.pdf"],
                "Attachments": [{"FileId": ids["Attachment", "id-card.png"], "FileName": "id-card.png"}],
                "PageCount": 3,
                "DocumentNumber": 1,
            },
            {
                "FileId": ids["Document", "annex.pdf"],
                "FileName": "annex.pdf",
                "AuditTrailFileId": ids["AuditTrail", "audittrail-2.pdf"],
                "Attachments": [],
                "PageCount": 1,
                "DocumentNumber": 2,
            },
        ],
        "AuditTrail": {
            "FileId": ids["AuditTrail", "audittrail.pdf"],
            "XmlFileId": ids["AuditTrailXml", "audittrail.xml"],
        },
        "LegalDocuments": [
            {
                "FileId": ids["LegalDocument", "CA22D.pdf"],
                "FileName": "CA22D.pdf",
                "ActivityId": body["LegalDocuments"][0]["ActivityId"],
                "Email": "signer@example.com",
            }
        ],
    }


@pytest.mark.parametrize(
    ("empty_as", "expected"),
    [
        ("empty", {"Documents": [], "AuditTrail": None, "LegalDocuments": []}),
        ("null", {"Documents": None, "AuditTrail": None, "LegalDocuments": None}),
        ("absent", {}),
    ],
)
async def test_parts_of_files_may_be_empty_null_or_absent(
    esaw: StandIn, user: User, api: httpx.AsyncClient, empty_as: EmptyAs, expected: dict[str, object]
) -> None:
    envelope = esaw.add_envelope(sender=user, documents=[], audit_trail=False, empty_as=empty_as)
    assert (await api.get(f"envelope/{envelope}/files")).json() == expected


async def test_an_active_envelope_has_no_finished_documents(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, status="Active")
    assert (await api.get(f"envelope/{envelope}/files")).json()["Documents"] == []


@pytest.mark.parametrize("metadata", [None, "<a/>", '{"customer": "4711"}', "not structured at all"])
async def test_the_configuration_holds_the_metadata_as_it_was_given(
    esaw: StandIn, user: User, api: httpx.AsyncClient, metadata: str | None
) -> None:
    envelope = esaw.add_envelope(sender=user, metadata=metadata)
    assert (await api.get(f"envelope/{envelope}/configuration")).json()["MetaData"] == metadata


async def test_unknown_deleted_and_foreign_envelopes_look_alike(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    foreign = esaw.add_envelope(sender=bruno(esaw))
    deleted = esaw.add_envelope(sender=user)
    await esaw.delete(deleted)
    answers = [await api.get(f"envelope/{each}") for each in (NOBODYS, foreign, deleted, "no-guid")]
    bodies = [answer.json() for answer in answers]
    assert {answer.status_code for answer in answers} == {404}
    assert {(body["ErrorId"], body["Message"]) for body in bodies} == {
        ("ERR0007", "ERR0007 - The envelope does not exist.")
    }
    assert len({body["TraceId"] for body in bodies}) == 4


async def test_an_envelope_shared_with_the_team_is_visible_to_the_team_only(esaw: StandIn) -> None:
    sender = anna(esaw, team="Sales")
    colleague, stranger = bruno(esaw, team="Sales"), bruno(esaw)
    shared = esaw.add_envelope(sender=sender, share_with_team=True)
    kept = esaw.add_envelope(sender=sender)
    async with client_of(esaw, colleague) as near, client_of(esaw, stranger) as far:
        assert (await near.get(f"envelope/{shared}")).status_code == 200
        assert (await near.get(f"envelope/{kept}")).status_code == 404
        assert (await far.get(f"envelope/{shared}")).status_code == 404


@pytest.mark.parametrize("call", ["", "/configuration", "/elements"])
async def test_an_envelope_made_by_v5_is_refused_where_the_original_refuses(
    esaw: StandIn, user: User, api: httpx.AsyncClient, call: str
) -> None:
    envelope = esaw.add_envelope(sender=user, api_version="v5")
    answer = await api.get(f"envelope/{envelope}{call}")
    assert (answer.status_code, answer.json()["ErrorId"]) == (400, "ERR0063")


async def test_v5_has_all_facts_of_an_envelope_in_one_answer_and_its_own_ids_of_files(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, api_version="v5", metadata="<a/>")
    answer = (await api.get(f"../v5/envelope/{envelope}")).json()
    assert (answer["Id"], answer["Status"]) == (envelope, "Completed")
    options = answer["BasicOptions"]
    assert (options["Name"], options["MetaDataXml"]) == ("Contract", "<a/>")
    (part,) = answer["Bulks"]
    document_id = part["FinishedDocuments"][0]["FlowDocumentId"]
    v6_id = esaw.files(envelope)[0].file_id
    content = (await api.get(f"file/{v6_id}")).content
    assert (await api.get(f"../v5/envelope/downloadCompletedDocument/{document_id}")).content == content
    for path in (f"file/{document_id}", f"../v5/envelope/downloadCompletedDocument/{v6_id}"):
        assert (await api.get(path)).json()["ErrorId"] == "ERR0008"
    assert part["LogDocumentId"]
    assert part["LogXmlDocumentId"]


async def test_v5_shows_no_file_of_an_envelope_that_is_not_finished(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, api_version="v5", status="Active")
    answer = (await api.get(f"../v5/envelope/{envelope}")).json()
    assert answer["Status"] == "InProgress"
    assert answer["Bulks"][0]["FinishedDocuments"] == []
    assert answer["Bulks"][0]["LogDocumentId"] is None


async def test_v5_takes_a_token_in_one_header_and_may_be_switched_off(esaw: StandIn, user: User) -> None:
    envelope = esaw.add_envelope(sender=user, api_version="v5")
    path = f"/Api/v5/envelope/{envelope}"
    bearer, own = {"Authorization": f"Bearer {user.token}"}, {"ApiToken": user.token}
    async with httpx.AsyncClient(base_url=esaw.url) as client:
        assert (await client.get(path, headers=bearer)).status_code == 401
        assert (await client.get(path, headers=own)).status_code == 200
        esaw.set_behaviour(Behaviour(has_v5=False))
        assert (await client.get(path, headers=own)).status_code == 404


@pytest.mark.parametrize(
    ("listing", "kinds"),
    [
        ("listed", {"Documents", "AuditTrail", "LegalDocuments"}),
        ("documents", {"Documents"}),
        ("empty", set()),
    ],
)
async def test_v6_may_list_fewer_files_of_an_envelope_made_by_v5(
    esaw: StandIn, user: User, api: httpx.AsyncClient, listing: FilesOfV5, kinds: set[str]
) -> None:
    paper = DocumentSpec(name="CA22D.pdf")
    envelope = esaw.add_envelope(sender=user, api_version="v5", legal_documents=[paper])
    esaw.set_behaviour(Behaviour(v5_files=listing))
    answer = (await api.get(f"envelope/{envelope}/files")).json()
    assert {name for name, value in answer.items() if value} == kinds


async def test_v6_may_refuse_to_list_and_to_delete_an_envelope_made_by_v5(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    esaw.set_behaviour(Behaviour(v5_files="refused", refuses_v5_delete=True))
    envelope = esaw.add_envelope(sender=user, api_version="v5")
    listed = await api.get(f"envelope/{envelope}/files")
    deleted = await api.post("envelope/delete", json={"EnvelopeId": envelope})
    assert [each.json()["ErrorId"] for each in (listed, deleted)] == ["ERR0063", "ERR0063"]
    assert esaw.exists(envelope)


async def test_files_and_history_of_an_envelope_made_by_v5_are_reported(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, api_version="v5")
    assert (await api.get(f"envelope/{envelope}/files")).status_code == 200
    assert (await api.get(f"envelope/{envelope}/history")).status_code == 200


async def test_delete_answers_200_once_and_then_404(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user)
    assert (await api.post("envelope/delete", json={"EnvelopeId": envelope})).status_code == 200
    again = await api.post("envelope/delete", json={"EnvelopeId": envelope})
    assert (again.status_code, again.json()["ErrorId"]) == (404, "ERR0007")
    assert not esaw.exists(envelope)


async def test_an_active_envelope_can_be_deleted(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    envelope = esaw.add_envelope(sender=user, status="Active")
    assert (await api.post("envelope/delete", json={"EnvelopeId": envelope})).status_code == 200


async def test_an_envelope_of_another_user_cannot_be_deleted(esaw: StandIn, api: httpx.AsyncClient) -> None:
    envelope = esaw.add_envelope(sender=bruno(esaw))
    assert (await api.post("envelope/delete", json={"EnvelopeId": envelope})).status_code == 404
    assert esaw.exists(envelope)


async def test_history_outlives_the_envelope_for_its_sender_only(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user)
    before = (await api.get(f"envelope/{envelope}/history")).json()
    await esaw.delete(envelope)
    after = (await api.get(f"envelope/{envelope}/history")).json()
    assert before["EnvelopeHasBeenDeleted"] is False
    assert before["Events"]
    assert after["EnvelopeHasBeenDeleted"] is True
    assert after["Events"] == []
    assert after["EnvelopeDeletionDate"].endswith("Z")
    async with client_of(esaw, bruno(esaw)) as other:
        assert (await other.get(f"envelope/{envelope}/history")).json()["ErrorId"] == "ERR0007"


async def test_history_of_what_never_existed_is_404(api: httpx.AsyncClient) -> None:
    assert (await api.get(f"envelope/{NOBODYS}/history")).json()["ErrorId"] == "ERR0007"


async def test_history_needs_its_own_right(esaw: StandIn) -> None:
    user = anna(esaw, may_see_history=False)
    envelope = esaw.add_envelope(sender=user)
    async with client_of(esaw, user) as api:
        answer = await api.get(f"envelope/{envelope}/history")
    assert (answer.status_code, answer.json()["ErrorId"]) == (403, "ERR0010")


async def test_an_active_envelope_can_be_cancelled_once(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, status="Active")
    assert (await api.post("envelope/cancel", json={"EnvelopeId": envelope})).status_code == 200
    assert (await api.get(f"envelope/{envelope}")).json()["EnvelopeStatus"] == "Canceled"
    again = await api.post("envelope/cancel", json={"EnvelopeId": envelope})
    assert (again.status_code, again.json()["ErrorId"]) == (400, "ERR0013")


@pytest.mark.parametrize(
    ("body", "error_id"),
    [
        ({"EnvelopeId": NOBODYS, "ExpirationDate": "2001-01-01T00:00:00Z"}, "ERR0007"),
        ({"ExpirationDate": "2001-01-01T00:00:00Z"}, "ERR0163"),
        ({}, "ERR0163"),
        ({"ExpirationInSecondsAfterSending": 3600}, "ERR0013"),
    ],
)
async def test_a_restart_is_refused_as_the_original_refuses(
    esaw: StandIn, user: User, api: httpx.AsyncClient, body: dict[str, object], error_id: str
) -> None:
    envelope = esaw.add_envelope(sender=user)
    answer = await api.post("envelope/restartexpired", json={"EnvelopeId": envelope, **body})
    assert answer.json()["ErrorId"] == error_id


async def test_an_expired_envelope_continues_after_a_restart(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, status="Expired")
    body = {"EnvelopeId": envelope, "ExpirationInSecondsAfterSending": 3600}
    assert (await api.post("envelope/restartexpired", json=body)).status_code == 200
    assert esaw.status(envelope) is EnvelopeStatus.ACTIVE


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "envelope",
        "envelope/a/b/c",
        "envelope/a/unheard",
        "../v4/envelope/a",
        "../v5/envelope/a/files",
    ],
)
async def test_an_unknown_path_is_404_without_an_error_id(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.get(path)
    assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "envelope/delete"),
        ("DELETE", f"envelope/{NOBODYS}"),
        ("POST", f"file/{NOBODYS}"),
        ("HEAD", "draft/send"),
    ],
)
async def test_a_wrong_method_is_405(api: httpx.AsyncClient, method: str, path: str) -> None:
    assert (await api.request(method, path)).status_code == 405


@pytest.mark.parametrize("path", ["envelope/delete", "envelope/cancel", "draft/send", "envelope/send"])
@pytest.mark.parametrize(
    ("body", "error_id"),
    [
        (b"", "ERR0002"),
        (b"{}", "ERR0002"),
        (b'{"EnvelopeId": "", "DraftId": "", "Documents": [], "Name": "", "Activities": []}', "ERR0002"),
        (b'{"envelopeid": "x", "draftid": "x"}', "ERR0002"),
        (b"{", "ERR0011"),
        (b"[]", "ERR0011"),
        (b'{"EnvelopeId": 5, "DraftId": 5, "Documents": 5}', "ERR0011"),
    ],
)
async def test_a_post_with_a_bad_body_is_refused(
    api: httpx.AsyncClient, path: str, body: bytes, error_id: str
) -> None:
    answer = await api.post(path, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["ErrorId"]) == (400, error_id)


async def test_a_post_that_is_not_declared_as_json_is_415(api: httpx.AsyncClient) -> None:
    answer = await api.post(
        "envelope/delete", content=b'{"EnvelopeId": "x"}', headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 415


async def found(api: httpx.AsyncClient, **filters: object) -> list[str]:
    answer = await api.post("envelope/find", json=filters)
    return [hit["Id"] for hit in answer.json()["Envelopes"]]


async def test_find_gives_hits_in_their_exact_shape(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, metadata="<a/>", name="Lease")
    assert (await api.post("envelope/find", json={})).json() == {
        "Envelopes": [
            {
                "Status": "Completed",
                "Id": envelope,
                "Name": "Lease",
                "MetaData": "<a/>",
                "EnvelopeBulkParentId": None,
                "IsExpiringSoon": False,
            }
        ]
    }


async def test_find_shows_a_user_only_what_they_may_see(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    esaw.add_envelope(sender=bruno(esaw))
    deleted = esaw.add_envelope(sender=user)
    await esaw.delete(deleted)
    assert await found(api) == []


async def test_each_filter_of_find_narrows(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    done = esaw.add_envelope(sender=user, name="Lease", recipients=[Recipient(email="kim@example.com")])
    soon = esaw.add_envelope(sender=user, status="Active", expires_in=timedelta(days=1))
    assert await found(api, Status="Completed") == [done]
    assert await found(api, Status="Active") == [soon]
    assert await found(api, Status="ExpiringSoon") == [soon]
    assert await found(api, Status="WaitingForOthers") == [soon]
    assert await found(api, Status="ActionRequired") == []
    assert await found(api, Status="Completed", InStatusSinceDays=1) == []
    assert await found(api, SearchText="lease") == [done]
    assert await found(api, SenderEmail="ANNA@example.com") == [done, soon]
    assert await found(api, SenderEmail="bruno@example.com") == []
    assert await found(api, RecipientEmail="kim@example.com") == [done]
    assert await found(api, CompletedByRecipientWithEmail="kim@example.com") == [done]
    assert await found(api, WaitingForRecipientWithEmail="signer@example.com") == [soon]
    assert await found(api, StartDate="2001-01-01T00:00:00Z") == [done, soon]
    assert await found(api, EndDate="2001-01-01T00:00:00Z") == []


async def test_find_may_list_envelopes_that_are_not_there(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user)
    esaw.set_behaviour(Behaviour(flood_hits=1000, foreign_hits=(NOBODYS,)))
    first, second = [(await api.post("envelope/find", json={})).json()["Envelopes"] for _ in range(2)]
    ids = [[each["Id"] for each in hits] for hits in (first, second)]
    assert [each[:2] for each in ids] == [[envelope, NOBODYS]] * 2
    assert len({*ids[0], *ids[1]}) == 2 + 2 * 1000, "each answer has other ids"
    assert list(FACTS.deviations("EnvelopeFindResponse", {"Envelopes": first})) == []
    assert (await api.get(f"envelope/{ids[0][-1]}")).status_code == 404


async def test_an_envelope_may_have_the_id_of_an_envelope_of_another_esaw(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    async with StandIn() as other:
        envelope = other.add_envelope(sender=anna(other))
        assert esaw.add_envelope(sender=user, envelope_id=envelope, name="Forged") == envelope
    assert (await api.get(f"envelope/{envelope}")).json()["Name"] == "Forged"
    with pytest.raises(ValueError, match=envelope):
        esaw.add_envelope(sender=user, envelope_id=envelope)


async def test_find_may_leave_out_hits_without_a_word(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelopes = [esaw.add_envelope(sender=user) for _ in range(3)]
    esaw.set_behaviour(Behaviour(most_hits=2))
    assert await found(api) == envelopes[:2]


@pytest.mark.parametrize(
    "filters", [{"Status": "Done"}, {"InStatusSinceDays": 3}, {"StartDate": "yesterday"}]
)
async def test_filters_that_make_no_sense_are_refused(
    api: httpx.AsyncClient, filters: dict[str, object]
) -> None:
    answer = await api.post("envelope/find", json=filters)
    assert (answer.status_code, answer.json()["ErrorId"]) == (400, "ERR0011")
