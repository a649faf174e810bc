"""The trade-off between reconstruction and agreement: what is trained, on what, scored on what, kept and drawn."""

import numpy as np
import pytest
import torch
from conftest import assert_one_sentence, sample_metrics
from cvae_stand_ins import band_set
from PIL import Image

from s18_utils import tradeoff
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError
from s18_utils.plots import provenance
from s18_utils.records import Record
from s18_utils.seed_run import Run

ROWS = [
    {"label_weight": weight, "disturbed": 1, "code_weight": 1, "mse": 0.01 * (1 + weight)}
    | {"swap_agreement": weight / 10, "swap_agreement_blurred": weight / 20, "swap_agreement_frozen": 1.0}
    | {"survives ink": 0.5, "survives slant": 0.25}
    for weight in (0.0, 1.0, 10.0)
]
ROWS += [ROWS[1] | {"disturbed": 0}, ROWS[1] | {"code_weight": 0, "survives ink": 0.125}]
RECORD = Record(None, sample_metrics(experiment="cvae-mnist"), ROWS)


def pixels(tensors: dict[str, torch.Tensor]) -> set[tuple]:
    return set(map(tuple, tensors["image"].flatten(1).tolist()))


@pytest.fixture
def trained(monkeypatch):
    """Stands in for training: keeps what it was asked for, and scores the weight it was given."""
    asked = []

    def train_seed(spec, settings, data, seed, folder, helpers, hardware, resume):
        asked.append((settings, data))
        test = dict.fromkeys(tradeoff.SCORES, settings.module["label_weight"])
        test["survives"] = {"ink": {"correlation": 0.5, "within_class": 0.75}}
        return Run(seed, test, {}, [], {})

    monkeypatch.setattr(tradeoff, "train_seed", train_seed)
    monkeypatch.setattr(tradeoff, "train_helpers", lambda *arguments: {})
    monkeypatch.setattr(tradeoff, "open_data", lambda *arguments: band_set(train=200))
    return asked


@pytest.mark.parametrize("name", ["cvae-mnist", "cvae-cifar10"])
def test_every_weight_and_variant_is_trained_once_on_training_images_alone(trained, tmp_path, name):
    record = tradeoff.measure(name, "tiny", folder=tmp_path)
    rows, weight = record.history, 20.0  # the preset's
    assert [row["label_weight"] for row in rows] == [*(weight * factor for factor in tradeoff.FACTORS), weight, weight]
    assert [row["swap_agreement"] for row in rows] == [row["label_weight"] for row in rows]
    assert [row["disturbed"] for row in rows] == [1] * 5 + [0, 1]
    assert [row["code_weight"] for row in rows] == [0.0] * 6 + [1.0]
    assert all(row["survives ink"] == 0.75 for row in rows)
    modules = [settings.module for settings, _ in trained]
    assert ["blur" in module for module in modules] == [False] * 5 + [True, False]
    whole = band_set(train=200)
    for _, data in trained:
        assert len(data.test) == 20  # the validation cut of all 200
        assert len(data.train) + len(data.val) == 180
        assert pixels(data.test.tensors) <= pixels(whole.train)
    assert tradeoff.kept(name, tmp_path).history == rows
    assert "20 test images" in provenance(record)
    assert np.asarray(Image.open(tmp_path / f"{name}-tradeoff" / "tradeoff.png").convert("L")).std() > 5


def test_the_images_scored_are_the_validation_cut_of_an_ordinary_run():
    whole = band_set(train=200)
    inside = tradeoff.within_training(whole, 50)
    assert torch.equal(inside.test["image"], whole.train["image"][StoreData(whole, 8).val.rows])
    assert len(inside.train["label"]) == 50
    assert not pixels(inside.test) & pixels(inside.train)


def test_the_plot_has_a_point_for_each_weight_and_none_for_variants():
    figure = tradeoff.plot(RECORD)
    agreement, error, survives = figure.axes
    assert [line.get_label() for line in agreement.lines] == ["judge", "judge, blurred", "frozen CNN"]
    assert list(agreement.lines[0].get_ydata()) == [0.0, 0.1, 1.0]
    assert list(error.lines[0].get_ydata()) == pytest.approx([0.01, 0.02, 0.11])
    assert [line.get_label() for line in survives.lines] == ["ink", "slant"]
    assert [tick.get_text() for tick in error.get_xticklabels()] == ["0", "1", "10"]


def test_the_table_has_the_variants_too():
    lines = str(tradeoff.table(RECORD)).splitlines()
    assert lines[-2].split()[:3] == ["1", "no", "1"]
    assert lines[-1].split()[:3] == ["1", "yes", "0"]
    assert "0.1250" in lines[-1]


def test_what_is_missing_or_has_no_labels_is_refused(tmp_path):
    with pytest.raises(InputError) as caught:
        tradeoff.kept("cvae-mnist", tmp_path)
    assert_one_sentence(str(caught.value), "run `python -m s18_utils tradeoff cvae-mnist` first")
    with pytest.raises(InputError) as caught:
        tradeoff.measure("unet-maxpool-transpose-bce", "tiny")
    assert_one_sentence(str(caught.value), "choose cvae-mnist or cvae-cifar10")
