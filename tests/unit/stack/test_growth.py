"""Whether cost grows in a straight line, as `motorcade bench growth` tells it."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.growth.__main__ import shown
from bench.growth.lines import ALL, LINEAR, fit, growth
from bench.growth.page import write
from bench.growth.points import Point, read

RATES = (1_000.0, 5_000.0, 10_000.0)


@given(st.floats(0, 10), st.floats(1e-6, 1e-3))
def test_points_of_a_line_are_on_it(base: float, slope: float) -> None:
    line = fit(RATES, [base + slope * x for x in RATES])
    assert line.worst < 1e-6
    assert line.linear
    assert (line.base, line.slope) == pytest.approx((base, slope), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("power", [1.5, 2.0])
def test_work_that_grows_faster_than_its_cause_is_not_called_linear(power: float) -> None:
    line = fit(RATES, [1e-6 * x**power for x in RATES])
    assert line.worst > LINEAR
    assert line.base >= 0


def test_the_sum_counts_parts_that_are_too_small_to_show() -> None:
    points = [Point(10, x, measured_rate=x, cores={"a": x / 1e4, "b": 0.001}) for x in RATES]
    found = growth(points, lambda p: p.measured_rate, lambda p: p.cores, least=0.005)
    assert found.by_part.keys() == {"a", ALL}
    assert found.by_part[ALL] == pytest.approx([0.101, 0.501, 1.001])


def test_figures_are_of_the_stage_without_its_first_fifth() -> None:
    document = {
        "stages": [{"from_ms": 0, "to_ms": 1000}, {"from_ms": 1000, "to_ms": 2000}],
        "series": {
            "time_ms": [500, 1100, 1200, 1600, 2000, 2100],
            "figures": {
                "cpu.locust-worker-0": [9, 9, 0.1, 0.2, 0.3, 9],
                "cpu.locust-worker-1": [9, 9, 0.3, None, 0.5, 9],
                "rss.mosquitto-1": [9, 9, 10, 20, 30, 9],
                "rate.sent": [9, 9, 90, 100, 110, 9],
            },
        },
        "verdict": {
            "outcome": "FAIL",
            "checks": [
                {"name": "lost", "observed": "1", "limit": "0", "ok": False},
                {"name": "sent", "observed": "9", "limit": "> 0", "ok": True},
            ],
        },
    }
    point = Point(10, 100)
    read(point, document)
    assert point.cores == pytest.approx({"simulator": 0.2 + 0.4})
    assert point.mib == {"broker": 20}
    assert point.measured_rate == 100
    assert (point.outcome, point.broken) == ("FAIL", ["lost: 1, not 0"])


def test_the_page_shows_each_growth_as_a_plot_and_as_a_table(tmp_path: Path) -> None:
    points = [
        Point(int(x), 1_000, measured_rate=x, cores={"score": x / 2e4}, mib={"score": x / 10})
        for x in RATES
    ]
    found = {
        "rates": growth(points, lambda p: p.measured_rate, lambda p: p.cores),
        "cars": growth(points, lambda p: p.cars, lambda p: p.mib),
    }
    page = tmp_path / "new" / "growth.html"
    write([shown(name, points, one) for name, one in found.items()], page)
    html = page.read_text()
    figures = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert len(figures) == 2
    by_name = {one["name"]: one for one in json.loads(figures[0])["data"]}
    assert by_name["score"]["y"] == pytest.approx([0.05, 0.25, 0.5])
    assert by_name["straight line"]["y"][1] == pytest.approx(0.5)
    assert "50.0 µs a message" in html
    assert "102.4 KB a car" in html
    assert html.count("<td>score</td>") == 2
