"""
The check of `helm test`: each process responds on its public port, and serves no health and metrics there.

An organization that nobody has gets 404, which a receiver can only say once it has read the organizations.
Only the standard library is used, nothing is written, and no callback is recorded.
"""

import sys
import time
import urllib.error
import urllib.request

PATIENCE = 60.0
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


def main(processes: list[str]) -> int:
    """Ask all; return the exit status."""
    wrong = 0
    for name, _, base in (each.partition("=") for each in processes):
        for path, expected in QUESTIONS[name]:
            found = until_answered(base + path, expected)
            verdict = "as it should" if found in expected else f"but one of {sorted(expected)} was expected"
            print(f"{name}: {path.partition('?')[0]} answered {found}, {verdict}", flush=True)
            wrong += found not in expected
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
