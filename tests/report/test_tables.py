"""Tables: every number in its place, in text, HTML and Markdown."""

import re

import pytest
from conftest import sample_history, sample_metrics

from s18_utils.experiments import build_settings, get_experiment
from s18_utils.records import Record
from s18_utils.report import tables
from s18_utils.report.table import Table
from s18_utils.runs import write_record

NAME, DICE = "unet-maxpool-transpose-bce", "unet-maxpool-transpose-dice"
LABEL = "max pooling, transposed convolution, cross-entropy"
pytestmark = pytest.mark.usefixtures("small")


def keep(folder, settings=None, **changes) -> Record:
    metrics = sample_metrics(**changes)
    name, values = metrics["experiment"], build_settings(get_experiment(metrics["experiment"]), "tiny", settings)
    config = {"family": "unet", "changes": settings or {}, "settings": values.model_dump(mode="json")}
    return write_record(Record(folder / name, metrics, sample_history(), config=config), {}, {})


SMALL = Table(["name", "score"], [["a", "1"], ["longer <b> & 'c'", "10.5"]])


def test_columns_of_numbers_are_aligned_right_and_those_of_words_left():
    rows = [["a", "tiny", "-0.1"], ["b", "quick", "not scored"]]
    table = Table(["name", "preset", "difference"], rows)
    assert str(table).splitlines()[2:] == ["a     tiny          -0.1", "b     quick   not scored"]
    assert table.markdown().splitlines()[1] == "| --- | --- | ---: |"


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
    assert re.findall("<td style='text-align: right'>(.*?)</td>", page) == ["1", "10.5"]
    assert page.count("<tr>") == 3
    everywhere = Table(["<i>", "<i>"], [["<i>", "<i>"]])._repr_html_()
    assert "<i>" not in everywhere
    assert everywhere.count("&lt;i&gt;") == 4


def test_as_markdown():
    assert SMALL.markdown().splitlines()[:3] == ["| name | score |", "| --- | ---: |", "| a | 1 |"]
    assert Table(["a|b"], [["c|d"]]).markdown().splitlines() == [r"| a\|b |", "| --- |", r"| c\|d |"]


def row_of(folder, **changes) -> list[str]:
    return tables.compare_records([keep(folder, **changes)]).rows[0]


def test_a_row_of_scores(tmp_path):
    row = row_of(tmp_path)
    assert row[:2] == [LABEL, "tiny"]
    assert row[2:-3] == ["0.600", "0.700", "0.800", "0.300", "0.750", "0.875"]
    assert row[-3:] == ["1,234 synthetic", "31,037,763", "61"]
    assert row_of(tmp_path, data=sample_metrics()["data"] | {"source": "local"})[-3] == "1,234 Oxford-IIIT Pet"


def test_a_row_of_several_seeds_has_deviations(tmp_path):
    spread = {
        "pixel_accuracy": 0.0,
        "mean_iou": 0.0123,
        "mean_dice": 0.02,
        "iou": {"pet": 0.03, "background": 0.04, "border": 0.05},
        "dice": {},
    }
    row = row_of(tmp_path, spread=spread)
    assert row[2:-3] == [
        "0.600 ± 0.012",
        "0.700 ± 0.030",
        "0.800 ± 0.040",
        "0.300 ± 0.050",
        "0.750 ± 0.020",
        "0.875 ± 0.000",  # seeds that agree are seeds still
    ]


def test_records_of_any_number_and_kind_are_compared(tmp_path):
    records = [keep(tmp_path / "a"), keep(tmp_path / "b", experiment=DICE, preset="quick")]
    records.append(keep(tmp_path / "c", settings={"up": "bilinear", "width": 16}))
    table = tables.compare_records(records)
    assert [row[:2] for row in table.rows] == [
        [LABEL, "tiny"],
        ["max pooling, transposed convolution, Dice loss", "quick"],
        [f"{LABEL}, up=bilinear,width=16", "tiny"],
    ]
    assert {len(row) for row in table.rows} == {len(table.header)}
    settings = tables.compare_settings(records)
    assert settings.header[1:3] == [f"{LABEL} (tiny)", "max pooling, transposed convolution, Dice loss (quick)"]
    assert settings.rows == [
        ["up", "transpose", "transpose", "bilinear"],
        ["loss", "ce", "dice", "ce"],
        ["width", "4", "4", "16"],
    ]
    assert tables.compare_records([]).rows == []


def test_a_score_of_a_record_from_before_it_existed_is_not_zero(tmp_path):
    test = {name: value for name, value in sample_metrics()["test"].items() if name != "pixel_accuracy"}
    assert "not scored" in row_of(tmp_path, test=test)


def test_the_contrast_of_two_records(tmp_path):
    other = sample_metrics()["test"] | {"mean_iou": 0.55, "iou": {"pet": 0.7, "background": 0.75, "border": 0.4}}
    before, after = keep(tmp_path), keep(tmp_path, experiment=DICE, test=other, preset="quick")
    table = tables.contrast_scores(before, after)
    assert table.header[1] == f"{LABEL} (tiny)"  # said where the other's is not the same
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["mean iou"] == ["0.600", "0.550", "-0.050"]
    assert rows["iou border"] == ["0.300", "0.400", "+0.100"]
    assert rows["iou pet"] == ["0.700", "0.700", "+0.000"]
    assert "loss" not in rows  # two losses can't be compared


def test_the_contrast_of_several_seeds_has_intervals(tmp_path):
    def by_seed(*values):
        return {"seeds": [0, 1, 2], "by_seed": [{"mean_iou": value} for value in values]}

    before = keep(tmp_path, spread={"mean_iou": 0.003, "iou": {"pet": 0.02}}, **by_seed(0.60, 0.62, 0.58))
    after = keep(tmp_path, experiment=DICE, spread={"mean_iou": 0.004}, **by_seed(0.61, 0.65, 0.63))
    rows = {row[0]: row[1:] for row in tables.contrast_scores(before, after).rows}
    # Gains of .01, .03 and .05: mean .03, deviation .02, so ± 4.3027 · .02 / √3 = .0497.
    assert rows["mean iou"] == ["0.600 ± 0.003", "0.600 ± 0.004", "+0.030 (-0.020 to +0.080)"]
    assert rows["iou pet"] == ["0.700 ± 0.020", "0.700", "+0.000"]  # which is not known by seed
    other = keep(tmp_path, experiment=DICE, seeds=[0, 1], by_seed=[{"mean_iou": 0.61}, {"mean_iou": 0.65}])
    rows = {row[0]: row[1:] for row in tables.contrast_scores(before, other).rows}
    assert rows["mean iou"][2] == "+0.000"  # two seeds against three


def test_scores_one_a_line():
    table = tables.list_scores(sample_metrics()["test"])
    assert ["pixel accuracy", "0.8750"] in table.rows
    assert ["iou border", "0.3000"] in table.rows
    assert len(table.rows) == 11
    spread = {"iou": {"border": 0.01234}}
    assert ["iou border", "0.3000 ± 0.0123"] in tables.list_scores(sample_metrics()["test"], spread).rows


def test_the_series_is_described_once_for_records_that_share_it(tmp_path):
    records = [keep(tmp_path), keep(tmp_path, experiment=DICE)]
    [sentence] = tables.describe_series(records)
    assert "synthetic Oxford-IIIT Pet: 1,234 to train on, 137 to choose the epoch by; 56 test images" in sentence
    real = sample_metrics()["data"] | {"source": "local", "train": 3312, "val": 368}
    assert "3,680 of the 3,680 official training images" in tables.describe_series([keep(tmp_path, data=real)])[0]


@pytest.mark.parametrize("name", [NAME, "cvae-mnist", "judge-mnist"])
def test_every_setting_is_explained(name):
    settings = build_settings(get_experiment(name), "tiny")
    table = tables.explain_settings(settings, list(type(settings).model_fields))
    assert [row[1] for row in table.rows] == list(dict(settings))
    assert all(row[0] and row[0] != "None" for row in table.rows)
    assert dict(row[1:] for row in table.rows)["seed"] == str(settings.seed)
