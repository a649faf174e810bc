"""The label-swap widget: its callbacks, and what moving its controls changes."""

import io

import ipywidgets
import numpy as np
import pytest
import torch
from cvae_stand_ins import SMALL, BandJudge, Painter, band_set
from PIL import Image

from s18_utils.cvae import CVAEModule
from s18_utils.cvae.swap import SwapScores
from s18_utils.data.batches import StoreData
from s18_utils.widgets import ZOOM, draw_swap, label_swap


@pytest.fixture
def data() -> StoreData:
    return StoreData(band_set(), 8)


def module_of(painter: Painter) -> CVAEModule:
    module = CVAEModule(**SMALL).eval()
    module.vae = painter
    module.scores = SwapScores(BandJudge(), BandJudge())
    return module


def controls(box: ipywidgets.VBox) -> tuple:
    (slider, menu), picture, verdict = box.children[0].children, box.children[1], box.children[2]
    return slider, menu, picture, verdict


def brightest_row(png: bytes, half: str) -> int:
    """The label whose band is lit in the left (input) or right (output) half of the picture."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=float)[ZOOM // 2 :: ZOOM, ZOOM // 2 :: ZOOM]
    side = pixels.shape[0]
    part = pixels[:, :side] if half == "left" else pixels[:, -side:]
    return int(part.mean(1).argmax()) // 2


def test_a_swap_shows_input_beside_output_and_what_the_judge_reads(data):
    batch = data.examples(4)
    png, read, chance = draw_swap(module_of(Painter()), batch["image"][1], int(batch["label"][1]), 7)
    assert brightest_row(png, "left") == batch["label"][1]
    assert brightest_row(png, "right") == 7
    assert read == 7
    assert 0.1 < chance <= 1


def test_the_picture_is_the_two_images_and_a_gap(data):
    png, *_ = draw_swap(module_of(Painter()), data.examples(1)["image"][0], 0, 1)
    assert Image.open(io.BytesIO(png)).size == ((28 + 2 + 28) * ZOOM, 28 * ZOOM)


def test_choosing_a_label_changes_picture_and_verdict(data):
    slider, menu, picture, verdict = controls(label_swap(module_of(Painter()), data))
    first = picture.value
    menu.value = 4
    assert picture.value != first
    assert brightest_row(picture.value, "right") == 4
    assert "drawn as <b>4</b>" in verdict.value
    assert verdict.value.startswith("✓")


def test_choosing_an_image_changes_the_input_and_keeps_the_label(data):
    slider, menu, picture, verdict = controls(label_swap(module_of(Painter()), data))
    menu.value, labels = 9, data.examples(50)["label"]
    for position in (3, 17):
        slider.value = position
        assert brightest_row(picture.value, "left") == labels[position]
        assert brightest_row(picture.value, "right") == 9
        assert f"a <b>{labels[position]}</b>" in verdict.value


def test_a_drawing_that_is_read_otherwise_says_so(data):
    slider, menu, picture, verdict = controls(label_swap(module_of(Painter(stuck=2)), data))
    menu.value = 5
    assert verdict.value.startswith("✗")
    assert "the judge reads <b>2</b>" in verdict.value


def test_every_class_and_every_example_can_be_chosen(data):
    slider, menu, *_ = controls(label_swap(module_of(Painter()), data, count=12))
    assert [label for _, label in menu.options] == list(range(10))
    assert (slider.min, slider.max) == (0, 11)


def test_colour_images_are_shown_in_colour():
    module = module_of(Painter(channels=3, side=32))
    image = torch.zeros(3, 32, 32)
    image[0, :4] = 1.0
    png, *_ = draw_swap(module, image, 0, 1)
    assert Image.open(io.BytesIO(png)).convert("RGB").getpixel((0, 0)) == (255, 0, 0)
