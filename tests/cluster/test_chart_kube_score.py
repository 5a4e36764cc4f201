"""kube-score, a common check of workloads, finds nothing critical but what docs/chart.md explains."""

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from release.helm import Helm, helm
from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.processes import run
from tests.support.scenes.chart import KUBERNETES, MONITORING, RELEASE, VARIANTS, render

PAGE = Path(__file__).parents[2] / "docs" / "chart.md"

CRITICAL, WARNING = 1, 5
"""Grades of kube-score; a higher one is better."""

ACCEPTED = {"CPU limit is not set", "ImagePullPolicy is not set to Always"}
"""Critical findings that stay on purpose; docs/chart.md has the reasons."""

NO_NETWORK_POLICY = "The pod does not have a matching NetworkPolicy"
OF_THE_VALUES = {
    "nothing": {NO_NETWORK_POLICY, "No matching PodDisruptionBudget was found"},
    "node port, no policies": {NO_NETWORK_POLICY},
    # The Service for metrics selects every pod of the release; the pod of `helm test` has no port for it.
    "service monitor": {"Container is missing a readinessProbe"},
    # OpenShift chooses both, from the range of the namespace.
    "OpenShift": {
        "The container is running with a low user ID",
        "The container running with a low group ID",
    },
}
"""Critical findings that the values of a variant ask for."""


class Finding(NamedTuple):
    """Something that kube-score does not like."""

    grade: int
    where: str
    summary: str


Score = Callable[[str], Awaitable[list[Finding]]]


@pytest.fixture(scope="module", name="program")
async def _program(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return await helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
async def score() -> Score:
    """Ask kube-score for its findings: ``await score(text)``."""
    program = (await ensure("kube-score"))["kube-score"]
    version = f"v{KUBERNETES.rpartition('.')[0]}"
    # Ignoring annotations would hide a finding from this test, not from the reader.
    options = ("-o", "json", "--kubernetes-version", version, "--disable-ignore-checks-annotations")

    async def ask(text: str) -> list[Finding]:
        asked = await run([program, "score", *options, "-"], stdin=text)
        return list(findings(json.loads(asked.out)))

    return ask


def findings(scored: list[dict[str, Any]]) -> Iterator[Finding]:
    for each in scored:
        for check in each["checks"] or ():
            if not check["skipped"] and check["grade"] <= WARNING:
                for comment in check["comments"] or ():
                    yield Finding(check["grade"], each["object_name"], comment["summary"])


@pytest.mark.parametrize("variant", VARIANTS)
async def test_kube_score_finds_nothing_critical_but_what_stays_on_purpose(
    program: Helm, score: Score, variant: str
) -> None:
    found = await score((await render(program, VARIANTS[variant], *MONITORING)).text)
    critical = [each for each in found if each.grade <= CRITICAL]
    accepted = ACCEPTED | OF_THE_VALUES.get(variant, set())
    assert [each for each in critical if each.summary not in accepted] == []
    assert {each.summary for each in critical} == accepted, "an entry is not needed"


@pytest.mark.parametrize("summary", sorted(ACCEPTED))
def test_the_manual_explains_what_stays_on_purpose(summary: str) -> None:
    assert f"*{summary}*" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("setting", "summary"),
    [
        ("readOnlyRootFilesystem: true", "The pod has a container with a writable root filesystem"),
        ("ephemeral-storage: ", "Ephemeral Storage"),
        ("runAsGroup: 65532", "low group ID"),
    ],
)
async def test_kube_score_would_find_a_missing_setting(
    program: Helm, score: Score, setting: str, summary: str
) -> None:
    text = (await render(program)).text
    assert setting in text
    without = "\n".join(line for line in text.splitlines() if setting not in line)
    found = {each.summary for each in await score(without) if each.grade <= CRITICAL}
    assert [each for each in found if summary in each] != [], found


async def test_kube_score_would_find_a_pod_that_no_policy_selects(program: Helm, score: Score) -> None:
    rendered = await render(program)
    policy = rendered.one("NetworkPolicy", f"{RELEASE}-first-quota")
    text = yaml.safe_dump_all(each for each in rendered.objects if each is not policy)
    (found,) = (each for each in await score(text) if each.summary == NO_NETWORK_POLICY)
    assert f"{RELEASE}-first-quota" in found.where
