"""Pages that are written from the code say what the code says."""

from counterfoil.esaw_check.facts import FactId
from counterfoil.logs import FIELDS
from docs import generate_metrics, generate_plugin, generate_reasons, generate_settings


def test_the_page_of_settings_is_up_to_date() -> None:
    assert generate_settings.PAGE.read_text(encoding="utf-8") == generate_settings.page(), (
        "run: python docs/generate_settings.py"
    )


def test_the_page_of_reasons_is_up_to_date() -> None:
    assert generate_reasons.PAGE.read_text(encoding="utf-8") == generate_reasons.page(), (
        "run: python docs/generate_reasons.py"
    )


def test_the_page_of_the_plugins_commands_is_up_to_date() -> None:
    assert generate_plugin.PAGE.read_text(encoding="utf-8") == generate_plugin.page(), (
        "run: python docs/generate_plugin.py"
    )


def test_the_page_of_metrics_is_up_to_date() -> None:
    assert generate_metrics.PAGE.read_text(encoding="utf-8") == generate_metrics.page(), (
        "run: python docs/generate_metrics.py"
    )


def test_every_field_of_a_log_line_is_explained() -> None:
    text = (generate_metrics.PAGE.parents[1] / "logs-and-traces.md").read_text(encoding="utf-8")
    assert [each for each in FIELDS if f"`{each}`" not in text] == []


def test_every_fact_of_the_check_is_beside_its_assumption() -> None:
    text = (generate_metrics.PAGE.parents[1] / "esignanywhere.md").read_text(encoding="utf-8")
    assumptions = text.partition("## Assumptions")[2]
    assert [each for each in FactId if f"`{each}`" not in assumptions] == []
