"""
The checklists of docs/contributing are complete: a copy of the repository gets one more phase, archive kind,
setting, reason and language by exactly their steps.

With the first step only, the checks that belong to the other steps fail. With all steps they pass.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LANGUAGES = ("en", "de", "it")
NEEDED = (
    *(
        "charts",
        "controller",
        "counterfoil",
        "crds",
        "docs",
        "sandbox",
        "tests",
        "verification",
    ),
    *("webhook", "CHANGELOG.md", "release", "Makefile", "README.md", "pyproject.toml"),
)

Step = Callable[[Path], None]
"""The change of one step, in the copy of the repository."""


def inserted(path: str, anchor: str, text: str) -> Step:
    """Insert a text before the only place with the anchor."""

    def change(copy: Path) -> None:
        before = (copy / path).read_text(encoding="utf-8")
        assert before.count(anchor) == 1, f"{path} has {before.count(anchor)} places with {anchor!r}"
        (copy / path).write_text(before.replace(anchor, text + anchor), encoding="utf-8")

    return change


def written(path: str, text: str) -> Step:
    """Write a new file."""

    def change(copy: Path) -> None:
        assert not (copy / path).exists()
        (copy / path).write_text(text, encoding="utf-8")

    return change


def in_sequence(*steps: Step) -> Step:
    """Carry out several changes."""

    def change(copy: Path) -> None:
        for step in steps:
            step(copy)

    return change


def translated(code: str) -> Step:
    """Write each catalogue of a language: the English texts with a mark."""

    def change(copy: Path) -> None:
        for english in (copy / "counterfoil" / "i18n").glob("*/en.toml"):
            text = re.sub(r'(?m)^([\w.-]+ = ".*)"$', rf'\1 ({code})"', english.read_text(encoding="utf-8"))
            english.with_name(f"{code}.toml").write_text(text, encoding="utf-8")

    return change


def in_each_console_language(anchor: str, name: str, words: Sequence[str]) -> Step:
    """Insert a name with its words in each language into the console's catalogues, before the only line that
    begins so."""
    return in_sequence(
        *(
            inserted(f"counterfoil/i18n/console/{language}.toml", f"\n{anchor} = ", f'\n{name} = "{text}"')
            for language, text in zip(LANGUAGES, words, strict=True)
        )
    )


def in_each_language_of_the_reasons(anchor: str, name: str, what: Mapping[str, str]) -> Step:
    """Insert a reason with its text in each language, before the only section with that name."""
    return in_sequence(
        *(
            inserted(
                f"counterfoil/i18n/reasons/{language}.toml",
                f"\n[{anchor}]\n",
                f'\n[{name}]\nwhat = "{text}"\ndo = "{text}"\n',
            )
            for language, text in what.items()
        )
    )


def a_column_of_the_matrix(kind: str) -> Step:
    """Add the column of a kind without results, as the program writes it after a run of the contract."""

    def change(copy: Path) -> None:
        page = copy / "docs" / "contributing" / "archive-kinds.md"
        before, begin, rest = page.read_text(encoding="utf-8").partition("<!-- matrix -->\n")
        table, end, after = rest.partition("<!-- end of matrix -->")
        header, line, *rows = table.splitlines()
        rows = [f"{header} `{kind}` |", f"{line}---|", *(f"{row} not run here |" for row in rows)]
        page.write_text(f"{before}{begin}" + "\n".join(rows) + f"\n{end}{after}", encoding="utf-8")

    return change


@dataclass(frozen=True, kw_only=True)
class Addition:
    """One more of a thing that has a checklist."""

    steps: tuple[Step, ...]
    needless: frozenset[str] = frozenset()
    """Files of the steps that this addition does not need: the checklist names their conditions."""
    checks: tuple[str, ...]
    """Each fails after the first step, and passes after all of them."""
    modules: tuple[str, ...] = ()
    """Modules of which each test about the addition passes after all steps."""
    name: str = ""
    """Name of the addition among the parameters of these tests."""


PHASE_MODULE = '''"""Index the archived files."""

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Done, Outcome
from counterfoil.resources import EnvelopeEvent


async def index(event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """Do nothing."""
    return Done()
'''

KIND_SETTINGS = '''class Shelf(KindSettings, frozen=True):
    """A shelf."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {"url": "https://shelf.acme.example"}
    CREDENTIAL_KEYS: ClassVar[tuple[str, ...]] = ("bearerToken",)

    url: Annotated[str, address("Address of the shelf.", "https://shelf.acme.example")]
    credentials_secret_ref: Annotated[SecretRef, _secret("`bearerToken`. Default none.")] = None

    @property
    def origin(self) -> str:
        """Origin of the address."""
        return origin_of(self.url)

    @property
    def place(self) -> str:
        """The shelf."""
        return self.origin


'''

KIND_MODULE = '''"""Archives of the kind `shelf`."""

from collections.abc import Mapping

from counterfoil.archives.backend import ArchiveBackend, Opener, required_settings
from counterfoil.archives.backends._http import HttpSite
from counterfoil.archives.backends.webdav import WebDavBackend
from counterfoil.archives.credentials import Credentials
from counterfoil.clock import WallClock
from counterfoil.resources.archive import ArchiveSpec


async def open_shelf(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> ArchiveBackend:
    """Open the archive ``name``, which is a folder of WebDAV."""
    settings = required_settings(name, "spec.shelf", spec.shelf)
    secret = Credentials(name, settings.credentials_secret_ref, credentials)
    return WebDavBackend(HttpSite.open("the shelf", "spec.shelf", settings.url, secret), WallClock())


OPENER: Opener = open_shelf
'''

SETTING = '''    shelves: int = setting(7, "7", at_least=1)
    """Maximum number of shelves. Raise it for a measured need."""

'''

CRDS = "tests/unit/counterfoil/resources/test_crds.py"
GENERATED = (
    f"{CRDS}::test_a_file_is_what_its_type_declares",
    f"{CRDS}::test_the_reference_page_is_up_to_date",
    "tests/unit/charts/test_chart.py::test_what_the_chart_has_from_elsewhere_is_up_to_date",
)
"""All that `make chart` writes is up to date. The last two compare with the CRDs, which it writes first."""
CATALOGUES = "tests/unit/counterfoil/i18n/test_catalogues.py"
DOCS = "tests/unit/docs/test_docs.py"
KINDS = "tests/unit/counterfoil/archives/backends/test_kinds.py"
REASONS = "tests/unit/counterfoil/i18n/test_reasons.py"

OF_ALL_KINDS = re.compile(
    r"tests\.support\.archive_servers|\bSECRET_KEYS\b|\bARCHIVE_KINDS\b"
    r"|resources\.archive(_kinds)? import (\([^)]*|[^(\n]*)\b(KINDS|EXAMPLES)\b"
)
"""The imports of a test module that tries each kind of archive."""


def archive_kind_modules() -> tuple[str, ...]:
    """Return the test modules that try each kind of archive, without those that need a control plane."""
    return tuple(
        each.relative_to(ROOT).as_posix()
        for folder in ("unit", "security")
        for each in sorted((ROOT / "tests" / folder).rglob("test_*.py"))
        if each != Path(__file__) and OF_ALL_KINDS.search(each.read_text(encoding="utf-8"))
    )


ADDITIONS: Mapping[str, Addition] = {
    "A phase": Addition(
        steps=(
            in_sequence(
                inserted(
                    "counterfoil/resources/envelopeevent.py",
                    '    CLEANING = "',
                    '    INDEXING = "Indexing"\n',
                ),
                inserted(
                    "counterfoil/resources/envelopeevent.py",
                    "    Phase.CLEANING: ",
                    '    Phase.INDEXING: "Indexed",\n',
                ),
            ),
            in_sequence(
                written("controller/reconcile/phases/index.py", PHASE_MODULE),
                inserted(
                    "controller/reconcile/phases/__init__.py",
                    "from controller.reconcile.phases.validate ",
                    "from controller.reconcile.phases.index import index\n",
                ),
                inserted(
                    "controller/reconcile/phases/__init__.py",
                    "    Phase.CLEANING: ",
                    "    Phase.INDEXING: index,\n",
                ),
            ),
            inserted("counterfoil/cli/plugin/why.py", '    "Cleaned",\n', '    "Indexed",\n'),
            in_each_console_language("Cleaning", "Indexing", ("Indexing", "Katalogisieren", "Catalogazione")),
            in_each_console_language("Cleaned", "Indexed", ("Indexed", "Katalogisiert", "Catalogato")),
            inserted("docs/operating.md", " `Cleaning` | in this phase", " `Indexing`"),
            inserted("docs/operating.md", "`Cleaned`, and `Ready` for", "`Indexed`, "),
        ),
        needless=frozenset({"controller/reconcile/state_machine.py", "verification/formal/envelope.pml"}),
        checks=(
            f"{CATALOGUES}::test_each_phase_and_the_condition_that_it_makes_true_has_a_name",
            "tests/unit/controller/reconcile/phases/test_phases.py::test_there_is_a_function_for_each_phase_in_order",
            "tests/unit/counterfoil/cli/test_plugin.py::"
            "test_why_shows_the_conditions_of_the_phases_in_their_order",
            f"{DOCS}::test_the_page_of_operating_explains_each_phase_and_its_condition",
            f"{DOCS}::test_the_page_of_metrics_is_up_to_date",
            "tests/unit/formal/test_edges.py::test_the_model_has_the_transitions_of_the_state_machine",
            GENERATED[0],
        ),
    ),
    "An archive kind": Addition(
        steps=(
            in_sequence(
                inserted("counterfoil/resources/archive_kinds.py", "class KindFields(", KIND_SETTINGS),
                inserted(
                    "counterfoil/resources/archive_kinds.py",
                    "    custom: Custom | None",
                    "    shelf: Shelf | None = None\n",
                ),
                inserted(
                    "counterfoil/kube/secret.py",
                    "    CERTIFICATES = ",
                    '    BEARER_TOKEN = "NEW-BEARER-TOKEN"\n',
                ),
            ),
            written("counterfoil/archives/backends/shelf.py", KIND_MODULE),
            in_sequence(
                in_each_console_language("webdav", "shelf", ["Shelf"] * 3),
                inserted(CATALOGUES, '("archive_kind", "gcs")}', '("archive_kind", "shelf"), '),
            ),
            written("tests/cluster/test_archive_contract_shelf.py", '"""Contract of the kind."""\n'),
            in_sequence(
                inserted(
                    "tests/support/crd_cases.py",
                    '    (Archive, "spec.webdav.url"): ',
                    '    (Archive, "spec.shelf.url"): lambda url: spec(shelf={"url": url}),\n',
                ),
                inserted(
                    "tests/support/crd_cases.py",
                    '}\n"""The keys that Counterfoil reads in the Secret of an archive."""',
                    '    "shelf": ("bearerToken",),\n',
                ),
            ),
            in_sequence(
                inserted(
                    "tests/support/archive_servers.py",
                    '}\n"""The content of the Secret of each kind."""',
                    '    "shelf": {"bearerToken": b"t"},\n',
                ),
                inserted(
                    "tests/support/archive_servers.py",
                    '    "webdav": lambda url',
                    '    "shelf": lambda url: {"url": url},\n',
                ),
            ),
            in_sequence(
                inserted("docs/archives.md", "## Kind `custom`\n", "## Kind `shelf`\n\nA shelf.\n\n"),
                a_column_of_the_matrix("shelf"),
            ),
        ),
        needless=frozenset(
            {"charts/counterfoil/values.yaml", "sandbox/servers/", "sandbox/servers/__main__.py"}
        ),
        checks=(
            f"{KINDS}::test_every_kind_of_the_api_can_be_opened",
            f"{KINDS}::test_every_kind_has_its_contract_and_its_section_in_the_manual",
            "tests/unit/webhook/console/test_objects.py::test_each_kind_shows_its_target_in_words",
            "tests/unit/docs/test_archive_matrix.py::test_the_table_has_each_kind_that_keeps_files",
            "tests/security/test_s04_operation_memory.py::"
            "test_all_kinds_of_archives_and_all_their_operations_are_measured",
            "tests/security/test_s17_forbidden_addresses.py::"
            "test_every_kind_of_archive_that_has_a_server_is_tried",
            f"{CRDS}::test_no_rule_of_the_crds_is_without_a_case",
            GENERATED[0],
        ),
        modules=archive_kind_modules(),
        name="shelf",
    ),
    "A setting": Addition(
        steps=(
            inserted("counterfoil/settings.py", "    connections: int = setting(64", SETTING),
            inserted(
                "webhook/receiver/app.py",
                "    metrics, monotonic = process.",
                "    _ = settings.shelves\n",
            ),
        ),
        needless=frozenset({"docs/tools/generate_chart.py"}),
        checks=(
            "tests/unit/counterfoil/test_settings.py::test_every_setting_is_read",
            f"{DOCS}::test_the_page_of_settings_is_up_to_date",
            GENERATED[-1],
        ),
    ),
    "A reason": Addition(
        steps=(
            inserted(
                "counterfoil/i18n/reasons/entries.toml",
                "NotProven = ",
                'ShelfBroken = { responsible = "administrator", contexts = ["waiting"] }\n',
            ),
            in_each_language_of_the_reasons(
                "NotProven",
                "ShelfBroken",
                {"en": "It is broken.", "de": "Regal defekt.", "it": "Non funziona."},
            ),
            inserted(
                "counterfoil/i18n/reasons/entries.toml",
                " }\nNotProven = ",
                ', corrected_by = ["Archive"], server = "archive"',
            ),
            inserted("docs/contributing/waiting.md", "`SettingsInvalid`, `ClockWrong`", "`ShelfBroken`, "),
            inserted(
                "docs/contributing/advice.md",
                "| `NotProven` |",
                "| `ShelfBroken` | outside | `tests/unit/test_a.py::test_it` |\n",
            ),
            inserted(
                "controller/reconcile/error_policy.py",
                "    OutcomeRule(\n        _is_instance(ApiError),\n",
                '    OutcomeRule(_is_instance(RecursionError), Wait, "ShelfBroken", "{}"),\n',
            ),
        ),
        needless=frozenset({"counterfoil/i18n/reasons.py"}),
        checks=(
            f"{REASONS}::test_every_entry_is_a_reason_of_the_code",
            f"{REASONS}::test_every_language_has_all_words_and_no_others",
            f"{REASONS}::test_what_corrects_the_cause_is_decided_for_each_reason_with_which_events_wait_or_fail",
            "tests/unit/docs/test_waiting.py::test_each_reason_of_something_that_waits_is_in_a_row",
            "tests/unit/docs/test_advice.py::test_each_reason_has_one_row_in_the_order_of_the_catalogue",
            f"{DOCS}::test_the_page_of_reasons_is_up_to_date",
        ),
    ),
    "A language": Addition(
        steps=(
            inserted(
                "counterfoil/resources/organization.py", '    ITALIAN = "it"\n', '    PORTUGUESE = "pt"\n'
            ),
            translated("pt"),
            inserted(CATALOGUES, '    "it": PRODUCTS\n', '    "pt": set(),\n'),
        ),
        checks=(
            f"{CATALOGUES}::test_every_folder_of_texts_is_a_catalogue_in_every_language",
            f"{CATALOGUES}::test_every_catalogue_has_the_same_texts_with_the_same_places",
            f"{CATALOGUES}::test_no_text_is_left_untranslated",
            GENERATED[0],
        ),
    ),
}


ELSEWHERE = {"An archive kind": ("archive-kinds.md", "## Add an archive kind")}
"""Checklists that are not in README.md: their page, and the line of their heading."""


def checklist(heading: str) -> str:
    """Return the numbered steps of a checklist."""
    page, line = ELSEWHERE.get(heading, ("README.md", f"### {heading}"))
    text = (ROOT / "docs" / "contributing" / page).read_text(encoding="utf-8")
    section = text.partition(f"\n{line}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    return "\n".join(re.findall(r"(?m)^\d+\. .*(?:\n   .*)*", section))


def named_places(steps: str) -> set[str]:
    """Return the files and folders that the steps name."""
    return {each for each in re.findall(r"`([^`\s]+)`", steps) if "/" in each and (ROOT / each).exists()}


def is_below(name: str, place: str) -> bool:
    """Whether a file is the place, or in this folder."""
    return name == place or (place.endswith("/") and name.startswith(place))


def commands(steps: str, copy: Path) -> list[list[str]]:
    """Return the arguments of Python for each command of the steps, in their order."""
    found = []
    for program, arguments in re.findall(r"`(make|python) ([^`]+)`", steps):
        if "RESULT" in arguments:
            continue
        if program == "make":
            makefile = (copy / "Makefile").read_text(encoding="utf-8")
            (recipe,) = re.findall(rf"(?m)^{arguments}: .*\n\t@(.*)$", makefile)
            found += [each.removeprefix("$(BIN)/python ").split() for each in recipe.split(" && ")]
        else:
            found.append(arguments.split())
    return found


def contents(copy: Path) -> dict[str, bytes]:
    """Return the bytes of each file of the copy."""
    return {
        path.relative_to(copy).as_posix(): path.read_bytes()
        for path in copy.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the copy; its modules are those of the copy."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COVERAGE"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env={**own, "PYTHONPATH": str(copy)},
        check=False,
        capture_output=True,
        text=True,
    )


def failed_checks(copy: Path, checks: tuple[str, ...]) -> set[str]:
    """Run the checks in the copy; return those that fail."""
    done = run(copy, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", *checks)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    lines = re.findall(r"(?m)^(?:FAILED|ERROR) ([\w/]+\.py::\w+)", done.stdout)
    return set(lines)


def modules_about(copy: Path, modules: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Return the tests of the modules that have this name as a parameter."""
    done = run(copy, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *modules)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(rf"(?m)^(tests/\S+?::\w+\[(?:.*-)?{name}(?:-.*)?\])$", done.stdout)
    assert found
    return tuple(found)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the parts of the repository that the checks read."""
    for name in NEEDED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "_build", "node_modules")
            shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("heading", ADDITIONS)
def test_the_steps_of_a_checklist_are_all_that_an_addition_needs(heading: str, copy: Path) -> None:
    addition, steps = ADDITIONS[heading], checklist(heading)
    original = contents(copy)

    addition.steps[0](copy)
    assert failed_checks(copy, addition.checks) == set(addition.checks)

    for step in addition.steps[1:]:
        step(copy)
    changed = {name for name, found in contents(copy).items() if found != original.get(name)}
    places = named_places(steps)
    assert [name for name in changed if not any(is_below(name, each) for each in places)] == []
    assert [
        each for each in places - addition.needless if not any(is_below(name, each) for name in changed)
    ] == []

    for arguments in commands(steps, copy):
        done = run(copy, *arguments)
        assert done.returncode == 0, done.stderr
    about = modules_about(copy, addition.modules, addition.name) if addition.modules else ()
    untranslated = f"{CATALOGUES}::test_no_text_is_left_untranslated"
    assert failed_checks(copy, tuple({*addition.checks, *GENERATED, *about, untranslated})) == set()
