"""
The rights of each process, as Kubernetes Roles: demo and tests run Counterfoil with just what the chart
gives.

Rule 8: the receiver can create events, count what arrives and read organizations, and no Secret at all;
nobody lists or watches Secrets.
"""

from pathlib import Path
from typing import Any

import yaml

Rule = dict[str, list[str]]

RULES_FILE = Path(__file__).parents[2] / "charts" / "counterfoil" / "files" / "rights.yaml"
"""The one place that says who may do what, with the reasons; the chart makes its Roles from it."""

_RULES: dict[str, list[Rule]] = yaml.safe_load(RULES_FILE.read_text(encoding="utf-8"))

RECEIVER: tuple[Rule, ...] = tuple(_RULES["receiver"])
PAGES: tuple[Rule, ...] = tuple(_RULES["pages"])
CONSOLE: tuple[Rule, ...] = tuple(_RULES["console-of-release"])
RESEAL: tuple[Rule, ...] = tuple(_RULES["reseal"])
CONTROLLER_OF_SERVED: tuple[Rule, ...] = tuple(_RULES["controller"])
"""Of a controller in a namespace that the release serves, and that is not its own."""
CONTROLLER_OF_RELEASE: tuple[Rule, ...] = tuple(_RULES["controller-of-release"])
"""Of a controller in the namespace of its release, if the release does not serve it."""
CONTROLLER: tuple[Rule, ...] = (
    *CONTROLLER_OF_SERVED,
    *(each for each in CONTROLLER_OF_RELEASE if each not in CONTROLLER_OF_SERVED),
)
"""Of a controller whose release serves its own namespace."""
FIRST_QUOTA: tuple[Rule, ...] = tuple(_RULES["first-quota"])
CREATE_SEALING_KEY: tuple[Rule, ...] = tuple(_RULES["create-sealing-key"])

_KINDS = ["envelopeevents", "senders", "archives", "organizations", "imports"]

VIEWER: tuple[Rule, ...] = (
    {"apiGroups": ["counterfoil.dev"], "resources": _KINDS, "verbs": ["get", "list"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "list"]},
)
"""Of a person who looks at the console."""

ADMINISTRATOR: tuple[Rule, ...] = (
    *VIEWER,
    {"apiGroups": ["counterfoil.dev"], "resources": _KINDS, "verbs": ["patch"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["list", "create"]},
)
"""Of a person who acts there."""


def service_account_with_rules(name: str, rules: tuple[Rule, ...]) -> list[dict[str, Any]]:
    """Return a ServiceAccount with just these rights in its own namespace."""
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": name}, "rules": list(rules)},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name}],
        },
    ]


def rights_of_release(release: str, name: str, rules: tuple[Rule, ...]) -> list[dict[str, Any]]:
    """Return a Role with just these rights for another namespace, bound to the ServiceAccount of this name in
    the namespace of a release."""
    _, role, binding = service_account_with_rules(name, rules)
    (subject,) = binding["subjects"]
    return [role, binding | {"subjects": [subject | {"namespace": release}]}]
