"""Which key a check uses, and what it says without one."""

from counterfoil.origin import ORIGIN_ANNOTATION
from counterfoil.resources.organization import CheckOutcome, OrganizationCheck
from sandbox.esaw import StandIn
from tests.support.scenes.esaw_checker import EsawCheckerScene

OAUTH = {
    "clientID": "archive",
    "clientSecretRef": {"name": "oauth", "key": "secret"},
    "publicURL": "https://sign.example",
}


def outcomes(check: OrganizationCheck) -> dict[str, tuple[CheckOutcome, str]]:
    return {each.id: (each.outcome, each.message) for each in check.results}


async def test_the_default_senders_key_is_preferred() -> None:
    async with StandIn(seed=7) as standin:
        scene = EsawCheckerScene(standin)
        users = [scene.sender(name) for name in ("aaron", "anna", "zoe")]
        check = await scene.check()
        assert {each.user_id for each in standin.requests("find")} == {users[1].user_id}
        assert check.by == "jane"
        assert check.start_time <= check.completion_time


async def test_another_authorized_senders_key_serves_where_the_default_one_has_none() -> None:
    async with StandIn(seed=7) as standin:
        scene = EsawCheckerScene(standin)
        user = scene.sender("zoe")
        await scene.check()
        assert {each.user_id for each in standin.requests("find")} == {user.user_id}


async def test_without_any_key_the_lines_report_it() -> None:
    async with StandIn(seed=7) as standin:
        check = await EsawCheckerScene(standin).check()
        outcome, message = outcomes(check)["find-one-day"]
        assert (outcome, message) == (
            CheckOutcome.NOT_TESTABLE,
            "No Sender of this Organization has a key that works.",
        )


async def test_a_missing_client_secret_is_said_by_its_name() -> None:
    async with StandIn(seed=7) as standin:
        scene = EsawCheckerScene(standin)
        _, message = outcomes(await scene.check(oauth=OAUTH))["token-endpoint"]
        assert message == "Secret/oauth does not exist."
        scene.kube.secrets["oauth"] = {"secret": b"\xff"}
        _, message = outcomes(await scene.check(oauth=OAUTH))["token-endpoint"]
        assert "has to be UTF-8" in message
        scene.kube.secrets["oauth"] = {"secret": b"not the one that eSAW knows\n"}
        outcome, message = outcomes(await scene.check(oauth=OAUTH))["token-endpoint"]
        assert outcome is CheckOutcome.DEVIATES
        assert "not the one" not in message
        assert outcomes(await scene.check())["token-endpoint"][1] == "This Organization has no spec.oauth."


async def test_a_check_keeps_no_command_that_confirms_a_client_secret() -> None:
    async with StandIn(seed=7) as standin:
        scene = EsawCheckerScene(standin)
        scene.kube.secrets["oauth"] = {"secret": b"of another eSignAnyWhere"}
        scene.kube.secret_annotations["oauth"] = {ORIGIN_ANNOTATION: "https://elsewhere.example"}
        _, message = outcomes(await scene.check(oauth=OAUTH))["token-endpoint"]
        assert "OriginChanged" in message
        assert message.endswith("The condition Ready of Organization/acme says what to do.")
