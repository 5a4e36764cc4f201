"""``kubectl counterfoil import``."""

import argparse
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from counterfoil.cli.plugin import entry_point
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus
from counterfoil.cli.plugin.search import imports
from counterfoil.kube.errors import Unavailable
from counterfoil.resources import Import, Resource
from tests.support.builders import NOON, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.console_parts import a_sender_that, an_import_that, an_organization_that


def arguments(*words: str) -> argparse.Namespace:
    parser, _ = entry_point.parsers()
    args = parser.parse_args(["import", *words])
    args.output = getattr(args, "output", "text")
    return args


def an_import(name: str = "old", *, stalled: bool = False, **status: Any) -> Import:
    conditions = [
        {
            "type": each,
            "status": truth,
            "reason": "SendersNotSearched",
            "message": "Ask them.",
            "lastTransitionTime": NOON.isoformat(),
        }
        for each, truth in (("Ready", "False"), ("Stalled", "True" if stalled else "False"))
    ]
    return Import.parse(
        {
            "metadata": {"name": name, "resourceVersion": "1"},
            "spec": {"organizationRef": {"name": "acme"}, "from": "2019-01-01"},
            "status": {"conditions": conditions, **status},
        }
    )


async def told(kube: InMemoryKubeClient, *words: str) -> tuple[ExitStatus, str]:
    out = io.StringIO()
    return await imports.run(arguments(*words), kube, out, sleep=at_once), out.getvalue()


async def at_once(_seconds: float) -> None:
    """Pass a pause."""


async def test_it_creates_an_import_of_the_days_and_senders() -> None:
    kube = InMemoryKubeClient(an_organization())
    words = ("acme", "--from", "2019-01-01", "--until", "2020-12-31", "--dry-run", "--sender", "anna")
    status, said = await told(kube, *words, "--archive", "vault")
    raw = kube.objects[Import.PLURAL, "acme-2019-01-01-2020-12-31-count"]
    assert status is ExitStatus.DONE
    assert "is created" in said
    assert raw["spec"] == {
        "organizationRef": {"name": "acme"},
        "from": "2019-01-01",
        "until": "2020-12-31",
        "senderRefs": [{"name": "anna"}],
        "archiveRef": {"name": "vault"},
        "dryRun": True,
    }


async def test_the_size_of_the_sample_of_a_dry_run_is_chosen_at_its_creation() -> None:
    kube = InMemoryKubeClient(an_organization())
    await told(kube, "acme", "--from", "2019-01-01", "--dry-run", "--sample", "50")
    assert kube.objects[Import.PLURAL, "acme-2019-01-01-count"]["spec"]["sampleSize"] == 50


@pytest.mark.parametrize(
    "words", [("acme", "--from", "2019-01-01", "--sample", "5"), ("acme", "--sample", "5")]
)
async def test_a_sample_without_a_dry_run_is_refused(words: tuple[str, ...]) -> None:
    kube = InMemoryKubeClient(an_organization())
    with pytest.raises(CommandError) as refused:
        await told(kube, *words)
    assert refused.value.exit_status is ExitStatus.MISUSED
    assert kube.count("create") == 0


@pytest.mark.parametrize("text", ["-1", "1001", "many"])
def test_a_size_of_a_sample_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no number from 0 to 1000"):
        imports._sample_size(text)


async def test_a_running_import_shows_its_size_its_place_and_its_rate() -> None:
    imported = an_import(archived=3, bytes=3 * 1024**2, cursor="2019-05-01", rate=120)
    _, said = await told(InMemoryKubeClient(an_organization(), imported), "old")
    assert "archived: 3.0 MiB\nreached: 2019-05-01\nrate: 120 envelopes per hour\n" in said


@pytest.mark.parametrize("is_dry_run", [True, False])
async def test_a_dry_run_names_the_senders_with_the_most_envelopes_and_adds_up_the_others(
    *, is_dry_run: bool
) -> None:
    senders = [{"name": f"s{number:02}", "found": number} for number in range(13)]
    imported = an_import(senders=senders).to_dict()
    imported["spec"]["dryRun"] = is_dry_run
    _, said = await told(InMemoryKubeClient(an_organization(), Import.parse(imported)), "old")
    lines = [each for each in said.splitlines() if "ender" in each and "envelope" in each]
    expected = [f"Sender/s{number:02}: {number} envelopes" for number in range(12, 2, -1)]
    assert lines == ([*expected, "2 other Senders: 3 envelopes"] if is_dry_run else [])


async def test_another_archive_is_checked_and_shown_too() -> None:
    path = "{{sender.email}}/{{envelope.id}}/{{file.name}}"
    kube = InMemoryKubeClient(an_organization(), an_archive(), an_archive("vault", path=path))
    said = await begun(kube, "--archive", "vault")
    assert "spec.path of Archive/vault has {{sender.email}}." in said
    _, shown = await told(kube, "acme")
    assert "(2019-01-01 to its creation, into Archive/vault)" in shown


async def test_an_archive_without_a_first_day_creates_nothing() -> None:
    with pytest.raises(CommandError, match="needs its first day"):
        await told(InMemoryKubeClient(an_organization()), "acme", "--archive", "vault")


TAGS = {
    "by": {"value": "eSAW, {{sender.email}}"},
    "case": {"callback": "case"},
    "client": {"xpath": "/client"},
}


@pytest.mark.parametrize("watch", [(), ("--watch",)])
@pytest.mark.parametrize("field", ["sender.email", "sender.userID", "tags.by", "tags.case"])
async def test_a_path_by_which_files_are_stored_twice_is_named(field: str, watch: tuple[str, ...]) -> None:
    archive = an_archive(path=f"{{{{{field}}}}}/{{{{envelope.id}}}}/{{{{file.name}}}}", tags=TAGS)
    kube = InMemoryKubeClient(an_organization(cleanup={"policy": "Delete"}), archive)
    said = await begun(kube, *watch)
    assert f"spec.path of Archive/dms has {{{{{field}}}}}." in said
    assert "imported envelopes are deleted" in said


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
async def test_of_a_path_that_is_always_the_same_nothing_is_said(words: tuple[str, ...]) -> None:
    field = "sender.email" if words else "tags.client"
    archive = an_archive(path=f"{{{{{field}}}}}/{{{{envelope.id}}}}/{{{{file.name}}}}", tags=TAGS)
    kube = InMemoryKubeClient(an_organization(), archive)
    assert "spec.path" not in await begun(kube, *words)


async def test_an_archive_that_can_not_be_read_stops_no_import() -> None:
    assert "spec.path is not checked" in await begun(InMemoryKubeClient(an_organization()))


async def begun(kube: InMemoryKubeClient, *words: str) -> str:
    """Create an Import that is complete at the second look; return what was printed."""
    out = io.StringIO()

    async def complete(_seconds: float) -> None:
        kube.edit(Import, "acme-2019-01-01", {"status": {"completionTime": NOON.isoformat()}})

    status = await imports.run(arguments("acme", "--from", "2019-01-01", *words), kube, out, sleep=complete)
    assert status is ExitStatus.DONE
    return out.getvalue()


async def test_an_import_that_exists_is_not_replaced() -> None:
    kube = InMemoryKubeClient(an_organization(), an_import("acme-2019-01-01"))
    with pytest.raises(CommandError, match="exists already"):
        await told(kube, "acme", "--from", "2019-01-01")


async def test_it_shows_the_progress_and_each_sender_that_is_not_searched() -> None:
    sender = {"name": "anna", "reason": "ConsentRequired", "message": "No consent."}
    group = {"year": 2019, "status": "Completed", "found": 7}
    imported = an_import(
        stalled=True, found=7, archived=5, windows={"done": 1, "total": 4}, senders=[sender], groups=[group]
    )
    status, said = await told(InMemoryKubeClient(an_organization(), imported), "acme")
    assert status is ExitStatus.NOT_ALL
    assert said.splitlines() == [
        "Import/old (2019-01-01 to its creation)",
        " 25 % of the search: 7 envelopes found, 0 known, 5 archived, 0 failed",
        "SendersNotSearched: Ask them.",
        "2019 Completed: 7",
        "Sender/anna: ConsentRequired. No consent.",
    ]


async def test_an_import_of_which_events_failed_is_not_done() -> None:
    """A script around it would take the import of the old stock for complete."""
    failed = an_import(failed=1, completionTime=NOON.isoformat(), windows={"done": 4, "total": 4})
    kube = InMemoryKubeClient(an_organization(), failed)
    for words in (("old",), ("old", "--watch")):
        status, _ = await told(kube, *words)
        assert status is ExitStatus.NOT_ALL


async def test_it_watches_until_the_import_is_complete() -> None:
    imported = an_import(completionTime=NOON.isoformat(), windows={"done": 4, "total": 4})
    status, said = await told(InMemoryKubeClient(an_organization(), imported), "acme", "--watch")
    assert status is ExitStatus.DONE
    assert said.startswith("100 % of the search")


class Terminal(io.StringIO):
    """A terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


async def test_at_a_terminal_the_progress_is_one_line_with_a_bar() -> None:
    kube = InMemoryKubeClient(an_organization(), an_import(found=7, windows={"done": 1, "total": 4}))
    out = Terminal()

    async def complete(_seconds: float) -> None:
        done = {"completionTime": NOON.isoformat(), "windows": {"done": 4, "total": 4}}
        kube.edit(Import, "old", {"status": done})

    assert await imports.run(arguments("old", "--watch"), kube, out, sleep=complete) is ExitStatus.DONE
    first, last = out.getvalue().split("\n")[0].split("\r")[1:]
    assert first.startswith("[#####...............] 25 % of the search: 7 envelopes found")
    assert last.startswith("[####################] 100 % of the search")
    assert {len(each.removesuffix(imports.CLEAR_REST)) <= 79 for each in (first, last)} == {True}
    assert out.getvalue().split("\n")[1].startswith("Import/old")


async def test_an_import_that_only_copies_shows_no_search_and_no_archive() -> None:
    imported = an_import(found=11, known=2, archived=5, failed=4, completionTime=NOON.isoformat())
    spec = {"copiesOnly": True, "archiveRef": {"name": "nope"}}
    copies = Import.parse({**imported.to_dict(), "spec": {**imported.to_dict()["spec"], **spec}})
    _, said = await told(InMemoryKubeClient(an_organization(), copies), "old", "--watch")
    line = "11 archived envelopes found, 2 had all copies, 5 got them, 4 failed"
    assert said.splitlines()[:3] == [line, "Import/old (2019-01-01 to its creation, only copies)", line]
    assert imports.bar_line(copies, imports.progress(copies)).startswith(f"\r{line[:20]}")


async def test_programs_get_the_objects() -> None:
    kube = InMemoryKubeClient(an_organization(), an_import())
    _, said = await told(kube, "acme", "-o", "json")
    assert [each["metadata"]["name"] for each in json.loads(said)] == ["old"]


@pytest.mark.parametrize("words", [("--until", "2020-01-01"), ("--dry-run",), ("--sender", "anna")])
async def test_an_import_without_a_first_day_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="--from DATE"):
        await told(InMemoryKubeClient(an_organization()), "acme", *words)


@pytest.mark.parametrize("day", ["yesterday", "2020-02-30", "01.02.2020"])
def test_what_is_no_day_is_refused(day: str) -> None:
    with pytest.raises(CommandError, match="is no day"):
        arguments("acme", "--from", day)


@pytest.mark.parametrize("words", [("acme",), ("status", "old"), ("status", "--name", "old")])
async def test_a_name_without_an_import_is_reported(words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match=rf"no Import in namespace .* is chosen by this: {words[-1]}"):
        await told(InMemoryKubeClient(an_organization()), *words)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("old",), ["old"]),
        (("status", "old"), ["old"]),
        (("acme",), ["new", "old"]),
        (("acme", "--name", "old"), ["old"]),
        (("status",), ["new", "of-globex", "old"]),
    ],
)
async def test_imports_are_chosen_by_their_name_their_organization_or_all(
    words: tuple[str, ...], names: list[str]
) -> None:
    other = an_import("of-globex").to_dict()
    other["spec"]["organizationRef"]["name"] = "globex"
    kube = InMemoryKubeClient(an_import("old"), an_import("new"), Import.parse(other))

    status, said = await told(kube, *words, "-o", "json")

    assert status is ExitStatus.DONE
    assert sorted(each["metadata"]["name"] for each in json.loads(said)) == names


async def test_a_namespace_without_an_import_is_no_error() -> None:
    status, said = await told(InMemoryKubeClient(), "status")
    assert (status, said) == (ExitStatus.DONE, "The namespace has no Imports.\n")


@pytest.mark.parametrize("words", [("acme", "--watch"), ("status", "--watch")])
async def test_only_one_import_is_watched(words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="--watch shows one Import"):
        await told(InMemoryKubeClient(an_import("old"), an_import("new")), *words)


@pytest.mark.parametrize("words", [("acme", "globex"), ("status", "acme", "globex")])
async def test_two_names_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="give one name"):
        await told(InMemoryKubeClient(an_organization()), *words)
    with pytest.raises(CommandError, match="give one name"):
        await told(InMemoryKubeClient(an_organization()), *words, "--from", "2019-01-01")


class RestartingKubeClient(InMemoryKubeClient):
    """An API server that does not answer ``failures`` of the requests for an Import after the first."""

    def __init__(self, *objects: Any, failures: int) -> None:
        super().__init__(*objects)
        self.failures, self.looks = failures, 0

    async def get(self, kind: type[Resource], name: str) -> dict[str, Any]:
        self.looks += kind is Import
        if kind is Import and 1 < self.looks <= 1 + self.failures:
            raise Unavailable(503, "", "the API server restarts")
        return await super().get(kind, name)


async def test_a_watch_continues_after_the_api_server_restarts() -> None:
    kube = RestartingKubeClient(an_import(completionTime=NOON.isoformat()), failures=5)
    assert (await told(kube, "old", "--watch"))[0] is ExitStatus.DONE
    kube = RestartingKubeClient(an_import(completionTime=NOON.isoformat()), failures=1000)
    with pytest.raises(Unavailable):
        await told(kube, "old", "--watch")


async def test_envelopes_without_an_event_are_shown() -> None:
    kube = InMemoryKubeClient(an_organization(), an_import(refused=2))
    _, said = await told(kube, "acme")
    assert "2 envelopes without an event: the log of the controller has the reason" in said


@pytest.mark.parametrize(("policy", "is_said"), [("Delete", True), ("Keep", False)])
async def test_it_says_that_the_policy_delete_deletes_imported_envelopes(
    policy: str, *, is_said: bool
) -> None:
    kube = InMemoryKubeClient(an_organization(cleanup={"policy": policy}))
    _, said = await told(kube, "acme", "--from", "2019-01-01")
    assert ("imported envelopes are deleted in eSignAnyWhere" in said) is is_said
    _, said = await told(kube, "acme", "--from", "2019-01-01", "--dry-run")
    assert "imported envelopes are deleted" not in said


async def test_a_watch_warns_before_imported_envelopes_are_deleted_and_names_the_namespace() -> None:
    kube = InMemoryKubeClient(an_organization(cleanup={"policy": "Delete"}))
    create = kube.create

    async def created_and_complete(kind: type[Import], body: Mapping[str, Any]) -> Any:
        return await create(kind, {**body, "status": {"completionTime": NOON.isoformat()}})

    with patch.object(kube, "create", created_and_complete):
        _, said = await told(kube, "acme", "--from", "2019-01-01", "--watch")
    assert f"kubectl counterfoil -n {kube.namespace} suspend import acme-2019-01-01" in said


async def test_a_dry_run_shows_its_estimate_and_the_command_that_asks_for_missing_keys() -> None:
    imported = an_import(
        found=5,
        known=4,
        reopened=1,
        senders=[{"name": "anna", "reason": "ConsentRequired", "message": "No consent."}],
    ).to_dict()
    imported["spec"]["dryRun"] = True
    imported["status"]["sample"] = {"envelopes": 2, "unreadable": 1, "files": 5, "bytes": 2048}
    kube = InMemoryKubeClient(
        Import.parse(imported), an_organization_that(), a_sender_that(reason="ConsentRequired")
    )

    _, said = await told(kube, "old")

    assert "1 of the known ones would start again" in said
    assert "to import: 2 envelopes, about 5 files and 2.0 KiB, by a sample of 2" in said
    assert "1 envelope of the sample could not be measured" in said
    assert said.endswith(f"  kubectl -n {kube.namespace} label senders anna counterfoil.dev/request=ask\n")


@pytest.mark.parametrize(("observed", "is_named"), [(None, True), (1, False)])
async def test_an_import_that_no_controller_processes_names_rights_and_definitions(
    observed: int | None, *, is_named: bool
) -> None:
    imported = an_import_that("Pending", observed_generation=observed)
    _, said = await told(InMemoryKubeClient(an_organization(), imported), "old-stock")
    assert ("ImportNotProcessed: " in said) is is_named
    assert ("`imports.counterfoil.dev`" in said) is is_named


# -- Spans in the future -------------------------------------------------------------------------------------


def day_from_now(days: int) -> str:
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}"


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
async def test_a_span_that_begins_after_today_is_refused_with_the_reason(words: tuple[str, ...]) -> None:
    kube = InMemoryKubeClient(an_organization())
    with pytest.raises(CommandError, match=r"is after today.*sent before the Import is created") as refused:
        await told(kube, "acme", "--from", day_from_now(2), *words)
    assert refused.value.exit_status is ExitStatus.MISUSED
    assert kube.count("create") == 0


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
@pytest.mark.parametrize(("days", "is_said"), [(60, True), (0, True), (-2, False)])
async def test_an_end_that_is_not_over_is_said_at_the_creation(
    days: int, words: tuple[str, ...], *, is_said: bool
) -> None:
    until = day_from_now(days)
    _, said = await told(
        InMemoryKubeClient(an_organization()), "acme", "--from", "2019-01-01", "--until", until, *words
    )
    assert (f"--until {until} is not over: the Import ends with its creation" in said) is is_said


@pytest.mark.parametrize(
    ("until", "span"),
    [
        (None, "2019-01-01 to its creation"),
        ("2026-06-30", "2019-01-01 to 2026-06-30"),
        ("2026-07-01", "2019-01-01 to its creation, not to 2026-07-01"),
        ("2027-03-01", "2019-01-01 to its creation, not to 2027-03-01"),
        ("9999-12-31", "2019-01-01 to its creation, not to 9999-12-31"),
    ],
)
async def test_the_span_that_is_shown_ends_where_the_search_ends(until: str | None, span: str) -> None:
    imported = an_import_that()
    imported = replace(imported, spec=replace(imported.spec, until=until))
    _, said = await told(InMemoryKubeClient(an_organization(), imported), "old-stock")
    assert f"Import/old-stock ({span})" in said
