"""Predictions that cost nothing, scored by hand on a handful of pixels."""

import pytest
import torch
from unet_stand_ins import CLASSES, build_data

from s18_utils.data.batches import StoreData
from s18_utils.data.store import DataSet
from s18_utils.unet.references import score_masks, score_references, tabulate_references


def build_split(images: list[int], masks: list[list[int]]) -> dict[str, torch.Tensor]:
    """Grey 16×16 images whose rows of a mask are all alike, each class 16 / len(mask) columns wide."""
    pixels = torch.tensor(images, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 16, 16).contiguous()
    columns = torch.tensor(masks, dtype=torch.uint8).repeat_interleave(16 // len(masks[0]), dim=1)
    return {"image": pixels, "mask": columns.unsqueeze(1).expand(-1, 16, -1).contiguous()}


def build_case(classes=CLASSES) -> StoreData:
    train = build_split([10, 10, 100, 200, 200], [[0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 2], [1, 1, 1, 1], [1, 1, 1, 1]])
    test = build_split([12, 190], [[0, 0, 1, 1], [0, 1, 1, 2]])
    data = StoreData(DataSet("pets", "pets", "local", "x", classes, None, train, test), 2)
    data.train.rows = torch.arange(5)
    return data


def test_background_everywhere():
    got = score_references(build_case())["background everywhere"]
    # 4 of the 8 columns are background, and all 8 are predicted so.
    assert got["iou"] == pytest.approx({"pet": 0, "background": 1 / 2, "border": 0})
    assert got["dice"] == pytest.approx({"pet": 0, "background": 2 * 4 / (8 + 4), "border": 0})
    assert got["pixel_accuracy"] == 0.5
    assert "loss" not in got


def test_the_commonest_class_at_each_pixel():
    # Most training masks have pet, background, background, background.
    got = score_references(build_case())["commonest class at each pixel"]
    # Pet: predicted in 2 columns, true in 3, both in 2. Background: 6, 4, and 4 in both.
    assert got["iou"] == pytest.approx({"pet": 2 / 3, "background": 4 / 6, "border": 0})
    assert got["pixel_accuracy"] == 6 / 8


def test_the_nearest_neighbour():
    # 12 is nearest to 10, whose mask is right; 190 to 200, whose mask is background everywhere.
    got = score_references(build_case())["nearest neighbour"]
    assert got["iou"] == pytest.approx({"pet": 2 / 3, "background": 4 / 6, "border": 0})
    data = build_case()
    data.train.rows = torch.tensor([2, 3])  # only these may be looked at: 12 is now nearest to 100
    assert score_references(data)["nearest neighbour"]["pixel_accuracy"] == (2 + 2) / 8


def test_without_a_background_it_is_the_most_frequent_class():
    got = score_references(build_case(("sky", "road", "car")))
    assert next(iter(got)) == "road everywhere"
    assert got["road everywhere"]["iou"]["road"] == pytest.approx(1 / 2)


def test_any_masks_are_scored_on_the_whole_split():
    data = build_data(test=12)
    truth = score_masks(data, lambda images: (images[:, 0] * 255).round().long() % 3)
    assert truth["mean_iou"] == truth["pixel_accuracy"] == 1
    assert score_masks(data, lambda images: torch.zeros(len(images), 16, 16).long())["pixel_accuracy"] == pytest.approx(
        1 / 3
    )


def test_the_table():
    table = tabulate_references(score_references(build_case()))
    assert list(table.header) == [
        *("prediction", "mIoU", "IoU pet", "IoU background", "IoU border", "Dice", "accuracy"),
    ]
    assert list(table.rows[0]) == ["background everywhere", "0.167", "0.000", "0.500", "0.000", "0.222", "0.500"]
    nowhere = {"mean_iou": 1.0, "mean_dice": 1.0, "pixel_accuracy": 1.0, "iou": {"pet": 1.0, "border": None}}
    assert list(tabulate_references({"x": nowhere}).rows[0])[2:4] == ["1.000", "nowhere"]
