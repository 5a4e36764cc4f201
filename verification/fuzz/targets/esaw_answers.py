"""Bodies of eSAW's answers and of its token endpoint, through every decoder of the client."""

from collections.abc import Callable
from functools import partial
from typing import Any

from counterfoil.esaw import models
from counterfoil.esaw.errors import ResponseInvalid
from counterfoil.esaw.limits import TOKEN_LENGTH
from counterfoil.esaw.models_v5 import decode_v5
from counterfoil.esaw.oauth import parse_access_token
from verification.fuzz.esaw_bodies import BODIES, WORDS
from verification.fuzz.target import Check, Target, expect

KINDS = (
    models.WhoAmI,
    models.WorkflowResponse,
    models.ConfigurationResponse,
    models.HistoryResponse,
    models.HistoryEventsResponse,
    models.FindResponse,
    models.DraftResponse,
    models.SendDraftResponse,
)


def _envelope(body: bytes) -> None:
    answer = models.decode_envelope("envelope", body)
    _ = answer.finished_date, answer.sent_date, answer.name


def _envelope_v5(body: bytes) -> None:
    answer = decode_v5("envelope_v5", body)
    _ = answer.finished_date, answer.sent_date, answer.metadata
    _check_files(answer.listed().files())


def _files(body: bytes) -> None:
    _check_files(models.decode(models.FilesResponse, "files", body).files())


def _check_files(files: tuple[models.EnvelopeFile, ...]) -> None:
    ids = [each.file_id for each in files]
    expect(all(map(models.is_file_id, ids)), "a file has an id that can be requested")
    expect(len(set(ids)) == len(ids), "a file is listed once")


def _version(body: bytes) -> None:
    version = models.parse_version(body)
    expect(version.isascii() and version.isprintable(), "a version is plain text")


def _error(body: bytes) -> None:
    for each in models.parse_error(body):
        expect(each is None or (each.isascii() and len(each) <= 64), "an error's ids are plain words")


def _token(body: bytes) -> None:
    token = parse_access_token("https://esaw.example.com", body)
    expect(0 < len(token.reveal()) <= TOKEN_LENGTH, "a token has a bounded length")
    # A shorter one can be a part of the type's name or of the fingerprint.
    expect(len(token.reveal()) < 16 or token.reveal() not in repr(token), "a token is not shown")


def _properties(body: bytes, kind: type[Any]) -> None:
    answer = models.decode(kind, "fuzz", body)
    for name in ("finished_date", "has_been_deleted", "failed_step", "envelopes"):
        getattr(answer, name, None)
    for each in getattr(answer, "envelopes", None) or ():
        getattr(each, "status", None)


READERS: tuple[Callable[[bytes], None], ...] = (
    _envelope,
    _envelope_v5,
    _files,
    _version,
    _error,
    _token,
    partial(models.expect_no_result, "draft_update"),
    partial(models.refuse_error_body, "files"),
    *(partial(_properties, kind=kind) for kind in KINDS),
)


def _prepare() -> Check:
    def check(data: bytes) -> None:
        READERS[data[0] % len(READERS) if data else 0](data[1:])

    return check


TARGET = Target(
    subject="eSAW's answers, in every decoder of the client, and the token endpoint's",
    documented=(ResponseInvalid,),
    seeds=tuple(bytes([number]) + body for number, body in enumerate(BODIES)),
    words=WORDS,
    prepare=_prepare,
)
