"""The workflows of GitHub have no fault that their linters find, and the linters find faults."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from release.image import build
from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.processes import CommandResult, command_environment, run

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ZIZMOR = Path(sys.executable).with_name("zizmor")
PINNED = re.compile(r"uses: [a-z-]+/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


async def actionlint(*files: Path) -> CommandResult:
    return await run([(await ensure("actionlint"))["actionlint"], *files], environment=command_environment())


def zizmor(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [str(ZIZMOR), "--offline", "--pedantic", "--quiet", *map(str, files)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


async def test_actionlint_finds_nothing_and_would_find_a_fault(tmp_path: Path) -> None:
    found = await actionlint(*WORKFLOWS)
    assert (found.code, found.out) == (0, "")
    wrong = tmp_path / "ci.yml"
    wrong.write_text(WORKFLOWS[0].read_text("utf-8").replace("runs-on: ubuntu-24.04", "runs-on: vax"))
    assert "vax" in (await actionlint(wrong)).out


def test_zizmor_finds_nothing_and_would_find_a_right_too_many(tmp_path: Path) -> None:
    found = zizmor(*WORKFLOWS)
    assert found.returncode == 0, found.stdout
    wrong = tmp_path / "ci.yml"
    wrong.write_text(WORKFLOWS[0].read_text("utf-8").replace("permissions: {}", "permissions: write-all"))
    assert "excessive-permissions" in zizmor(wrong).stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda each: each.stem)
def test_each_action_is_pinned_by_its_commit_and_names_its_version(workflow: Path) -> None:
    uses = [
        line.strip().removeprefix("- ")
        for line in workflow.read_text("utf-8").splitlines()
        if "uses:" in line
    ]
    assert uses
    assert [each for each in uses if not PINNED.fullmatch(each)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda each: each.stem)
def test_no_job_has_a_right_that_is_not_named_in_it(workflow: Path) -> None:
    content = yaml.safe_load(workflow.read_text("utf-8"))
    assert content["permissions"] == {}
    assert all(isinstance(job["permissions"], dict) for job in content["jobs"].values())


def test_code_of_the_project_never_runs_with_the_rights_to_publish() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))["jobs"]
    assert jobs["build"]["permissions"] == {"contents": "read"}
    steps = jobs["publish"]["steps"]
    assert not [
        each for each in steps if "checkout" in each.get("uses", "") or "make " in each.get("run", "")
    ]


def test_ci_runs_the_command_of_a_person_in_the_base_of_the_image() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))["jobs"]
    assert jobs["test"]["steps"][-1]["run"] == "bash .ci/run"
    named = build.choose_base({}, build.BASE_FILE.read_text("utf-8"))
    assert jobs["test"]["container"]["image"] == named
