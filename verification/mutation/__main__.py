"""
``make mutation``: how many changes of the product its unit tests notice, for each module of ``modules.toml``.

``MODULE=path`` chooses modules (several: in quotes), ``SAMPLE=N SEED=S`` some of their mutants. Each module
runs in its own process. The exit status is 1 if a mutant survived without a reason, a reason has no survivor,
or the score is too low. The row of each module that ran is written to ``docs/contributing/mutation.md``.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from verification.mutation.forked_tests import BaselineFailed, import_others, names_in
from verification.mutation.modules import FILE, ROOT, MutatedModule, read_modules
from verification.mutation.results import ModuleResult, keep_row

LIBRARIES = ROOT / ".venv" / "mutation"


def main(arguments: Sequence[str]) -> int:
    """Run the chosen modules; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m verification.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="paths of modules (default: all of modules.toml)")
    parser.add_argument(
        "--sample", type=int, default=0, help="number of mutants of each module (default: all)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument(
        "--keep-killed", action="store_true", help="after a change of the tests, run only what had survived"
    )
    parser.add_argument(
        "--all-tests",
        action="store_true",
        help="run all tests of each mutant, and tell which failed for none (slow)",
    )
    options = parser.parse_args(arguments)
    listed = {each.path: each for each in read_modules(FILE.read_text("utf-8"))}
    if unknown := [each for each in options.modules if each not in listed]:
        parser.error(f"not in {FILE.relative_to(ROOT)}: {' '.join(unknown)}")
    if problems := [line for each in listed.values() for line in each.problems(ROOT)]:
        parser.error("; ".join(problems))
    paths = options.modules or list(listed)
    # After the project's own packages, so that those win.
    sys.path.append(str(LIBRARIES))
    from verification.mutation import session  # noqa: PLC0415 - needs that path

    import_others(names_in(session.IMPORTED))
    return max(
        [_in_a_process(partial(_run, session.run_module, listed[path], listed, options)) for path in paths]
    )


def _in_a_process(work: Callable[[], int]) -> int:
    """Run one module apart from the others: what it imports, the next one may have to change."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 2
    try:
        status = work()
    except BaselineFailed as failed:
        print(failed)
    finally:
        sys.stdout.flush()
        os._exit(status)


def _run(
    run_module: Callable[..., ModuleResult],
    module: MutatedModule,
    paths: Iterable[str],
    options: argparse.Namespace,
) -> int:
    result = run_module(
        module,
        sample=options.sample,
        seed=options.seed,
        keep_killed=options.keep_killed,
        all_tests=options.all_tests,
        report=lambda line: print(line, flush=True),
    )
    keep_row(result, paths)
    print("\n".join([result.row(), *result.problems()]))
    return 1 if result.problems() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
