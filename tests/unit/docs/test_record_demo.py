"""The README's output of the demo is the recorded one, and shapes compare outputs of different runs."""

import pytest

from docs.tools import record_demo

GUID = "8c835ccb-9c12-4bea-99f0-bb76d9562c64"
OTHER_GUID = "df3516a7-c575-40dd-8c0e-944c8ba344f2"
RUN = f"""
[  3.1 s] Everybody signs a contract: eSAW calls back
  Lease     Anna    Pending

  ENVELOPE  SENDER  PHASE      RESULT
  Lease     Anna    Succeeded  archived

[ 42.0 s] The archive of Acme: folder
  └── {GUID}/
      └── lease.pdf  5,998 bytes
  └── old-stock-2201ef64/
      ├── part-00001-d945cce6906b1800.csv  583 bytes
      └── part-00002-f1e7d7868cc3d8ae.csv  1,047 bytes

[ 43.0 s] Checks
  ok        8 of 8  each envelope ended

To look around: make demo KEEP=1
"""


def test_the_readme_shows_what_was_recorded() -> None:
    readme, recording = (path.read_text("utf-8") for path in (record_demo.README, record_demo.RECORDING))
    assert readme == record_demo.with_excerpt(readme, recording), "run: python docs/tools/record_demo.py"


def test_an_excerpt_is_the_final_table_and_the_checks() -> None:
    assert record_demo.excerpt(RUN).splitlines() == [
        "  ENVELOPE  SENDER  PHASE      RESULT",
        "  Lease     Anna    Succeeded  archived",
        "",
        "Checks",
        "  ok        8 of 8  each envelope ended",
    ]


@pytest.mark.parametrize("lacking", ["ENVELOPE", "Checks"])
def test_a_run_that_stopped_early_is_not_recorded(lacking: str) -> None:
    with pytest.raises(ValueError, match="no table or no checks"):
        record_demo.excerpt(RUN.replace(lacking, "Traceback"))


def test_a_page_without_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="no block"):
        record_demo.with_excerpt("# Counterfoil\n", RUN)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (GUID, OTHER_GUID),
        ("[ 43.0 s]", "[143.0 s]"),
        ("5,998 bytes", "6,000 bytes"),
        ("  Lease     Anna    Pending\n", ""),
        ("└── ", "├── "),
        ("d945cce6906b1800", "0123456789abcdef"),
        ("      ├── part-00001-d945cce6906b1800.csv  583 bytes\n", ""),
    ],
    ids=[
        "other id",
        "slower",
        "other size",
        "another progress",
        "another place in the tree",
        "another hash",
        "a report of one part",
    ],
)
def test_runs_that_differ_by_chance_have_one_shape(old: str, new: str) -> None:
    assert record_demo.shape(RUN.replace(old, new)) == record_demo.shape(RUN)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Succeeded  archived", "Failed     EnvelopeNotFound"),
        ("ok   ", "FAILED"),
        ("      └── lease.pdf  5,998 bytes\n", ""),
        ("each envelope ended", "every envelope has ended"),
        (".csv  ", ".txt  "),
    ],
    ids=["other result", "failed check", "missing file", "other words", "another report"],
)
def test_runs_that_differ_in_substance_have_different_shapes(old: str, new: str) -> None:
    assert record_demo.shape(RUN.replace(old, new)) != record_demo.shape(RUN)
