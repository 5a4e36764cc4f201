"""
Which objects are meant: by the names that kubectl takes and prints.

Events are also chosen by the envelope's GUID, by label selector, by reason, or all that failed.
"""

import argparse
from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches

from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus
from counterfoil.i18n.reasons import CATALOGUE
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import NotFound
from counterfoil.resources import GROUP, VERSION, EnvelopeEvent, Phase, Resource, envelope_id


def kind_of(word: str, kinds: Iterable[type[Resource]]) -> type[Resource] | None:
    """Return the kind that a word names as for kubectl, such as ``ee``, ``archives`` or
    ``sender.counterfoil.dev``; None for any other word."""
    name = word.lower().removesuffix(f".{GROUP}").removesuffix(f".{VERSION}")
    return next((each for each in kinds if name in (each.KIND.lower(), each.PLURAL, *each.SHORT_NAMES)), None)


def object_name(kind: type[Resource]) -> Callable[[str], str]:
    """Return what reads NAME or KIND/NAME of an argument. It raises ``ArgumentTypeError`` for another
    kind."""

    def name(word: str) -> str:
        named, slash, found = word.rpartition("/")
        if slash and kind_of(named, (kind,)) is None:
            raise argparse.ArgumentTypeError(f"{word!r} names no {kind.KIND}")
        return found

    return name


async def select_event(kube: KubeClient, word: str) -> EnvelopeEvent:
    """Return the event of that name or envelope. Raises ``CommandError`` for none, and for several of one
    envelope."""
    try:
        return EnvelopeEvent.parse(await kube.get(EnvelopeEvent, word))
    except NotFound:
        found = await _of_envelope(kube, word)
    if not found:
        raise CommandError(
            ExitStatus.NOT_FOUND,
            f"no EnvelopeEvent in namespace {kube.namespace} has this name or envelope id: {word}. "
            "`kubectl counterfoil why -A` looks in all namespaces. A callback that was answered with 503, or "
            "not at all, leaves no event. The cause is in `kubectl counterfoil status` and the log of the "
            "receiver. If eSignAnyWhere never called about the envelope, "
            "`kubectl counterfoil sweep ORGANIZATION` finds it. Events that were finished long ago are "
            "removed. A short id of the console is no name: copy the whole id.",
        )
    if len(found) > 1:
        names = "".join(f"\n  {each.name}  ({each.spec.action}, {each.status.phase})" for each in found)
        raise CommandError(
            ExitStatus.NOT_FOUND, f"envelope {word} has several events; name the one you mean:{names}"
        )
    return found[0]


async def namespace_of(kube: KubeClient, word: str) -> str:
    """Return the namespace that has the event of that name or envelope. Raises ``CommandError`` for none, and
    for several namespaces; ``ApiError``."""
    everywhere, found = kube.in_all_namespaces(), set[str]()
    selectors = [f"metadata.name={word}"]
    with suppress(ValueError):
        selectors.append(f"spec.envelopeID={envelope_id(word)}")
    for fields in selectors:
        async for raw in everywhere.list(EnvelopeEvent, fields=fields):
            found.add(raw["metadata"]["namespace"])
    if len(found) == 1:
        return found.pop()
    if found:
        names = ", ".join(sorted(found))
        raise CommandError(ExitStatus.NOT_FOUND, f"several namespaces have it; name one by -n: {names}")
    raise CommandError(
        ExitStatus.NOT_FOUND, f"no namespace has an EnvelopeEvent of this name or envelope: {word}"
    )


async def select_events(kube: KubeClient, args: argparse.Namespace) -> list[EnvelopeEvent]:
    """Return the events that the arguments of ``add_arguments`` choose, each once. Raises
    ``CommandError``."""
    if args.events and (args.selector or args.all_failed or args.reason):
        raise CommandError(
            ExitStatus.MISUSED, "give names, or a choice by -l, --all-failed and --reason; not both."
        )
    if args.events:
        found = [await select_event(kube, word) for word in args.events]
        return list({each.name: each for each in found}.values())
    if not (args.selector or args.all_failed or args.reason):
        raise CommandError(
            ExitStatus.MISUSED,
            "say which events: NAME or GUID, -l SELECTOR, --all-failed or --reason REASON.",
        )
    fields = f"status.phase={Phase.FAILED}" if args.all_failed else ""
    listed = [
        EnvelopeEvent.parse(raw)
        async for raw in kube.list(EnvelopeEvent, labels=args.selector or "", fields=fields)
    ]
    found = [each for each in listed if args.reason in (None, each.status.reason, each.status.cause)]
    if not found and args.reason is not None:
        _check_reason(args.reason)
    return found


def _check_reason(word: str) -> None:
    """
    Raise ``CommandError`` for a reason that is not in the catalogue.

    Called only if no event has it: a newer controller may write reasons that this plugin does not know.
    """
    known = {name.lower(): name for name in CATALOGUE}
    if known.get(word.lower()) == word:
        return
    near = get_close_matches(word.lower(), known, n=1)
    meant = f" Did you mean {known[near[0]]}?" if near else ""
    raise CommandError(ExitStatus.MISUSED, f"no event has a reason {word}.{meant}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``select_events``."""
    parser.add_argument(
        "events",
        nargs="*",
        type=object_name(EnvelopeEvent),
        metavar="NAME|GUID",
        help="an event, by its name or its envelope's id",
    )
    parser.add_argument("-l", "--selector", metavar="SELECTOR", help="all events with these labels")
    parser.add_argument("--all-failed", action="store_true", help="all events in phase Failed")
    parser.add_argument(
        "--reason",
        metavar="REASON",
        help="only those with this reason, such as ArchiveUnreachable; of DeadlineExceeded also the last "
        "problem's",
    )


async def _of_envelope(kube: KubeClient, word: str) -> list[EnvelopeEvent]:
    try:
        envelope = envelope_id(word)
    except ValueError:
        return []
    return [
        EnvelopeEvent.parse(raw)
        async for raw in kube.list(EnvelopeEvent, fields=f"spec.envelopeID={envelope}")
    ]


def stated_reason(text: str) -> str:
    """Return a reason without spaces around it. Raises ``ArgumentTypeError`` for one without words."""
    if not text.strip():
        raise argparse.ArgumentTypeError("give the reason in words, or leave the flag out")
    return text.strip()
