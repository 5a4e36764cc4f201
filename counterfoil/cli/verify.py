"""
The audit of an archived envelope: ``python -m counterfoil.cli.verify LOCATION...``.

Check an archived envelope: is it complete and unchanged? LOCATION is the envelope's folder or its manifest: a
path, a `file:` URI, or `s3://BUCKET/FOLDER`. Several locations check its copies too. This needs neither
Kubernetes nor eSignAnyWhere, and changes nothing. The signatures in PDFs are examined again. Exit status: 0
complete and unchanged, 1 something is wrong, 2 not possible to check.
"""

import argparse
import asyncio
import inspect
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote, urlsplit

import msgspec

from counterfoil.archives import open_backend
from counterfoil.archives.backend import MOVE_AWAY, ArchiveBackend
from counterfoil.archives.errors import ArchiveError, NameTaken
from counterfoil.archives.manifest_signature import PublicKey, SigningKeyInvalid
from counterfoil.archives.names import MANIFEST_NAME
from counterfoil.archives.verify import CheckReport, CheckStatus, CheckSubject, check_archive
from counterfoil.process_exit import exit_process
from counterfoil.resources.archive import S3, ArchiveSpec, Filesystem
from counterfoil.resources.archive_kinds import CredentialsReference
from counterfoil.signatures.worker_pool import SignatureWorkers
from counterfoil.untrusted.addresses import ALLOWED, Addresses

INTACT, WRONG, UNCHECKED = 0, 1, 2

_MARKS: Mapping[CheckStatus, str] = {
    CheckStatus.OK: "ok",
    CheckStatus.WRONG: "WRONG",
    CheckStatus.NOT_CHECKED: "not checked",
}
_ARGUMENTS: Mapping[str, str] = {
    "Archive/verify: ": "",
    "Archive/verify": "the archive",
    "spec.s3.bucket": "the bucket",
    "spec.s3.region": "--region",
    "spec.s3.endpoint": "--endpoint",
    "name a Secret in spec.s3.credentialsSecretRef": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
}
"""Words of messages about an Archive, and the words for the same here."""

_KEYS: Mapping[str, str] = {
    "accessKeyId": "AWS_ACCESS_KEY_ID",
    "secretAccessKey": "AWS_SECRET_ACCESS_KEY",
    "sessionToken": "AWS_SESSION_TOKEN",
}


class CheckImpossible(Exception):
    """Nothing can be said about the envelope; the message says why."""


def main(
    argv: Sequence[str],
    environ: Mapping[str, str],
    out: TextIO,
    *,
    program: str = "python -m counterfoil.cli.verify",
    examiner: SignatureWorkers | None = None,
) -> int:
    """Check what the arguments name, write what was found, and return the exit status. ``examiner`` is a new
    process, except in tests."""
    chosen = parser(program).parse_args(argv)
    # The person who runs it chose the address, perhaps that of a forwarded port or of this machine.
    ALLOWED.set(Addresses(allows_loopback=True, is_own=lambda _: False))
    try:
        key = PublicKey.load(chosen.public_key) if chosen.public_key is not None else None
    except SigningKeyInvalid as problem:
        print(problem, file=sys.stderr)
        return UNCHECKED
    answers, statuses = [], []
    for location in chosen.locations:
        one = argparse.Namespace(**{**vars(chosen), "location": location})
        try:
            checks = asyncio.run(_checks(one, environ, key, examiner or SignatureWorkers(count=1)))
        except (CheckImpossible, ArchiveError) as problem:
            print(f"{location}: {_in_words_of_the_command(str(problem))}", file=sys.stderr)
            statuses.append(UNCHECKED)
            continue
        statuses.append(_exit_status(checks))
        if chosen.output == "json":
            answers.append(_answer(location, checks))
        else:
            out.write(f"{location}\n" if len(chosen.locations) > 1 else "")
            out.write("".join(f"{_line(check)}\n" for check in checks))
            out.write(f"{_summary(checks)}\n")
    if answers:
        # In ASCII, since names of files may be no text.
        answer = answers[0] if len(chosen.locations) == 1 else answers
        out.write(json.dumps(msgspec.to_builtins(answer), indent=2) + "\n")
    return WRONG if WRONG in statuses else max(statuses)


def _answer(location: str, checks: Sequence[CheckReport]) -> dict[str, object]:
    is_intact = _exit_status(checks) == INTACT
    return {
        "location": location,
        "intact": is_intact,
        "signatureVerified": is_intact and _is_signature_verified(checks),
        "checks": checks,
    }


def _exit_status(checks: Sequence[CheckReport]) -> int:
    """A seal that nobody gave a key for hides no fault; what was not read or examined may."""
    if any(check.verdict is CheckStatus.WRONG for check in checks):
        return WRONG
    others = [check.verdict for check in checks if check.about is not CheckSubject.SEAL]
    return UNCHECKED if CheckStatus.NOT_CHECKED in others else INTACT


def _summary(checks: Sequence[CheckReport]) -> str:
    """Say what was proved, and what was not."""
    wrong = sum(check.verdict is CheckStatus.WRONG for check in checks)
    if wrong:
        return "1 thing is wrong." if wrong == 1 else f"{wrong} things are wrong."
    if _exit_status(checks) == UNCHECKED:
        return "A file or its signatures could not be checked, so a changed or forged file may not be found."
    if _is_signature_verified(checks):
        return f"Everything is as it was archived, and {MANIFEST_NAME} is signed with your key."
    has_seal = any(check.about is CheckSubject.SEAL for check in checks)
    return (
        f"The files are as {MANIFEST_NAME} says. Not proved: that nobody changed {MANIFEST_NAME} and the "
        "files together. "
        + (
            "Give the public key of the seal (--public-key)."
            if has_seal
            else "It has no seal, so only the archive's versions, retention lock or backups can show that."
        )
    )


def _is_signature_verified(checks: Sequence[CheckReport]) -> bool:
    return any(check.about is CheckSubject.SEAL and check.verdict is CheckStatus.OK for check in checks)


async def _checks(
    chosen: argparse.Namespace,
    environ: Mapping[str, str],
    key: PublicKey | None,
    examiner: SignatureWorkers,
) -> list[CheckReport]:
    backend, folder = await open_location(chosen, environ)
    try:
        try:
            has_files = await backend.entries(folder)
        except NameTaken as problem:
            # The advice of the message makes room for an envelope; here another folder was meant.
            says = str(problem).removesuffix(MOVE_AWAY).rstrip()
            raise CheckImpossible(
                f"{says} Name the folder of one envelope, which has its {MANIFEST_NAME}."
            ) from None
        if not has_files:
            raise CheckImpossible("there are no files.")
        async with aclosing(examiner):
            return [each async for each in check_archive(backend, folder, key=key, examiner=examiner)]
    finally:
        await backend.close()


async def open_location(chosen: argparse.Namespace, environ: Mapping[str, str]) -> tuple[ArchiveBackend, str]:
    """Return the archive that the location is in, and the folder there. Raises ``CheckImpossible``."""
    scheme, _, rest = chosen.location.partition("://")
    match scheme.lower() if rest else "":
        case "":
            return await _open_folder(Path(chosen.location))
        case "file":
            return await _open_folder(Path(unquote(urlsplit(chosen.location).path)))
        case "s3":
            return await _open_bucket(rest, chosen, environ)
        case other:
            raise CheckImpossible(
                f"{other} locations can't be opened from here. Copy the folder to this machine and give "
                "its path."
            )


async def _open_folder(path: Path) -> tuple[ArchiveBackend, str]:
    folder = (path.parent if path.name == MANIFEST_NAME else path).resolve()
    if not folder.name or not folder.is_dir():
        raise CheckImpossible("there is no such folder.")
    spec = ArchiveSpec(filesystem=Filesystem(root=str(folder.parent)))
    return await open_backend("verify", spec, {}), folder.name


async def _open_bucket(
    place: str, chosen: argparse.Namespace, environ: Mapping[str, str]
) -> tuple[ArchiveBackend, str]:
    bucket, _, name = unquote(place).partition("/")
    folder = name.removesuffix(MANIFEST_NAME).strip("/")
    if not bucket or not folder:
        raise CheckImpossible("write bucket and folder, as in s3://contracts/acme/0f9c1c2e-….")
    credentials = {
        key: environ[variable].encode() for key, variable in _KEYS.items() if environ.get(variable)
    }
    settings = S3(
        bucket=bucket,
        region=chosen.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"),
        endpoint=chosen.endpoint or environ.get("AWS_ENDPOINT_URL"),
        force_path_style=chosen.path_style,
        credentials_secret_ref=CredentialsReference(name="environment") if credentials else None,
    )
    return await open_backend("verify", ArchiveSpec(s3=settings), credentials), folder


def _in_words_of_the_command(message: str) -> str:
    """Return a message about an Archive as one about the arguments: there is no Archive."""
    for field, argument in _ARGUMENTS.items():
        message = message.replace(field, argument)
    return message


def _line(check: CheckReport) -> str:
    # A name out of a manifest that somebody may have changed must not talk to the terminal.
    name = check.name if check.name.isprintable() else ascii(check.name)
    says = check.says if check.says.isprintable() else ascii(check.says)
    return f"{_MARKS[check.verdict]:<12}{name}: {says}"


def parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of the arguments, for a program of that name."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=inspect.cleandoc(__doc__ or "").partition("\n\n")[2],
        epilog="S3 keys come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; without "
        "them the machine's own identity counts.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "locations", metavar="LOCATION", nargs="+", help="folder or manifest of one envelope, or of its copy"
    )
    parser.add_argument(
        "--public-key",
        type=Path,
        metavar="FILE",
        help="Ed25519 public key in PEM form; the manifest must be signed with its private key",
    )
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="output format. Default: text"
    )
    parser.add_argument(
        "--json", dest="output", action="store_const", const="json", help="the same as --output=json"
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="of an S3 server other than Amazon's. Environment: AWS_ENDPOINT_URL.",
    )
    parser.add_argument("--region", help="of the S3 bucket. Environment: AWS_REGION.")
    parser.add_argument(
        "--path-style", action="store_true", help="put the S3 bucket into the path instead of the host name"
    )
    return parser


if __name__ == "__main__":
    exit_process(main(sys.argv[1:], os.environ, sys.stdout))
