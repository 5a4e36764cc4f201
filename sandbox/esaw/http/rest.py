"""
REST v6: the calls below `/Api/v6`, one small handler per call; and the two calls of v5 that read an envelope.

`RestRoutes.resolve` finds the handler for a method and a path; the middleware does everything that all calls
have in common. Envelopes are sent and cancelled through the life cycle, which calls back.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from urllib.parse import unquote

from aiohttp import BodyPartReader, web

from sandbox.esaw.core.behaviour import Behaviour
from sandbox.esaw.core.content import Content
from sandbox.esaw.core.documents import SignedPdf
from sandbox.esaw.core.envelope_sender import EnvelopeSender
from sandbox.esaw.core.errors import ErrorCode, RequestRefused, UnknownPath, UnsupportedMediaType
from sandbox.esaw.core.filenames import content_disposition
from sandbox.esaw.core.lifecycle import Lifecycle
from sandbox.esaw.core.model import Draft, EnvelopeStatus, StoredEnvelope, StoredFile, UploadedFile, User
from sandbox.esaw.core.store import EsawStore
from sandbox.esaw.http import envelope_search, request_models, response_models
from sandbox.esaw.http.middleware import Handler, ResolvedRoute, RoutedCall
from sandbox.esaw.http.responses import RouteResponse, json_response

VERSIONS: Final = frozenset({"v6", "v6.0"})
V5_SUFFIX: Final = "-v5"
"""An id that v5 has for a file is v6's with this at its end, so that neither API takes one of the other."""
MAX_UPLOAD: Final = 32 * 1024 * 1024
"""Bytes; more is ERR0055."""


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    operation: str
    handler: Handler


class RestRoutes:
    """The v6 calls over one store."""

    def __init__(
        self,
        store: EsawStore,
        lifecycle: Lifecycle,
        envelope_sender: EnvelopeSender,
        behaviour: Callable[[], Behaviour],
        version: str,
    ) -> None:
        self._store = store
        self._lifecycle = lifecycle
        self._envelope_sender = envelope_sender
        self._version = version
        self._behaviour = behaviour
        self._fixed: Mapping[tuple[str, ...], _Route] = {
            ("system", "version"): _Route("GET", "version", self._system_version),
            ("authorization", "validate"): _Route("GET", "validate", self._validate),
            ("authorization", "whoami"): _Route("GET", "whoami", self._whoami),
            ("envelope", "find"): _Route("POST", "find", self._find),
            ("envelope", "delete"): _Route("POST", "delete", self._delete),
            ("envelope", "cancel"): _Route("POST", "cancel", self._cancel),
            ("envelope", "restartexpired"): _Route("POST", "restart", self._restart),
            ("envelope", "send"): _Route("POST", "send", self._send),
            ("file", "upload"): _Route("POST", "upload", self._upload),
            ("draft", "create"): _Route("POST", "draft_create", self._create_draft),
            ("draft", "update"): _Route("POST", "draft_update", self._update_draft),
            ("draft", "send"): _Route("POST", "draft_send", self._send_draft),
        }
        self._by_id: Mapping[tuple[str, str], _Route] = {
            ("envelope", ""): _Route("GET", "envelope", self._envelope),
            ("envelope", "files"): _Route("GET", "files", self._files),
            ("envelope", "configuration"): _Route("GET", "configuration", self._configuration),
            ("envelope", "history"): _Route("GET", "history", self._history),
            ("envelope", "elements"): _Route("GET", "elements", self._elements),
            ("file", ""): _Route("GET", "file", self._file),
            ("draft", ""): _Route("GET", "draft", self._draft),
            ("draft", "configuration"): _Route("GET", "draft", self._draft_configuration),
        }

    def resolve(self, request: web.Request) -> ResolvedRoute:
        """The route for this request; unknown paths and wrong methods have routes too, which refuse."""
        _, _, version, *parts = request.rel_url.raw_path.split("/")
        if version.lower() == "v5" and self._behaviour().has_v5 and request.method == "GET":
            return self._resolve_v5(parts)
        if version.lower() not in VERSIONS:
            return ResolvedRoute("unknown", "", _not_found)
        parts = parts[:-1] if parts and not parts[-1] else parts
        route = self._fixed.get(tuple(part.lower() for part in parts))
        resource_id = ""
        if route is None and len(parts) in {2, 3}:
            resource_id = unquote(parts[1])
            route = self._by_id.get((parts[0].lower(), parts[2].lower() if len(parts) == 3 else ""))
        if route is None:
            return ResolvedRoute("unknown", resource_id, _not_found)
        if request.method != route.method:
            return ResolvedRoute(route.operation, resource_id, _wrong_method(route.method))
        return ResolvedRoute(route.operation, resource_id, route.handler)

    def _resolve_v5(self, parts: list[str]) -> ResolvedRoute:
        match parts:
            case ["envelope", envelope_id]:
                return ResolvedRoute("envelope_v5", unquote(envelope_id), self._v5_envelope)
            case ["envelope", "downloadCompletedDocument", document_id]:
                return ResolvedRoute(
                    "file_v5", unquote(document_id).lower().removesuffix(V5_SUFFIX), self._v5_file
                )
        return ResolvedRoute("unknown", "", _not_found)

    def _json(self, answer: response_models.Json) -> RouteResponse:
        """The answer to a call, with or without the members that are null."""
        return json_response(
            response_models.without_nulls(answer) if self._behaviour().omits_nulls else answer
        )

    # System and authorization

    async def _system_version(self, call: RoutedCall) -> RouteResponse:
        if self._behaviour().version_needs_token:
            _ = call.authenticated_user
        return json_response({"Version": self._version})

    async def _validate(self, call: RoutedCall) -> RouteResponse:
        _ = call.authenticated_user
        return RouteResponse()

    async def _whoami(self, call: RoutedCall) -> RouteResponse:
        answer = response_models.whoami(call.authenticated_user)
        fields = self._behaviour().whoami_fields
        return self._json(answer if fields is None else {name: answer.get(name) for name in fields})

    # Envelopes

    async def _envelope(self, call: RoutedCall) -> RouteResponse:
        return self._json(response_models.envelope(self._v6_envelope(call)))

    async def _files(self, call: RoutedCall) -> RouteResponse:
        envelope, behaviour = self._visible_envelope(call.id, call), self._behaviour()
        if behaviour.papers_only_when_completed and envelope.status is not EnvelopeStatus.COMPLETED:
            return self._json(response_models.no_files(envelope))
        if envelope.api_version == "v5" and behaviour.v5_files != "listed":
            return self._files_of_v5(envelope)
        envelope = _as_listed_after(envelope, self._store.now() - envelope.changed_at, behaviour)
        if not behaviour.has_audit_trails:
            documents = [replace(each, audit_trail=None) for each in envelope.documents]
            envelope = replace(envelope, documents=documents, audit_trail=None, audit_trail_xml=None)
        answer = response_models.files(envelope)
        response_models.clear_file_ids(answer, behaviour.null_file_ids)
        return self._json(answer)

    def _files_of_v5(self, envelope: StoredEnvelope) -> RouteResponse:
        if self._behaviour().v5_files == "refused":
            raise RequestRefused(ErrorCode.WRONG_API_VERSION)
        if self._behaviour().v5_files == "empty":
            return self._json(response_models.no_files(envelope))
        envelope = replace(envelope, audit_trail=None, audit_trail_xml=None, legal_documents=[])
        return self._json(response_models.files(envelope))

    async def _configuration(self, call: RoutedCall) -> RouteResponse:
        return self._json(response_models.configuration(self._v6_envelope(call)))

    async def _elements(self, call: RoutedCall) -> RouteResponse:
        return self._json(response_models.elements(self._v6_envelope(call)))

    async def _history(self, call: RoutedCall) -> RouteResponse:
        envelope = self._visible_envelope(call.id, call, deleted_too=True)
        if self._behaviour().history_forbidden or not call.authenticated_user.may_see_history:
            raise RequestRefused(ErrorCode.NOT_ALLOWED_FOR_USER)
        return self._json(response_models.history(envelope))

    async def _find(self, call: RoutedCall) -> RouteResponse:
        user, now = call.authenticated_user, self._store.now()
        filters = request_models.decode_body(request_models.FindBody, call.request.content_type, call.body)
        envelope_search.check(filters)
        hits = [
            response_models.found(each, is_expiring_soon=envelope_search.is_expiring_soon(each, now))
            for each in self._store.visible_envelopes(user)
            if envelope_search.matches(each, filters, user, now)
        ]
        behaviour = self._behaviour()
        invented = [self._store.new_id() for _ in range(behaviour.flood_hits)]
        hits += [response_models.invented_hit(each) for each in (*behaviour.foreign_hits, *invented)]
        return self._json({"Envelopes": hits[: behaviour.most_hits]})

    async def _delete(self, call: RoutedCall) -> RouteResponse:
        envelope = self._posted_envelope(call, request_models.EnvelopeBody)
        if envelope.api_version == "v5" and self._behaviour().refuses_v5_delete:
            raise RequestRefused(ErrorCode.WRONG_API_VERSION)
        self._store.delete(envelope)
        return RouteResponse()

    async def _cancel(self, call: RoutedCall) -> RouteResponse:
        self._lifecycle.cancel(self._posted_envelope(call, request_models.EnvelopeBody))
        return RouteResponse()

    async def _restart(self, call: RoutedCall) -> RouteResponse:
        _ = call.authenticated_user
        body = request_models.decode_body(request_models.RestartBody, call.request.content_type, call.body)
        envelope = self._visible_envelope(request_models.required(body.envelope_id), call)
        expires_at = request_models.expiration(body, self._store.now())
        if expires_at is None:
            raise RequestRefused(ErrorCode.BAD_EXPIRATION)
        self._lifecycle.restart(envelope, expires_at)
        return RouteResponse()

    async def _send(self, call: RoutedCall) -> RouteResponse:
        user = call.authenticated_user
        body = request_models.decode_body(request_models.SendBody, call.request.content_type, call.body)
        draft = self._draft_from(body, user, is_draft=False)
        if draft.bulk_recipients:
            raise RequestRefused(ErrorCode.INVALID_FORMAT, "SignBulk is not for envelope/send.")
        [envelope] = self._envelope_sender.send(draft)
        return json_response({"EnvelopeId": envelope.id})

    def _v6_envelope(self, call: RoutedCall) -> StoredEnvelope:
        envelope = self._visible_envelope(call.id, call)
        if envelope.api_version != "v6":
            raise RequestRefused(ErrorCode.WRONG_API_VERSION)
        return envelope

    def _posted_envelope(self, call: RoutedCall, kind: type[request_models.EnvelopeBody]) -> StoredEnvelope:
        _ = call.authenticated_user
        body = request_models.decode_body(kind, call.request.content_type, call.body)
        return self._visible_envelope(request_models.required(body.envelope_id), call)

    def _visible_envelope(
        self, envelope_id: str, call: RoutedCall, *, deleted_too: bool = False
    ) -> StoredEnvelope:
        try:
            return self._store.visible_envelope(envelope_id, call.authenticated_user, deleted_too=deleted_too)
        except RequestRefused as refused:
            error_id = self._behaviour().unknown_envelope_error
            if error_id is None:
                raise UnknownPath from refused
            raise RequestRefused(ErrorCode.MISSING_ENVELOPE, error_id=error_id) from refused

    # v5

    async def _v5_envelope(self, call: RoutedCall) -> RouteResponse:
        envelope = self._visible_envelope(call.id, call)
        if envelope.api_version != "v5":
            raise RequestRefused(ErrorCode.WRONG_API_VERSION)
        return self._json(response_models.v5_envelope(envelope, V5_SUFFIX))

    async def _v5_file(self, call: RoutedCall) -> RouteResponse:
        if not call.request.path.lower().endswith(V5_SUFFIX):
            raise RequestRefused(ErrorCode.MISSING_FILE)
        return await self._file(call)

    # Files

    async def _file(self, call: RoutedCall) -> RouteResponse:
        file, behaviour = self._store.visible_file(call.id, call.authenticated_user), self._behaviour()
        return RouteResponse(
            body=self._content(file),
            content_type=behaviour.download_content_type or file.content_type,
            headers={"Content-Disposition": content_disposition(file.name)},
            chunked=behaviour.downloads_chunked or file.chunked,
        )

    def _content(self, file: StoredFile) -> Content:
        completed = self._store.envelopes[file.envelope_id].status is EnvelopeStatus.COMPLETED
        if completed or not self._behaviour().renders_anew or not isinstance(file.content, SignedPdf):
            return file.content
        return replace(file.content, mark=secrets.token_bytes(32))

    async def _upload(self, call: RoutedCall) -> RouteResponse:
        user = call.authenticated_user
        if not call.request.content_type.startswith("multipart/"):
            raise UnsupportedMediaType
        async for part in await call.request.multipart():
            if isinstance(part, BodyPartReader) and part.filename is not None:
                upload = UploadedFile(
                    self._store.new_id(), user, part.filename, await _read(part), self._store.now()
                )
                self._store.uploads[upload.id] = upload
                return json_response({"FileId": upload.id})
        raise RequestRefused(ErrorCode.EMPTY_PARAMETER, "No part of the body is a file.")

    # Drafts

    async def _draft(self, call: RoutedCall) -> RouteResponse:
        return self._json(response_models.draft(self._store.visible_draft(call.id, call.authenticated_user)))

    async def _draft_configuration(self, call: RoutedCall) -> RouteResponse:
        return self._json(
            response_models.draft_configuration(self._store.visible_draft(call.id, call.authenticated_user))
        )

    async def _create_draft(self, call: RoutedCall) -> RouteResponse:
        user = call.authenticated_user
        body = request_models.decode_body(request_models.SendBody, call.request.content_type, call.body)
        draft = self._draft_from(body, user, is_draft=True)
        self._store.drafts[draft.id] = draft
        return json_response({"DraftId": draft.id})

    async def _update_draft(self, call: RoutedCall) -> RouteResponse:
        user = call.authenticated_user
        body = request_models.decode_body(
            request_models.DraftUpdateBody, call.request.content_type, call.body
        )
        draft = self._store.visible_draft(request_models.required(body.draft_id), user)
        if body.name is not None:
            draft.name = request_models.required(body.name)
        if body.meta_data is not None:
            draft.metadata = body.meta_data
        if body.share_with_team is not None:
            draft.share_with_team = body.share_with_team
        if body.callback_configuration is not None:
            draft.callbacks = request_models.callback_urls(body.callback_configuration, is_draft=True)
        if body.redirect_configuration is not None:
            default = self._store.before_send_url
            draft.before_send_url = request_models.before_send_url(body.redirect_configuration, default)
        return RouteResponse()

    async def _send_draft(self, call: RoutedCall) -> RouteResponse:
        user = call.authenticated_user
        body = request_models.decode_body(request_models.DraftBody, call.request.content_type, call.body)
        draft = self._store.visible_draft(request_models.required(body.draft_id), user)
        return self._json(response_models.sent(self._envelope_sender.send(draft)))

    def _draft_from(self, body: request_models.SendBody, user: User, *, is_draft: bool) -> Draft:
        uploads = [
            self._store.usable_upload(file_id, user) for file_id in request_models.documents(body.documents)
        ]
        now = self._store.now()
        return Draft(
            id=self._store.new_id(),
            owner=user,
            name=request_models.required(body.name),
            created_at=now,
            uploads=uploads,
            recipients=request_models.recipients(body.activities),
            metadata=body.meta_data,
            callbacks=request_models.callback_urls(body.callback_configuration, is_draft=is_draft),
            share_with_team=body.share_with_team or False,
            expires_at=request_models.expiration(body.expiration_configuration, now),
            before_send_url=request_models.before_send_url(
                body.redirect_configuration, self._store.before_send_url
            ),
            bulk_recipients=request_models.bulk_recipients(body.activities),
        )


def _as_listed_after(envelope: StoredEnvelope, age: timedelta, behaviour: Behaviour) -> StoredEnvelope:
    """Return the envelope with the files that are listed this long after its final state."""
    documents, seconds = envelope.documents, age.total_seconds()
    if seconds < behaviour.papers_lag:
        documents = [replace(each, audit_trail=None) for each in documents]
        envelope = replace(envelope, audit_trail=None, audit_trail_xml=None)
    if seconds < max(behaviour.papers_lag, behaviour.legal_documents_lag):
        envelope = replace(envelope, legal_documents=[])
    return replace(envelope, documents=[] if seconds < behaviour.documents_lag else documents)


async def _read(part: BodyPartReader) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk():
        data += chunk
        if len(data) > MAX_UPLOAD:
            raise RequestRefused(ErrorCode.FILE_TOO_LARGE)
    if not data:
        raise RequestRefused(ErrorCode.EMPTY_FILE)
    return bytes(data)


async def _not_found(call: RoutedCall) -> RouteResponse:
    raise UnknownPath


def _wrong_method(allowed: str) -> Handler:
    async def refuse(call: RoutedCall) -> RouteResponse:
        return RouteResponse(status=405, headers={"Allow": allowed})

    return refuse
