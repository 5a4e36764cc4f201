"""
The points where eSAW's behaviour is not documented, or where a test wants the other possibility: switches
with a reason.
"""

from typing import Literal

from msgspec import Struct

TokenHeader = Literal["ApiToken", "Authorization"]
FilesOfV5 = Literal["listed", "documents", "empty", "refused"]
ClientAuthentication = Literal["Basic", "Body"]


class Behaviour(Struct, frozen=True, kw_only=True):
    """Behaviour of the stand-in where the known facts allow several."""

    final_during_callback: bool = False
    """Whether the envelope is in its final state already while `CallbackUrl` is being called; else it stays
    Active until that answered 2xx."""
    final_state_lag: float = 0.0
    """Seconds from the accepted callback to the final state (post-processing)."""
    callback_time_scale: float = 0.001
    """Factor for the times of eSAW's retry schedule: 0.001 makes 5 minutes 0.3 s. 1 is the real schedule."""
    callback_timeout: float = 100.0
    """Seconds that one callback may take (100 is the default of .NET's client)."""
    callback_attempts: int = 30
    """Number of attempts after which a callback is given up."""
    given_up_is_completed: bool = True
    """Whether `history` shows a callback that was given up as Completed, and in an error state."""
    callback_on_cancel: bool = False
    """Whether cancelling calls `CallbackUrl` (the documentation contradicts itself)."""
    callback_on_expiry: bool = False
    """Whether expiry calls `CallbackUrl`, too."""
    papers_lag: float = 0.0
    """Seconds from the final state until `files` lists the audit trails and the legal documents."""
    legal_documents_lag: float = 0.0
    """Seconds from the final state until `files` lists the legal documents, if longer than `papers_lag`."""
    documents_lag: float = 0.0
    """Seconds from the final state until `files` lists the documents, with their attachments."""
    papers_only_when_completed: bool = False
    """Whether `files` lists no document and no audit trail for a Rejected, Canceled or Expired envelope."""
    renders_anew: bool = False
    """Whether each download of a document has other bytes, as from a PDF that is rendered for each download.
    A Completed envelope has the same bytes each time."""
    draft_id_becomes_envelope_id: bool = False
    """Whether a sent draft keeps its id as an envelope, or as the parent of a bulk."""
    token_headers: tuple[TokenHeader, ...] = ("ApiToken", "Authorization")
    """The headers in which REST accepts a token, the one that wins first; a token in another one gets 401."""
    has_v5: bool = True
    """Whether the API v5 answers; else its paths are unknown."""
    v5_token_headers: tuple[TokenHeader, ...] = ("ApiToken",)
    """The headers in which the API v5 accepts a token."""
    v5_files: FilesOfV5 = "listed"
    """The answer of v6's `files` for an envelope of v5: all files, only the documents, none, or ERR0063."""
    refuses_v5_delete: bool = False
    """Whether v6's `envelope/delete` answers ERR0063 for an envelope of v5."""
    version_needs_token: bool = False
    """Whether `system/version` answers 401 without a token."""
    code_lifetime: float = 60.0
    """Seconds from the consent to the last moment in which the authorization code is worth a token."""
    ignores_pkce: bool = False
    """Whether `code_challenge` and `code_verifier` are ignored, as by a server that does not know PKCE; else
    they are verified where they are sent."""
    refuses_pkce: bool = False
    """Whether `code_challenge` and `code_verifier` are refused, as by a server that refuses each unknown
    parameter."""
    client_authentications: tuple[ClientAuthentication, ...] = ("Basic", "Body")
    """The ways in which an application may send its id and secret to `ApiToken/Retrieve`."""
    returns_state: bool = True
    """Whether the way back from `Auth/Authorize` carries the `state` that it was given."""
    sends_issuer: bool = False
    """Whether the way back from `Auth/Authorize` carries `iss` (RFC 9207)."""
    most_hits: int | None = None
    """Maximum number of hits of `envelope/find`; it has no paging, so the answer leaves out the others."""
    flood_hits: int = 0
    """Number of hits that each answer of `envelope/find` has beyond the true ones: Completed envelopes that
    do not exist, with ids that no other answer has."""
    foreign_hits: tuple[str, ...] = ()
    """Ids of Completed envelopes that each answer of `envelope/find` has beyond the true ones: ids of another
    eSAW or another user."""
    whoami_fields: tuple[str, ...] | None = None
    """The members of `authorization/whoami`, those that the stand-in does not know as null; None: all that it
    knows."""
    has_audit_trails: bool = True
    """Whether `files` lists audit trails at all; else they are switched off ("Audit log settings")."""
    null_file_ids: int = 0
    """Number of files of each envelope that `files` lists with the FileId null, the last files first."""
    omits_nulls: bool = False
    """Whether an answer of REST leaves out each member that is null; else it writes null."""
    history_forbidden: bool = False
    """Whether history answers 403 for every user; else each user's right decides."""
    downloads_chunked: bool = False
    """Whether every download is sent without a length; else each file decides."""
    download_content_type: str | None = None
    """The Content-Type of every download; None: each file's own one."""
    unknown_envelope_error: str | None = "ERR0007"
    """The ErrorId of the 404 for an unknown envelope; None: the 404 has no body."""
