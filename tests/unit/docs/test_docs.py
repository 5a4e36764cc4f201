"""Pages that are written from the code say what the code says."""

import re

import yaml

from counterfoil.esaw_check.facts import FactId
from counterfoil.logs import FIELDS
from counterfoil.resources import PHASE_CONDITIONS, Phase
from counterfoil.resources.archive_kinds import KINDS
from counterfoil.resources.lease import CLOCK_SKEW
from counterfoil.settings import ControllerSettings
from docs.tools import check_language, generate_metrics, generate_plugin, generate_reasons, generate_settings


def test_the_page_of_settings_is_up_to_date() -> None:
    assert generate_settings.PAGE.read_text(encoding="utf-8") == generate_settings.page(), (
        "run: python docs/tools/generate_settings.py"
    )


def test_the_page_of_reasons_is_up_to_date() -> None:
    assert generate_reasons.PAGE.read_text(encoding="utf-8") == generate_reasons.page(), (
        "run: python docs/tools/generate_reasons.py"
    )


def test_the_page_of_the_plugins_commands_is_up_to_date() -> None:
    assert generate_plugin.PAGE.read_text(encoding="utf-8") == generate_plugin.page(), (
        "run: python docs/tools/generate_plugin.py"
    )


def test_the_page_of_operating_explains_each_phase_and_its_condition() -> None:
    text = (check_language.ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    table = text.partition("| Phase | Meaning |")[2].partition("\n\n")[0]
    assert [each for each in Phase if f"`{each}`" not in table] == []
    conditions = text.partition("Each step has a condition (")[2].partition(")")[0]
    assert [each for each in PHASE_CONDITIONS.values() if f"`{each}`" not in conditions] == []


def test_the_page_of_metrics_is_up_to_date() -> None:
    assert generate_metrics.PAGE.read_text(encoding="utf-8") == generate_metrics.page(), (
        "run: python docs/tools/generate_metrics.py"
    )


def test_each_page_names_a_metric_with_the_labels_that_it_has() -> None:
    metrics = {each.name: each.labels for each in generate_metrics.describe_metrics()}
    pages = [*(check_language.ROOT / "docs").rglob("*.md"), check_language.ROOT / "README.md"]
    named = [
        (page.name, found[1], tuple(found[2].split(",")))
        for page in pages
        for found in re.finditer(r"(counterfoil_[a-z_]+)\{([a-z_, ]+)\}", page.read_text(encoding="utf-8"))
    ]
    assert named
    assert [each for each in named if each[2] != tuple(metrics[each[1]])] == []


def test_the_drawing_of_the_readme_names_each_archive_kind() -> None:
    words = {"azblob": "Azure", "filesystem": "folder", "gcs": "Google", "http": "HTTP"}
    words |= {each: each.upper() for each in ("s3", "sftp", "cmis")} | {"webdav": "WebDAV"}
    drawing = (check_language.ROOT / "docs" / "drawings" / "overview.dot").read_text(encoding="utf-8")
    (archives,) = re.findall(r'label="your archive\\n([^"]+)"', drawing)
    named = archives.replace("\\n", " ").split(", ")
    assert sorted(named) == sorted(words[each] for each in KINDS if each != "custom")


def test_every_field_of_a_log_line_is_explained() -> None:
    text = (generate_metrics.PAGE.parents[1] / "logs-and-traces.md").read_text(encoding="utf-8")
    assert [each for each in FIELDS if f"`{each}`" not in text] == []


def test_every_fact_of_the_check_is_beside_its_assumption() -> None:
    text = (generate_metrics.PAGE.parents[1] / "esignanywhere.md").read_text(encoding="utf-8")
    assumptions = text.partition("## Assumptions")[2]
    assert [each for each in FactId if f"`{each}`" not in assumptions] == []


def assumptions() -> list[list[str]]:
    """Return the rows of the table of assumptions."""
    text = (check_language.ROOT / "docs" / "esignanywhere.md").read_text(encoding="utf-8")
    table = text.partition("| Counterfoil assumes |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]
    assert len(rows) > 20
    return rows


def test_every_assumption_says_how_certain_it_is_how_it_is_tested_and_what_to_do() -> None:
    facts = set(FactId)
    for assumption, certainty, tested, action in assumptions():
        assert re.match("(documented|seen|inferred|unknown|configured)\\b", certainty), assumption
        named = set(re.findall("`([^`]+)`", tested))
        assert named & facts or tested.startswith("none: "), assumption
        assert named - facts <= {"truncated", "bulk", "invalid_grant", "state_missing"}, assumption
        assert action, assumption


def test_the_page_counts_the_assumptions_that_no_check_tests() -> None:
    text = (check_language.ROOT / "docs" / "esignanywhere.md").read_text(encoding="utf-8")
    assert "Six assumptions have no line" in text
    assert len([tested for _, _, tested, _ in assumptions() if tested.startswith("none")]) == 6


def test_the_readme_names_the_assumptions_before_its_first_heading() -> None:
    text = (check_language.ROOT / "README.md").read_text(encoding="utf-8")
    assert "(docs/esignanywhere.md#assumptions)" in text.partition("\n## ")[0]


def test_the_page_of_backups_stops_every_process_that_writes_before_the_restore() -> None:
    text = (check_language.ROOT / "docs" / "backup.md").read_text(encoding="utf-8")
    stopped = text.partition("scale deployment ")[2].partition(" --replicas 0")[0]
    assert stopped.split() == [f"counterfoil-{each}" for each in ("controller", "receiver", "pages")]
    assert text.index("--replicas 0") < text.index("counterfoil.cli.restore objects")
    assert text.index("counterfoil.cli.restore status") < text.index(
        f"scale deployment {stopped} --replicas 2"
    )


def test_the_pages_name_the_time_after_which_a_controller_counts_as_absent() -> None:
    lease = ControllerSettings(namespace="contracts").lease_duration.total_seconds()
    seconds = int(lease + CLOCK_SKEW.total_seconds())
    for name, heading in (
        ("operating.md", "### If no controller works"),
        ("plugin.md", "Leases of the shards"),
    ):
        text = (check_language.ROOT / "docs" / name).read_text(encoding="utf-8")
        assert f"{seconds} seconds after" in text.partition(heading)[2].partition("\n##")[0], name


def test_the_steps_by_hand_end_with_the_removal_of_the_archived_documents() -> None:
    page = (check_language.ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    (folder,) = re.findall(r"(?m)^\$ mkdir -p (\S+)$", page)
    assert f"$ rm -r {folder}" in page.partition("To end it all:")[2]


def kinds_with_a_status() -> set[str]:
    """Return the plural names of the kinds that have a status."""
    definitions = [
        yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        for path in (check_language.ROOT / "crds").glob("*.yaml")
    ]
    return {
        each["names"]["plural"]
        for each in definitions
        if any("status" in version.get("subresources", {}) for version in each["versions"])
    }


def test_the_restore_of_velero_names_each_kind_that_has_a_status() -> None:
    text = (check_language.ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"(?ms)^  restoreStatus:\n    includedResources:\n((?:      - \S+\n)+)", text)
    assert set(yaml.safe_load(block)) == {f"{each}.counterfoil.dev" for each in kinds_with_a_status()}


def test_each_list_of_the_page_of_backups_names_each_kind_that_has_a_status() -> None:
    text = (check_language.ROOT / "docs" / "backup.md").read_text(encoding="utf-8")
    lists = re.findall(r"(?:\bget |KINDS=)((?:[a-z]+,)+[a-z]+)", text)
    assert len(lists) >= 2
    assert [each for each in lists if set(each.split(",")) != {*kinds_with_a_status(), "secrets"}] == []


def test_the_processes_of_the_steps_by_hand_listen_on_loopback_only() -> None:
    page = (check_language.ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    assert set(re.findall(r"_LISTEN=(\S+):\d+|-listen (\S+):\d+", page)) == {
        ("127.0.0.1", ""),
        ("", "127.0.0.1"),
    }
    started = re.findall(r"(?m)^\$ python -m (controller|webhook receiver)\b", page)
    assert started == ["controller", "webhook receiver"]
