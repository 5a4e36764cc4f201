"""
``suspend`` and ``resume``: ``spec.suspend`` of an event, an Import, a Sender, an Archive or an Organization.

Who did it, and why, is recorded on the object, as after an action in the console.
"""

import argparse
from datetime import UTC, datetime
from typing import NamedTuple, TextIO

import msgspec

from counterfoil.cli.plugin import selection
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, format_answer, is_for_programs
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Conflict
from counterfoil.kube.recorded_write import is_any, write_recorded
from counterfoil.resources import Archive, EnvelopeEvent, Import, Organization, Resource, Sender
from counterfoil.resources.audit_annotation import AuditEntry

KINDS: tuple[type[Resource], ...] = (Organization, Archive, Sender, Import, EnvelopeEvent)
"""The kinds that can be suspended, the widest first."""


class SuspensionResult(msgspec.Struct, frozen=True, rename="camel"):
    """Result for one object."""

    object: str
    suspended: bool
    changed: bool


class SuspensionCommand(NamedTuple):
    """A command that sets ``spec.suspend`` of the named objects."""

    name: str
    is_suspended: bool
    SUMMARY: str
    DETAILS: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument(
            "objects",
            nargs="+",
            metavar="KIND NAME",
            help="a kind and names, as in `archive contracts`, or KIND/NAME several times. Kinds: "
            f"{', '.join(each.KIND.lower() for each in KINDS)}; an event also by its envelope's id",
        )
        parser.add_argument(
            "--because",
            type=selection.stated_reason,
            metavar="TEXT",
            help="reason, stored with the object",
        )

    async def run(self, args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
        """Set it. Raises ``CommandError``, ``ApiError``."""
        by, results = await kube.whoami(), list[SuspensionResult]()
        for kind, name in chosen_objects(args.objects):
            results.append(await self._set(kube, kind, name, by, args.because or ""))
            if not is_for_programs(args.output):
                out.write(f"{results[-1].object}: {self._words(results[-1])}\n")
        if is_for_programs(args.output):
            out.write(format_answer(args.output, results))
        return ExitStatus.DONE

    async def _set(
        self, kube: KubeClient, kind: type[Resource], name: str, by: str, because: str
    ) -> SuspensionResult:
        if kind is EnvelopeEvent:
            name = (await selection.select_event(kube, name)).name
        raw = await kube.get(kind, name)
        is_changed = bool(raw.get("spec", {}).get("suspend", False)) is not self.is_suspended
        if is_changed:
            now = datetime.now(UTC).replace(microsecond=0)
            entry, change = AuditEntry(by, self.name, now, because), {"spec": {"suspend": self.is_suspended}}
            try:
                await write_recorded(kube, kind, raw, entry, change=change, is_current=is_any)
            except Conflict as conflict:
                raise CommandError(ExitStatus.NOT_ALL, f"{conflict}; try again") from None
        return SuspensionResult(f"{kind.KIND}/{name}", self.is_suspended, is_changed)

    def _words(self, result: SuspensionResult) -> str:
        if self.is_suspended:
            return "suspended" if result.changed else "suspended already"
        return "resumed" if result.changed else "was not suspended"


def chosen_objects(words: list[str]) -> list[tuple[type[Resource], str]]:
    """Return kind and name of each object that the words name, as kubectl reads them. Raises
    ``CommandError``."""
    if "/" in words[0]:
        pairs = [each.partition("/")[::2] for each in words]
    else:
        pairs = [(words[0], each) for each in words[1:]]
    if not pairs or not all(name for _, name in pairs):
        raise CommandError(ExitStatus.MISUSED, "name a kind and an object, as in `archive contracts`")
    return [(_suspendable(word), name) for word, name in pairs]


def _suspendable(word: str) -> type[Resource]:
    kind = selection.kind_of(word, KINDS)
    if kind is None:
        known = ", ".join(each.KIND.lower() for each in KINDS)
        raise CommandError(ExitStatus.MISUSED, f"no kind {word!r} can be suspended; there are: {known}")
    return kind


SUSPEND = SuspensionCommand(
    "suspend",
    is_suspended=True,
    SUMMARY="hold an Organization, an Archive, a Sender, an Import or an event",
    DETAILS="Callbacks are still recorded, and nothing is lost. What is being archived ends its phase first.",
)
RESUME = SuspensionCommand(
    "resume",
    is_suspended=False,
    SUMMARY="let a suspended object continue",
    DETAILS="All that waited because of it continues at once.",
)
