"""The garbage collector of CPython does not visit the program of a process again and again."""

import subprocess
import sys

import pytest

GENERATION = """
import gc
import controller.__main__
from controller.generations import GenerationEnd, run_generations

async def generation(stop_request):
    print(len(gc.get_objects()), gc.get_freeze_count())
    return GenerationEnd.STOPPED

run_generations(generation)
"""

PROCESS = """
import gc
from counterfoil.settings import ReceiverSettings, load
from webhook.http_server.process import run_process

async def serve(process):
    print(len(gc.get_objects()), gc.get_freeze_count())

run_process("receiver", load(ReceiverSettings, [], {}), serve)
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(GENERATION, id="controller"),
        pytest.param(PROCESS, id="receiver"),
    ],
)
def test_a_full_collection_visits_few_objects_beside_the_loaded_ones(program: str) -> None:
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    visited, exempt = map(int, ended.stdout.split())
    assert visited < exempt / 10
