"""The trade-off: a line and a point for each record, the block's value marked, what is missing said."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import sample_metrics

from s18_utils.cvae.tradeoff import draw_tradeoff, tradeoff_table
from s18_utils.records import Record

WEIGHTS = (200.0, 0.0, 20.0)


def scores_of(weight: float, scored: bool = True) -> dict:
    variety = {"swapped": {"agreement": weight / 200, "coverage": 0.5, "recall": 0.25}} if scored else {}
    return {"swap_agreement": weight / 200, "same_label_agreement": 0.75, "mse": 0.01 * (1 + weight)} | {
        "survives": {"ink": {"within_class": 0.125}, "colour_layout": {"within_class": 0.5}},
        **({"variety": variety} if scored else {}),
    }


def record_of(weight: float, seeds: int = 1, **settings) -> Record:
    metrics = sample_metrics(experiment="cvae-mnist", seeds=list(range(seeds)), test=scores_of(weight, **settings))
    if seeds > 1:
        metrics["by_seed"] = [scores_of(weight + 20 * seed) for seed in range(seeds)]
    record = Record(None, metrics, [], config={"family": "cvae"})
    record.__dict__["settings"] = SimpleNamespace(label_weight=weight, latent=int(weight))
    return record


def test_the_table_is_ordered_and_has_agreement_and_variety():
    table = tradeoff_table([record_of(weight) for weight in WEIGHTS])
    assert table.header[:5] == ["label weight", "seeds", "swap agreement", "coverage", "recall"]
    assert table.header[-2:] == ["ink survives", "colour layout survives"]
    assert [row[0] for row in table.rows] == ["0", "20", "200"]
    assert table.rows[1][2:5] == ["0.1000", "0.5000", "0.2500"]


def test_what_was_not_scored_is_said_in_the_table_and_left_out_of_the_plot():
    table = tradeoff_table([record_of(20.0), record_of(0.0, scored=False)])
    assert table.rows[0][3:5] == ["not scored", "not scored"]
    records = [record_of(weight, scored=False) for weight in WEIGHTS]
    assert tradeoff_table(records).header[2:4] == ["swap agreement", "true label"]  # no column without a score
    axis = draw_tradeoff(records).axes[0]
    assert [line.get_label() for line in axis.lines if not line.get_label().startswith("_")] == [
        "swap agreement",
        "true label",
    ]


def test_a_point_for_each_record_and_the_chosen_value_marked():
    figure = draw_tradeoff([record_of(weight) for weight in WEIGHTS])
    shares, error, survives = figure.axes
    lines = {line.get_label(): line for line in shares.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["swap agreement", "coverage", "recall", "true label"]
    assert list(lines["swap agreement"].get_xdata()) == [0, 20, 200]
    assert list(lines["swap agreement"].get_ydata()) == pytest.approx([0, 0.1, 1])
    assert [tick.get_text() for tick in error.get_xticklabels()] == ["0", "20", "200"]
    for axis in (shares, error, survives):
        assert [text.get_text() for text in axis.texts][0] == "chosen: 20"
        assert any(set(line.get_xdata()) == {20.0} for line in axis.lines)


def test_bars_span_the_deviation_over_seeds():
    axis = draw_tradeoff([record_of(0.0, seeds=3), record_of(20.0, seeds=3)]).axes[0]
    bars = axis.collections[0].get_segments()
    # Agreement 0, 0.1 and 0.2 over three seeds: mean 0.1, deviation 0.1.
    np.testing.assert_allclose(bars[0][:, 1], [0.0, 0.2], atol=1e-6)


def test_any_setting_in_which_records_differ():
    table = tradeoff_table([record_of(weight) for weight in WEIGHTS], "latent")
    assert table.header[0] == "latent"
    assert draw_tradeoff([record_of(weight) for weight in WEIGHTS], "latent").axes[0].get_xlabel() == "latent"
