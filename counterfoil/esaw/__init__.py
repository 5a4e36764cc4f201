"""
The client for eSAW's REST API v6. Import from here; only ``deletion`` is imported by its own name, and by one phase.
"""

from counterfoil.esaw.answers import (
    Activity,
    ConfigurationAnswer,
    EnvelopeAnswer,
    EnvelopeFile,
    FilesAnswer,
    FoundEnvelope,
    HistoryAnswer,
    HistoryEvent,
    Person,
    WhoAmI,
)
from counterfoil.esaw.client import Esaw, EsawUser, make_http
from counterfoil.esaw.clients import Esaws
from counterfoil.esaw.exchange import Download, Observe
from counterfoil.esaw.limits import Bounds
from counterfoil.esaw.problems import (
    Answered,
    AnswerUnreadable,
    EsawProblem,
    Paused,
    RedirectRefused,
    TransferBroken,
    Unreachable,
    UnreachableKind,
)
from counterfoil.esaw.token import ApiToken

__all__ = [
    "Activity",
    "AnswerUnreadable",
    "Answered",
    "ApiToken",
    "Bounds",
    "ConfigurationAnswer",
    "Download",
    "EnvelopeAnswer",
    "EnvelopeFile",
    "Esaw",
    "EsawProblem",
    "EsawUser",
    "Esaws",
    "FilesAnswer",
    "FoundEnvelope",
    "HistoryAnswer",
    "HistoryEvent",
    "Observe",
    "Paused",
    "Person",
    "RedirectRefused",
    "TransferBroken",
    "Unreachable",
    "UnreachableKind",
    "WhoAmI",
    "make_http",
]
