"""Numbers in prose: filled in from records, and refused in one sentence where there is no such number."""

import pytest
from conftest import assert_one_sentence, sample_history, sample_metrics

from s18_utils import records
from s18_utils.errors import InputError
from s18_utils.records import Record
from s18_utils.report.readme import SECTIONS, write_results
from s18_utils.report.values import fill_values, look_up_value
from s18_utils.runs import write_record

BCE, DICE = "unet-maxpool-transpose-bce", "unet-maxpool-transpose-dice"


@pytest.fixture(autouse=True)
def published(monkeypatch, tmp_path):
    """Two UNets: mean IoU 0.6 ± 0.03 and 0.65 ± 0.04, on 56 test images."""
    monkeypatch.setattr(records, "PUBLISHED", tmp_path)
    for name, value, spread in ((BCE, 0.6, 0.03), (DICE, 0.65, 0.04)):
        test = sample_metrics()["test"] | {"mean_iou": value}
        by_seed = [test | {"mean_iou": value - spread}, test | {"mean_iou": value + 2 * spread}]
        metrics = sample_metrics(experiment=name, test=test, spread={"mean_iou": spread}, seeds=[0, 1], by_seed=by_seed)
        write_record(Record(tmp_path / name, metrics, sample_history(2)), {}, {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (f"{BCE}: test.mean_iou", "0.600"),
        (f"{BCE}: test.mean_iou .2f ±", "0.60 ± 0.03"),
        (f"{BCE}: test.mean_iou .1%", "60.0\N{NO-BREAK SPACE}%"),
        (f"{BCE}: test.iou.border .1f", "0.3"),
        (f"{BCE}: test.iou.border .1f ±", "0.3"),  # whose spread nobody measured
        (f"{BCE}: by_seed.1.mean_iou .2f", "0.66"),
        (f"{BCE}: 9*data.test", "504"),
        (f"{BCE}: parameters", "31,037,763"),
        (f"{BCE}: preset", "tiny"),
        (f"{BCE}@tiny: epochs", "2"),
        # Gains of .04 and .07: mean .055, deviation .0212, so ± 12.7062 · .0212 / √2 = .191.
        (f"{DICE} - {BCE}: test.mean_iou +.3f ±", "+0.055 (\N{MINUS SIGN}0.136 to +0.246)"),
        (
            f"{DICE} - {BCE}: 2*test.mean_iou +.0% ±",
            "+11\N{NO-BREAK SPACE}% (\N{MINUS SIGN}27\N{NO-BREAK SPACE}% to +49\N{NO-BREAK SPACE}%)",
        ),
        (f"{DICE} - {BCE}: parameters + ±", "+0"),  # which no seed has its own of
        (f"{BCE} - {DICE}: test.mean_iou", "\N{MINUS SIGN}0.050"),
    ],
)
def test_a_name_has_the_value_of_the_record(name, value):
    assert look_up_value(name) == value


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nonsense", ["names no value"]),
        ("unet-strided-transpose-bce: epochs", ["no record of unet-strided-transpose-bce"]),
        (f"{BCE}: test.luck", ["no value test.luck", "mean_iou"]),
        (f"{BCE}: by_seed.2.mean_iou", ["no value by_seed.2.mean_iou"]),
        (f"{BCE}: data", ["no value data", "fingerprint"]),
        (f"{BCE}: preset .3f", ["preset is no number"]),
        (f"{BCE}: epochs .3q", ["'.3q' is no format"]),
        (f"{BCE}@huge: epochs", ["unknown preset"]),
        ("effect up: mean_iou", ["settings"]),
    ],
)
def test_a_name_without_a_value_is_refused_in_one_sentence(name, parts):
    with pytest.raises(InputError) as caught:
        look_up_value(name)
    assert_one_sentence(str(caught.value), *parts)


def test_what_stands_between_marks_is_replaced_and_nothing_else():
    text = "A <!-- value a -->old<!-- end -->, *b* <!-- value b -->\nolder\n<!-- end --> <!-- end of results -->"
    filled = "A <!-- value a -->A!<!-- end -->, *b* <!-- value b -->B!<!-- end --> <!-- end of results -->"
    assert fill_values(text, lambda name: name.upper() + "!") == filled
    assert fill_values(filled, lambda name: name.upper() + "!") == filled
    with pytest.raises(InputError) as caught:
        fill_values("<!-- value a -->1 and <!-- value b -->2<!-- end -->", str)
    assert_one_sentence(str(caught.value), "has no end")


def test_the_readme_gets_tables_and_values_and_keeps_the_rest():
    marks = [f"<!-- results {name}: written by python -m s18_utils readme -->\nold\n" for name in SECTIONS]
    text = "# Title\n\n" + "".join(f"{mark}<!-- end of results -->\n\n" for mark in marks)
    text += f"mIoU <!-- value {BCE}: test.mean_iou .1f -->?<!-- end -->.\n"
    written = write_results(text)
    assert "| 0.600 ± 0.030 |" in written
    assert "No record is published yet." in written  # of a conditional VAE
    assert "Not all combinations are published yet: " in written
    assert "-->0.6<!-- end -->.\n" in written
    assert "old" not in written
    assert write_results(written) == written
    with pytest.raises(InputError) as caught:
        write_results("# Title\n")
    assert_one_sentence(str(caught.value), "no marks")
