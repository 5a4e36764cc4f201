"""
Writes docs/reference/reasons.md from the catalogue of reasons: ``python docs/tools/generate_reasons.py``.

A unit test compares the page with the catalogue, and the catalogue with the code.
"""

from pathlib import Path

from counterfoil.i18n.reasons import CATALOGUE, Reason, Responsible

PAGE = Path(__file__).parents[1] / "reference" / "reasons.md"

HEAD = """\
<!-- Written by docs/tools/generate_reasons.py from counterfoil/i18n/reasons; edit that. -->
# Reasons

A reason is one word that gives the cause of a state and stays the same between versions. Reasons are in the
column `REASON` of `kubectl get envelopeevents`, in the conditions of every resource and in the label `reason`
of the metrics. The message beside a reason has the details. An event with a reason that is seen in `waiting`
is retried automatically until `spec.retry.deadline`; then the event is `Failed` with `DeadlineExceeded`. The
person who must act is notified by mail ([Notifications](../notifications.md)).

| Reason | Seen in | Who must act | Meaning, and what to do |
|---|---|---|---|
"""

_RESPONSIBLE_TEXTS = {
    Responsible.NOBODY: "nobody",
    Responsible.SENDER: "the sender",
    Responsible.ADMINISTRATOR: "the administrator",
}


def page() -> str:
    """Return the page."""
    return HEAD + "".join(f"{_row(each)}\n" for each in CATALOGUE.values())


def _row(reason: Reason) -> str:
    words = reason.localized_text()
    contexts = ", ".join(reason.contexts)
    meaning = f"{words.what} {words.do}".rstrip()
    return f"| `{reason.name}` | {contexts} | {_RESPONSIBLE_TEXTS[reason.responsible]} | {meaning} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
