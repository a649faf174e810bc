"""The trade-off between reconstruction and agreement: what is trained, on what, scored on what, kept and drawn."""

import numpy as np
import pytest
import torch
from conftest import assert_one_sentence
from cvae_stand_ins import band_set
from PIL import Image

from s18_utils import tradeoff
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError
from s18_utils.seed_run import Run

ROWS = [
    {"variant": "", "label_weight": weight, "mse": 0.01 * (1 + weight), "swap_agreement": weight / 10}
    | {"swap_agreement_blurred": weight / 20, "swap_agreement_frozen": 1.0, "survives ink": 0.5, "survives slant": 0.25}
    for weight in (0.0, 1.0, 10.0)
]
ROWS.append(ROWS[1] | {"variant": "code not read back", "survives ink": 0.125})


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


def test_every_weight_and_variant_is_trained_once_on_training_images_alone(trained):
    rows = tradeoff.measure("cvae-mnist", "tiny")
    weight = 20.0  # the preset's
    weights = [weight * factor for factor in tradeoff.FACTORS]
    assert [row["label_weight"] for row in rows] == weights + [weight] * len(tradeoff.WITHOUT)
    assert [row["swap_agreement"] for row in rows] == [row["label_weight"] for row in rows]
    assert [row["variant"] for row in rows if row["variant"]] == list(tradeoff.WITHOUT)
    assert all(row["survives ink"] == 0.75 for row in rows)
    changed = {name: settings.module for (settings, _), name in zip(trained[-2:], tradeoff.WITHOUT, strict=True)}
    assert changed["at once, undisturbed"]["blur"] == 0
    assert changed["code not read back"]["code_weight"] == 0
    whole = band_set(train=200)
    for _, data in trained:
        assert len(data.test) == 20  # the validation cut of all 200
        assert len(data.train) + len(data.val) == 180
        assert set(map(tuple, data.test.tensors["image"].flatten(1).tolist())) <= set(
            map(tuple, whole.train["image"].flatten(1).tolist())
        )


def test_the_images_scored_are_the_validation_cut_of_an_ordinary_run():
    whole = band_set(train=200)
    val = StoreData(whole, 8).val
    inside = tradeoff.within_training(whole, 50)
    assert torch.equal(inside.test["image"], whole.train["image"][val.rows])
    assert len(inside.train["label"]) == 50
    scored = set(map(tuple, inside.test["image"].flatten(1).tolist()))
    assert not scored & set(map(tuple, inside.train["image"].flatten(1).tolist()))


def test_a_measurement_is_kept_with_its_plot_and_read_back(tmp_path):
    file = tradeoff.write("cvae-mnist", ROWS, tmp_path / "new")
    assert tradeoff.read("cvae-mnist", tmp_path / "new") == ROWS
    picture = np.asarray(Image.open(file.with_suffix(".png")).convert("L"))
    assert picture.std() > 5


def test_the_plot_has_a_point_for_each_weight_and_none_for_variants():
    figure = tradeoff.plot("cvae-mnist", ROWS)
    agreement, error, survives = figure.axes
    assert [line.get_label() for line in agreement.lines] == ["judge", "judge, blurred", "frozen CNN"]
    assert list(agreement.lines[0].get_ydata()) == [0.0, 0.1, 1.0]
    assert list(error.lines[0].get_ydata()) == pytest.approx([0.01, 0.02, 0.11])
    assert [line.get_label() for line in survives.lines] == ["ink", "slant"]
    assert [tick.get_text() for tick in error.get_xticklabels()] == ["0", "1", "10"]


def test_the_table_names_the_variants():
    text = str(tradeoff.table(ROWS))
    assert "code not read back" in text
    assert "0.1250" in text


def test_what_is_missing_or_has_no_labels_is_refused(tmp_path):
    with pytest.raises(InputError) as caught:
        tradeoff.read("cvae-mnist", tmp_path)
    assert_one_sentence(str(caught.value), "run `python -m s18_utils tradeoff cvae-mnist` first")
    with pytest.raises(InputError) as caught:
        tradeoff.measure("unet-maxpool-transpose-bce", "tiny")
    assert_one_sentence(str(caught.value), "choose cvae-mnist or cvae-cifar10")
