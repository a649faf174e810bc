"""What the page's pad is held against is right itself: a drawing becomes a digit such as MNIST's."""

import numpy as np
import torch
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


def test_a_block_of_ink_by_hand():
    # 200 wide and 30 high in the middle of its paper: 20×3 pixels, from row 14 − 1 = 13 and column 14 − 9.5, so 4.
    pixels = np.full((300, 400), 255, np.uint8)
    pixels[140:170, 100:300] = 0
    expected = torch.zeros(1, 28, 28)
    expected[0, 13:16, 4:24] = 1
    assert torch.equal(normalise_digit(pixels), expected)


def test_digits_of_mnist_stay_what_they_are(real_data):
    real_data(mnist)
    differences = []
    for image in open_data("mnist").test["image"][:200, 0]:
        large = Image.fromarray(255 - image.numpy()).resize((280, 280), Image.Resampling.NEAREST)
        differences.append((255 * normalise_digit(large)[0] - image.float()).abs().mean())
    # Of 255. A shift by one pixel makes a difference of 16, and some lie on the edge between two pixels.
    assert np.quantile(differences, 0.9) < 8
