"""Charts are inline SVG in the page's own colours."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from tutelage.report.charts import Band, bands, curve, moving_average, thin


def test_a_curve_is_clean_svg_in_the_colours_of_the_page():
    svg = curve("Reward", range(1, 31), [i / 30 for i in range(30)])
    root = ET.fromstring(re.sub(r"clip-path", "data-clip", svg))
    assert root.tag == "svg"
    assert root.get("aria-label") == "Reward"
    assert "var(--accent)" in svg
    assert "var(--muted)" in svg
    assert not re.search(r"#[0-9a-fA-F]{6}\b", svg)  # no colour that only one of light and dark could bear
    assert "http" not in svg
    assert "<style" not in svg  # it would style the whole page
    assert "<text" in svg  # text stays text
    ids = re.findall(r' id="([^"]+)"', svg)
    assert set(ids) == set(re.findall(r"url\(#([^)]+)\)", svg))


def test_the_marks_of_a_short_curve_are_there():
    svg = curve("Reward", [1, 2, 3], [0.1, 0.2, 0.3])
    (mark,) = set(re.findall(r'<use href="#(m[0-9a-f]+)"', svg))
    assert f'id="{mark}"' in svg


def test_runs_that_measured_once_are_points_and_long_ones_are_not():
    for steps, marks in ((1, 2), (40, 0)):
        x, y = range(steps), [0.5] * steps
        svg = bands("Bits per byte", [Band("a", x, y, y, y), Band("b", x, y, y, y)])
        assert len(re.findall(r'<use href="#m[0-9a-f]+" [^>]*stroke: var\(--series-', svg)) == marks


def test_a_name_from_a_user_is_escaped():
    svg = curve('"><script>alert(1)</script>', [1, 2], [0.0, 1.0])
    assert "<script" not in svg
    ET.fromstring(svg)


@pytest.mark.parametrize("values", [[1.0], [None, 2.0], [0.0, 0.0, 0.0], [1e-9, 2e-9], [-5e6, 3.0]])
def test_odd_values(values):
    assert curve("x", range(len(values)), values).endswith("</svg>\n")


def test_equal_data_gives_equal_bytes():
    assert curve("x", range(20), [0.5] * 20) == curve("x", range(20), [0.5] * 20)


def test_moving_average():
    assert moving_average(np.array([1.0, 2.0, 6.0])) == pytest.approx([1.5, 3.0, 4.0])
    smooth = moving_average(np.array([1.0, np.nan, 3.0]))
    assert smooth == pytest.approx([1.0, 2.0, 3.0])
    line = np.linspace(0, 1, 200)
    assert moving_average(line)[20:-20] == pytest.approx(line[20:-20])


def test_long_runs_are_thinned():
    assert len(thin(np.arange(50_000.0))) == 200
    assert list(thin(np.arange(3.0))) == [0, 1, 2]
    assert len(curve("x", range(50_000), np.random.default_rng(0).random(50_000).tolist())) < 40_000
