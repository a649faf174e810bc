"""Tables: every number in its place, in text, HTML and Markdown."""

import re

import pytest
from conftest import sample_history, sample_metrics

from s18_utils import tables
from s18_utils.experiments import EXPERIMENTS
from s18_utils.records import Record, write_record
from s18_utils.tables import Table

NAME, DICE = "unet-maxpool-transpose-bce", "unet-maxpool-transpose-dice"
UNETS = [name for name, row in EXPERIMENTS.items() if row.family == "unet"]
pytestmark = pytest.mark.usefixtures("small")


def keep(folder, **changes) -> None:
    metrics = sample_metrics(**changes)
    write_record(Record(folder / metrics["experiment"], metrics, sample_history()), {}, {}, {})


SMALL = Table(["name", "score"], [["a", "1"], ["longer <b> & 'c'", "10.5"]])


def test_as_text():
    assert str(SMALL).splitlines() == [
        "name              score",
        "----------------  -----",
        "a                     1",
        "longer <b> & 'c'   10.5",
    ]
    assert repr(SMALL) == str(SMALL)


def test_as_html():
    page = SMALL._repr_html_()
    assert "<b>" not in page
    assert "longer &lt;b&gt; &amp; &#x27;c&#x27;" in page
    assert re.findall("<td>(.*?)</td>", page) == ["1", "10.5"]
    assert page.count("<tr>") == 3
    everywhere = Table(["<i>", "<i>"], [["<i>", "<i>"]])._repr_html_()
    assert "<i>" not in everywhere
    assert everywhere.count("&lt;i&gt;") == 4


def test_as_markdown():
    assert SMALL.markdown().splitlines()[:3] == ["| name | score |", "| --- | ---: |", "| a | 1 |"]


def test_a_row_of_scores():
    row = tables.score_row(Record(None, sample_metrics(), []))
    assert row[:3] == [NAME, "tiny", "1,234 synthetic"]
    assert row[3:-2] == ["0.600", "0.700", "0.800", "0.300", "0.750", "0.875", "0.500", "0.250"]
    assert row[-2:] == ["31,037,763", "61"]
    real = sample_metrics(data=sample_metrics()["data"] | {"source": "local"})
    assert tables.score_row(Record(None, real, []))[2] == "1,234 pets"


def test_a_row_of_several_seeds_has_deviations():
    spread = {
        "loss": 0.01,
        "seed_style_dice_loss": 0.0,
        "pixel_accuracy": 0.002,
        "mean_iou": 0.0123,
        "mean_dice": 0.02,
        "iou": {"pet": 0.03, "background": 0.04, "border": 0.05},
        "dice": {},
    }
    row = tables.score_row(Record(None, sample_metrics(spread=spread), []))
    assert row[3:-2] == [
        "0.600 ± 0.012",
        "0.700 ± 0.030",
        "0.800 ± 0.040",
        "0.300 ± 0.050",
        "0.750 ± 0.020",
        "0.875 ± 0.002",
        "0.500 ± 0.010",
        "0.250 ± 0.000",  # seeds that agree are seeds still
    ]


def test_the_comparison_has_a_row_for_each_unet(tmp_path):
    keep(tmp_path / "out", experiment=DICE)
    table = tables.comparison("tiny", tmp_path / "out")
    assert [row[0] for row in table.rows] == [name for name, row in EXPERIMENTS.items() if row.family == "unet"]
    assert {len(row) for row in table.rows} == {len(table.header)}
    by_name = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert by_name[DICE]["IoU border"] == "0.300"
    assert by_name[DICE]["pooled Dice loss"] == "0.250"
    assert by_name[NAME]["preset"] == "not run yet"
    assert by_name[NAME]["mIoU"] == ""


def test_a_published_record_stands_beside_ones_own(tmp_path, monkeypatch):
    for module in ("s18_utils.records", "s18_utils.tables"):
        monkeypatch.setattr(f"{module}.PUBLISHED", tmp_path / "published")
    keep(tmp_path / "published", preset="full", parameters=1)
    assert [row[:2] for row in tables.comparison("tiny").rows][:2] == [[NAME, "full"], [DICE, "not run yet"]]
    assert [row[:2] for row in tables.comparison("full").rows][:2] == [[NAME, "full"], [DICE, "not run yet"]]
    keep(tmp_path / "runs" / "tiny")
    assert [row[:2] for row in tables.comparison("tiny").rows][:2] == [[NAME, "tiny"], [NAME, "full"]]


def test_the_contrast_of_two_experiments(tmp_path):
    keep(tmp_path)
    other = sample_metrics()["test"] | {"mean_iou": 0.55, "iou": {"pet": 0.7, "background": 0.75, "border": 0.4}}
    keep(tmp_path, experiment=DICE, test=other)
    rows = {row[0]: row[1:] for row in tables.contrast(NAME, DICE, "tiny", tmp_path).rows}
    assert rows["mean iou"] == ["0.600", "0.550", "-0.050"]
    assert rows["iou border"] == ["0.300", "0.400", "+0.100"]
    assert rows["iou pet"] == ["0.700", "0.700", "+0.000"]
    assert "loss" not in rows  # two losses can't be compared


def test_the_contrast_with_one_that_was_not_run(tmp_path):
    keep(tmp_path)
    table = tables.contrast(NAME, DICE, "tiny", tmp_path)
    assert ["mean iou", "0.600", "not run yet", ""] in [list(row) for row in table.rows]
    assert tables.contrast(NAME, DICE, "tiny", tmp_path / "empty").rows == []


def test_the_contrast_of_several_seeds_has_deviations(tmp_path):
    keep(tmp_path, spread={"mean_iou": 0.003, "iou": {"pet": 0.02}})
    keep(tmp_path, experiment=DICE, spread={"mean_iou": 0.004})
    rows = {row[0]: row[1:] for row in tables.contrast(NAME, DICE, "tiny", tmp_path).rows}
    assert rows["mean iou"] == ["0.600 ± 0.003", "0.600 ± 0.004", "+0.000 ± 0.005"]
    assert rows["iou pet"] == ["0.700 ± 0.020", "0.700", "+0.000"]  # one side has none


def test_scores_one_a_line():
    table = tables.scores(sample_metrics()["test"])
    assert ["pixel accuracy", "0.8750"] in table.rows
    assert ["iou border", "0.3000"] in table.rows
    assert len(table.rows) == 11
    spread = {"iou": {"border": 0.01234}}
    assert ["iou border", "0.3000 ± 0.0123"] in tables.scores(sample_metrics()["test"], spread).rows


def test_the_results_for_the_readme(tmp_path, monkeypatch):
    for module in ("s18_utils.records", "s18_utils.tables"):
        monkeypatch.setattr(f"{module}.PUBLISHED", tmp_path)
    keep(tmp_path)
    keep(tmp_path, experiment=DICE)
    marks = {name: f"<!-- results {name}: written by python -m s18_utils readme -->" for name in tables.SCORES}
    end = "<!-- end of results -->"
    between = "".join(f"{mark}\nold numbers\n{end}\nbetween\n" for mark in marks.values())
    text = tables.insert_results(f"before\n{between}after\n")
    assert text.startswith(f"before\n{marks['unet']}\n| experiment | mIoU |")
    assert text.endswith(f"\n{end}\nbetween\nafter\n")
    assert "old numbers" not in text
    assert text.count("between\n") == len(marks)
    assert f"| {DICE} | 0.600 |" in text
    # Where they come from, once for both.
    assert text.count("synthetic pets: 1,234 to train on, 137 to choose the epoch by; 56 test images") == 1
    assert tables.insert_results(text) == text


def test_the_origin_tells_how_much_of_the_real_set_was_there():
    real = sample_metrics(data=sample_metrics()["data"] | {"source": "local", "train": 3312, "val": 368})
    assert "3,680 of the 3,680 official training images (100%)" in tables.origin(Record(None, real, []))
