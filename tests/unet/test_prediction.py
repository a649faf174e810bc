"""A mask at a photograph's own size, and what is drawn of it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from unet_stand_ins import CLASSES, StandInRecord, build_module

from s18_utils.data.pictures import picture_to_tensor, resize_picture
from s18_utils.errors import InputError
from s18_utils.unet.overlay import class_colours, draw_overlay, enlarge_mask, find_outlines
from s18_utils.unet.prediction import Prediction, predict_mask


def build_picture(width: int = 61, height: int = 37) -> Image.Image:
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(61, 37), (16, 16), (5, 300), (1, 1), (200, 131)])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_enlarged_mask_is_that_of_the_enlarged_probabilities(size, classes):
    torch.manual_seed(0)
    probabilities = torch.randn(classes, 16, 16).softmax(0)
    whole = F.interpolate(probabilities[None], size, mode="bilinear")[0]
    mask = enlarge_mask(probabilities, *size)
    assert (mask.shape, mask.dtype) == (size, np.uint8)
    # Where two classes are as likely as the other, rounding may decide.
    differ = torch.from_numpy(mask.astype(np.int64)) != whole.argmax(0)
    assert (whole.amax(0) - whole.gather(0, torch.from_numpy(mask.astype(np.int64))[None])[0])[differ].sum() < 1e-5
    assert differ.float().mean() < 1e-3


def test_a_photograph_is_squeezed_to_the_training_size_and_comes_back_at_its_own(monkeypatch):
    module, picture = build_module(), build_picture()
    sizes = []
    monkeypatch.setattr(module.unet, "forward", lambda x, go=module.unet.forward: sizes.append(x.shape) or go(x))
    prediction = predict_mask(StandInRecord(module=module, size=48), picture)
    assert sizes == [(1, 3, 48, 48)]
    assert prediction.mask.shape == (37, 61)
    assert prediction.picture.size == (61, 37)
    expected = module.predict_probabilities(picture_to_tensor(resize_picture(picture, 48))[None])[0]
    torch.testing.assert_close(
        prediction.probabilities, expected, atol=0.02, rtol=0
    )  # it runs in bf16 where that is fast
    np.testing.assert_array_equal(prediction.mask, enlarge_mask(prediction.probabilities, 37, 61))
    assert prediction.classes == CLASSES


def test_a_module_needs_to_be_told_its_size():
    module = build_module()
    with pytest.raises(InputError, match="pass size=, or the record"):
        predict_mask(module, build_picture())
    assert predict_mask(module, build_picture(), size=32).mask.shape == (37, 61)
    with pytest.raises(InputError, match="at least 16×16"):
        predict_mask(module, build_picture(), size=8)


def test_mirroring_is_only_done_when_asked_for():
    record = StandInRecord(module=build_module())
    plain, mirrored = (predict_mask(record, build_picture(), mirrored=choice) for choice in (False, True))
    assert (plain.probabilities - mirrored.probabilities).abs().max() > 1e-4


def test_outlines_lie_where_classes_meet():
    mask = np.zeros((8, 10), np.uint8)
    mask[:, 5:] = 1
    edges = find_outlines(mask, 2)
    assert edges[:, 4:6].all()
    assert edges.sum() == 16
    assert not find_outlines(np.ones((8, 10), np.uint8), 2).any()
    assert not find_outlines(mask, 20).any()  # wider than the picture: nothing to compare


def test_the_overlay_tints_what_is_no_background_and_outlines_it():
    picture = Image.new("RGB", (640, 320), (100, 100, 100))
    mask = np.ones((320, 640), np.uint8)
    mask[:, :200], mask[:, 400:] = 0, 2
    drawn = np.asarray(draw_overlay(picture, mask, CLASSES)).astype(int)
    assert drawn.shape == (320, 640, 3)
    np.testing.assert_array_equal(drawn[160, 300], [100, 100, 100])  # background: the photograph
    pet, border = np.array([0, 114, 178]), np.array([204, 121, 167])
    np.testing.assert_allclose(drawn[160, 100], 100 + 0.35 * (pet - 100), atol=1.5)
    np.testing.assert_allclose(drawn[160, 500], 100 + 0.7 * (border - 100), atol=1.5)
    np.testing.assert_array_equal(drawn[160, 200], [255, 255, 255])
    dark = drawn[160, 190:210].sum(1).min()
    assert dark < 0.5 * 300  # a dark line beside the white one, so that it is seen on white as well
    assert picture.getpixel((200, 160)) == (100, 100, 100)  # the photograph itself is not drawn on


@pytest.mark.parametrize("ground", [(255, 255, 255), (0, 0, 0)])
def test_the_border_is_seen_on_white_and_on_black(ground):
    mask = np.full((64, 64), 2, np.uint8)
    drawn = np.asarray(draw_overlay(Image.new("RGB", (64, 64), ground), mask, CLASSES)).astype(int)
    assert np.abs(drawn[32, 32] - ground).max() > 80


def test_a_mask_that_does_not_fit_is_refused():
    picture = Image.new("RGB", (20, 10))
    with pytest.raises(InputError, match="resize one"):
        draw_overlay(picture, np.zeros((20, 10), np.uint8), CLASSES)
    with pytest.raises(InputError, match="must lie in 0–2, not 0–3"):
        draw_overlay(picture, np.array([[0] * 19 + [3]] * 10), CLASSES)


@pytest.mark.parametrize("count", [2, 3, 5, 6, 40, 250])
def test_classes_have_colours_of_their_own(count):
    classes = ("background", "border", *(f"thing {index}" for index in range(count - 2)))
    colours = class_colours(classes)
    assert len(set(colours)) == count
    assert class_colours(classes[::-1])[::-1][:2] == colours[:2]  # by name, not by number
    assert not {"#ffffff", "#000000"} & set(colours)
    draw_overlay(Image.new("RGB", (300, 20)), np.tile(np.arange(300) % count, (20, 1)), classes)


def test_saving_and_reading_back(tmp_path):
    torch.manual_seed(0)
    prediction = Prediction(build_picture(), CLASSES, torch.rand(3, 16, 16))
    index, overlay = prediction.save(tmp_path / "new", "dog")
    assert [path.name for path in (index, overlay)] == ["dog-mask.png", "dog-overlay.png"]
    with Image.open(index) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), prediction.mask)
        assert image.text["classes"] == "0 pet, 1 background, 2 border"
        assert len(image.convert("RGB").getcolors()) == 3
    with Image.open(overlay) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(prediction.overlay()))
        assert image.size == (61, 37)
