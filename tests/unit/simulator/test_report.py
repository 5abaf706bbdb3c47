"""A run's document, its report, and two runs compared."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from motorcade.simulator.audit.verdict import Fleet, Generator, Outcome, Scope
from motorcade.simulator.report import comparison_page, page
from motorcade.simulator.report.compare import Change, ComparisonError, compare
from motorcade.simulator.report.document import Document, DocumentError, Series, read, write
from motorcade.simulator.report.figures import plots

from .run_document import BEGAN, findings, run_document


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    document = run_document()
    write(document, tmp_path / "new" / "run.json")
    assert read(tmp_path / "new" / "run.json") == document


def test_figures_that_are_not_numbers_become_null(tmp_path: Path) -> None:
    document = run_document(fleet=Fleet(recovered_s=float("inf")))
    write(document, tmp_path / "run.json")
    assert read(tmp_path / "run.json").verdict.fleet.recovered_s is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 1}', '{"version": 2}', '{"outcome": "PASS"}']
)
def test_what_is_no_document_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(DocumentError, match=r"other\.json"):
        read(path)
    with pytest.raises(DocumentError, match="missing"):
        read(tmp_path / "missing.json")


def test_the_report_is_one_file_with_the_outcome_first() -> None:
    html = page.render(run_document())
    body = html[html.index("<body>") :]
    assert re.sub(r"<[^>]*>|\s", "", body[:200]).startswith("PASS")
    assert len(html.encode()) < 6e6
    # Nothing is fetched: no address in an attribute.
    outside = html[: html.index("<script>")]
    assert not re.search(r'(src|href)="', outside)
    assert "for &lt;tests&gt;" in html
    for name in ("Cars", "Messages", "Latency", "Lag", "CPU", "Memory"):
        assert f"<h3>{name} " in html
    assert "mosquitto</td>" in re.sub(r" <span.*?</span>", "", html)
    sent = run_document().series.figures["rate.sent"][10:100]
    told = re.search(r"<small>([\d,]+)/s in the stage hold</small>", html)
    assert told is not None
    assert float(told[1].replace(",", "")) == pytest.approx(sum(filter(None, sent)) / 90, rel=0.01)


def test_what_a_run_says_cannot_end_the_reports_script() -> None:
    document = run_document()
    stage = msgspec.structs.replace(document.stages[0], name="</script><b>")
    html = page.render(msgspec.structs.replace(document, stages=[stage]))
    assert "</script><b>" not in html
    assert "\\u003c/script>\\u003cb>" in html


def test_a_run_without_series_has_a_report_too() -> None:
    html = page.render(
        msgspec.structs.replace(run_document(), series=Series(), events=[], stages=[])
    )
    assert "over time" not in html


def test_long_runs_are_thinned_and_keep_their_peaks() -> None:
    hours = 20_000
    values: list[float | None] = [1.0] * hours
    values[12_345] = 77.0
    values[:100] = [None] * 100
    times = [BEGAN + second * 1000 for second in range(hours)]
    document = msgspec.structs.replace(run_document(), series=Series(times, {"lag.refine": values}))
    (plot,) = plots(document)
    (trace,) = plot.figure["data"]
    assert len(trace["x"]) == len(trace["y"]) <= 500
    assert max(value for value in trace["y"] if value is not None) == 77.0
    assert trace["y"][0] is None


def test_events_and_stages_stand_at_their_time_in_every_plot() -> None:
    for plot in plots(run_document()):
        start = plot.figure["data"][0]["x"][0]
        band, mark = plot.figure["layout"]["shapes"]
        assert (band["x0"] - start, band["x1"] - start) == (10_000, 100_000)
        assert mark["x0"] - start == 50_000
        assert mark["label"]["text"] == "1"


def changes(a: Document, b: Document) -> dict[str, str]:
    return {
        f"{row.group} {row.name}": row.change.value
        for row in compare(a, b).rows
        if row.change is not Change.SAME
    }


def test_two_equal_runs_differ_in_nothing_beyond_noise() -> None:
    assert changes(run_document(seed=1), run_document(seed=2)) == {}


def test_a_process_that_costs_more_is_worse_and_less_is_better() -> None:
    plain, dear = run_document(seed=1), run_document(seed=2, cpu=1.3)
    assert changes(plain, dear) == {"CPU bridge": "worse", "CPU together": "worse"}
    assert changes(dear, plain) == {"CPU bridge": "better", "CPU together": "better"}


def test_one_lost_message_is_worse() -> None:
    lossy = replace(findings().accounts, lost=1, acknowledged_missing=1)
    assert changes(run_document(), run_document(accounts=lossy)) == {"messages lost": "worse"}


def test_what_was_asked_differently_is_named() -> None:
    other = run_document()
    manifest = msgspec.structs.replace(
        other.manifest,
        scenario={**other.manifest.scenario, "fleet": {"cars": 600}},
        packages={"numpy": "1.27"},
        machine=msgspec.structs.replace(other.manifest.machine, cores=4),
    )
    other = msgspec.structs.replace(other, manifest=manifest)
    machine, package, cars = compare(run_document(), other).differences
    assert "times do not compare" in machine
    assert (package, cars) == ("numpy 1.26 and 1.27", "fleet.cars: 500 and 600")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"name": "evaluation"}, "different scenarios, steady and evaluation"),
        ({"generator": Generator(1, 5.0)}, "INVALID"),
        ({"scope": Scope.CARS}, "as far as the cars"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused_with_the_reason(
    changed: dict[str, Any], why: str
) -> None:
    with pytest.raises(ComparisonError, match=why):
        compare(run_document(), run_document(**changed))


def test_the_comparison_is_a_page_too(tmp_path: Path) -> None:
    dear = run_document(seed=2, cpu=1.5)
    assert dear.verdict.outcome is Outcome.PASS
    path = tmp_path / "comparison.html"
    comparison_page.write(compare(run_document(), dear), path)
    html = path.read_text()
    assert "steady: A and B" in html
    assert len(html.encode()) < 6e6
    rows = re.findall(r"<tr>.*?</tr>", html, re.DOTALL)
    worse = [row for row in rows if '<td class="no">worse</td>' in row]
    assert [re.findall(r"<td>(\w+) ", row) for row in worse] == [["bridge"], ["together"]]
