"""The client for eSAW's REST API v6. Import from here; only Cleaning imports ``delete_with_proof``."""

from counterfoil.esaw.client import EsawClient, EsawClients, EsawUserClient, new_http_client
from counterfoil.esaw.errors import (
    EsawError,
    EsawUnreachable,
    HttpStatusError,
    RateLimited,
    ResponseInvalid,
    TransferBroken,
    UnexpectedRedirect,
)
from counterfoil.esaw.limits import CallLimits
from counterfoil.esaw.models import (
    ConfigurationResponse,
    EnvelopeFile,
    EnvelopeResponse,
    FilesResponse,
    FoundEnvelope,
    HistoryResponse,
    WhoAmI,
)
from counterfoil.esaw.token import ApiToken, TokenHeader
from counterfoil.esaw.transport import FileDownload

__all__ = [
    "ApiToken",
    "CallLimits",
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
    "HistoryResponse",
    "HttpStatusError",
    "RateLimited",
    "ResponseInvalid",
    "TokenHeader",
    "TransferBroken",
    "UnexpectedRedirect",
    "WhoAmI",
    "new_http_client",
]
