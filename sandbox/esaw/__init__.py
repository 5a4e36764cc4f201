"""
A stand-in for eSignAnyWhere: REST v6, callbacks, signed documents, faults on demand, and a record of all requests.

What it does, and which of it is assumed, stands in docs/contributing/stand-in.md. It is for tests and demos, and never in
the image.
"""

from sandbox.esaw.behaviour import Behaviour
from sandbox.esaw.callbacks import CallbackAttempt, CallbackKind, CallbackLogin
from sandbox.esaw.client import StandInControl
from sandbox.esaw.control import Control
from sandbox.esaw.faults import OPERATIONS, Fault
from sandbox.esaw.model import (
    ActionKind,
    CallbackUrls,
    DocumentSpec,
    EnvelopeStatus,
    FileKind,
    FileListing,
    Recipient,
    User,
)
from sandbox.esaw.names import AWKWARD_NAMES
from sandbox.esaw.recorder import DeleteCall, RecordedRequest
from sandbox.esaw.server import StandIn

__all__ = [
    "AWKWARD_NAMES",
    "OPERATIONS",
    "ActionKind",
    "Behaviour",
    "CallbackAttempt",
    "CallbackKind",
    "CallbackLogin",
    "CallbackUrls",
    "Control",
    "DeleteCall",
    "DocumentSpec",
    "EnvelopeStatus",
    "Fault",
    "FileKind",
    "FileListing",
    "Recipient",
    "RecordedRequest",
    "StandIn",
    "StandInControl",
    "User",
]
