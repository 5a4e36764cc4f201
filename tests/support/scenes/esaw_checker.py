"""The checker of the controller, with the stand-in eSAW behind it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from controller.access.secret_cache import SecretCache
from controller.access.sender_keys import SenderKeys
from controller.cache import Cache
from controller.requests.esaw_checker import EsawChecker
from counterfoil.clock import WallClock
from counterfoil.esaw import EsawClients, new_http_client
from counterfoil.resources.organization import OrganizationCheck
from sandbox.esaw import StandIn, User
from tests.support.builders import OWN_ADDRESS, a_sender, an_organization, known_to_work
from tests.support.fakes.kube import InMemoryKubeClient


class EsawCheckerScene:
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
        self.kube.put_secret(f"key-{name}", "token", {"token": user.token.encode()})
        return user

    @asynccontextmanager
    async def checker(self) -> AsyncIterator[EsawChecker]:
        """Build the checker of the controller."""
        clock, secrets = WallClock(), SecretCache(self.kube, WallClock())
        keys = SenderKeys(self.kube, self.cache, secrets, clock, OWN_ADDRESS)
        async with new_http_client() as http:
            clients = EsawClients(http, clock, lambda *_: None)
            yield EsawChecker(self.cache, secrets, keys, clients, clock, OWN_ADDRESS)

    async def check(self, **spec: Any) -> OrganizationCheck:
        """Check the organization."""
        async with self.checker() as checker:
            return await checker.check(an_organization(baseURL=self.standin.url, **spec), by="jane")
