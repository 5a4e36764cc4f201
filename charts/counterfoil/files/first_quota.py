"""
Create or change the ResourceQuota of each served namespace after an installation, once the quota controller
knows our kind.

Kubernetes' quota controller discovers new kinds every 30 s. It counts a quota that comes earlier only minutes
later, and until then the API server refuses every event. So this Job waits, creates the quota as Helm would,
and takes it away again if it is not counted at once. A namespace that refuses it keeps no other from its
quota. Only the standard library is used.
"""

import json
import os
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

DISCOVERY_SECONDS = 75.0
"""Pause before each attempt: the controller discovers kinds twice in this time."""
COUNT_SECONDS = 10
"""Time for the controller to count a quota of kinds that it knows; this takes about a second."""
ATTEMPTS = 5
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

Send = Callable[[str, str, Any], Any]
"""Sends a request (method, path, body or None) and returns the answer. Raises ``OSError``."""


def bring(send: Send, quotas: list[dict[str, Any]], sleep: Callable[[float], None]) -> bool:
    """Create the quotas; return whether all of them count."""
    missing = quotas
    for _ in range(ATTEMPTS):
        sleep(DISCOVERY_SECONDS)
        missing = [each for each in missing if not is_brought(send, each, sleep)]
        if not missing:
            return True
    return False


def is_brought(send: Send, quota: dict[str, Any], sleep: Callable[[float], None]) -> bool:
    """Create one quota; return whether it counts. One that does not count is removed."""
    metadata = quota["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/resourcequotas/{metadata['name']}"
    try:
        # As Helm: it takes the quota over if values say later that the quota is part of the release.
        send("PATCH", f"{path}?fieldManager=helm&force=true", quota)
        for _ in range(COUNT_SECONDS):
            sleep(1.0)
            used = send("GET", path, None).get("status", {}).get("used", {})
            if quota["spec"]["hard"].keys() <= used.keys():
                return True
        send("DELETE", path, None)
    except OSError as trouble:
        print(f"{metadata['namespace']}: {trouble}", flush=True)
    return False


def to_api_server(method: str, path: str, body: Any) -> Any:
    """Send a request with the pod's account."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"}
    if body is not None:
        headers["Content-Type"] = "application/apply-patch+yaml"
    request = urllib.request.Request(
        f"https://{host}:{port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers=headers,
        method=method,
    )
    trust = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")
    # No proxy of the environment: the API server is in the cluster.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    with opener.open(request, timeout=20) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(0 if bring(to_api_server, [json.loads(each) for each in sys.argv[1:]], time.sleep) else 1)
