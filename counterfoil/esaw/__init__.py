"""
The client for eSAW's REST API v6. Import from this package; only the clean phase imports ``deletion``.
"""

from counterfoil.esaw.client import EsawClient, EsawUserClient, new_http_client
from counterfoil.esaw.errors import (
    EsawError,
    EsawUnreachable,
    HttpStatusError,
    RateLimited,
    ResponseInvalid,
    TransferBroken,
    UnexpectedRedirect,
    UnreachableKind,
)
from counterfoil.esaw.limits import CallLimits
from counterfoil.esaw.models import (
    ConfigurationResponse,
    EnvelopeFile,
    EnvelopeResponse,
    FilesResponse,
    FoundEnvelope,
    HistoryEvent,
    HistoryResponse,
    SenderUserInformation,
    WhoAmI,
    WorkflowActivity,
)
from counterfoil.esaw.registry import EsawClients
from counterfoil.esaw.token import ApiToken
from counterfoil.esaw.transport import CallObserver, FileDownload

__all__ = [
    "ApiToken",
    "CallLimits",
    "CallObserver",
    "ConfigurationResponse",
    "EnvelopeFile",
    "EnvelopeResponse",
    "EsawClient",
    "EsawClients",
    "EsawError",
    "EsawUnreachable",
    "EsawUserClient",
    "FileDownload",
    "FilesResponse",
    "FoundEnvelope",
    "HistoryEvent",
    "HistoryResponse",
    "HttpStatusError",
    "RateLimited",
    "ResponseInvalid",
    "SenderUserInformation",
    "TransferBroken",
    "UnexpectedRedirect",
    "UnreachableKind",
    "WhoAmI",
    "WorkflowActivity",
    "new_http_client",
]
