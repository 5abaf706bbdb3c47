"""Pages hold what they show as text, need nothing else, and say where they cannot be written."""

from pathlib import Path

import pytest

from motorcade.fleet.errors import MotorcadeError
from motorcade.ml.drift import page
from motorcade.ml.drift.check import Drift
from motorcade.runtime.pages.plot import colour_of
from motorcade.runtime.pages.render import keep

HOSTILE = "</script><script>alert(1)</script>"


def test_a_name_in_the_data_is_text_on_the_page() -> None:
    html = page.render(Drift(HOSTILE, 1, 0, 60_000, 0, 0, 0.01, 0.1, []))
    assert HOSTILE not in html
    assert "&lt;/script&gt;" in html
    assert "1970-01-01 00:01:00 UTC" in html
    assert 'src="http' not in html


def test_a_folder_is_made_and_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    keep("<p>", tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").read_text() == "<p>"
    wrong = tmp_path / "new" / "page.html" / "page.html"
    with pytest.raises(MotorcadeError, match=f"{wrong} cannot be written") as found:
        keep("<p>", wrong)
    assert "--report" in found.value.remedy


def test_lines_beyond_the_colours_begin_again() -> None:
    assert colour_of(0) == colour_of(12) != colour_of(1)
