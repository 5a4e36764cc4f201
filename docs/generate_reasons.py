"""
Writes docs/reference/reasons.md from the catalogue of reasons: ``python docs/generate_reasons.py``.

A unit test holds the page against it, and the catalogue against the code.
"""

from pathlib import Path

from counterfoil.i18n.reasons import CATALOGUE, Reason, Responsible

PAGE = Path(__file__).parent / "reference" / "reasons.md"

HEAD = """\
<!-- Written by docs/generate_reasons.py from counterfoil/i18n/reasons; edit that. -->
# Reasons

Why something is where it is, in one word that stays the same between versions: the column `REASON` of
`kubectl get envelopeevents`, the conditions of every resource, the label `reason` of the metrics. The message beside it
has the particulars. What is *seen* in `waiting` is tried again by itself until `spec.retry.deadline`, then the event is
`Failed` with `DeadlineExceeded`; whoever has to act hears of it by mail ([Notifications](../notifications.md)).

| Reason | Seen in | Whose turn | What it means, and what to do |
|---|---|---|---|
"""

_RESPONSIBLE_TEXTS = {
    Responsible.NOBODY: "nobody's",
    Responsible.SENDER: "the sender's",
    Responsible.ADMINISTRATOR: "the administrator's",
}


def page() -> str:
    """Return the page."""
    return HEAD + "".join(f"{_row(each)}\n" for each in CATALOGUE.values())


def _row(reason: Reason) -> str:
    words = reason.localized_text()
    contexts = ", ".join(reason.contexts)
    return (
        f"| `{reason.name}` | {contexts} | {_RESPONSIBLE_TEXTS[reason.responsible]} | {words.what} {words.do}".rstrip()
        + " |"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
