"""
``setup``: the labelled Secrets, the Archive, the Sender and the Organization of one eSAW organization.

Flags or answers in; objects in the API server out, or as YAML with ``--dry-run``. What exists stays as it is,
so the command can be repeated. The API server checks all objects before the first one is created. Envelopes
are kept in eSAW: deleting is chosen by a person who has seen it work.
"""

import argparse
import asyncio
import getpass
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec
import yaml

from counterfoil.cli.plugin import url
from counterfoil.cli.plugin.exit_status import (
    CommandError,
    ExitStatus,
    format_answer,
    is_for_programs,
    printable,
)
from counterfoil.cli.plugin.send_request import absence_text, find_absences
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists, NotFound
from counterfoil.kube.secret import USE_LABEL, SecretUse
from counterfoil.kube.watch import Raw
from counterfoil.resources import API_VERSION, Archive, Organization, Resource, Sender

SUMMARY = "create the Secrets and objects of one Organization, and print its callback URLs"
DETAILS = (
    "Asks for what no flag says. What exists already stays as it is. Cleanup is Keep: no envelope is deleted "
    "in eSignAnyWhere. With --dry-run nothing is created: the objects are printed for `kubectl apply`, with "
    "the secrets in them."
)

PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Question:
    """One setting: its flag, and what the user is asked without it."""

    flag: str
    words: str
    default: str = ""
    is_secret: bool = False

    @property
    def name(self) -> str:
        """Name of the argument."""
        return self.flag.removeprefix("--").replace("-", "_")


_ALWAYS: Final = (
    Question("--base-url", "address of eSignAnyWhere, such as https://saas.esignanywhere.net"),
    Question("--user-id", "id of the eSignAnyWhere user with whose key envelopes are read"),
    Question("--api-key-file", "file with the API key of this user", is_secret=True),
    Question("--archive", "name of the Archive; an existing one is used as it is", "archive"),
)
_FOLDER: Final = (Question("--folder", "absolute path of the folder in the controller's pod"),)
_S3: Final = (
    Question("--s3-bucket", "name of the bucket"),
    Question("--s3-region", "region of the bucket", "us-east-1"),
    Question("--s3-endpoint", "address of the server; `-` for Amazon S3", "-"),
    Question("--s3-key-id", "access key id"),
    Question("--s3-secret-file", "file with the secret access key", is_secret=True),
)
QUESTIONS: Final = (*_ALWAYS, *_FOLDER, *_S3)


class SetupResult(msgspec.Struct, frozen=True, rename="camel"):
    """Result for each object, and why it is not ready; empty if it is."""

    objects: dict[str, str]
    ready: dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("organization", metavar="ORG", help="name of the Organization, such as acme")
    parser.add_argument(
        "--sender",
        default="default-sender",
        metavar="NAME",
        help="name of the Sender. Default: default-sender",
    )
    parser.add_argument("--archive-kind", choices=("s3", "filesystem"), help="kind of a new Archive")
    for each in QUESTIONS:
        shown = f". Default: {each.default}" if each.default else ""
        parser.add_argument(
            each.flag, metavar="FILE" if each.is_secret else "VALUE", help=f"{each.words}{shown}"
        )
    parser.add_argument(
        "--dry-run", action="store_true", help="create nothing, and print the objects as YAML"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="how long to wait until all is ready; 0: do not wait. Default: 120",
    )


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Create the objects. Raises ``CommandError``, ``ApiError``."""
    answers = await _answers(args, kube)
    made_secrets, objects = secrets_of(args, answers), objects_of(args, answers)
    if args.dry_run:
        manifest = [*_secret_objects(made_secrets), *objects]
        is_json = args.output == "json"
        out.write(
            format_answer("json", manifest) if is_json else yaml.safe_dump_all(manifest, sort_keys=False)
        )
        return ExitStatus.DONE
    for each in objects:
        # All are checked first: what the API server refuses is said before anything exists.
        await _check(kube, each)
    results: dict[str, str] = {}
    for secret in _secret_objects(made_secrets):
        results[f"Secret/{secret['metadata']['name']}"] = await _create(kube.create_secret(secret))
    for each in objects:
        created = await _create(kube.create(_KINDS[each["kind"]], each))
        results[f"{each['kind']}/{each['metadata']['name']}"] = created
    if not is_for_programs(args.output):
        out.write("".join(f"{name}: {result}\n" for name, result in results.items()))
        out.flush()
    ready = await _wait(kube, objects, args.timeout)
    return await _report(args, kube, out, SetupResult(results, ready))


async def _report(args: argparse.Namespace, kube: KubeClient, out: TextIO, result: SetupResult) -> ExitStatus:
    unready = {name: words for name, words in result.ready.items() if words}
    if is_for_programs(args.output):
        out.write(format_answer(args.output, result))
    else:
        out.write("".join(f"{name}: {words or 'ready'}\n" for name, words in result.ready.items()))
    if unready:
        organization = Organization.parse(await kube.get(Organization, args.organization))
        if absence := (await find_absences(kube, (organization,))).get(organization.name):
            raise CommandError(ExitStatus.NOT_ALL, absence_text(absence, "the objects become ready"))
        first = next(iter(unready)).replace("/", " ").lower()
        raise CommandError(
            ExitStatus.NOT_ALL,
            f"not all is ready. Type `kubectl -n {kube.namespace} describe {first}`, do what it says, and "
            "repeat this command.",
        )
    if is_for_programs(args.output) or args.timeout == 0:
        return ExitStatus.DONE
    out.write("\nEnter these in eSignAnyWhere:\n")
    printed = argparse.Namespace(organization=args.organization, token=1, output="text")
    return await url.run(printed, kube, out)


# -- What is asked -------------------------------------------------------------------------------------------


async def _answers(args: argparse.Namespace, kube: KubeClient) -> Mapping[str, str]:
    """Return the value of each setting that is needed. Raises ``CommandError``."""
    found: dict[str, str] = {}
    for each in _ALWAYS:
        found[each.name] = _answer(args, each)
    try:
        await kube.get(Archive, found["archive"])
    except NotFound:
        kind = args.archive_kind or _kind(args)
        found["archive_kind"] = kind
        for each in _S3 if kind == "s3" else _FOLDER:
            found[each.name] = _answer(args, each)
    return found


def _kind(args: argparse.Namespace) -> str:
    if args.folder is not None:
        return "filesystem"
    if args.s3_bucket is not None:
        return "s3"
    return _ask(Question("--archive-kind", "kind of the archive, s3 or filesystem", "s3"), input)


def _answer(args: argparse.Namespace, question: Question) -> str:
    given: str | None = getattr(args, question.name)
    if given is None and question.default and not sys.stdin.isatty():
        given = question.default
    if given is None and question.is_secret and sys.stdin.isatty():
        words = question.words.removeprefix("file with ")
        return _ask(Question(question.flag, words, is_secret=True), getpass.getpass)
    text = given if given is not None else _ask(question, input)
    return _secret_in(text, question) if question.is_secret else text


def _ask(question: Question, read: Callable[[str], str]) -> str:
    if not sys.stdin.isatty():
        raise CommandError(ExitStatus.MISUSED, f"{question.flag} is missing: {question.words}")
    shown = f" [{question.default}]" if question.default else ""
    try:
        answer = read(f"{question.words}{shown}: ").strip() or question.default
    except EOFError:
        answer = ""
    if not answer:
        raise CommandError(ExitStatus.MISUSED, f"{question.flag} has no value: {question.words}")
    return answer


def _secret_in(path: str, question: Question) -> str:
    try:
        text = (sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeDecodeError) as unreadable:
        raise CommandError(
            ExitStatus.MISUSED, f"{question.flag} {path} can't be read ({type(unreadable).__name__})"
        ) from None
    if not text:
        raise CommandError(ExitStatus.MISUSED, f"{question.flag} {path} is empty")
    return text


# -- The objects ---------------------------------------------------------------------------------------------

_KINDS: Final[Mapping[str, type[Resource]]] = {each.KIND: each for each in (Archive, Sender, Organization)}


def secrets_of(
    args: argparse.Namespace, answers: Mapping[str, str]
) -> Mapping[str, tuple[SecretUse, Mapping[str, str]]]:
    """Return the Secrets by name, each with its use and content; the callback token is random."""
    made: dict[str, tuple[SecretUse, Mapping[str, str]]] = {
        f"{args.organization}-callback": (SecretUse.CALLBACK, {"token": secrets.token_hex(32)}),
        f"{args.sender}-esaw": (SecretUse.TOKEN, {"token": answers["api_key_file"]}),
    }
    if answers.get("archive_kind") == "s3":
        keys = {"accessKeyId": answers["s3_key_id"], "secretAccessKey": answers["s3_secret_file"]}
        made[f"{answers['archive']}-s3"] = (SecretUse.ARCHIVE, keys)
    return made


def objects_of(args: argparse.Namespace, answers: Mapping[str, str]) -> list[Raw]:
    """Return Archive (if it is new), Sender and Organization; pure."""
    sender = {
        "organizationRef": {"name": args.organization},
        "userID": answers["user_id"],
        "tokenSecretRef": {"name": f"{args.sender}-esaw", "key": "token"},
    }
    organization = {
        "baseURL": answers["base_url"],
        "callback": {"tokenSecretRefs": [{"name": f"{args.organization}-callback", "key": "token"}]},
        "archiveRef": {"name": answers["archive"]},
        "defaultSenderRef": {"name": args.sender},
        "cleanup": {"policy": "Keep"},
    }
    archive = _archive_spec(answers)
    return [
        *([_object("Archive", answers["archive"], archive)] if archive is not None else []),
        _object("Sender", args.sender, sender),
        _object("Organization", args.organization, organization),
    ]


def _archive_spec(answers: Mapping[str, str]) -> Raw | None:
    match answers.get("archive_kind"):
        case None:
            return None
        case "filesystem":
            return {"filesystem": {"root": answers["folder"]}}
    endpoint = answers["s3_endpoint"]
    elsewhere = {} if endpoint == "-" else {"endpoint": endpoint, "forcePathStyle": True}
    secret = {"credentialsSecretRef": {"name": f"{answers['archive']}-s3"}}
    return {"s3": {"bucket": answers["s3_bucket"], "region": answers["s3_region"], **elsewhere, **secret}}


def _object(kind: str, name: str, spec: Raw) -> Raw:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _secret_objects(made: Mapping[str, tuple[SecretUse, Mapping[str, str]]]) -> list[Raw]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": {USE_LABEL: use.value}},
            "stringData": {**content},
        }
        for name, (use, content) in made.items()
    ]


# -- The API server ------------------------------------------------------------------------------------------


async def _check(kube: KubeClient, raw: Raw) -> None:
    try:
        await kube.create_dry_run(_KINDS[raw["kind"]], msgspec.json.encode(raw))
    except AlreadyExists:
        return


async def _create(creation: Any) -> str:
    try:
        await creation
    except AlreadyExists:
        return "exists already, and stays as it is"
    return "created"


async def _wait(kube: KubeClient, objects: Sequence[Raw], seconds: float) -> dict[str, str]:
    """Return for each object why it is not ready after that time; empty if it is."""
    until, found = time.monotonic() + seconds, dict[str, str]()
    if seconds == 0:
        return found
    while True:
        for each in objects:
            kind, name = _KINDS[each["kind"]], each["metadata"]["name"]
            found[f"{kind.KIND}/{name}"] = _why_not_ready(await kube.get(kind, name))
        if not any(found.values()) or time.monotonic() >= until:
            return found
        await asyncio.sleep(PAUSE_SECONDS)


def _why_not_ready(raw: Raw) -> str:
    conditions = raw.get("status", {}).get("conditions") or ()
    ready = next((each for each in conditions if each.get("type") == "Ready"), None)
    if ready is None:
        return "no controller has processed it yet"
    observed = ready.get("observedGeneration", raw["metadata"].get("generation"))
    is_ready = ready.get("status") == "True" and observed == raw["metadata"].get("generation")
    return "" if is_ready else printable(f"{ready.get('reason')}: {ready.get('message')}")
