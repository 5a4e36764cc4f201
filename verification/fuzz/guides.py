"""The modules of the product, and of its libraries, whose coverage guides the engine: one row per target."""

from collections.abc import Mapping
from typing import Final

GUIDES: Final[Mapping[str, tuple[str, ...]]] = {
    "api_answers": (
        "counterfoil.kube.answers",
        "counterfoil.kube.errors",
    ),
    "callback_line": (
        "webhook.receiver.callback",
        "webhook.receiver.callback_to_event",
        "counterfoil.resources",
    ),
    "downloads": ("counterfoil.esaw.downloads", "counterfoil.esaw.models"),
    "draft_metadata": ("webhook.pages.metadata",),
    "esaw_answers": ("counterfoil.esaw",),
    "file_names": ("counterfoil.archives",),
    "kube_objects": ("controller.cache", "controller.watch", "counterfoil.resources", "webhook.receiver"),
    "manifests": (
        "counterfoil.archives.manifest",
        "counterfoil.archives.verify",
        "counterfoil.archives.readback",
    ),
    # Its rules are fixed, so not the parser of jsonpath: each input takes the same way through it.
    "metadata_tags": (
        "counterfoil.archives.tags",
        "counterfoil.archives.tags_subprocess",
        "jsonpath.filter",
        "jsonpath.function_extensions",
        "jsonpath.match",
        "jsonpath.path",
        "jsonpath.segments",
        "jsonpath.selectors",
    ),
    "oauth_return": (
        "webhook.pages.cookies",
        "webhook.pages.routes",
        "webhook.http_server",
        "counterfoil.sealing",
    ),
    "receiver_http": ("webhook.receiver", "webhook.http_server", "counterfoil.callback_auth"),
    "sealed_blobs": ("counterfoil.sealing", "counterfoil.esaw.token", "counterfoil.origin"),
    "tag_rules": ("counterfoil.archives.tags", "counterfoil.archives.names", "jsonpath"),
}
