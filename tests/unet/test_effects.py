"""Main effects, interactions and intervals on values worked out by hand, and what is said where records are missing."""

import dataclasses
from itertools import product

import pytest
from conftest import sample_history, sample_metrics
from unet_stand_ins import StandInRecord, read_title, sample_scores

from s18_utils.errors import InputError
from s18_utils.experiments import build_settings, get_experiment
from s18_utils.records import Record
from s18_utils.report import values
from s18_utils.report.intervals import format_interval
from s18_utils.runs import folder_name, write_record
from s18_utils.unet.effects import FACTORS, draw_effects, estimate_effects, find_combinations, tabulate_effects

SEEDS = (0, 1, 2)


def build_records(score, seeds=SEEDS) -> list[StandInRecord]:
    """The eight combinations; `score` gives a mean IoU for the signs of down, up and loss, and the seed."""
    records = []
    for options in product(*FACTORS.values()):
        signs = [1 if list(FACTORS[name])[1] == option else -1 for name, option in zip(FACTORS, options, strict=True)]
        values = [score(*signs, seed) for seed in seeds]
        tests = tuple(sample_scores(mean_iou=value, iou={"pet": 1 - value, "border": value / 2}) for value in values)
        changes = dict(zip(FACTORS, options, strict=True))
        records.append(StandInRecord(seeds=seeds, tests=tests, test=tests[0], changes=changes))
    return records


def test_effects_that_only_add_up_are_found_and_nothing_else():
    # .02 for strided, −.01 for bilinear, .05 for Dice; each seed shifts all eight alike, and so must not matter.
    records = build_records(lambda down, up, loss, seed: 0.6 + 0.01 * down - 0.005 * up + 0.025 * loss + 0.1 * seed)
    effects = estimate_effects(records)
    assert [effect.factors for effect in effects] == [
        *(("down",), ("up",), ("loss",)),
        *(("down", "up"), ("down", "loss"), ("up", "loss")),
        ("down", "up", "loss"),
    ]
    assert [effect.estimate for effect in effects] == pytest.approx([0.02, -0.01, 0.05, 0, 0, 0, 0])
    assert [effect.high - effect.low for effect in effects] == pytest.approx([0] * 7, abs=1e-9)


def test_an_interaction_is_half_the_difference_of_effects():
    # Dice gains .04 with bilinear and nothing with transposed: its effect is .02, and (.04 − 0) / 2 the interaction's.
    records = build_records(lambda down, up, loss, seed: 0.6 + (0.04 if up == loss == 1 else 0))
    by_factors = {effect.factors: effect.estimate for effect in estimate_effects(records)}
    assert by_factors["up", "loss"] == pytest.approx(0.02)
    assert by_factors["loss",] == pytest.approx(0.02)
    assert by_factors["up",] == pytest.approx(0.02)
    assert [by_factors["down",], by_factors["down", "up"]] == pytest.approx([0, 0])
    whole = build_records(lambda down, up, loss, seed: 0.6 + 0.004 * down * up * loss)
    assert estimate_effects(whole)[-1].estimate == pytest.approx(0.008)


def test_an_effect_stands_in_prose_with_its_interval(monkeypatch):
    records = build_records(lambda down, up, loss, seed: 0.6 + loss * (0.005 + 0.01 * seed) - 0.002 * up)
    monkeypatch.setattr(values, "find_combinations", lambda: records)
    assert values.look_up_value("effect loss: mean_iou") == "+0.0300 (\N{MINUS SIGN}0.0197 to +0.0797)"
    assert values.look_up_value("effect up: iou border").startswith("\N{MINUS SIGN}0.0020 (")
    for name in ("effect luck: mean_iou", "effect up: luck"):
        with pytest.raises(InputError):
            values.look_up_value(name)


def test_the_interval_by_hand():
    # Effects of Dice in the three seeds .01, .03 and .05: mean .03, deviation .02, so ± 4.3027 · .02 / √3 = .04968.
    records = build_records(lambda down, up, loss, seed: 0.6 + loss * (0.005 + 0.01 * seed))
    loss = estimate_effects(records)[2]
    assert loss.by_seed == pytest.approx((0.01, 0.03, 0.05))
    assert (loss.estimate, loss.low, loss.high) == pytest.approx((0.03, 0.03 - 0.049684, 0.03 + 0.049684), abs=1e-6)
    assert not loss.clear
    assert loss.name == "loss: cross-entropy → Dice loss"
    # Two seeds, .01 and .03: .02 ± 12.7062 · .0141421 / √2 = .127062.
    two = estimate_effects([dataclasses.replace(record, seeds=(0, 1)) for record in records])[2]
    assert (two.low, two.high) == pytest.approx((0.02 - 0.127062, 0.02 + 0.127062), abs=1e-6)


def test_an_end_next_to_zero_shows_its_side():
    assert format_interval(0.0026, 0.00004, 0.0053, "+.4f") == "+0.0026 (above 0 to +0.0053)"
    assert format_interval(-0.02, -0.04, -0.0001, ".1%") == "-2.0% (-4.0% to below 0)"
    assert format_interval(1234.0, 0.0, 5678.0, ",.0f") == "1,234 (0 to 5,678)"


def test_effects_on_the_score_of_a_class():
    records = build_records(lambda down, up, loss, seed: 0.6 + 0.01 * down)
    assert estimate_effects(records, "iou pet")[0].estimate == pytest.approx(-0.02)
    assert estimate_effects(records, "iou border")[0].estimate == pytest.approx(0.01)
    assert [effect.estimate for effect in estimate_effects(records, "pixel_accuracy")] == [0] * 7


def test_the_order_of_the_records_does_not_matter():
    records = build_records(lambda down, up, loss, seed: 0.6 + 0.01 * down + 0.02 * up * seed)
    assert estimate_effects(records[::-1]) == estimate_effects(records)
    turned = [dataclasses.replace(each, seeds=each.seeds[::-1], tests=each.tests[::-1]) for each in records[:3]]
    assert estimate_effects(turned + records[3:]) == estimate_effects(records)


def complaint(records) -> str:
    with pytest.raises(InputError) as caught:
        estimate_effects(records)
    message = str(caught.value)
    assert "\n" not in message
    assert ": " in message
    return message


def test_what_is_missing_is_named():
    records = build_records(lambda down, up, loss, seed: 0.6)
    assert complaint([*records[:2], *records[3:7]]) == (
        "effects need all eight combinations, these are missing: max pooling + bilinear up-sampling + cross-entropy; "
        "strided convolution + bilinear up-sampling + Dice loss"
    )
    assert "these are missing: max pooling + transposed" in complaint([])
    fewer = dataclasses.replace(records[1], seeds=(0, 2), tests=records[1].tests[:2])
    assert complaint([records[0], fewer, *records[2:]]) == (
        "effects need the same two or more seeds of all eight: "
        "max pooling + transposed convolution + Dice loss lacks seed 1"
    )
    assert "train more seeds" in complaint(build_records(lambda *_: 0.6, seeds=(0,)))
    assert "train more seeds" in complaint([dataclasses.replace(record, tests=()) for record in records])
    assert "two records of max pooling + transposed convolution + cross-entropy" in complaint([*records, records[0]])


def test_records_that_differ_otherwise_are_not_compared():
    records = build_records(lambda down, up, loss, seed: 0.6)
    wider = dataclasses.replace(records[3], changes=records[3].changes | {"width": 8, "skip": False})
    assert "differ in skip, width too" in complaint([*records[:3], wider, *records[4:]])
    other = dataclasses.replace(records[3], fingerprint="another")
    assert "differ in data too" in complaint([*records[:3], other, *records[4:]])


def test_the_table_and_the_figure_show_the_same():
    records = build_records(lambda down, up, loss, seed: 0.6 + 0.01 * loss + 0.001 * down * seed)
    table = tabulate_effects(records)
    assert list(table.header) == ["what changes", "mean IoU", "IoU pet", "IoU border"]
    assert [row[0] for row in table.rows][2:4] == ["loss: cross-entropy → Dice loss", "down × up"]
    assert table.rows[2][1] == "+0.0200 (+0.0200 to +0.0200) *"
    # .001 · seed either way: effects 0, .002 and .004, so .002 ± 4.3027 · .002 / √3.
    assert table.rows[0][1] == "+0.0020 (-0.0030 to +0.0070)"
    figure = draw_effects(records)
    assert [axis.get_title() for axis in figure.axes] == ["mean IoU", "IoU pet", "IoU border"]
    places = [float(bar.lines[0].get_xdata()[0]) for bar in figure.axes[0].containers]
    assert places == pytest.approx([0.002, 0, 0.02, 0, 0, 0, 0], abs=1e-9)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[2] == "loss:\ncross-entropy → Dice loss"
    assert "over 3 seeds: estimate and 95 % interval, synthetic data" in read_title(figure)


def keep(folder, name="unet-maxpool-transpose-bce", **changes) -> None:
    """Writes a made-up record."""
    spec = get_experiment(name)
    settings = build_settings(spec, "tiny", changes).model_dump(mode="json")
    config = {"family": "unet", "changes": changes, "settings": settings}
    folder = folder / folder_name(spec, changes, None)
    write_record(Record(folder, sample_metrics(experiment=name), sample_history(), config=config), {}, {})


def test_combinations_are_found_among_what_is_published(tmp_path, small, monkeypatch):
    monkeypatch.setattr("s18_utils.records.PUBLISHED", tmp_path)
    assert find_combinations() == []
    keep(tmp_path)
    for changes in ({"up": "bilinear"}, {"up": "bilinear", "width": 6}, {"loss": "dice"}):
        keep(tmp_path / "unet-effects", **changes)
    keep(tmp_path / "tiny", "unet-strided-transpose-bce")
    found = find_combinations()
    cells = {(record.settings.down, record.settings.up, record.settings.loss) for record in found}
    assert cells == {
        *(("maxpool", "transpose", "ce"), ("maxpool", "bilinear", "ce")),
        *(("maxpool", "transpose", "dice"), ("strided", "transpose", "ce")),
    }
    assert {record.settings.width for record in found} == {4}  # others differ in more than the three choices
    with pytest.raises(InputError, match="effects need all eight combinations, these are missing: max pooling \\+ bi"):
        estimate_effects(found)
