"""Seal keys again only with a key that every process has, and call only replaced keys unneeded."""

import argparse
import base64
import copy
import hashlib
import io
import json
import os
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from counterfoil.cli.plugin import reseal as plugin
from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.cli.reseal import (
    NamespaceNotChosen,
    NewestKeyRefused,
    NotAsShown,
    ReleaseNamespaces,
    ResealOutcome,
    ResealPlan,
    ResealReport,
    namespaces_left,
    namespaces_of_release,
    plan_reseal,
    reseal,
    run,
    sealing_of_namespace,
)
from counterfoil.esaw.token import ApiToken
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Conflict, Forbidden
from counterfoil.kube.secret import Secret
from counterfoil.resources import Organization, Resource
from counterfoil.resources.base import ObjectMeta
from counterfoil.sealing import KEY_BYTES, SECRET_KEY, SECRET_TYPE, Sealing, key_id_of
from counterfoil.settings import ResealSettings, load
from tests.support.builders import AClock, a_sender, an_organization
from tests.support.fakes.kube import InMemoryKubeClient

TOKEN = ApiToken.parse("k" * 32, "https://esaw.example.com")


def put_key(folder: Path, key_id: str, key: bytes | None = None) -> None:
    folder.mkdir(exist_ok=True)
    (folder / key_id).write_bytes(base64.b64encode(key or os.urandom(KEY_BYTES)))


def reported(sealing: Sealing, since: str = "2026-01-01T00:00:00Z") -> dict[str, str]:
    """Return what a controller with these keys reports of the newest one."""
    return {"id": sealing.newest, "hash": sealing.newest_hash, "observedTime": since}


A_KEY = {"id": "first", "hash": "0" * 64, "observedTime": "2026-01-01T00:00:00Z"}


class Secrets(InMemoryKubeClient):
    """Sealed Secrets that can be written, each on condition of its version."""

    def __init__(self, *resources: Resource) -> None:
        super().__init__(*resources)
        self.everywhere = InMemoryKubeClient()
        """All namespaces of the cluster."""

    def in_all_namespaces(self) -> KubeClient:
        return self.everywhere

    def version(self, name: str) -> str:
        return hashlib.sha256(self.secrets[name][SECRET_KEY]).hexdigest()

    async def secret(self, name: str) -> Secret:
        metadata = ObjectMeta(name=name, resource_version=self.version(name))
        return Secret(metadata, SECRET_TYPE, dict(self.secrets[name]))

    async def patch_secret(self, name: str, changes: Mapping[str, Any]) -> None:
        await self._arrive("patch_secret", name)
        if changes["metadata"]["resourceVersion"] != self.version(name):
            raise Conflict(409, "Conflict", name)
        self.secrets[name] = {SECRET_KEY: base64.b64decode(changes["data"][SECRET_KEY])}


class Scene:
    """A Sender whose key is sealed with ``first``, and controllers that have some keys."""

    def __init__(self, folder: Path) -> None:
        self.clock = AClock()
        self.of_controllers = folder / "controllers"
        self.of_others = folder / "another release"
        put_key(self.of_controllers, "first")
        self.sender = a_sender(tokenSecretRef=None)
        self.kube = Secrets(an_organization())
        self.add_sender("anna", "first")
        self.report_key()

    def add_sender(self, name: str, key_id: str) -> None:
        """Add a Sender whose key is sealed with this sealing key."""
        self.kube.put(a_sender(name, tokenSecretRef=None))
        self.seal(name, key_id)

    def seal(self, name: str, key_id: str, token: ApiToken = TOKEN) -> None:
        """Seal the key of a Sender with this sealing key."""
        with TemporaryDirectory() as folder:
            copy_of_key = (self.of_controllers / key_id).read_bytes()
            (Path(folder) / key_id).write_bytes(copy_of_key)
            sender = a_sender(name, tokenSecretRef=None)
            sealed = Sealing(Path(folder)).seal_with_newest(token, self.kube.namespace, sender)
        self.kube.secrets[name] = {SECRET_KEY: sealed.data}

    def report_key(self, since: timedelta = timedelta(days=1)) -> None:
        """Let a controller report its newest key."""
        key = reported(Sealing(self.of_controllers), (self.clock.now() - since).isoformat())
        self.kube.edit(Organization, "acme", {"status": {"sealingKey": key}})

    def organization_in(self, namespace: str, release: str | None, **status: Any) -> dict[str, Any]:
        """
        Return an Organization that a namespace of the cluster now has.

        A controller of the release reports which release serves it, None for the namespace of the release
        itself, and its key. ``status`` replaces a part of that.
        """
        keys = Sealing(self.of_controllers)
        return self._organization_in(
            namespace, release, keys.for_namespace(namespace, own=release or namespace), status
        )

    def organization_of_another_release(
        self, namespace: str, release: str | None, **status: Any
    ) -> dict[str, Any]:
        """Return an Organization of a release with other sealing keys, as ``organization_in`` does."""
        put_key(self.of_others, "first")
        return self._organization_in(namespace, release, Sealing(self.of_others), status)

    def _organization_in(
        self, namespace: str, release: str | None, keys: Sealing, status: Mapping[str, Any]
    ) -> dict[str, Any]:
        raw = an_organization(f"of-{namespace}").to_dict()
        raw["metadata"]["namespace"] = namespace
        raw["status"] = {"observedGeneration": raw["metadata"]["generation"], "sealingKey": reported(keys)}
        raw["status"] |= {} if release is None else {"releaseNamespace": release}
        raw["status"] |= status
        self.kube.everywhere.objects[Organization.PLURAL, f"of-{namespace}"] = raw
        return raw

    async def namespaces(self, listed: Collection[str] = ()) -> ReleaseNamespaces:
        """Return the namespaces that the run names."""
        return await namespaces_of_release(self.kube, Sealing(self.of_controllers), listed)

    async def last_lines(self) -> list[str]:
        """Replace the key, and return what the run says about the sealing keys."""
        put_key(self.of_controllers, "second")
        self.report_key()
        report = await self.reseal()
        return report.lines(await self.namespaces())[len(ResealOutcome) :]

    async def plan(self, folder: Path | None = None) -> ResealPlan:
        return await plan_reseal(self.kube, Sealing(folder or self.of_controllers), self.clock)

    async def reseal(self, folder: Path | None = None, *, digest: str | None = None) -> ResealReport:
        """Seal with this digest, or with that of the keys as they are."""
        if digest is None:
            digest = (await self.plan(folder)).digest
        return await reseal(self.kube, Sealing(folder or self.of_controllers), self.clock, digest)

    async def refusal(self, folder: Path | None = None) -> str:
        """Return why nothing is resealed; the sender's key still opens where the controllers run."""
        with pytest.raises(NewestKeyRefused) as refused:
            await self.reseal(folder)
        sealed = self.kube.secrets["anna"][SECRET_KEY]
        assert Sealing(self.of_controllers).open(sealed, self.kube.namespace, self.sender) == TOKEN
        return str(refused.value)


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for each in folder.iterdir():
        (to / each.name).write_bytes(each.read_bytes())
    return to


async def test_a_key_that_the_controllers_lack_seals_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    laptop = copied(scene.of_controllers, tmp_path / "laptop")
    put_key(laptop, "second")
    assert "newest one of the controllers is 'first'" in await scene.refusal(laptop)


async def test_a_folder_with_a_file_that_is_no_key_seals_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    laptop = copied(scene.of_controllers, tmp_path / "laptop")
    (laptop / "second").write_text("not base64!")
    assert "second: a sealing key is 32 bytes in base64" in await scene.refusal(laptop)


async def test_another_key_of_the_same_name_seals_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    laptop = copied(scene.of_controllers, tmp_path / "laptop")
    put_key(laptop, "second")
    put_key(scene.of_controllers, "second")
    scene.report_key()
    assert "another key with the name 'second'" in await scene.refusal(laptop)


async def test_a_folder_without_the_newest_key_of_the_controllers_seals_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    laptop = copied(scene.of_controllers, tmp_path / "laptop")
    put_key(scene.of_controllers, "second")
    scene.report_key()
    assert "newest one of the controllers is 'second'" in await scene.refusal(laptop)


@pytest.mark.parametrize("since", [timedelta(minutes=4), timedelta(days=-1)])
async def test_a_key_that_not_every_process_may_have_yet_seals_nothing(
    tmp_path: Path, since: timedelta
) -> None:
    scene = Scene(tmp_path)
    put_key(scene.of_controllers, "second")
    scene.report_key(since)
    assert "five minutes later" in await scene.refusal()


async def test_without_a_report_of_each_organization_nothing_is_sealed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.kube.put(an_organization("globex"))
    assert "status.sealingKey of Organization/globex is not set" in await scene.refusal()
    for name in ("acme", "globex"):
        del scene.kube.objects["organizations", name]
    assert "There is no Organization" in await scene.refusal()


async def test_only_a_key_that_this_run_replaced_is_no_longer_needed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    put_key(scene.of_controllers, "another")
    put_key(scene.of_controllers, "second")
    scene.report_key()

    report = await scene.reseal()

    assert report.counts == {ResealOutcome.RESEALED: 1}
    namespaces = await scene.namespaces()
    spare = "The namespace tests no longer needs: first. Forms that are open may need it for another hour."
    assert spare in report.lines(namespaces)
    again = await scene.reseal()
    assert again.counts == {ResealOutcome.NEWEST: 1}
    assert not any("no longer needs" in each for each in again.lines(namespaces))
    sealed = scene.kube.secrets["anna"][SECRET_KEY]
    assert Sealing(scene.of_controllers).open(sealed, scene.kube.namespace, scene.sender) == TOKEN


async def test_without_a_digest_the_keys_are_shown_and_nothing_is_sealed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    put_key(scene.of_controllers, "second")
    scene.report_key()
    before = dict(scene.kube.secrets["anna"])

    plan = await scene.plan()

    assert plan.lines() == [
        "anna: a key of https://esaw.example.com",
        "1 sealed with 'first'",
        f"1 key; to seal exactly these with 'second', add --digest {plan.digest}",
    ]
    assert scene.kube.secrets["anna"] == before


async def test_the_keys_of_other_senders_than_were_shown_are_not_sealed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    put_key(scene.of_controllers, "second")
    scene.report_key()
    digest = (await scene.plan()).digest
    scene.add_sender("bruno", "first")
    before = copy.deepcopy(scene.kube.secrets)

    with pytest.raises(NotAsShown):
        await scene.reseal(digest=digest)

    assert scene.kube.secrets == before


ANOTHER_TOKEN = ApiToken.parse("z" * 32, "https://evil.example.com")


async def test_another_token_that_was_sealed_with_the_same_key_since_it_was_shown_is_not_sealed(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    put_key(scene.of_controllers, "second")
    scene.report_key()
    digest = (await scene.plan()).digest
    scene.seal("anna", "first", ANOTHER_TOKEN)

    with pytest.raises(NotAsShown):
        await scene.reseal(digest=digest)

    assert (await scene.plan()).lines()[0] == "anna: a key of https://evil.example.com"
    assert key_id_of(scene.kube.secrets["anna"][SECRET_KEY]) == "first"


async def test_another_token_that_is_sealed_with_the_same_key_during_the_run_is_not_changed(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    put_key(scene.of_controllers, "second")
    scene.report_key()
    scene.kube.just_before("patch_secret", lambda: scene.seal("anna", "first", ANOTHER_TOKEN))

    report = await scene.reseal()

    assert report.counts == {ResealOutcome.CHANGED: 1}
    assert key_id_of(scene.kube.secrets["anna"][SECRET_KEY]) == "first"


async def test_a_key_that_no_key_of_the_folder_opens_is_a_failure_and_is_not_offered(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    put_key(scene.of_controllers, "second")
    scene.report_key()
    (scene.of_controllers / "first").unlink()
    plan = await scene.plan()
    assert plan.lines()[0].startswith("anna: It is sealed with the key 'first'")
    assert plan.lines()[-1] == "no key to seal again in the namespace tests"
    assert plan.failures


async def test_a_key_that_somebody_sealed_meanwhile_with_another_key_is_not_changed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for key_id in ("other", "second"):
        put_key(scene.of_controllers, key_id)
    scene.report_key()
    scene.kube.just_before("patch_secret", lambda: scene.seal("anna", "other"))

    report = await scene.reseal()

    assert report.counts == {ResealOutcome.CHANGED: 1}
    assert key_id_of(scene.kube.secrets["anna"][SECRET_KEY]) == "other"
    assert not report.is_complete
    namespaces = await scene.namespaces()
    assert report.lines(namespaces)[-1] == "Run the command again for the keys that changed."


async def test_a_sender_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    put_key(scene.of_controllers, "second")
    scene.report_key()
    scene.add_sender("bruno", "first")
    scene.kube.secrets["bruno"] = {SECRET_KEY: b"not sealed"}

    assert "bruno" in (await scene.plan()).lines()[0]
    report = await scene.reseal()

    assert report.counts == {ResealOutcome.RESEALED: 1, ResealOutcome.FAILED: 1}


async def test_the_release_s_own_keys_count_where_the_controllers_report_them(tmp_path: Path) -> None:
    scene, sealing = Scene(tmp_path), Sealing(tmp_path / "controllers")

    assert await sealing_of_namespace(scene.kube, sealing) is sealing


async def test_in_a_further_namespace_keys_are_sealed_again_with_its_derived_key(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    unit = Sealing(scene.of_controllers).derived_for(scene.kube.namespace)
    sealed = unit.seal(TOKEN, scene.kube.namespace, scene.sender)
    scene.kube.secrets["anna"] = {SECRET_KEY: sealed.data}
    put_key(scene.of_controllers, "second")
    key = {
        "id": unit.newest,
        "hash": unit.newest_hash,
        "observedTime": (scene.clock.now() - timedelta(days=1)).isoformat(),
    }
    scene.kube.edit(Organization, "acme", {"status": {"sealingKey": key}})
    sealing = await sealing_of_namespace(scene.kube, Sealing(scene.of_controllers))

    digest = (await plan_reseal(scene.kube, sealing, scene.clock)).digest
    report = await reseal(scene.kube, sealing, scene.clock, digest)

    data = scene.kube.secrets["anna"][SECRET_KEY]
    assert report.counts[ResealOutcome.RESEALED] == 1
    assert key_id_of(data) == "second"
    assert unit.open(data, scene.kube.namespace, scene.sender) == TOKEN


async def test_a_sealing_key_is_no_longer_needed_by_one_namespace_and_the_others_are_named(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    for namespace in ("tests", "unit-c", "unit-b"):
        scene.organization_in(namespace, "release")
    scene.organization_of_another_release("alone", None)
    scene.organization_of_another_release("x", "y")

    assert await scene.last_lines() == [
        "The namespace tests no longer needs: first. Forms that are open may need it for another hour.",
        "This run did not look at other namespaces of the release: unit-b, unit-c. Each of them may need "
        "each sealing key. Run the command for each of them. Remove sealing keys after the last one.",
    ]


async def test_the_release_s_own_namespace_and_the_others_need_the_same_sealing_keys(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.organization_in("tests", None)
    scene.organization_in("unit-b", "tests")
    scene.organization_of_another_release("alone", None)

    assert await scene.namespaces() == ReleaseNamespaces("tests", ("unit-b",))
    scene.organization_of_another_release("unit-b", "another")
    assert await scene.namespaces() == ReleaseNamespaces("tests", ())
    assert (await scene.last_lines())[1:] == ["No other namespace has an Organization of the release."]


@pytest.mark.parametrize("planted", ["nowhere", None, "unit-b"])
async def test_no_status_here_hides_another_namespace_that_has_keys_of_the_folder(
    tmp_path: Path, planted: str | None
) -> None:
    scene = Scene(tmp_path)
    scene.organization_in("tests", planted)
    scene.organization_in("unit-b", "release")
    scene.organization_in("release", None)
    assert (await scene.namespaces()).others == ("release", "unit-b")


async def test_a_namespace_with_a_former_key_of_the_folder_needs_the_keys(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.organization_in("unit-b", "former")
    put_key(scene.of_controllers, "second")
    assert await scene.namespaces() == ReleaseNamespaces("tests", ("unit-b",))


UNKNOWN = [
    "It is not known if the release serves these namespaces: unit-b. Each of them may need each sealing key. "
    "Run the command for each of them. Remove sealing keys after the last one."
]


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"observedGeneration": 1, "releaseNamespace": "another"},
        {"releaseNamespace": "another", "sealingKey": {**A_KEY, "hash": "0" * 64}},
        {"observedGeneration": 1, "sealingKey": {**A_KEY, "hash": 7}},
    ],
    ids=["null", "restored", "without a key", "of a former spec", "unreadable"],
)
async def test_a_namespace_counts_as_that_of_no_other_release_without_a_status_that_proves_it(
    tmp_path: Path, status: dict[str, Any] | None
) -> None:
    scene = Scene(tmp_path)
    scene.organization_in("tests", None)
    scene.organization_of_another_release("unit-b", "another")["status"] = status
    assert (await scene.last_lines())[1:] == UNKNOWN


async def test_an_organization_that_can_not_be_read_excludes_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.organization_of_another_release("unit-b", "another")["spec"] = {"baseURL": 7}
    assert (await scene.last_lines())[1:] == UNKNOWN


async def test_while_a_file_of_the_folder_can_not_be_used_no_key_is_that_of_another_release(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    scene.organization_in("unit-b", "another")
    put_key(scene.of_controllers, "second")
    (scene.of_controllers / "first").write_text("not base64!")
    assert await scene.namespaces() == ReleaseNamespaces("tests", (), ("unit-b",))


async def test_each_organization_of_a_namespace_has_to_exclude_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.organization_of_another_release("unit-b", "another")
    restored = scene.organization_of_another_release("unit-c", "another", observedGeneration=0)
    restored["metadata"]["namespace"] = "unit-b"
    assert await scene.namespaces() == ReleaseNamespaces("tests", (), ("unit-b",))


async def test_namespaces_that_are_sure_and_those_that_are_not_are_named_apart(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.organization_in("unit-c", "tests")
    scene.organization_of_another_release("unit-b", "another")["status"] = {}
    assert (await scene.last_lines())[1:] == [
        "This run did not look at other namespaces of the release: unit-c. "
        "It is not known if the release serves these namespaces: unit-b. Each of them may need each sealing "
        "key. Run the command for each of them. Remove sealing keys after the last one."
    ]


async def test_who_may_not_list_other_namespaces_learns_that_they_may_need_each_key(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.kube.everywhere.trouble["page"] = Forbidden(403, "Forbidden", "organizations is forbidden")

    assert (await scene.last_lines())[1:] == [
        "This run could not determine whether the release serves other namespaces. Each of them may need "
        "each sealing key. Run the command for each of them. Remove sealing keys after the last one."
    ]


async def test_the_namespaces_of_a_setting_are_named_beside_those_that_were_found(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.organization_in("tests", "release")
    scene.organization_in("unit-c", "release")
    both = ReleaseNamespaces("tests", ("unit-b", "unit-c"))
    assert await scene.namespaces(listed=("unit-b",)) == both
    scene.kube.everywhere.trouble["page"] = Forbidden(403, "Forbidden", "organizations is forbidden")
    assert (await scene.namespaces(listed=("unit-b",))).others == ("unit-b",)


async def test_the_plugin_names_the_namespaces_that_it_did_not_look_at(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.organization_in("tests", "release")
    scene.organization_in("unit-b", "release")
    put_key(scene.of_controllers, "second")
    # The plugin reads the real clock.
    scene.report_key(since=timedelta(days=3650))
    digest = (await scene.plan()).digest

    async def said(output: str) -> str:
        keys, out = scene.of_controllers, io.StringIO()
        args = argparse.Namespace(sealing_keys=keys, digest=digest, output=output, dry_run=False)
        assert await plugin.run(args, scene.kube, out) is ExitStatus.DONE
        return out.getvalue()

    text = await said("text")
    digest = (await scene.plan()).digest
    assert "The namespace tests no longer needs: first." in text
    assert "other namespaces of the release: unit-b." in text
    scene.organization_of_another_release("unit-c", "another")["status"] = {}
    found = json.loads(await said("json"))
    assert (found["otherNamespaces"], found["unknownNamespaces"]) == (["unit-b"], ["unit-c"])
    scene.kube.everywhere.trouble["page"] = Forbidden(403, "Forbidden", "organizations is forbidden")
    assert json.loads(await said("json"))["otherNamespaces"] is None


@pytest.mark.parametrize("listed", ["unit-a,unit-b", "unit-a"])
async def test_a_list_of_namespaces_chooses_none_and_is_refused(tmp_path: Path, listed: str) -> None:
    keys = {"COUNTERFOIL_SEALING_KEYS": str(Scene(tmp_path).of_controllers)}
    settings = load(ResealSettings, [], {**keys, "COUNTERFOIL_NAMESPACES": listed})

    with pytest.raises(NamespaceNotChosen) as refused:
        await run(settings)

    assert f"with --namespace NAMESPACE: {', '.join(listed.split(','))}." in str(refused.value)


def test_a_run_in_one_of_several_namespaces_names_those_that_are_left() -> None:
    listed = {"COUNTERFOIL_NAMESPACES": "unit-a,unit-b"}
    assert namespaces_left(load(ResealSettings, ["--namespace", "unit-a"], listed)) == ("unit-b",)
    assert namespaces_left(load(ResealSettings, ["--namespace", "unit-a"], {})) == ()
    assert namespaces_left(load(ResealSettings, [], {})) == ()
