"""
The check of `helm test`: each process responds on its public port, and serves no health and metrics there.

An organization that nobody has gets 404, which a receiver can only say once it has read the organizations.
Of a release for several namespaces, the metrics of the controllers say which of them are served.
Only the standard library is used, nothing is written, and no callback is recorded.
"""

import re
import socket
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

PATIENCE = 60.0
READY = re.compile(
    r'^counterfoil_namespace_ready\{namespace="([^"]*)",reason="([^"]*)"\} ([0-9.]+)$', re.MULTILINE
)
RESTARTING = {"NamespaceStuck", "NamespaceBroken"}
NOBODYS = "helm-test-asks-for-nobodys-organization"
# What is asked, and which answers mean that all is well.
QUESTIONS = {
    "receiver": [(f"/callbacks/{NOBODYS}/token?envelopeId=&action=", {404}), ("/metrics", {404})],
    "pages": [(f"/consent/{NOBODYS}/nobody", {400, 404}), ("/metrics", {404})],
    "console": [("/", {200, 302, 303, 401}), ("/metrics", {401, 404})],
}


class Plain(urllib.request.HTTPRedirectHandler):
    """Follows nothing: where a process leads to is not the question."""

    def redirect_request(self, *_: object) -> None:
        """Return nothing, so that the redirect itself is the answer."""


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), Plain)


def status(url: str) -> int | str:
    """Return the status of the answer, or why there was none."""
    try:
        with OPENER.open(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as answer:
        return answer.code
    except OSError as trouble:
        return str(trouble)


def until_answered(url: str, expected: set[int]) -> int | str:
    """Ask until the answer is one of those expected, or patience ends."""
    end = time.monotonic() + PATIENCE
    while (found := status(url)) not in expected and time.monotonic() < end:
        time.sleep(1)
    return found


def explained(reason: str) -> str:
    """Return a reason with the time of which it speaks: a controller keeps that of an end for ten minutes."""
    return f"{reason}, now or within the last ten minutes" if reason in RESTARTING else reason


def not_served(pages: list[str], namespaces: list[str]) -> dict[str, str]:
    """Return the namespaces that no controller serves, or not each one that works there, with the reason."""
    found = [each for page in pages for each in READY.findall(page)]
    served = {name for name, _, value in found if float(value)}
    reasons = {name: explained(reason) for name, reason, value in found if not float(value)}
    missing = {name: "no controller works there" for name in namespaces if name not in served}
    return missing | {name: reasons[name] for name in namespaces if name in reasons}


def metrics_of_pods(url: str) -> list[str]:
    """Return the metrics of each pod of a headless Service. Raises ``OSError``."""
    parts = urlsplit(url)
    answers = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    addresses = sorted({str(answer[4][0]) for answer in answers})
    hosts = [f"[{each}]" if ":" in each else each for each in addresses]
    pages = []
    for host in hosts:
        with OPENER.open(f"http://{host}:{parts.port}/metrics", timeout=10) as answer:
            pages.append(answer.read().decode())
    return pages


def until_served(url: str, namespaces: list[str]) -> dict[str, str]:
    """Ask the controllers until all namespaces are served, or patience ends; return the others."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            missing = not_served(metrics_of_pods(url), namespaces)
        except OSError as trouble:
            missing = dict.fromkeys(namespaces, str(trouble))
        if not missing or time.monotonic() >= end:
            return missing
        time.sleep(1)


def main(processes: list[str]) -> int:
    """Ask all; return the exit status."""
    wrong = 0
    for name, _, base in (each.partition("=") for each in processes):
        if name == "controller":
            url, _, namespaces = base.partition("#")
            missing = until_served(url, namespaces.split(","))
            for namespace in namespaces.split(","):
                print(f"namespace {namespace}: {missing.get(namespace, 'served, as it should')}", flush=True)
            wrong += len(missing)
            continue
        for path, expected in QUESTIONS[name]:
            found = until_answered(base + path, expected)
            verdict = "as it should" if found in expected else f"but one of {sorted(expected)} was expected"
            print(f"{name}: {path.partition('?')[0]} answered {found}, {verdict}", flush=True)
            wrong += found not in expected
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
