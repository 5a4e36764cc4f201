"""
REST v6: what stands under `/Api/v6`, one small handler per call.

`Routes.door` finds the handler for a method and a path; the gate does everything that all calls have in common. Envelopes
are sent and cancelled through the life cycle, which calls back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from aiohttp import BodyPartReader, web
from msgspec import UnsetType

from sandbox.esaw import bodies, find, shapes
from sandbox.esaw.answer import Answer, json_answer
from sandbox.esaw.errors import EsawError, Refusal, UnknownPath, UnsupportedMediaType
from sandbox.esaw.estate import Estate
from sandbox.esaw.gate import Call, Door, Handler
from sandbox.esaw.lifecycle import Lifecycle
from sandbox.esaw.model import Draft, Envelope, Upload, User
from sandbox.esaw.names import content_disposition
from sandbox.esaw.sending import Sending

VERSIONS: Final = frozenset({"v6", "v6.0"})
MAX_UPLOAD: Final = 32 * 1024 * 1024
"""Bytes; more is ERR0055."""


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    operation: str
    handler: Handler


class Routes:
    """The v6 calls over one estate."""

    def __init__(self, estate: Estate, lifecycle: Lifecycle, sending: Sending, version: str) -> None:
        self._estate = estate
        self._lifecycle = lifecycle
        self._sending = sending
        self._version = version
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

    def door(self, request: web.Request) -> Door:
        """The door for this request; unknown paths and wrong methods have doors too, which refuse."""
        _, _, version, *parts = request.rel_url.raw_path.split("/")
        if version.lower() not in VERSIONS:
            return Door("unknown", "", _not_found)
        parts = parts[:-1] if parts and not parts[-1] else parts
        route = self._fixed.get(tuple(part.lower() for part in parts))
        about = ""
        if route is None and len(parts) in {2, 3}:
            about = unquote(parts[1])
            route = self._by_id.get((parts[0].lower(), parts[2].lower() if len(parts) == 3 else ""))
        if route is None:
            return Door("unknown", about, _not_found)
        if request.method != route.method:
            return Door(route.operation, about, _wrong_method(route.method))
        return Door(route.operation, about, route.handler)

    # System and authorization

    async def _system_version(self, call: Call) -> Answer:
        return json_answer({"Version": self._version})

    async def _validate(self, call: Call) -> Answer:
        _ = call.caller
        return Answer()

    async def _whoami(self, call: Call) -> Answer:
        return json_answer(shapes.whoami(call.caller))

    # Envelopes

    async def _envelope(self, call: Call) -> Answer:
        return json_answer(shapes.envelope(self._v6_envelope(call)))

    async def _files(self, call: Call) -> Answer:
        return json_answer(shapes.files(self._estate.visible_envelope(call.id, call.caller)))

    async def _configuration(self, call: Call) -> Answer:
        return json_answer(shapes.configuration(self._v6_envelope(call)))

    async def _elements(self, call: Call) -> Answer:
        return json_answer(shapes.elements(self._v6_envelope(call)))

    async def _history(self, call: Call) -> Answer:
        envelope = self._estate.visible_envelope(call.id, call.caller, deleted_too=True)
        if not call.caller.may_see_history:
            raise EsawError(Refusal.NOT_ALLOWED_FOR_USER)
        return json_answer(shapes.history(envelope))

    async def _find(self, call: Call) -> Answer:
        user, now = call.caller, self._estate.now()
        filters = bodies.read(bodies.FindBody, call.request.content_type, call.body)
        find.check(filters)
        hits = [
            shapes.found(each, is_expiring_soon=find.is_expiring_soon(each, now))
            for each in self._estate.visible_envelopes(user)
            if find.matches(each, filters, user, now)
        ]
        return json_answer({"Envelopes": hits})

    async def _delete(self, call: Call) -> Answer:
        self._estate.delete(self._posted_envelope(call, bodies.EnvelopeBody))
        return Answer()

    async def _cancel(self, call: Call) -> Answer:
        self._lifecycle.cancel(self._posted_envelope(call, bodies.EnvelopeBody))
        return Answer()

    async def _restart(self, call: Call) -> Answer:
        user = call.caller
        body = bodies.read(bodies.RestartBody, call.request.content_type, call.body)
        envelope = self._estate.visible_envelope(bodies.required(body.envelope_id), user)
        expires_at = bodies.expiration(body, self._estate.now())
        if expires_at is None:
            raise EsawError(Refusal.BAD_EXPIRATION)
        self._lifecycle.restart(envelope, expires_at)
        return Answer()

    async def _send(self, call: Call) -> Answer:
        user = call.caller
        body = bodies.read(bodies.SendBody, call.request.content_type, call.body)
        draft = self._drafted(body, user, is_draft=False)
        return json_answer({"EnvelopeId": self._sending.send(draft).id})

    def _v6_envelope(self, call: Call) -> Envelope:
        envelope = self._estate.visible_envelope(call.id, call.caller)
        if envelope.api_version != "v6":
            raise EsawError(Refusal.WRONG_API_VERSION)
        return envelope

    def _posted_envelope(self, call: Call, kind: type[bodies.EnvelopeBody]) -> Envelope:
        user = call.caller
        body = bodies.read(kind, call.request.content_type, call.body)
        return self._estate.visible_envelope(bodies.required(body.envelope_id), user)

    # Files

    async def _file(self, call: Call) -> Answer:
        file = self._estate.visible_file(call.id, call.caller)
        return Answer(
            body=file.content,
            content_type=file.content_type,
            headers={"Content-Disposition": content_disposition(file.name)},
            chunked=file.chunked,
        )

    async def _upload(self, call: Call) -> Answer:
        user = call.caller
        if not call.request.content_type.startswith("multipart/"):
            raise UnsupportedMediaType
        async for part in await call.request.multipart():
            if isinstance(part, BodyPartReader) and part.filename is not None:
                upload = Upload(
                    self._estate.new_id(), user, part.filename, await _read(part), self._estate.now()
                )
                self._estate.uploads[upload.id] = upload
                return json_answer({"FileId": upload.id})
        raise EsawError(Refusal.EMPTY_PARAMETER, "No part of the body is a file.")

    # Drafts

    async def _draft(self, call: Call) -> Answer:
        return json_answer(shapes.draft(self._estate.visible_draft(call.id, call.caller)))

    async def _draft_configuration(self, call: Call) -> Answer:
        return json_answer(shapes.draft_configuration(self._estate.visible_draft(call.id, call.caller)))

    async def _create_draft(self, call: Call) -> Answer:
        user = call.caller
        body = bodies.read(bodies.SendBody, call.request.content_type, call.body)
        draft = self._drafted(body, user, is_draft=True)
        self._estate.drafts[draft.id] = draft
        return json_answer({"DraftId": draft.id})

    async def _update_draft(self, call: Call) -> Answer:
        user = call.caller
        body = bodies.read(bodies.DraftUpdateBody, call.request.content_type, call.body)
        draft = self._estate.visible_draft(bodies.required(body.draft_id), user)
        if isinstance(body.name, str):
            draft.name = bodies.required(body.name)
        if not isinstance(body.meta_data, UnsetType):
            draft.metadata = body.meta_data
        if not isinstance(body.share_with_team, UnsetType):
            draft.share_with_team = body.share_with_team
        if not isinstance(body.callback_configuration, UnsetType):
            draft.callbacks = bodies.callback_urls(body.callback_configuration, is_draft=True)
        if not isinstance(body.redirect_configuration, UnsetType):
            default = self._estate.before_send_url
            draft.before_send_url = bodies.before_send_url(body.redirect_configuration, default)
        return Answer()

    async def _send_draft(self, call: Call) -> Answer:
        user = call.caller
        body = bodies.read(bodies.DraftBody, call.request.content_type, call.body)
        draft = self._estate.visible_draft(bodies.required(body.draft_id), user)
        envelope = self._sending.send(draft)
        return json_answer({"Envelope": {"EnvelopeId": envelope.id}, "EnvelopeBulk": None})

    def _drafted(self, body: bodies.SendBody, user: User, *, is_draft: bool) -> Draft:
        uploads = [self._estate.usable_upload(file_id, user) for file_id in bodies.documents(body.documents)]
        now = self._estate.now()
        return Draft(
            id=self._estate.new_id(),
            owner=user,
            name=bodies.required(body.name),
            created_at=now,
            uploads=uploads,
            recipients=bodies.recipients(body.activities),
            metadata=body.meta_data,
            callbacks=bodies.callback_urls(body.callback_configuration, is_draft=is_draft),
            share_with_team=body.share_with_team,
            expires_at=bodies.expiration(body.expiration_configuration, now),
            before_send_url=bodies.before_send_url(body.redirect_configuration, self._estate.before_send_url),
        )


async def _read(part: BodyPartReader) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk():
        data += chunk
        if len(data) > MAX_UPLOAD:
            raise EsawError(Refusal.FILE_TOO_LARGE)
    if not data:
        raise EsawError(Refusal.EMPTY_FILE)
    return bytes(data)


async def _not_found(call: Call) -> Answer:
    raise UnknownPath


def _wrong_method(allowed: str) -> Handler:
    async def refuse(call: Call) -> Answer:
        return Answer(status=405, headers={"Allow": allowed})

    return refuse
