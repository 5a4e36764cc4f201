"""Mutations of a target's seeds, for machines without Atheris. Pure except for the given random numbers."""

from collections.abc import Iterator
from random import Random

from verification.fuzz.target import Target


def mutations(target: Target, random: Random) -> Iterator[bytes]:
    """Yield the seeds, then mutations of them without end."""
    yield from target.seeds
    while True:
        data = random.choice(target.seeds)
        for _ in range(random.randint(1, 4)):
            data = _mutated(data, target, random)
        yield data[: target.max_length]


def _mutated(data: bytes, target: Target, random: Random) -> bytes:
    start, end = sorted(random.choices(range(len(data) + 1), k=2))
    replaced = random.choice(
        (
            b"",
            data[start:end] * 2,
            random.randbytes(random.randint(1, 4)),
            random.choice(target.words or (b"\0",)),
            random.choice(target.seeds),
        )
    )
    # Mostly an insertion: most replacements of a long piece destroy the form.
    keeps = random.random() < 0.5
    return data[:start] + replaced + data[start if keeps else end :]
