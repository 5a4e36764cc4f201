"""
The rights of each process, as Kubernetes Roles: what demo and tests run Counterfoil with, and what the chart will give.

Rule 8: the receiver can create events, count deliveries and read organizations, and no Secret at all; nobody lists or
watches Secrets. The names of the Secrets that the pages write are known to nobody beforehand, so no rule can name them.
"""

from typing import Any

from counterfoil.resources import GROUP

Rule = dict[str, list[str]]

RECEIVER: tuple[Rule, ...] = (
    {"apiGroups": [GROUP], "resources": ["envelopeevents"], "verbs": ["create", "get"]},
    {"apiGroups": [GROUP], "resources": ["envelopeevents/status"], "verbs": ["patch"]},
    {"apiGroups": [GROUP], "resources": ["organizations"], "verbs": ["get", "list", "watch"]},
)

PAGES: tuple[Rule, ...] = (
    {"apiGroups": [GROUP], "resources": ["organizations"], "verbs": ["get", "list"]},
    {"apiGroups": [GROUP], "resources": ["senders"], "verbs": ["get", "create", "patch"]},
    {"apiGroups": [GROUP], "resources": ["senders/status"], "verbs": ["patch"]},
    {"apiGroups": [GROUP], "resources": ["envelopes"], "verbs": ["get", "create"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "list", "create", "patch", "delete"],
    },
)

RESEAL: tuple[Rule, ...] = (
    {"apiGroups": [GROUP], "resources": ["senders"], "verbs": ["list"]},
    {"apiGroups": [GROUP], "resources": ["senders/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "patch"]},
)

CONTROLLER: tuple[Rule, ...] = (
    {
        "apiGroups": [GROUP],
        "resources": ["envelopeevents"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {
        "apiGroups": [GROUP],
        "resources": ["organizations", "senders", "archives"],
        "verbs": ["get", "list", "watch"],
    },
    {"apiGroups": [GROUP], "resources": ["envelopes"], "verbs": ["get", "delete"]},
    {
        "apiGroups": [GROUP],
        "resources": [
            f"{plural}/status" for plural in ("envelopeevents", "organizations", "senders", "archives")
        ],
        "verbs": ["patch"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
)


def account(name: str, rules: tuple[Rule, ...]) -> list[dict[str, Any]]:
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
