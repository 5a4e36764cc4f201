"""
The questions of a check: which calls are made, with which headers, within which limits.

Every call reads. ``envelope/find`` is a POST, and the token endpoint gets a code that nobody issued, so both
change nothing. All calls wait for the organization's rate limit. When the time of the check has ended, the
remaining questions are not sent.
"""

import asyncio
import contextlib
import secrets
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import quote

from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawClient, rfc3339
from counterfoil.esaw.errors import EsawError, EsawUnreachable
from counterfoil.esaw.limits import MIB
from counterfoil.esaw.rate_limit import answering_within
from counterfoil.esaw.token import ApiToken
from counterfoil.esaw.transport import EsawCall, SecretHeaders
from counterfoil.esaw_check import assumptions
from counterfoil.esaw_check import envelope_assumptions as envelopes
from counterfoil.esaw_check.assumptions import TokenAnswer
from counterfoil.esaw_check.facts import FactId
from counterfoil.esaw_check.responses import Answer, NoAnswer, error_id, reduced
from counterfoil.http_client import basic_client_credentials
from counterfoil.resources import FileKind, Organization, Sender, envelope_id
from counterfoil.resources.naming import EnvelopeId
from counterfoil.resources.organization import ClientAuthentication, OAuth, OrganizationCheckResult, Pkce

CHECK_SECONDS: Final = 120.0
"""Timeout for all questions of a check, in seconds."""

ANSWER_SECONDS: Final = 30.0
"""Timeout for one question, in seconds."""

MAX_SAMPLED_ENVELOPES: Final = 40
"""Maximum number of envelopes that are asked for, to find those of API v5."""

ANSWER_BYTES: Final = MIB
"""Maximum bytes of an answer."""

SEARCH_BYTES: Final = 16 * MIB
"""Maximum bytes of a search result, as in the client."""

NO_ENVELOPE: Final = NoAnswer("No envelope was named; `--envelope ID` names one.")
NO_DRAFT: Final = NoAnswer("No draft was named; `--draft ID` names one.")
NO_ESAW: Final = NoAnswer("It is not known whether eSignAnyWhere is at spec.baseURL, so this was not asked.")

_ZERO_GUID: Final = str(uuid.UUID(int=0))


@dataclass(frozen=True)
class EsawCheckSubject:
    """The objects of a check, and the key that it uses."""

    organization: Organization
    sender: Sender | None = None
    token: ApiToken | None = None
    why_no_token: str = ""
    envelope: EnvelopeId | None = None
    draft: EnvelopeId | None = None
    client_secret: str | None = field(default=None, repr=False)
    client_secret_origin: str | None = None
    """Origin that the client secret belongs to."""
    why_no_secret: str = ""


@dataclass(frozen=True)
class EsawCheckReport:
    """The result of a check."""

    version: str | None
    results: tuple[OrganizationCheckResult, ...]


class Questions:
    """Sends single questions until the deadline."""

    def __init__(self, esaw: EsawClient, clock: Clock, seconds: float = CHECK_SECONDS) -> None:
        self._esaw = esaw
        self._clock = clock
        self._deadline = clock.monotonic() + seconds

    async def ask(
        self,
        call: EsawCall,
        secret: SecretHeaders | None = None,
        *,
        most: int = ANSWER_BYTES,
        is_one_of_many: bool = False,
    ) -> Answer:
        """Return the answer to one question, or why there is none; of one of many, what is judged of it."""
        left = self._deadline - self._clock.monotonic()
        if left <= 0:
            return NoAnswer("The time of the check ended before this was asked.")
        try:
            async with asyncio.timeout(left), answering_within(ANSWER_SECONDS):
                exchange = partial(self._esaw.exchange, call, secret or SecretHeaders(), most=most)
                return await (exchange(reduce=reduced) if is_one_of_many else exchange())
        except TimeoutError:
            return NoAnswer("No answer came in the time of the check.")
        except EsawUnreachable as problem:
            return NoAnswer(str(problem), is_unreachable=True)
        except EsawError as problem:
            return NoAnswer(str(problem))


async def check_esaw(questions: Questions, subject: EsawCheckSubject, now: datetime) -> EsawCheckReport:
    """Ask everything; return one line per assumption, in the order of ``FactId``."""
    return await _Check(questions, subject, now).run()


@dataclass
class _Check:
    questions: Questions
    subject: EsawCheckSubject
    now: datetime
    headers: SecretHeaders | None = None
    """The token in a header that eSAW accepts; None: there is none."""
    why_not: NoAnswer = NO_ESAW
    """Why questions that need a token are not asked."""

    async def run(self) -> EsawCheckReport:
        call = _get("version", "system/version")
        anonymous = await self.questions.ask(call)
        bearer, api_token = await self._try_headers()
        version = await self._as_user(call)
        answers = [anonymous, *((bearer, api_token, version) if self.subject.token else ())]
        is_v6 = assumptions.is_v6(answers)
        older = {} if is_v6 else await self._older_versions()
        if not is_v6:
            # Nothing else is sent to a server that may be somebody else's.
            self.headers, self.why_not = None, NO_ESAW
        who = bearer if assumptions.is_accepted(bearer) else api_token
        user_id = self.subject.sender.spec.user_id if self.subject.sender is not None else ""
        organization = self.subject.organization
        unknown = await self._as_user(_get("envelope", f"envelope/{_ZERO_GUID}"))
        # In threads, since eSAW chooses how long it takes to read its answers.
        results = await asyncio.to_thread(
            lambda: [
                assumptions.base_url(organization.spec.base_url, answers, older),
                assumptions.version_without_token(anonymous),
                assumptions.version_with_token(version),
                assumptions.header_bearer(bearer, api_token),
                assumptions.header_api_token(api_token, bearer),
                assumptions.whoami_fields(who, user_id),
                assumptions.unknown_envelope_body(unknown),
                envelopes.unlisted_actions(organization),
            ]
        )
        envelope = await self._ask_about_envelope()
        draft = await self._ask_about_draft()
        results += await asyncio.to_thread(_judge_envelope, envelope, organization)
        results += await asyncio.to_thread(_judge_callbacks, organization, envelope, draft)
        results.append(assumptions.token_endpoint(await self._token_answers(is_v6=is_v6)))
        results += await self._search()
        order = {fact: number for number, fact in enumerate(FactId)}
        results.sort(key=lambda each: order[FactId(each.id)])
        named = assumptions.system_version(version) or assumptions.system_version(anonymous)
        return EsawCheckReport(named, tuple(results))

    # -- Tokens ----------------------------------------------------------------------------------------------

    async def _try_headers(self) -> tuple[Answer, Answer]:
        token = self.subject.token
        if token is None:
            self.why_not = NoAnswer(self.subject.why_no_token)
            return self.why_not, self.why_not
        whoami = _get("whoami", "authorization/whoami")
        both = _bearer(token), _api_token(token)
        answers = [await self.questions.ask(whoami, each) for each in both]
        self.headers = next(
            (
                headers
                for headers, answer in zip(both, answers, strict=True)
                if assumptions.is_accepted(answer)
            ),
            None,
        )
        silent = next((each for each in answers if isinstance(each, NoAnswer)), None)
        # Without an answer nobody judged the key.
        refused = NoAnswer("eSignAnyWhere accepted the key of the Sender in no header.")
        self.why_not = silent if silent is not None and self.headers is None else refused
        return answers[0], answers[1]

    async def _as_user(
        self, call: EsawCall, *, most: int = ANSWER_BYTES, is_one_of_many: bool = False
    ) -> Answer:
        if self.headers is None:
            return self.why_not
        return await self.questions.ask(call, self.headers, most=most, is_one_of_many=is_one_of_many)

    async def _older_versions(self) -> Mapping[str, Answer]:
        return {
            name: await self.questions.ask(_get("version", f"/Api/{name}.0/version")) for name in ("v5", "v4")
        }

    async def _token_answers(self, *, is_v6: bool) -> Sequence[TokenAnswer]:
        oauth, secret = self.subject.organization.spec.oauth, self.subject.client_secret
        if oauth is None or secret is None or not is_v6:
            why = NoAnswer(self.subject.why_no_secret) if is_v6 else NO_ESAW
            return [TokenAnswer(ClientAuthentication.BODY, Pkce.S256, why)]
        answers: list[TokenAnswer] = []
        configured = oauth.client_authentication, oauth.pkce
        (other_authentication,) = set(ClientAuthentication) - {configured[0]}
        (other_pkce,) = set(Pkce) - {configured[1]}
        variants = configured, (other_authentication, configured[1]), (configured[0], other_pkce)
        for authentication, pkce in variants:
            call, headers = self._bogus_grant(oauth, secret, authentication, pkce)
            answer = await self.questions.ask(call, headers)
            answers.append(TokenAnswer(authentication, pkce, answer))
            if error_id(answer) == "invalid_grant" or isinstance(answer, NoAnswer):
                break
        return answers

    def _bogus_grant(
        self, oauth: OAuth, secret: str, authentication: ClientAuthentication, pkce: Pkce
    ) -> tuple[EsawCall, SecretHeaders]:
        """Return the request of a consent, with a code that nobody issued."""
        organization = self.subject.organization
        form = {
            "grant_type": "authorization_code",
            "code": secrets.token_urlsafe(32),
            "redirect_uri": organization.page_url(f"/oauth/{organization.address_path}/return") or "",
        }
        if authentication is ClientAuthentication.BODY:
            form |= {"client_id": oauth.client_id, "client_secret": secret}
        if pkce is Pkce.S256:
            form["code_verifier"] = secrets.token_urlsafe(32)
        is_basic = authentication is ClientAuthentication.BASIC
        headers = {} if not is_basic else {"Authorization": basic_client_credentials(oauth.client_id, secret)}
        origin = self.subject.client_secret_origin
        call = EsawCall("token", "POST", oauth.token_path, form=form, secret_origin=origin)
        return call, SecretHeaders(headers, origin)

    # -- Envelopes and drafts --------------------------------------------------------------------------------

    async def _ask_about_envelope(self) -> "_EnvelopeAnswers":
        wanted = self.subject.envelope
        if wanted is None:
            return _EnvelopeAnswers(
                NO_ENVELOPE, NO_ENVELOPE, NO_ENVELOPE, NO_ENVELOPE, NO_ENVELOPE, NO_ENVELOPE
            )
        path = f"envelope/{wanted}"
        envelope = await self._as_user(_get("envelope", path))
        files = await self._as_user(_get("files", f"{path}/files"))
        configuration = await self._as_user(_get("configuration", f"{path}/configuration"))
        history = await self._as_user(_get("history", f"{path}/history"))
        first = next((each for each in envelopes.listed_ids(files) or () if each.is_usable), None)
        if first is None:
            none_listed = NoAnswer("No file is listed, so none was downloaded.")
            return _EnvelopeAnswers(envelope, files, configuration, history, none_listed, none_listed)
        call = EsawCall("download", "GET", f"file/{quote(first.id or '', safe='')}", accept="*/*")
        download = await self._as_user(call, most=envelopes.COMPARED_BYTES)
        repeated = await self._as_user(call, most=envelopes.COMPARED_BYTES)
        return _EnvelopeAnswers(envelope, files, configuration, history, download, repeated, first.kind)

    async def _ask_about_draft(self) -> "_DraftAnswers":
        wanted = self.subject.draft
        if wanted is None:
            return _DraftAnswers(NO_DRAFT, NO_DRAFT)
        draft = await self._as_user(_get("draft", f"draft/{wanted}"))
        configuration = await self._as_user(_get("draft_configuration", f"draft/{wanted}/configuration"))
        return _DraftAnswers(draft, configuration)

    # -- Searches --------------------------------------------------------------------------------------------

    async def _search(self) -> Sequence[OrganizationCheckResult]:
        now = self.now
        day = await self._find(now - timedelta(days=1), now)
        month = await self._find(now - timedelta(days=30), now)
        half = now - timedelta(days=15)
        parts = [day]
        if assumptions.hits(month):
            parts += [await self._find(now - timedelta(days=30), half), await self._find(half, now)]
        sample = await self._sample(assumptions.hits(month) or assumptions.hits(day) or {})
        if not sample:
            why = month if isinstance(month, NoAnswer) else NoAnswer("No envelope was found.")
            sample = [why]
        policy = self.subject.organization.spec.cleanup.policy
        return await asyncio.to_thread(
            lambda: (
                assumptions.find_one_day(day),
                assumptions.find_thirty_days(month, parts),
                assumptions.envelope_statuses([month, day], sample),
                assumptions.v5_envelopes(sample, policy),
            )
        )

    async def _find(self, start: datetime, end: datetime) -> Answer:
        body = {"StartDate": rfc3339(start), "EndDate": rfc3339(end)}
        call = EsawCall("find", "POST", "envelope/find", body)
        return await self._as_user(call, most=SEARCH_BYTES, is_one_of_many=True)

    async def _sample(self, found: Iterable[str]) -> list[Answer]:
        answers: list[Answer] = []
        for each in found:
            with contextlib.suppress(ValueError):
                call = _get("envelope", f"envelope/{envelope_id(each)}")
                answers.append(await self._as_user(call, is_one_of_many=True))
            if len(answers) >= MAX_SAMPLED_ENVELOPES or (answers and isinstance(answers[-1], NoAnswer)):
                break
        return answers


class _EnvelopeAnswers(NamedTuple):
    """Everything about one envelope, and the kind of the downloaded file."""

    envelope: Answer
    files: Answer
    configuration: Answer
    history: Answer
    download: Answer
    repeated: Answer
    """The second download of the same file."""
    kind: FileKind | None = None


class _DraftAnswers(NamedTuple):
    """Everything about one draft."""

    draft: Answer
    configuration: Answer


def _judge_envelope(
    answers: _EnvelopeAnswers, organization: Organization
) -> Sequence[OrganizationCheckResult]:
    return (
        envelopes.envelope_status(answers.envelope),
        envelopes.envelope_files(answers.files, answers.envelope),
        envelopes.envelope_null_file_ids(answers.files),
        envelopes.envelope_audit_trail(answers.files, answers.envelope, organization),
        envelopes.envelope_metadata(answers.configuration),
        envelopes.envelope_history(answers.history),
        envelopes.download_headers(answers.download, answers.kind),
        envelopes.download_repeated(answers.download, answers.repeated, answers.kind, answers.envelope),
    )


def _judge_callbacks(
    organization: Organization, envelope: _EnvelopeAnswers, draft: _DraftAnswers
) -> Sequence[OrganizationCheckResult]:
    configurations = [envelope.configuration, draft.configuration]
    return (
        envelopes.callback_url(configurations, organization),
        envelopes.callback_port(configurations, organization),
        envelopes.draft(draft.draft),
        envelopes.before_send_redirect(draft.configuration, organization),
    )


def _get(operation: str, path: str) -> EsawCall:
    return EsawCall(operation, "GET", path)


def _bearer(token: ApiToken) -> SecretHeaders:
    return SecretHeaders({"Authorization": f"Bearer {token.reveal()}"}, token.origin)


def _api_token(token: ApiToken) -> SecretHeaders:
    return SecretHeaders({"ApiToken": token.reveal()}, token.origin)
