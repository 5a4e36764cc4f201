"""Which key a check uses, and what it says without one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from controller.access.secret_cache import SecretCache
from controller.access.sender_keys import SenderKeys
from controller.cache import Cache
from controller.esaw_check.checker import EsawChecker
from counterfoil.clock import WallClock
from counterfoil.esaw import EsawClients, new_http_client
from counterfoil.resources.organization import CheckOutcome, OrganizationCheck
from sandbox.esaw import StandIn, User
from tests.support.builders import a_sender, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.servers.scripted_esaw import RecordingObserver
from tests.unit.controller.reconcile.test_preconditions import known_to_work

OAUTH = {
    "clientID": "archive",
    "clientSecretRef": {"name": "oauth", "key": "secret"},
    "publicURL": "https://sign.example",
}


class Scene:
    """One organization and its senders, with a stand-in behind it."""

    def __init__(self, standin: StandIn) -> None:
        self.standin = standin
        self.kube = InMemoryKubeClient()
        self.kube.secret_uses["oauth"] = "oauth"
        self.cache = Cache()

    def sender(self, name: str) -> User:
        """Make a sender whose key works."""
        user = self.standin.add_user(email=f"{name}@example.com", given_name=name, surname="X")
        ref = {"name": f"key-{name}", "key": "token"}
        sender = a_sender(name, userID=user.user_id, tokenSecretRef=ref)
        self.cache.senders.put(known_to_work(sender, user.token, self.standin.url))
        self.kube.put(sender)
        self.kube.secret_uses[f"key-{name}"] = "token"
        self.kube.secrets[f"key-{name}"] = {"token": user.token.encode()}
        return user

    @asynccontextmanager
    async def checker(self) -> AsyncIterator[EsawChecker]:
        """Build the checker of the controller."""
        clock, secrets = WallClock(), SecretCache(self.kube, WallClock())
        keys = SenderKeys(self.kube, self.cache, secrets, clock)
        async with new_http_client() as http:
            clients = EsawClients(http, clock, RecordingObserver())
            yield EsawChecker(self.cache, secrets, keys, clients, clock)

    async def check(self, **spec: Any) -> OrganizationCheck:
        """Check the organization."""
        async with self.checker() as checker:
            return await checker.check(an_organization(baseURL=self.standin.url, **spec), by="jane")


def outcomes(check: OrganizationCheck) -> dict[str, tuple[CheckOutcome, str]]:
    return {each.id: (each.outcome, each.message) for each in check.results}


async def test_the_default_senders_key_is_preferred() -> None:
    async with StandIn(seed=7) as standin:
        scene = Scene(standin)
        users = [scene.sender(name) for name in ("aaron", "anna", "zoe")]
        check = await scene.check()
        assert {each.user_id for each in standin.requests("find")} == {users[1].user_id}
        assert check.by == "jane"
        assert check.start_time <= check.time


async def test_another_authorized_senders_key_serves_where_the_default_one_has_none() -> None:
    async with StandIn(seed=7) as standin:
        scene = Scene(standin)
        user = scene.sender("zoe")
        await scene.check()
        assert {each.user_id for each in standin.requests("find")} == {user.user_id}


async def test_without_any_key_the_lines_report_it() -> None:
    async with StandIn(seed=7) as standin:
        check = await Scene(standin).check()
        outcome, message = outcomes(check)["find-one-day"]
        assert (outcome, message) == (
            CheckOutcome.NOT_TESTABLE,
            "No Sender of this Organization has a key that works.",
        )


async def test_a_missing_client_secret_is_said_by_its_name() -> None:
    async with StandIn(seed=7) as standin:
        scene = Scene(standin)
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
