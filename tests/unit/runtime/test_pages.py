"""Pages with plots: one file that needs nothing else, and in which data stays data."""

import json
import re
import subprocess
import sys
from pathlib import Path
from pkgutil import iter_modules

import pytest

import motorcade.runtime
from motorcade.fleet.errors import MotorcadeError
from motorcade.runtime.pages.page import PageError, environment, keep, script_json
from motorcade.runtime.pages.plot import Plot, colour

PAGE = """{% extends "base.html.j2" %}{% from "plots.html.j2" import drawn %}
{% block title %}{{ name }}{% endblock %}
{% block header %}<h1>{{ name|loud }}</h1>{% endblock %}
{% block body %}{{ drawn(plots) }}{% endblock %}
"""
HOSTILE = '</script><script>alert("&")</script><!--<b>'


def page(name: str, *plots: Plot) -> str:
    templates = environment("tests.unit.runtime", loud=str.upper)
    return templates.from_string(PAGE).render(name=name, plots=plots)


def plot(name: str) -> Plot:
    return Plot(name, name, {"data": [{"name": name, "y": [1.0, None]}], "layout": {}})


def test_a_template_of_ones_own_gets_the_style_the_script_and_its_plots() -> None:
    html = page("a run", plot("first"), plot("second"))
    assert html.startswith("<!doctype html>")
    assert "<h1>A RUN</h1>" in html
    assert html.count('<div class="box">') == 2
    assert "plotly.js" in html
    assert not re.search(r'(src|href)="', html[: html.index("<script>")])


def test_what_a_plot_holds_comes_back_as_it_was_and_cannot_leave_its_script() -> None:
    html = page(HOSTILE, plot(HOSTILE))
    assert HOSTILE not in html
    assert "<!--" not in html[: html.index("<script>")]
    found = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert [json.loads(one) for one in found] == [plot(HOSTILE).figure]
    assert "<" not in script_json(HOSTILE)


def test_a_figure_that_is_no_number_is_null_as_json_knows_no_other() -> None:
    assert json.loads(script_json([float("nan"), float("inf"), 1.5])) == [None, None, 1.5]


def test_colours_begin_again_after_the_last() -> None:
    colours = [colour(number) for number in range(100)]
    repeats = colours.index(colours[0], 1)
    assert len(set(colours[:repeats])) == repeats
    assert colours[repeats : 2 * repeats] == colours[:repeats]


def test_a_page_is_kept_in_a_folder_that_is_made(tmp_path: Path) -> None:
    keep("<p>°</p>", tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8") == "<p>°</p>"


def test_a_page_that_cannot_be_written_is_an_error_with_its_name_and_the_option(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "page.html"):
        with pytest.raises(PageError, match=rf"{path} cannot be written: .*--report") as caught:
            keep("", path)
        assert isinstance(caught.value, MotorcadeError)


def test_only_pages_load_what_pages_are_made_with() -> None:
    modules = [
        f"motorcade.runtime.{one.name}"
        for one in iter_modules(motorcade.runtime.__path__)
        if not one.ispkg
    ]
    assert len(modules) > 5
    code = f"import sys, {', '.join([*modules, 'motorcade.runtime.pages.plot'])}"
    loaded = "print(*{'jinja2', 'plotly'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{loaded}"], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""
