"""
``python -m verification.formal``: check the model ``envelope.pml`` with Spin; print one line per check.

Each check has bounds: which faults may happen once. A check looks at every order of steps within its bounds.
``python -m verification.formal small`` is what ``make test`` runs. Without an argument, as in ``make model``,
the large bounds follow.

Environment: ``MODEL_MEMORY_MIB`` the maximum memory of one check in MiB (default 12000).
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from controller.reconcile.phases.repeated_archiving import MAX_MISMATCHES

FOLDER: Final = Path(__file__).parent
FAULTS: Final = (
    "CRASHES",
    "MOVES",
    "LATE",
    "OUTAGES",
    "LOST",
    "CORRUPTED",
    "INTERRUPTIONS",
    "REVOKED",
    "CLEARED",
    "REPEATED",
    "COPIES",
    "CHANGES",
    "SPOILED",
    "RESTARTS",
    "SKIPS",
    "RETRIES",
    "KEEP",
)
"""The faults of the model, as envelope.pml describes them."""

BOTH_COPIES: Final = ("COPIES",) * 2
"""A required copy and an optional one."""

DEFAULT_MEMORY_MIB: Final = 12_000


class ModelError(RuntimeError):
    """Spin or the compiler failed, or a check did not come to an end; the message has its output."""


class Check(NamedTuple):
    """One check: the faults, the switches of the model, and the expected violation."""

    faults: tuple[str, ...]
    """Each may happen as often as it is named."""
    switches: tuple[str, ...] = ()
    violated: str = ""
    """Part of the assertion that a run violates; empty: no run violates any."""
    is_liveness: bool = False
    """Whether the check is that every run ends, in place of the assertions."""

    @property
    def name(self) -> str:
        """Its switches and faults, each fault with its number if it may happen more than once."""
        numbers = Counter(self.faults).items()
        faults = (fault if number == 1 else f"{number}x{fault}" for fault, number in numbers)
        return " ".join((*self.switches, *faults))


class CheckResult(NamedTuple):
    """The result of a check."""

    violated: str
    """The first violated assertion; empty for none."""
    states: int
    seconds: float


SMALL: Final = (
    Check(("CRASHES", "LATE", "OUTAGES")),
    Check(("MOVES", "CORRUPTED")),
    Check(("MOVES", "LATE")),
    Check(("MOVES", "OUTAGES")),
    Check(("CRASHES", "CLEARED")),
    Check(("INTERRUPTIONS", "REPEATED", "REVOKED", "LOST")),
    Check(("INTERRUPTIONS", "REPEATED", "REVOKED", "LOST"), is_liveness=True),
    Check(("CRASHES", "LATE"), is_liveness=True),
    Check(("LATE",) * (MAX_MISMATCHES + 1)),
    Check((*BOTH_COPIES, "CRASHES", "SPOILED")),
    Check((*BOTH_COPIES, "CRASHES", "CHANGES")),
    Check(("COPIES", "MOVES", "CORRUPTED")),
    Check((*BOTH_COPIES, "CHANGES"), is_liveness=True),
    Check(("KEEP", "LATE", "CRASHES")),
    Check(("KEEP", "LATE"), is_liveness=True),
    Check(("RESTARTS", "COPIES")),
    Check(("RESTARTS", "KEEP")),
    Check(("RESTARTS",), is_liveness=True),
    Check(("SKIPS",)),
)
"""No run violates a rule."""

PROTECTIONS: Final = (
    Check(("LATE",), ("NO_RELIST",), "lists_legal"),
    Check(("MOVES",), ("NO_FENCE",), "ar_trail"),
    Check((), ("NO_PROOF",), "resume"),
    Check(("CRASHES", "CLEARED"), ("NO_VERIFY",), "ar_trail"),
    Check(("OUTAGES",), ("NO_CONFIRM",), "stored"),
    Check(("COPIES", "CRASHES", "SPOILED"), ("NO_COPY_READ",), "cp_trail"),
    Check(("COPIES", "CHANGES"), ("NO_COPY_READ", "NO_COPY_PROOF"), "cp_trail"),
    Check(("COPIES", "CORRUPTED"), ("NO_COPY_READBACK",), "cp_trail"),
    Check(("COPIES", "MOVES", "LATE"), ("NO_COPY_FENCE",), "cp_trail"),
    Check(("COPIES", "MOVES"), ("NO_SOURCE_CHECK",), "cp_trail"),
    Check(("COPIES", "CHANGES"), ("NO_SETTINGS",), "cp_trail"),
    Check(("RESTARTS",), ("NO_QUESTION",), "has_signature"),
    Check(("RESTARTS",), ("NO_EXPIRED_STATUS",), "has_signature"),
    Check(("RESTARTS",), ("NO_DELIVERIES",), "has_signature"),
    Check(("RESTARTS", "COPIES"), ("NO_COPY_QUESTION",), "is_overlooked"),
    Check(("KEEP",), ("NO_KEEP",), "1==0"),
    Check(("KEEP", "LATE"), ("NO_KEPT_LIST",), "kept"),
    Check(("KEEP", "LATE"), ("NO_LATE_LIST",), "kept"),
    Check(("KEEP", "LATE"), ("NO_TIME_BEFORE",), "kept"),
    Check(("SKIPS", "RESTARTS"), ("NO_SKIPPED_TIME",), "skipped"),
    Check(("SKIPS",), ("NO_REQUESTS",), "request"),
    Check(("SKIPS", "REPEATED"), ("NO_GIVING_UP",), "given_up"),
)
"""Without one protection, a run violates a rule."""

REMAINING: Final = (
    Check(("LATE",), ("LATE_IN_DELETE",), "lists_legal"),
    Check(("MOVES", "LATE"), ("PAUSED_MANIFEST",), "lists_legal"),
    Check(("MOVES", "CORRUPTED"), ("PAUSED_DISCARD",), "ar_trail"),
    Check(("MOVES", "CORRUPTED"), ("PAUSED_CORRUPTION",), "ar_trail"),
    Check(("COPIES", "CHANGES"), ("CHANGE_IN_DELETE",), "cp_trail"),
    Check(("COPIES", "MOVES", "LATE"), ("PAUSED_COPY",), "cp_trail"),
    Check(("RESTARTS", "MOVES"), ("PAUSED_EXPIRED",), "has_signature"),
    Check(("RESTARTS",), ("RESTART_IN_DELETE",), "has_signature"),
    Check(("SKIPS",), ("SKIP_IN_DELETE",), "request"),
    Check(("KEEP", "LATE"), ("LATE_AFTER_WAIT",), "kept"),
)
"""Without one assumption, a run violates a rule: what remains (docs/contributing/model.md)."""

LARGE: Final = (
    Check(("MOVES", "LATE", "LOST", "CORRUPTED")),
    Check(("MOVES", "CRASHES", "OUTAGES")),
    Check(("MOVES", "LATE", "CLEARED")),
    Check(("MOVES", "LATE", "LATE")),
    Check(("CRASHES", "OUTAGES", *("LATE",) * 2)),
    Check(("LATE",) * (MAX_MISMATCHES + 1), is_liveness=True),
    Check(("CRASHES", "LATE", "OUTAGES", "LOST", "INTERRUPTIONS", "REPEATED", "REVOKED")),
    Check(("MOVES", "LATE", "LOST"), is_liveness=True),
    Check(("CRASHES", "LATE", "OUTAGES", "LOST", "INTERRUPTIONS"), is_liveness=True),
    Check((*BOTH_COPIES, "MOVES", "LATE")),
    Check((*BOTH_COPIES, "MOVES", "CORRUPTED", "SPOILED")),
    Check((*BOTH_COPIES, "MOVES", "CHANGES")),
    Check((*BOTH_COPIES, "CRASHES", "SPOILED", "CHANGES")),
    Check((*BOTH_COPIES, "CRASHES", "LATE", "CHANGES")),
    Check((*BOTH_COPIES, "CRASHES", "SPOILED", "INTERRUPTIONS"), is_liveness=True),
    Check(("KEEP", "MOVES", "LATE", "LATE")),
    Check(("RESTARTS", "MOVES")),
    Check(("RESTARTS", "COPIES", "CRASHES")),
    Check(("SKIPS", "REPEATED")),
    Check(("SKIPS", "RETRIES")),
    Check(("SKIPS", "KEEP", "LATE")),
)
"""The checks that only ``make model`` runs."""


def run(check: Check, *, memory_mib: int = DEFAULT_MEMORY_MIB) -> CheckResult:
    """Run a check in a temporary folder. Raises ``ModelError``."""
    bounds = [f"-D{fault}={check.faults.count(fault)}" for fault in FAULTS]
    kind = "-DNP" if check.is_liveness else "-DSAFETY"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in FOLDER.glob("*.pml"):
            (folder / each.name).write_bytes(each.read_bytes())
        began = time.monotonic()
        _run(folder, ["spin", *bounds, *(f"-D{each}" for each in check.switches), "-a", "envelope.pml"])
        _run(folder, ["cc", "-w", "-DCOLLAPSE", f"-DMEMLIM={memory_mib}", kind, "-o", "pan", "pan.c"])
        output = _run(folder, ["./pan", "-m1000000", *(["-l"] if check.is_liveness else [])])
        return _parse(output, time.monotonic() - began)


def _run(folder: Path, command: Sequence[str]) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode != 0 or "syntax error" in output:
        raise ModelError(f"{' '.join(command)} failed:\n{output[-2000:]}")
    return output


def _parse(output: str, seconds: float) -> CheckResult:
    errors, states = re.search(r"errors: (\d+)", output), re.search(r"(\d+) states, stored", output)
    is_complete = "Search not completed" not in output
    if errors is None or states is None or (errors[1] == "0" and not is_complete):
        raise ModelError(f"the check did not come to its end:\n{output[-2000:]}")
    found = re.search(r"pan:\d+: (.*?) \(at depth", output)
    violated = found[1] if found is not None else ""
    if (errors[1] == "0") != (violated == ""):
        raise ModelError(f"the output of the check is not as expected:\n{output[-2000:]}")
    return CheckResult(violated, int(states[1]), seconds)


def main(argv: Sequence[str]) -> int:
    """Run the checks; return 1 if one has another result than expected."""
    memory = int(os.environ.get("MODEL_MEMORY_MIB", DEFAULT_MEMORY_MIB))
    checks = [*SMALL, *PROTECTIONS, *REMAINING, *([] if argv == ["small"] else LARGE)]
    wrong = 0
    for check in checks:
        result = run(check, memory_mib=memory)
        is_expected = bool(result.violated) == bool(check.violated) and check.violated in result.violated
        wrong += not is_expected
        said = f"violated: {result.violated}" if result.violated else "no run violates a rule"
        name = check.name or "no fault"
        aim = "every run ends" if check.is_liveness else "rules"
        print(
            f"[model] {name} ({aim}): {said}; {result.states:,} states, {result.seconds:.0f} s"
            f"{'' if is_expected else '  <- NOT EXPECTED'}",
            flush=True,
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
