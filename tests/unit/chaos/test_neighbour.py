"""The second Organization of a round has nothing in common with the first one."""

from sandbox.esaw import StandIn
from verification.chaos.neighbour import seed_of


async def test_the_ids_and_keys_of_both_organizations_differ() -> None:
    async with StandIn(seed=2) as first, StandIn(seed=seed_of(2)) as second:
        user, other = (
            each.add_user(email="a@x.example", given_name="A", surname="B") for each in (first, second)
        )
        assert {user.user_id, user.token}.isdisjoint({other.user_id, other.token})
        assert first.add_envelope(sender=user) != second.add_envelope(sender=other)
