"""
The sections of docs/reliability.md about campaign and soak test: from the records, and from ``found.toml``.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from verification.chaos.records import Record
from verification.chaos.soak import section as soak
from verification.chaos.soak.records import SoakRecord
from verification.chaos.tables import table

PAGE: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
FOUND: Final = Path(__file__).with_name("found.toml")
BEGIN: Final = "<!-- The campaign's section begins. Written by `python -m verification.chaos report`. -->"
END: Final = "<!-- The campaign's section ends. -->"


def section(records: Sequence[Record], found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the section in Markdown, without its markers."""
    struck: Counter[str] = Counter()
    for record in records:
        struck.update(record.struck)
    bad = [each for each in records if each.violations]
    hours = sum(each.seconds for each in records) / 3600
    seeds = ", ".join(str(each) for each in sorted({each.seed for each in records})) or "none"
    commits = ", ".join(sorted({each.commit for each in records if each.commit})) or "none"
    lines = [
        f"The records have {struck.total():,} faults in {len(records)} rounds (seeds: {seeds}; "
        f"commits: {commits}) and {hours:.1f} hours.",
        f"Rounds with a violation: {len(bad)}.",
        "",
        *table(
            ("Fault", "Number that struck"), ((f"`{kind}`", f"{struck[kind]:,}") for kind in sorted(struck))
        ),
        *_open(bad),
        *_known(found.get("open", ())),
        *_found(found.get("found", ())),
        *_reverted(found.get("reverted", ())),
        *protected(found.get("protection", ())),
    ]
    return "\n".join(lines)


def _open(bad: Sequence[Record]) -> list[str]:
    if not bad:
        return []
    rows = [(str(each.seed), str(each.round), "; ".join(each.violations).replace("|", "\\|")) for each in bad]
    return ["Rounds with a violation:", "", *table(("Seed", "Round", "Violations"), rows)]


def _known(known: Sequence[Mapping[str, Any]]) -> list[str]:
    if not known:
        return []
    rows = [(each["what"], each["where"], each["until"]) for each in known]
    return ["Not corrected yet:", "", *table(("Fault of the product", "Seed and round", "Until then"), rows)]


def _found(found: Sequence[Mapping[str, Any]]) -> list[str]:
    if not found:
        return []
    rows = [(each["what"], each["where"], f"`{each['corrected']}`") for each in found]
    return ["Bugs that the campaign found:", "", *table(("Bug", "Seed and round", "Test"), rows)]


def _reverted(reverted: Sequence[Mapping[str, Any]]) -> list[str]:
    if not reverted:
        return []
    rows = [(each["what"], str(each["faults"]), each["violation"]) for each in reverted]
    head = ("Protection that was taken out", "Faults until the campaign found it", "Violation")
    return ["To show that the campaign can fail, protections were taken out:", "", *table(head, rows)]


def protected(protections: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of the protections that a named test notices."""
    if not protections:
        return []
    rows = [(each["what"], f"`{each['file']}`", f"`{each['test']}`") for each in protections]
    return [
        "`python -m verification.chaos protections` takes these out, one after the other. Each time the "
        "named test fails:",
        "",
        *table(("Protection that was taken out", "File", "Test that failed"), rows),
    ]


def renewed(page: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """Return the page with this section between its markers. Raises ``ValueError`` without markers."""
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if pattern.search(page) is None:
        raise ValueError(f"the page has no markers `{begin}` and `{end}`")
    return pattern.sub(lambda _: f"{begin}\n\n{text.rstrip()}\n\n{end}", page)


def both_renewed(page: str, records: Sequence[Record], soaks: Sequence[SoakRecord]) -> str:
    """Return the page with its two sections renewed; one without a record on this machine stays as it is."""
    if records:
        page = renewed(page, section(records, tomllib.loads(FOUND.read_text(encoding="utf-8"))))
    return renewed(page, soak.section(soaks), soak.BEGIN, soak.END) if soaks else page


def write(records: Sequence[Record], soaks: Sequence[SoakRecord]) -> None:
    """Renew the two sections of the page."""
    page = both_renewed(PAGE.read_text(encoding="utf-8"), records, soaks)
    PAGE.write_text(page, encoding="utf-8")
