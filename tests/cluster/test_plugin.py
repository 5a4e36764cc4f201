"""
``kubectl counterfoil`` on a real API server, found by the real kubectl: with all rights that an administrator
has, and as somebody who may only look.
"""

import json
import re
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.resources import REQUEST_LABEL, Archive, EnvelopeEvent, Organization, Phase, Sender
from counterfoil.resources.audit_annotation import audit_entries
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.processes import run
from tests.support.pauses import eventually
from tests.support.scenes.controller import ControllerScene
from tests.support.scenes.plugin import (
    ADMINISTERS,
    BIN,
    Terminal,
    a_scene_with_people,
    refused,
    terminal,
)


@pytest.fixture
async def administrator(scene: ControllerScene) -> Terminal:
    return await terminal(scene, "administrator")


@pytest.fixture
async def looker(scene: ControllerScene) -> Terminal:
    return await terminal(scene, "looker")


@pytest.fixture(scope="module")
async def scene(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControllerScene]:
    async with a_scene_with_people(plane, tmp_path_factory.mktemp("controller")) as built:
        yield built


# -- url -----------------------------------------------------------------------------------------------------


async def test_the_urls_have_the_token_and_all_placeholders(
    scene: ControllerScene, administrator: Terminal
) -> None:
    answer = await administrator("url", "acme", "-o", "json")
    assert f"/callbacks/acme/{scene.local_environment.tokens['acme']}?" in answer.json["envelope"]
    assert "##EventType##" in answer.json["workstep"]
    # The controller has no setting for the address at which eSAW reaches the receiver.
    assert (answer.code, "<your-host>" in answer.err) == (ExitStatus.NOT_ALL, True)


async def test_urls_that_are_complete_are_all_that_is_said(
    scene: ControllerScene, administrator: Terminal
) -> None:
    await scene.local_environment.secret("full-oauth", "oauth", clientSecret="not a secret at all")
    await scene.local_environment.secret(
        "full-basic", "callback", username="esaw", password="a password that nobody prints"
    )
    oauth = {
        "clientID": "counterfoil",
        "clientSecretRef": {"name": "full-oauth", "key": "clientSecret"},
        "publicURL": "https://sign.acme.example",
    }
    tokens = [{"name": "full-callback", "key": "token"}]
    callback = {
        "tokenSecretRefs": tokens,
        "basicAuthSecretRef": {"name": "full-basic"},
        "parameters": ["orderNo", "tenant"],
    }
    await scene.local_environment.organization("full", archive="dms", oauth=oauth, callback=callback)
    await scene.local_environment.ready("organization/full")
    answer = await administrator("url", "full")
    assert (answer.code, answer.err) == (ExitStatus.DONE, "")
    prefix = f"https://sign.acme.example/callbacks/full/{scene.local_environment.tokens['full']}?envelopeId=##EnvelopeId##"
    assert answer.out.count(prefix) == 3
    assert "&orderNo=...&tenant=...\n" in answer.out
    assert answer.out.endswith("basic auth with username and password of Secret/full-basic\n")


async def test_a_user_who_may_not_read_the_secret_gets_the_missing_right_and_no_url(
    scene: ControllerScene, looker: Terminal
) -> None:
    answer = await looker("url", "acme")
    assert (answer.code, answer.out) == (ExitStatus.NOT_ALLOWED, "")
    assert "you may not read Secret/acme-callback" in answer.err
    assert scene.local_environment.tokens["acme"] not in answer.err


async def test_the_token_in_a_secret_for_another_use_is_not_printed_and_the_command_to_label_it_is(
    scene: ControllerScene, administrator: Terminal
) -> None:
    await scene.local_environment.secret("database", "archive", password="not for callbacks, but readable")
    refs = [{"name": "database", "key": "password"}]
    await scene.local_environment.organization("misled", archive="dms", callback={"tokenSecretRefs": refs})
    await scene.until_condition(Organization, "misled", "Ready", ("False", "SecretNotLabelled"))
    answer = await administrator("url", "misled")
    assert (answer.code, answer.out) == (ExitStatus.NOT_ALL, "")
    assert "`kubectl label secret database counterfoil.dev/use=callback`" in answer.err
    assert "but readable" not in answer.err


async def test_an_organization_that_does_not_exist_is_said_to_be_missing_in_one_line(
    administrator: Terminal,
) -> None:
    answer = await administrator("url", "nobody")
    assert answer.code == ExitStatus.NOT_FOUND
    assert "In another namespace? Say which with -n." in answer.err
    assert answer.err.count("\n") == 1


# -- status, preflight, setup, suspend -----------------------------------------------------------------------


async def test_status_shows_what_waits_with_a_command_that_can_be_typed(
    scene: ControllerScene, administrator: Terminal, looker: Terminal
) -> None:
    await refused(scene)
    answer = await administrator("status")
    assert answer.code == ExitStatus.NOT_ALL
    assert max(map(len, answer.out.splitlines())) <= 120
    lines = answer.out.replace("\\\n", "").splitlines()
    typed = next(each for each in lines if "retry --all-failed --reason EsawRefused" in each)
    words = typed.partition("$ kubectl counterfoil ")[2].split()
    asked = await administrator(*words, "--dry-run")
    assert (asked.code, "would be asked for" in asked.out) == (ExitStatus.DONE, True)
    # Without rights to pods the rest is shown, and what is missing is named.
    seen = await looker("status", "-o", "yaml")
    found = yaml.safe_load(seen.out)
    assert {each["name"] for each in found["organizations"]} >= {"acme"}
    assert any(each.startswith("pods") for each in found["unread"])


async def test_a_user_without_rights_learns_which_one_is_missing(
    scene: ControllerScene, administrator: Terminal
) -> None:
    everywhere = await administrator("status", "-A")
    assert everywhere.code == ExitStatus.NOT_ALLOWED
    assert "cannot list resource" in everywhere.err
    somebody = await administrator("status", "--as", "somebody")
    assert somebody.code == ExitStatus.NOT_ALLOWED
    assert "cannot impersonate" in somebody.err


async def test_preflight_finds_the_crds_and_names_the_rights_that_are_missing(
    administrator: Terminal,
) -> None:
    answer = await administrator("preflight", "-o", "json")
    assert answer.out, answer.err
    lines = {each["check"]: each for each in answer.json}
    assert (lines["Kubernetes"]["outcome"], lines["CRDs"]["outcome"]) == ("ok", "ok")
    assert "create customresourcedefinitions" in lines["right to install"]["found"]
    assert lines["archive dms"]["outcome"] == "ok"


async def test_setup_creates_an_organization_that_becomes_ready(
    scene: ControllerScene, administrator: Terminal, tmp_path: Path
) -> None:
    await scene.local_environment.apply(
        *rbac.service_account_with_rules(
            "installer",
            (*ADMINISTERS, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}),
        )
    )
    installer, esaw, milton = await terminal(scene, "installer"), scene.esaw, scene.user("Milton")
    key = tmp_path / "key"
    key.write_text(milton.token)
    answer = await installer(
        *("setup", "initech", "--sender", "milton", "--archive", "dms", "--base-url", esaw.url),
        *("--user-id", milton.user_id, "--api-key-file", str(key)),
    )
    assert "Organization/initech: ready" in answer.out, answer
    # The controller has no public address here, so the URLs lack the host.
    assert (answer.code, "<your-host>" in answer.err) == (ExitStatus.NOT_ALL, True)
    again = await installer(
        *("setup", "initech", "--sender", "milton", "--archive", "dms", "--base-url", esaw.url),
        *("--user-id", milton.user_id, "--api-key-file", str(key), "--timeout", "0"),
    )
    assert (again.code, again.out.count("exists already")) == (ExitStatus.DONE, 4)


async def test_an_archive_is_suspended_and_resumed(scene: ControllerScene, administrator: Terminal) -> None:
    event = await scene.note(scene.envelope())
    suspended = await administrator("suspend", "archive", "dms", "--because", "an update")
    assert suspended.out == "Archive/dms: suspended\n"
    await scene.until_condition(Archive, "dms", "Ready", ("False", "ArchiveSuspended"))
    held = await scene.note(scene.envelope())
    await scene.reaches(held, Phase.VALIDATING, "ArchiveSuspended")
    assert (await administrator("resume", "archive/dms")).code == ExitStatus.DONE
    await scene.reaches(held, Phase.SUCCEEDED)
    await scene.reaches(event, Phase.SUCCEEDED)


# -- why -----------------------------------------------------------------------------------------------------


async def test_why_shows_on_one_page_what_happened_what_is_next_and_who_must_act(
    scene: ControllerScene, administrator: Terminal
) -> None:
    event = await refused(scene)
    answer = await administrator("why", event)
    assert answer.code == ExitStatus.DONE
    for expected in ("Failed (EsawRefused)", "an administrator", "kubectl counterfoil retry"):
        assert expected in answer.out
    assert len(answer.out.splitlines()) < 40


async def test_why_finds_an_event_by_its_envelope_and_says_when_it_is_done(
    scene: ControllerScene, looker: Terminal
) -> None:
    envelope = scene.envelope()
    event = await scene.reaches(await scene.note(envelope), Phase.SUCCEEDED)
    answer = await looker("why", envelope.upper(), "-o", "json")
    assert (answer.json["event"], answer.json["phase"]) == (event.name, "Succeeded")
    assert answer.json["turn"] == "nobody has to act"
    assert {each["name"]: each["status"] for each in answer.json["steps"]}["Archived"] == "True"


async def test_an_envelope_with_several_events_has_them_listed_by_name(
    scene: ControllerScene, administrator: Terminal
) -> None:
    envelope = scene.envelope()
    names = [await scene.note(envelope), await scene.note(envelope, action="envelopeRejected")]
    answer = await administrator("why", envelope)
    assert answer.code == ExitStatus.NOT_FOUND
    assert all(name in answer.err for name in names)


async def test_an_envelope_without_a_callback_is_reported_with_what_to_do(administrator: Terminal) -> None:
    answer = await administrator("why", "0f9c1c2e-1111-4222-8333-444455556666")
    assert answer.code == ExitStatus.NOT_FOUND
    assert "kubectl counterfoil sweep ORGANIZATION" in answer.err


# -- retry and skip ------------------------------------------------------------------------------------------


async def test_a_retry_by_envelope_is_carried_out_and_records_who_asked_and_why(
    scene: ControllerScene, administrator: Terminal
) -> None:
    event = await refused(scene)
    envelope = (await scene.event(event)).spec.envelope_id
    answer = await administrator("retry", envelope, "--because", "eSAW is back", "-o", "json")
    assert [each["asked"] for each in answer.json] == [True]
    await scene.reaches(event, Phase.SUCCEEDED)
    told = await scene.local_environment.kubectl("get", "events.events.k8s.io", "-o", "json")
    asked = next(each["note"] for each in json.loads(told)["items"] if each["reason"] == "RetryRequested")
    assert f"in the name of system:serviceaccount:{scene.local_environment.namespace}:administrator" in asked
    assert "eSAW is back" in asked
    (act,) = audit_entries((await scene.event(event)).metadata.annotations)
    assert (act.what, act.why) == ("retry", "eSAW is back")
    assert act.who.endswith(":administrator")


async def test_all_that_failed_is_retried_for_one_reason(
    scene: ControllerScene, administrator: Terminal
) -> None:
    events = [await refused(scene) for _ in range(3)]
    tried = await administrator("retry", "--all-failed", "--reason", "EsawRefused", "--dry-run", "-o", "json")
    assert set(events) <= {each["event"] for each in tried.json}
    assert (await scene.event(events[0])).status.phase is Phase.FAILED
    assert (await administrator("retry", "--all-failed", "--reason", "EsawRefused")).code == ExitStatus.DONE
    for event in events:
        await scene.reaches(event, Phase.SUCCEEDED)


async def test_events_are_given_up_by_a_label_selector(
    scene: ControllerScene, administrator: Terminal
) -> None:
    event = await refused(scene)
    envelope = (await scene.event(event)).spec.envelope_id
    choice = ("skip", "-l", f"counterfoil.dev/envelope={envelope}")
    digest = (await administrator(*choice, "--dry-run")).out.split("--digest ")[1].strip()
    answer = await administrator(*choice, "--digest", digest, "--because", "a duplicate")
    assert answer.code == ExitStatus.DONE
    await scene.reaches(event, Phase.SKIPPED, "SkippedByRequest")
    assert scene.esaw.exists(envelope)


async def test_what_has_succeeded_is_not_retried_and_the_exit_status_shows_it(
    scene: ControllerScene, administrator: Terminal
) -> None:
    event = await scene.reaches(await scene.noted(), Phase.SUCCEEDED)
    answer = await administrator("retry", event.name)
    assert (answer.code, answer.out) == (
        ExitStatus.NOT_ALL,
        f"{event.name}: nothing to retry, it is Succeeded\n",
    )
    assert REQUEST_LABEL not in (await scene.kube.get(EnvelopeEvent, event.name))["metadata"]["labels"]


async def test_who_may_only_look_can_ask_for_nothing(scene: ControllerScene, looker: Terminal) -> None:
    event = await refused(scene)
    answer = await looker("retry", event)
    assert (answer.code, answer.out) == (ExitStatus.NOT_ALLOWED, "")
    assert answer.err.startswith("kubectl counterfoil: you have no right to do that")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["retry"], ["skip", "a", "--all-failed"], ["dance"], ["why"]])
async def test_arguments_that_make_no_sense_are_refused_in_one_line(
    administrator: Terminal, arguments: list[str]
) -> None:
    answer = await administrator(*arguments)
    assert (answer.code, answer.out) == (ExitStatus.MISUSED, "")
    assert answer.err.count("\n") == 1


# -- The others ----------------------------------------------------------------------------------------------


async def test_a_sweep_finds_now_what_was_never_called_about(
    scene: ControllerScene, administrator: Terminal
) -> None:
    envelope = scene.envelope()
    await scene.until_condition(Sender, "anna", "Authorized", ("True", "KeyAccepted"))
    answer = await administrator("sweep", "acme", "-o", "json")
    assert answer.code == ExitStatus.DONE, answer.err
    assert answer.json["found"] >= 1
    organization = await scene.answered(Organization, "acme")
    last = organization.status.last_request
    assert last is not None
    assert (last.request, last.outcome) == ("sweep", "Done")
    assert (last.by or "").endswith(":administrator")
    (act,) = audit_entries(organization.metadata.annotations)
    assert act.what == "sweep"

    async def filed() -> bool:
        return scene.filed(envelope) != []

    await eventually(filed)


async def test_a_sender_with_an_own_key_gets_instructions_and_no_consent_link(
    administrator: Terminal,
) -> None:
    answer = await administrator("consent", "anna")
    assert answer.code == ExitStatus.NOT_FOUND
    assert "put a new one into Secret/anna-key" in answer.err


async def test_the_consent_link_is_the_one_of_the_pages(
    scene: ControllerScene, administrator: Terminal
) -> None:
    await scene.local_environment.secret("other-oauth", "oauth", clientSecret="not a secret at all")
    oauth = {
        "clientID": "counterfoil",
        "clientSecretRef": {"name": "other-oauth", "key": "clientSecret"},
        "publicURL": "https://sign.acme.example",
    }
    await scene.local_environment.organization("other", archive="dms", oauth=oauth)
    await scene.local_environment.apply(
        {
            "apiVersion": "counterfoil.dev/v1beta1",
            "kind": "Sender",
            "metadata": {"name": "0123456789abcdef"},
            "spec": {"organizationRef": {"name": "other"}, "userID": "7"},
        }
    )
    mail = await administrator("consent", "0123456789abcdef", "--mail", "-o", "json")
    assert mail.code == ExitStatus.NOT_ALL
    assert mail.json["mail"] == "There is no address: set spec.email of the Sender."
    answer = await administrator("consent", "0123456789abcdef")
    assert answer.out == "https://sign.acme.example/consent/other/0123456789abcdef\n"


async def test_what_is_archived_can_be_verified(scene: ControllerScene, administrator: Terminal) -> None:
    event = await scene.reaches(await scene.noted(), Phase.SUCCEEDED)
    folder = scene.archive / "acme" / event.spec.envelope_id
    for json_ in (["-o", "json"], ["--output=json"], ["--json"]):
        answer = await administrator("verify", str(folder), *json_)
        assert (answer.code, answer.json["intact"]) == (0, True)
    told = await administrator("verify", str(folder))
    assert ", intact" in told.out
    assert "Not proved: that nobody changed counterfoil.json and the files together." in told.out

    # Also without access to a cluster, and with the statuses of `python -m counterfoil.cli.verify`.
    (document,) = (each for each in folder.rglob("contract.pdf"))
    document.write_bytes(b"another contract")
    ended = await run(
        [BIN / "kubectl-counterfoil", "verify", folder],
        environment={"PATH": "/usr/bin:/bin", "HOME": str(scene.local_environment.folder)},
    )
    assert (ended.code, "WRONG" in ended.out) == (1, True)
    nothing = await administrator("verify", str(folder / "nothing"))
    assert (nothing.code, nothing.out) == (2, "")
    assert "usage: kubectl counterfoil verify" in (await administrator("verify", "--help")).out


async def test_flags_before_a_separate_program_are_refused_in_one_line(administrator: Terminal) -> None:
    answer = await administrator("-n", "elsewhere", "verify", "/nowhere")
    assert (answer.code, answer.out) == (ExitStatus.MISUSED, "")
    assert "put the flags after it" in answer.err
    assert answer.err.count("\n") == 1


async def test_an_archives_rules_can_be_tried_for_a_past_event_of_the_contexts_namespace(
    scene: ControllerScene, administrator: Terminal
) -> None:
    event = await scene.reaches(await scene.noted(), Phase.SUCCEEDED)
    answer = await administrator("render", "--event", event.name)
    assert (answer.code, event.spec.envelope_id in answer.out) == (0, True), answer.err


async def test_keys_are_sealed_again(scene: ControllerScene, administrator: Terminal) -> None:
    command = ("reseal", "--sealing-keys", str(scene.local_environment.sealing_keys), "-o", "json")

    async def is_reported() -> bool:
        statuses = [raw.get("status", {}) async for raw in scene.kube.list(Organization)]
        return all("sealingKey" in each for each in statuses)

    await eventually(is_reported)
    refusal = await administrator(*command)
    assert (refusal.code, "five minutes" in refusal.err) == (ExitStatus.NOT_ALL, True), refusal.err
    observed = {"sealingKey": {"observedTime": "2026-01-01T00:00:00Z"}}
    for organization in [raw["metadata"]["name"] async for raw in scene.kube.list(Organization)]:
        await scene.kube.patch_status(Organization, organization, observed, resource_version=None)
    shown = await administrator(*command)
    assert (shown.code, shown.json["failed"]) == (ExitStatus.DONE, {}), shown.err
    answer = await administrator(*command, "--digest", shown.json["digest"])
    assert answer.code == ExitStatus.DONE, answer.err
    assert answer.json["failed"] == 0


async def test_a_support_bundle_has_everything_but_secrets_and_people(
    scene: ControllerScene, administrator: Terminal, tmp_path: Path
) -> None:
    event = await refused(scene)
    answer = await administrator("diagnose", "--file", str(tmp_path / "bundle.tar.gz"), "-o", "json")
    assert answer.code == ExitStatus.DONE, answer.err
    content = unpacked(tmp_path / "bundle.tar.gz")
    assert event in content
    assert "resources/archives.yaml" in answer.json["contains"]
    assert "leases.yaml" in answer.json["contains"]
    assert "version.yaml" in answer.json["contains"]
    bearer = re.findall(r'"token": "([^"]+)"', administrator.kubeconfig.read_text())
    sealing = [each.read_text() for each in scene.local_environment.sealing_keys.iterdir()]
    secrets = [*scene.tokens, *scene.local_environment.tokens.values(), *bearer, *sealing]
    assert len(secrets) >= 4
    assert [each for each in secrets if each in content] == []
    assert "@example.com" not in content


async def test_a_support_bundle_names_what_its_user_may_not_read(
    scene: ControllerScene, looker: Terminal, tmp_path: Path
) -> None:
    answer = await looker("diagnose", "--file", str(tmp_path / "bundle.tar.gz"))
    assert answer.code == ExitStatus.DONE, answer.err
    assert "missing: pods.yaml" in answer.out
    assert "kubernetes-events.yaml: " in unpacked_file(tmp_path / "bundle.tar.gz", "missing.txt")


async def test_kubectl_completes_commands_names_and_flags(
    scene: ControllerScene, administrator: Terminal
) -> None:
    assert "why" in await administrator.complete("w")
    assert await administrator.complete("url", "ac") == ["acme"]
    assert "--all-failed" in await administrator.complete("retry", "--a")


async def test_bash_completes_the_command_by_its_script(
    scene: ControllerScene, administrator: Terminal
) -> None:
    script = """
        source <(kubectl-counterfoil completion bash)
        COMP_WORDS=(kubectl-counterfoil url a) COMP_CWORD=2
        _kubectl_counterfoil
        echo "${COMPREPLY[@]}"
    """
    ended = await run(["/bin/bash", "-c", script], environment=administrator.environment)
    assert ended.out.split() == ["acme"], ended.err


async def test_a_context_and_a_namespace_can_be_named_before_and_after_the_command(
    scene: ControllerScene, administrator: Terminal
) -> None:
    contexts = json.loads(administrator.kubeconfig.read_text())["contexts"]
    named = ["--context", contexts[0]["name"], "--kubeconfig", str(administrator.kubeconfig)]
    answer = await administrator(*named, "consent", "anna", "-n", "elsewhere")
    assert answer.code == ExitStatus.NOT_ALLOWED
    assert "elsewhere" in answer.err
    assert (await administrator("consent", "anna", *named)).code == ExitStatus.NOT_FOUND


def test_without_an_api_server_it_reports_it_in_one_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        [BIN / "kubectl-counterfoil", "url", "acme"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (ExitStatus.NO_ANSWER, "")
    assert ended.stderr.count("\n") == 1


def unpacked(path: Path) -> str:
    """All files of a bundle in one text."""
    with tarfile.open(path) as archive:
        files = [archive.extractfile(each) for each in archive.getmembers()]
        return "\n".join(each.read().decode() for each in files if each is not None)


def unpacked_file(path: Path, name: str) -> str:
    """One file of a bundle."""
    with tarfile.open(path) as archive:
        member = next(each for each in archive.getmembers() if each.name.endswith(f"/{name}"))
        file = archive.extractfile(member)
        assert file is not None
        return file.read().decode()
