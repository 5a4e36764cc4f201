"""
A stand-in for eSignAnyWhere: REST v6, OAuth, web pages, callbacks, signed documents, faults on demand, a
record of it all.

Its behaviour, and which of it is assumed, is described in docs/contributing/stand-in.md. It is for tests and
demos, and never in the image.
"""

from sandbox.esaw.browser import Browser, BrowserPage
from sandbox.esaw.control.api import Control
from sandbox.esaw.control.client import StandInControl
from sandbox.esaw.core.behaviour import Behaviour
from sandbox.esaw.core.callbacks import CallbackAttempt, CallbackKind, CallbackLogin
from sandbox.esaw.core.faults import OPERATIONS, InjectedFault
from sandbox.esaw.core.filenames import AWKWARD_NAMES
from sandbox.esaw.core.model import (
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
from sandbox.esaw.core.profile import EsawProfile, InvalidProfile, parse_profile, read_profile
from sandbox.esaw.core.recorder import DeleteCall, RecordedRequest, SendCall
from sandbox.esaw.server import StandIn

__all__ = [
    "AWKWARD_NAMES",
    "OPERATIONS",
    "ActionKind",
    "Behaviour",
    "Browser",
    "BrowserPage",
    "CallbackAttempt",
    "CallbackKind",
    "CallbackLogin",
    "CallbackUrls",
    "Control",
    "DeleteCall",
    "DocumentSpec",
    "DraftListing",
    "EnvelopeStatus",
    "EsawProfile",
    "FileKind",
    "FileListing",
    "InjectedFault",
    "InvalidProfile",
    "OAuthApp",
    "Recipient",
    "RecordedRequest",
    "SendCall",
    "StandIn",
    "StandInControl",
    "User",
    "parse_profile",
    "read_profile",
]
