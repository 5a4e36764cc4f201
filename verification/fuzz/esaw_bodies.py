"""Small valid bodies of eSAW's answers, in the order of ``targets.esaw_answers.READERS``."""

from typing import Final

GUID: Final = "0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10"

ENVELOPE: Final = (
    b'{"Id": "0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10", "EnvelopeStatus": "Completed", "Name": "Contract", '
    b'"SentDate": "2026-01-01T00:00:00+01:00", "SenderUserInformation": {"Email": "a@example.com"}, '
    b'"Activities": [{"FinishedDate": "2026-01-02T00:00:00Z"}, {"FinishedDate": null}]}'
)
ENVELOPE_V5: Final = (
    b'{"Id": "0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10", "Status": "Completed", "SendDate": "2026-01-01", '
    b'"Bulks": [{"LogDocumentId": "l", "LogXmlDocumentId": "x", "FinishedDocuments": [{"FlowDocumentId": '
    b'"d", "DocRefNumber": 1, "FileName": "a.pdf", "Attachments": [{"DocumentId": "t", "Name": "b.png"}]}], '
    b'"Steps": [{"Id": "s", "Email": "b@example.com", "SignedDate": "2026-01-02", "DisclaimerDocuments": '
    b'[{"DocumentId": "p", "DisclaimerType": "q"}]}]}], "BasicOptions": {"Name": "n", "MetaDataXml": "<a/>"}}'
)
FILES: Final = (
    b'{"Documents": [{"FileId": "1", "FileName": "a.pdf", "DocumentNumber": 1, "AuditTrailFileId": "2", '
    b'"Attachments": [{"FileId": "3", "FileName": "b.png"}]}], '
    b'"AuditTrail": {"FileId": "4", "XmlFileId": "5"}, "LegalDocuments": [{"FileId": "6", "FileName": '
    b'"c.pdf", "ActivityId": "a", "Email": "a@example.com"}]}'
)
BODIES: Final = (
    ENVELOPE,
    ENVELOPE_V5,
    FILES,
    b'{"Version": "23.76.1", "ApiVersion": 6.5}',
    b'{"ErrorId": "ERR0007", "TraceId": "0-1", "SupportId": null, "error": "invalid_grant"}',
    b'{"access_token": "a-token", "token_type": "Bearer", "expires_in": 3600}',
    b"null",
    b'{"ErrorId": "ERR0007"}',
    b'{"UserId": "7a0f", "Email": "a@example.com", "GivenName": "Anna", "Surname": null, "UserName": "anna"}',
    b'{"Activities": [{"FinishedDate": "2026-01-02T00:00:00.1234567Z"}]}',
    b'{"MetaData": "<tags/>", "Activities": []}',
    b'{"EnvelopeHasBeenDeleted": true}',
    b'{"Events": [{"Type": "Callback", "Completed": false, "IsInErrorState": true, "RemainingAttempts": 3}]}',
    b'{"Envelopes": [{"Id": "0f9c", "Status": "WaitingForOthers", "EnvelopeBulkParentId": "1"}]}',
    b'{"Name": "Draft"}',
    b'{"Envelope": {"EnvelopeId": "0f9c"}, "EnvelopeBulk": {"EnvelopeBulkChildren": [{"EnvelopeId": "1"}]}}',
)
WORDS: Final = (
    *(
        b'0001-01-01T00:00:00+14:00 9999-12-31T23:59:59-14:00 2026-W01-1 null [[[[[[ {"": <html> '
        b'"Completed" "ErrorId": "Bulks": "Activities": 1e999 \\ud800 \\u0000 "Version":'
    ).split(b" "),
)
