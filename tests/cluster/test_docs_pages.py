"""
Every command that a page tells its reader to type is typed by a test, or is listed below with the reason.

Here are those for which the API server and a folder are enough. Names in capitals are replaced by names of
real objects, as the reader does, and the namespace of the pages by the test's own.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.filing import conclude, store
from counterfoil.archives.import_report.content import PreviousPart, ReportOutcome
from counterfoil.archives.import_report.storage import write_part
from counterfoil.archives.manifest_signature import ManifestSigner
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.kubectl import Kubectl
from tests.support.builders import ENVELOPE
from tests.support.console_blocks import ConsoleCommand, console_commands, missing_lines, report, typed
from tests.support.fakes.archives import (
    a_filed_document,
    a_layout,
    a_source,
    a_spec,
    an_envelope,
    files_named,
)
from tests.support.inline_commands import by_command
from tests.support.scenes.import_report import a_part, a_row
from tests.support.signed_pdfs import unsigned

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "runbooks").glob("*.md")]
PAGES = {path.relative_to(ROOT).as_posix(): console_commands(path.read_text("utf-8")) for path in FILES}

TYPED_WHOLE = {
    "docs/demo.md": "tests/cluster/test_docs_commands.py types the steps of the demo in a fresh clone",
    "docs/start.md": "tests/e2e/test_node_start.py types the page on a whole node",
    "docs/auditors.md": "below",
}
"""Pages whose commands one test types in order."""

NOT_TYPED = {
    "make demo     # the main job": "tests/unit/sandbox/demo and `make demo` itself; it takes minutes",
    "helm install counterfoil charts/counterfoil": "needs a node: tests/e2e/test_node*.py",
    "helm test counterfoil": "needs a node: tests/e2e/test_node.py",
    "kubectl -n contracts top pods": "needs a node with metrics-server",
    "kubectl get crd -o name | grep": "deletes the kinds that all tests share: test_chart_in_cluster.py",
    "helm -n contracts uninstall": "ends the release of a test: test_chart_in_cluster.py",
    "kubectl counterfoil url acme": "needs a controller: docs/start.md and the README have it, too",
    "kubectl counterfoil check acme": "needs a controller and an eSAW: tests/cluster/test_check.py",
    "kubectl counterfoil route acme": "needs a controller and an eSAW: tests/cluster/test_routes.py",
    "python -m counterfoil.cli.restore status now.json --digest": "needs a lost status: test_restore.py",
    "kubectl -n contracts wait --for=condition=Complete": "needs a controller: tests/cluster/test_imports.py",
    "kubectl counterfoil import old-stock --watch": "needs a controller: tests/cluster/test_imports.py",
}
"""First words of commands that can't be typed here, and the reason."""

INLINE_NOT_TYPED = {
    "kubectl counterfoil ": "tests/unit/docs/test_plugin_commands.py reads them; these pages type some",
    "kubectl -n $NAMESPACE ": "needs a node: what to look at if a step of docs/start.md fails",
    "kubectl -n trial ": "the same, for the trial",
    "kubectl --namespace trial ": "docs/start.md has it, too",
    "kubectl -n contracts logs job/": "needs a node",
    "kubectl wait ": "needs a controller",
    "kubectl logs --previous NAME": "needs a node",
    "kubectl describe pod NAME": "needs a node",
    "kubectl apply --server-side -f crds/": "replaces the definitions that all tests share",
    "kubectl get --raw '/apis/": "is a watch, which does not end",
    "kubectl auth can-i watch": "needs the chart's account: test_chart_in_cluster.py",
}
"""First words of commands within sentences that can't be typed here, and the reason."""

ARCHIVE_ONLY = ("openssl genpkey", "openssl pkey ", "openssl pkeyutl", "python -m counterfoil.cli.verify")
"""First words of the commands of docs/proof.md that the auditor's test types."""

NAMES = frozenset(
    {"kubectl apply -f -", "kubectl create token", "kubectl describe pod", "kubectl delete resourcequota"}
)
"""Names of commands, as are all of two words."""

EVENT = f"{ENVELOPE}-0123456789abcdef"
LEASE = "counterfoil-shard-0-of-1"
REPLACED = (
    (r"\b(envelopeevent|ee) NAME\b", f"ee {EVENT}"),
    (r"\borg NAME\b", "org acme"),
    (r"\bsecret (NAME|acme-callback|contracts-s3|jane-doe-esaw)\b", "secret anna-key"),
    (r"(counterfoil\.dev/use=\w+)$", r"\1 --overwrite"),
    (r"(import|organization)=(NAME|ORG)\b", r"\1=acme"),
    (r"(kubectl|helm) -n contracts ", r"\1 "),
    (r" -n (contracts|sales)\b", ""),
    (r"\bee NAME\b", f"ee {EVENT}"),
    (r"\barchive NAME\b", "archive dms"),
    (r"\blease LEASE\b", f"lease {LEASE}"),
    (r"\bsender NAME\b", "sender jane-doe"),
    (r"\bimport NAME\b", "import old-stock"),
    (r"\borg ORG\b", "org acme"),
    (r"(organization|organizationRef\.name)=NAME\b", r"\1=acme"),
    (r"--event \S+", f"--event {EVENT}"),
    (r"NEW-API-KEY", "0123456789abcdef0123456789abcdef"),
    (r"0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10", ENVELOPE),
    (
        r"(python -m counterfoil\.cli\.restore \w+ now\.json) --digest DIGEST( < backup\.json)",
        r"\1 --digest $(\1\2 2>&1 | sed -n 's/.*--digest //p')\2",
    ),
)
CONTROLLER_ANSWERS = (
    "kubectl label ee,org,archive,sender --all counterfoil.dev/request- > /dev/null\n"
    "kubectl annotate ee,org,archive,sender --all > /dev/null "
    "counterfoil.dev/request-id- counterfoil.dev/request-by- counterfoil.dev/request-reason-"
)
"""A controller removes the label and the annotations of a request that it has handled."""
SECONDS = 300.0


def is_typed_here(page: str, command: ConsoleCommand) -> bool:
    if page in TYPED_WHOLE or command.text.startswith(tuple(NOT_TYPED)):
        return False
    return not (page == "docs/proof.md" and command.text.startswith(ARCHIVE_ONLY))


TYPED_HERE = {
    page: chosen
    for page, commands in sorted(PAGES.items())
    if (chosen := [each for each in commands if is_typed_here(page, each)])
}


def test_each_reason_not_to_type_a_command_is_still_one() -> None:
    every = [each.text for commands in PAGES.values() for each in commands]
    assert [begin for begin in NOT_TYPED if not any(each.startswith(begin) for each in every)] == []
    archives = [each.text for each in PAGES["docs/proof.md"]]
    assert [begin for begin in ARCHIVE_ONLY if not any(each.startswith(begin) for each in archives)] == []
    assert [page for page in TYPED_WHOLE if not PAGES[page]] == []


def own(command: ConsoleCommand, more: Sequence[tuple[str, str]] = ()) -> ConsoleCommand:
    text = command.text
    for pattern, by in (*REPLACED, *more):
        text = re.sub(pattern, by, text)
    if re.search(r"counterfoil\.dev/request=|counterfoil (retry|skip)\b", text):
        text += f"\n{CONTROLLER_ANSWERS}"
    return ConsoleCommand(text, command.output)


def owned(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "counterfoil.dev/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def namespace_of_a_reader(commands: Sequence[ConsoleCommand]) -> list[dict[str, Any]]:
    """Return what is there before the page is read: all that it names and does not create itself."""
    text = "\n".join(each.text for each in commands)
    created = set(re.findall(r"create secret generic (\S+)", text))
    secrets = {"acme-oauth", "anna-key", "counterfoil-sealing-keys"} - created
    ref = {"name": "acme"}
    labels = {"matchLabels": {"app": "controller"}}
    container = {"name": "controller", "image": "localhost/nothing"}
    pod = {"metadata": {"labels": {"app": "controller"}}, "spec": {"containers": [container]}}
    return [
        *({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": each}} for each in sorted(secrets)),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "jane"}},
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE}},
        *(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": f"counterfoil-{process}"},
                "spec": {"selector": labels, "template": pod},
            }
            for process in ("controller", "receiver", "pages")
        ),
        owned("Archive", "dms", filesystem={"root": "/archive"}),
        owned("Sender", "jane-doe", organizationRef=ref, userID="7"),
        owned(
            "Organization",
            "acme",
            baseURL="https://esaw.example.com",
            callback={"tokenSecretRefs": [{"name": "acme-callback", "key": "token"}]},
            archiveRef={"name": "dms"},
        ),
        owned(
            "EnvelopeEvent",
            EVENT,
            organizationRef=ref,
            envelopeID=ENVELOPE,
            action="envelopeFinished",
            origin="Manual",
        ),
    ]


async def furnish(kubectl: Kubectl, namespace: str, commands: Sequence[ConsoleCommand]) -> None:
    """Create what is there before the commands are typed, with one event that failed."""
    listed = {"apiVersion": "v1", "kind": "List", "items": namespace_of_a_reader(commands)}
    await kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(listed))
    document = {"fileID": "1", "kind": "Document", "fileName": "a.pdf"}
    status = {"phase": "Failed", "notice": {"id": "n", "state": "Failed"}, "documents": [document]}
    failed = json.dumps({"status": status})
    await kubectl(
        "patch", f"ee/{EVENT}", "-n", namespace, "--subresource=status", "--type=merge", "-p", failed
    )


def in_namespace(namespace: str) -> ConsoleCommand:
    return ConsoleCommand(f"kubectl config set-context --current --namespace={namespace}")


def environment_of(home: Path, kubectl: Kubectl, kubeconfig: Path) -> Mapping[str, str]:
    programs = os.pathsep.join((str(Path(sys.executable).parent), str(kubectl.program.parent)))
    return {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "KUBECONFIG": str(kubeconfig),
        "PYTHONPATH": str(ROOT),
    }


@pytest.mark.parametrize("page", TYPED_HERE)
async def test_the_commands_on_a_page_work(
    plane: ControlPlane, kubectl: Kubectl, namespace: str, tmp_path: Path, page: str
) -> None:
    commands = TYPED_HERE[page]
    kubeconfig = tmp_path / "kubeconfig"
    shutil.copy(plane.kubeconfig, kubeconfig)
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "docs").symlink_to(ROOT / "docs")
    shutil.copy(ROOT / "docs" / "examples" / "archive-filesystem.yaml", folder / "archive.yaml")
    (folder / "metadata.xml").write_text("<tags><costCenter>4711</costCenter></tags>")
    await furnish(kubectl, namespace, commands)
    mine = [in_namespace(namespace), *map(own, commands)]
    environment = {**environment_of(tmp_path, kubectl, kubeconfig), "COUNTERFOIL_NAMESPACE": namespace}
    done = await typed(mine, folder, environment, seconds=SECONDS)
    assert done.status == 0, report(mine, done)
    assert "not found" not in done.complaints, report(mine, done)


INLINE = {
    command: page
    for command, page in by_command().items()
    if not command.startswith(tuple(INLINE_NOT_TYPED)) and command not in NAMES and len(command.split()) > 2
}


def test_each_reason_not_to_type_an_inline_command_is_still_one() -> None:
    every = list(by_command())
    assert [begin for begin in INLINE_NOT_TYPED if not any(each.startswith(begin) for each in every)] == []


async def test_the_commands_within_sentences_work(
    plane: ControlPlane, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    shutil.copy(plane.kubeconfig, kubeconfig)
    commands = [ConsoleCommand(each) for each in INLINE]
    await furnish(kubectl, namespace, commands)
    example = ROOT / "docs" / "examples" / "import.yaml"
    await kubectl("apply", "-n", namespace, "-f", str(example))
    # What a command deletes, another one may name.
    in_order = sorted(map(own, commands), key=lambda each: "delete" in each.text)
    mine = [in_namespace(namespace), *in_order]
    done = await typed(mine, tmp_path, environment_of(tmp_path, kubectl, kubeconfig), seconds=SECONDS)
    assert done.status == 0, report(mine, done)
    assert "not found" not in done.complaints, report(mine, done)


async def sealed_envelope(root: Path, key: Path) -> Path:
    """Archive an envelope of two documents, sealed with this key; return its folder."""
    spec = a_spec(root=str(root))
    backend, layout = await open_backend("dms", spec, {}), a_layout(*files_named("a.pdf", "b.pdf"), spec=spec)
    documents = [
        a_filed_document(
            each.facts, await store(backend, each, a_source(unsigned(each.facts.file_name)), tags={})
        )
        for each in layout.files
    ]
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    signer = ManifestSigner.load(key)
    await conclude(backend, layout, an_envelope(), documents, archived_at=noon, extra={}, signer=signer)
    return root / layout.folder


async def sealed_report(root: Path, key: Path) -> str:
    """Store a report of two parts, sealed with this key; return the name of the first one without its end."""
    backend, signer = await open_backend("dms", a_spec(root=str(root)), {}), ManifestSigner.load(key)
    first = a_part(a_row(outcome=ReportOutcome.KNOWN))
    location = await write_part(backend, "report", first, signer)
    previous = PreviousPart(location=location, sha256=first.sha256)
    await write_part(backend, "report", a_part(number=2, previous=previous), signer)
    (root / "report" / "esaw-ids.txt").write_text(f"{ENVELOPE}\n", encoding="utf-8")
    return first.lines_name.removesuffix(".jsonl")


async def test_the_commands_for_an_auditor_work_on_a_sealed_envelope(
    kubectl: Kubectl, plane: ControlPlane, tmp_path: Path
) -> None:
    environment = environment_of(tmp_path, kubectl, plane.kubeconfig)
    of_the_archive = [each for each in PAGES["docs/proof.md"] if each.text.startswith(ARCHIVE_ONLY)]
    keys = [each for each in of_the_archive if "-out private.pem" in each.text or "-pubout" in each.text]
    made = await typed(keys, tmp_path, environment, seconds=SECONDS)
    assert made.status == 0, report(keys, made)

    (tmp_path / "archive").mkdir()
    folder = await sealed_envelope(tmp_path / "archive", tmp_path / "private.pem")
    places = (
        (r"(?:/path/to/|\b)public\.pem\b", str(tmp_path / "public.pem")),
        (r"/tmp/named\b", str(tmp_path / "named")),
        (r"/archive/acme/\S+|\bFOLDER\b", str(folder)),
        (r"/tmp/reported\b", str(tmp_path / "reported")),
        (r"\bcounterfoil-imports/\S+", str(tmp_path / "archive" / "report")),
        (
            r"\bpart-00001-5ba8db0c43a75ddf\b",
            await sealed_report(tmp_path / "archive", tmp_path / "private.pem"),
        ),
    )
    checks = [own(each, places) for each in (*PAGES["docs/auditors.md"], *of_the_archive) if each not in keys]
    done = await typed(checks, folder, environment, seconds=SECONDS)
    assert done.status == 0, report(checks, done)
    for command, printed in zip(checks, done.printed, strict=True):
        # The page's own file names and times are examples; the words of the tools are not.
        words = [each for each in command.output if re.fullmatch(r"[A-Za-z ]+", each)]
        assert missing_lines(words, printed) == [], report(checks, done)
