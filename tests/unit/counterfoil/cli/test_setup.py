"""``kubectl counterfoil setup``: what it creates, what it asks, and what it leaves as it is."""

import argparse
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from counterfoil.callback_auth import callback_token, token_hash
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus
from counterfoil.cli.plugin.installation import setup
from counterfoil.kube.errors import AlreadyExists, Rejected
from counterfoil.kube.secret import Secret
from counterfoil.kube.watch import Raw
from counterfoil.resources import Archive, Organization, Resource, Sender
from counterfoil.resources.base import ObjectMeta
from tests.support.builders import NOON
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import a_shard_lease
from tests.support.inline_commands import printed_in_manual


class ACluster(InMemoryKubeClient):
    """An API server that keeps Secrets, and checks objects as far as the test says."""

    def __init__(self, *resources: Resource, refuses: str = "") -> None:
        super().__init__(*resources)
        self.made_secrets: dict[str, Mapping[str, Any]] = {}
        self.refuses = refuses

    async def create_dry_run(self, kind: type[Resource], body: bytes) -> None:
        """Refuse one kind, and what exists."""
        name = msgspec.json.decode(body)["metadata"]["name"]
        if self.refuses == kind.KIND:
            raise Rejected(422, "Invalid", "spec.baseURL: use https")
        if (kind.PLURAL, name) in self.objects:
            raise AlreadyExists(409, "AlreadyExists", "")

    async def create_secret(self, body: Mapping[str, Any]) -> None:
        """Keep a Secret."""
        name = body["metadata"]["name"]
        if name in self.made_secrets:
            raise AlreadyExists(409, "AlreadyExists", "")
        self.made_secrets[name] = body

    def written_kinds(self) -> set[str]:
        """The kinds of all stored objects."""
        return {each["kind"] for each in self.objects.values()}


def arguments(folder: Path, *more: str) -> argparse.Namespace:
    (folder / "key").write_text("the-api-key\n")
    (folder / "s3").write_text("s3-secret")
    parser = argparse.ArgumentParser()
    setup.add_arguments(parser)
    words = ["acme", "--base-url", "https://esaw.example.com", "--user-id", "u-1"]
    words += ["--api-key-file", str(folder / "key"), "--timeout", "0", *more]
    return argparse.Namespace(**{"output": "text", **vars(parser.parse_args(words))})


def with_bucket(folder: Path) -> list[str]:
    return ["--s3-bucket", "contracts", "--s3-key-id", "AKIA", "--s3-secret-file", str(folder / "s3")]


async def test_it_creates_labelled_secrets_and_three_objects_that_name_them(tmp_path: Path) -> None:
    cluster, out = ACluster(), io.StringIO()
    args = arguments(tmp_path, *with_bucket(tmp_path))
    assert await setup.run(args, cluster, out) is ExitStatus.DONE
    uses = {name: each["metadata"]["labels"] for name, each in cluster.made_secrets.items()}
    assert uses == {
        "acme-callback": {"counterfoil.dev/use": "callback"},
        "default-sender-esaw": {"counterfoil.dev/use": "token"},
        "archive-s3": {"counterfoil.dev/use": "archive"},
    }
    assert callback_token(cluster.made_secrets["acme-callback"]["stringData"]["token"])
    assert cluster.made_secrets["default-sender-esaw"]["stringData"] == {"token": "the-api-key"}
    organization = Organization.parse(cluster.objects[Organization.PLURAL, "acme"])
    sender = Sender.parse(cluster.objects[Sender.PLURAL, "default-sender"])
    archive = Archive.parse(cluster.objects[Archive.PLURAL, "archive"])
    assert organization.spec.cleanup.policy == "Keep"
    assert organization.spec.archive_ref is not None
    assert organization.spec.archive_ref.name == archive.name
    assert sender.spec.token_secret_ref is not None
    assert sender.spec.token_secret_ref.name in cluster.made_secrets
    assert archive.spec.credentials_secret_ref is not None
    assert archive.spec.credentials_secret_ref.name in cluster.made_secrets
    assert "the-api-key" not in out.getvalue()


class AControlledCluster(ACluster):
    """A cluster whose controller finds each object ready, and whose receiver knows the token."""

    async def get(self, kind: type[Resource], name: str) -> Raw:
        """Return the object with the status that the controller writes."""
        raw = await super().get(kind, name)
        ready = {"type": "Ready", "status": "True", "reason": "Checked", "message": "All is well."}
        ready |= {"lastTransitionTime": "2026-11-30T12:00:00Z"}
        raw["status"] = {"conditions": [{**ready, "observedGeneration": 1}]}
        if kind is Organization:
            path = f"https://callbacks.example.com/callbacks/{name}/<token>"
            envelope = f"{path}?envelopeId=##EnvelopeId##&action=##Action##"
            workstep = f"{path}?envelopeId=##EnvelopeId##&action=##EventType##&workstepId=##WorkstepId##"
            workstep += "&source=##Source##&time=##Time##"
            hashed = token_hash(self.token, b"0123456789abcdef")
            raw["status"] |= {
                "callbackURLs": {"envelope": envelope, "status": envelope, "workstep": workstep},
                "callbackTokenHashes": [hashed],
            }
        return raw

    async def secret(self, name: str) -> Secret:
        """Return one of the Secrets that were made."""
        metadata = ObjectMeta(name=name, labels=self.made_secrets[name]["metadata"]["labels"])
        content = self.made_secrets[name]["stringData"]
        return Secret(metadata=metadata, type="Opaque", data={key: content[key].encode() for key in content})

    @property
    def token(self) -> str:
        """The random token of the callbacks."""
        return str(self.made_secrets["acme-callback"]["stringData"]["token"])


async def test_the_manual_shows_what_the_program_prints(tmp_path: Path) -> None:
    cluster, out = AControlledCluster(), io.StringIO()
    args = arguments(tmp_path, *with_bucket(tmp_path), "--timeout", "5")
    assert await setup.run(args, cluster, out) is ExitStatus.DONE
    shown = out.getvalue().replace(cluster.token, "TOKEN")
    assert shown == printed_in_manual("kubectl counterfoil setup acme")


async def test_a_second_run_changes_nothing_that_exists(tmp_path: Path) -> None:
    cluster = ACluster()
    await setup.run(arguments(tmp_path, "--folder", "/archive"), cluster, io.StringIO())
    before = (dict(cluster.objects), dict(cluster.made_secrets))
    out = io.StringIO()
    await setup.run(arguments(tmp_path, "--folder", "/other"), cluster, out)
    assert (cluster.objects, cluster.made_secrets) == before
    assert out.getvalue().count("exists already") == len(out.getvalue().splitlines())


async def test_what_the_api_server_refuses_is_known_before_anything_is_created(tmp_path: Path) -> None:
    cluster = ACluster(refuses="Organization")
    with pytest.raises(Rejected):
        await setup.run(arguments(tmp_path, "--folder", "/archive"), cluster, io.StringIO())
    assert (cluster.written_kinds(), cluster.made_secrets) == (set(), {})


async def test_a_dry_run_prints_all_objects_and_creates_none(tmp_path: Path) -> None:
    cluster, out = ACluster(), io.StringIO()
    args = arguments(tmp_path, "--dry-run", "--folder", "/archive")
    assert await setup.run(args, cluster, out) is ExitStatus.DONE
    printed: list[Raw] = list(yaml.safe_load_all(out.getvalue()))
    assert [each["kind"] for each in printed] == ["Secret", "Secret", "Archive", "Sender", "Organization"]
    assert (cluster.written_kinds(), cluster.made_secrets) == (set(), {})


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "--archive-kind is missing"),
        (["--s3-bucket", "contracts"], "--s3-key-id is missing"),
        (["--folder", "/archive", "--api-key-file", "/nowhere"], "can't be read"),
    ],
)
async def test_without_a_terminal_a_missing_value_is_named_by_its_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], says: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    cluster = ACluster()
    with pytest.raises(CommandError, match=says) as stopped:
        await setup.run(arguments(tmp_path, *more), cluster, io.StringIO())
    assert stopped.value.exit_status is ExitStatus.MISUSED
    assert cluster.made_secrets == {}


async def test_what_is_not_ready_in_time_is_named_with_its_reason(tmp_path: Path) -> None:
    cluster, out = ACluster(), io.StringIO()
    args = arguments(tmp_path, "--folder", "/archive", "--timeout", "0.01")
    with pytest.raises(CommandError, match="describe archive archive") as stopped:
        await setup.run(args, cluster, out)
    assert stopped.value.exit_status is ExitStatus.NOT_ALL
    assert "Organization/acme: no controller has processed it yet" in out.getvalue()


async def test_that_no_controller_works_is_the_reason_why_nothing_becomes_ready(tmp_path: Path) -> None:
    cluster = ACluster()
    cluster.put(a_shard_lease(0, 1, renewed=NOON))
    args = arguments(tmp_path, "--folder", "/archive", "--timeout", "0.01")
    with pytest.raises(CommandError, match="no controller works, so the objects become ready when one runs"):
        await setup.run(args, cluster, io.StringIO())
