"""
A stand-in for eSignAnyWhere: REST v6, OAuth, web pages, callbacks, signed documents, faults on demand, a record of it all.

What it does, and which of it is assumed, stands in docs/contributing/stand-in.md. It is for tests and demos, and never in
the image.
"""

from sandbox.esaw.behaviour import Behaviour
from sandbox.esaw.browser import Browser, Page
from sandbox.esaw.callbacks import CallbackAttempt, CallbackKind, CallbackLogin
from sandbox.esaw.client import StandInControl
from sandbox.esaw.control import Control
from sandbox.esaw.faults import OPERATIONS, Fault
from sandbox.esaw.model import (
    ActionKind,
    CallbackUrls,
    DocumentSpec,
    DraftListing,
    EnvelopeStatus,
    FileKind,
    FileListing,
    OAuthApp,
    Recipient,
    User,
)
from sandbox.esaw.names import AWKWARD_NAMES
from sandbox.esaw.recorder import DeleteCall, RecordedRequest, SendCall
from sandbox.esaw.server import StandIn

__all__ = [
    "AWKWARD_NAMES",
    "OPERATIONS",
    "ActionKind",
    "Behaviour",
    "Browser",
    "CallbackAttempt",
    "CallbackKind",
    "CallbackLogin",
    "CallbackUrls",
    "Control",
    "DeleteCall",
    "DocumentSpec",
    "DraftListing",
    "EnvelopeStatus",
    "Fault",
    "FileKind",
    "FileListing",
    "OAuthApp",
    "Page",
    "Recipient",
    "RecordedRequest",
    "SendCall",
    "StandIn",
    "StandInControl",
    "User",
]
