"""``route``: which Archive an envelope would go to, and why."""

import argparse
from typing import TextIO

import msgspec

from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, format_result, printable
from counterfoil.cli.plugin.send_request import make_request, wait_for_answer
from counterfoil.kube.client import KubeClient
from counterfoil.logs import redact
from counterfoil.resources import Organization, RequestOutcome, envelope_id

SUMMARY = "say which Archive an envelope would go to, and why; nothing is changed"
DETAILS = (
    "Asks by the label counterfoil.dev/request=route. With --envelope, the controller reads the envelope in "
    "eSignAnyWhere with the key of its Sender. What is given by the other flags counts in place of what it "
    "finds. Without --envelope, the routes are judged by these flags alone, so that a new route can be "
    "tried. Exit status 1: the routes can't be judged, or the Archive does not exist. The output says which."
)


class RouteAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """The answer of the controller."""

    outcome: RequestOutcome
    message: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("organization", metavar="ORG", help="name of the Organization")
    parser.add_argument("--envelope", metavar="ID", help="GUID of the envelope")
    parser.add_argument(
        "--tag",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a tag of the envelope, empty for one that it does not have; may be repeated",
    )
    parser.add_argument("--sender", metavar="NAME", help="the Sender whose key reads the envelope")
    parser.add_argument("--action", metavar="ACTION", help="action of the event, such as envelopeFinished")
    parser.add_argument("--status", metavar="STATUS", help="status of the envelope, such as Completed")
    parser.add_argument(
        "--timeout", type=float, default=120.0, metavar="SECONDS", help="how long to wait. Default: 120"
    )


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Ask for it and print the answer. Raises ``CommandError``, ``ApiError``."""
    given = {each: getattr(args, each) for each in ("sender", "action", "status")}
    parameters = {name: text for name, text in given.items() if text is not None}
    if args.envelope is not None:
        parameters["envelope"] = _guid(args.envelope)
    if args.tag:
        parameters["tags"] = msgspec.json.encode(dict(map(_tag, args.tag))).decode()
    if not parameters:
        raise CommandError(ExitStatus.MISUSED, "name an envelope by --envelope, or give facts about one")
    id_ = await make_request(kube, Organization, args.organization, "route", parameters=parameters)
    _, last = await wait_for_answer(kube, Organization, args.organization, id_, args.timeout)
    answer = RouteAnswer(last.outcome, last.message or "")
    out.write(format_result(args.output, answer, f"{printable(redact(answer.message))}\n"))
    return ExitStatus.DONE if last.outcome is RequestOutcome.DONE else ExitStatus.NOT_ALL


def _guid(text: str) -> str:
    try:
        return envelope_id(text)
    except ValueError:
        raise CommandError(ExitStatus.MISUSED, f"--envelope {text!r} is no GUID") from None


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise CommandError(ExitStatus.MISUSED, f"--tag {text!r} must be NAME=VALUE")
    return name, value
