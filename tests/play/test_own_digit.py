"""A drawing of one's own, made into a digit such as MNIST's."""

import numpy as np
import pytest
import torch
from conftest import refused
from own_digit import DIGIT_BOX, normalise_digit
from PIL import Image, ImageDraw

from s18_utils.data import mnist
from s18_utils.data.dataset import open_data


def drawn_seven(size=(300, 200), paper="white", pen="black", mode="RGB") -> Image.Image:
    """A seven, higher than wide, not in the middle of its paper."""
    picture = Image.new(mode, size, paper)
    ImageDraw.Draw(picture).line([(150, 40), (200, 40), (165, 160)], pen, width=12)
    return picture


def test_a_drawing_fills_mnists_box_and_is_centred_by_its_mass():
    digit = normalise_digit(drawn_seven())[0]
    rows, columns = digit.sum(1), digit.sum(0)
    assert len(rows.nonzero()) == DIGIT_BOX
    assert 8 <= len(columns.nonzero()) <= 12  # 50 to 120, and the pen's width
    for mass in (rows, columns):
        assert abs((mass * torch.arange(28)).sum() / mass.sum() - 14) <= 0.5
    assert digit.max() == 1
    assert digit.min() == 0


def test_paper_pen_and_size_do_not_matter():
    digit = normalise_digit(drawn_seven())
    assert torch.equal(normalise_digit(drawn_seven(paper="black", pen="white")), digit)
    assert torch.equal(normalise_digit(drawn_seven(paper=(255, 255, 255, 0), mode="RGBA")), digit)
    assert torch.equal(normalise_digit(drawn_seven(size=(900, 700))), digit)
    large = normalise_digit(drawn_seven().resize((1200, 800)))
    assert (large - digit).abs().mean() < 0.01
    tinted = normalise_digit(drawn_seven(paper="#d8d4c0", pen="#30306a"))
    assert (tinted - digit).abs().mean() < 0.01


def test_a_drawing_may_be_a_file_an_array_or_a_tensor(tmp_path):
    digit = normalise_digit(drawn_seven())
    drawn_seven().save(tmp_path / "seven.png")
    array = np.asarray(drawn_seven().convert("L"))
    for thing in (tmp_path / "seven.png", array, torch.from_numpy(255 - array)[None] / 255):
        assert torch.equal(normalise_digit(thing), digit)


def test_a_photograph_lying_on_its_side_is_turned_upright():
    picture = drawn_seven().rotate(90, expand=True)
    picture.getexif()[0x0112] = 6  # a camera's word for: turn me by 90 degrees clockwise
    assert torch.equal(normalise_digit(picture), normalise_digit(drawn_seven()))


@pytest.mark.parametrize("line", [[(10, 90), (190, 90)], [(90, 10), (90, 190)]])
def test_a_single_stroke_keeps_its_shape(line):
    picture = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(picture).line(line, 0, width=10)
    digit = normalise_digit(picture)[0]
    assert sorted([len(digit.sum(0).nonzero()), len(digit.sum(1).nonzero())]) == [1, 20]


def test_a_lopsided_drawing_stays_whole():
    picture = Image.new("L", (200, 200), 255)
    drawing = ImageDraw.Draw(picture)
    drawing.ellipse([10, 10, 60, 60], 0)
    drawing.line([(35, 35), (190, 190)], 0, width=2)
    digit = normalise_digit(picture)[0]
    assert len(digit.sum(0).nonzero()) == len(digit.sum(1).nonzero()) == DIGIT_BOX


def test_a_block_of_ink_by_hand():
    # 200 wide and 30 high in the middle of its paper: 20×3 pixels, from row 14 − 1 = 13 and column 14 − 9.5, so 4.
    pixels = np.full((300, 400), 255, np.uint8)
    pixels[140:170, 100:300] = 0
    expected = torch.zeros(1, 28, 28)
    expected[0, 13:16, 4:24] = 1
    assert torch.equal(normalise_digit(pixels), expected)


def test_an_empty_page_is_refused():
    noise = np.random.default_rng(0).integers(235, 250, (100, 100), np.uint8)
    for page in (Image.new("L", (50, 50), 255), noise):
        with refused("no drawing", "dark on light"):
            normalise_digit(page)


def test_what_is_no_picture_is_refused():
    with refused("can't be read as a picture"):
        normalise_digit(b"not a picture")


def test_digits_of_mnist_stay_what_they_are(real_data):
    real_data(mnist)
    differences = []
    for image in open_data("mnist").test["image"][:200, 0]:
        large = Image.fromarray(255 - image.numpy()).resize((280, 280), Image.Resampling.NEAREST)
        differences.append((255 * normalise_digit(large)[0] - image.float()).abs().mean())
    # Of 255. A shift by one pixel makes a difference of 16, and some lie on the edge between two pixels.
    assert np.quantile(differences, 0.9) < 8
