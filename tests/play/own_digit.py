"""What the page's pad does to a drawing of a digit, once more in Python, to hold the one against the other."""

import numpy as np
import torch
from PIL import Image, ImageStat
from torch import Tensor

from s18_utils.data.pictures import read_picture

DIGIT_SIZE = 28
DIGIT_BOX = 20  # pixels: the longest side of a digit
GRAIN = 0.2  # what differs from the paper by less than this share of the strongest stroke is paper, not ink
FAINT = 25  # and so is what differs by less than this, of 255


def normalise_digit(thing) -> Tensor:
    """A drawing of one digit, centred and scaled as those of MNIST were.

    The ink is what differs from the paper, which is the picture's median. Its bounding box is scaled, antialiased, to
    20 pixels on its longest side, and put into 28×28 pixels with its centre of mass in row and column 14, counted from
    0 (LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document recognition", section III.A;
    the 14 is what one finds in the files).

    Args:
        thing: whatever `read_picture` reads, a dark pen on light paper or a light one on dark.

    Returns:
        float (1, 28, 28) in [0, 1], white on black, the strongest stroke 1.
    """
    picture = read_picture(thing).convert("L")
    paper, grey = ImageStat.Stat(picture).median[0], np.asarray(picture, np.float32)
    ink = paper - grey if paper > 127 else grey - paper
    ink = np.where(ink > max(GRAIN * ink.max(), FAINT), ink, 0)
    rows, columns = ink.any(1).nonzero()[0], ink.any(0).nonzero()[0]
    ink = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = DIGIT_BOX / max(ink.size)
    digit = np.asarray(ink.resize([max(1, round(side * scale)) for side in ink.size], Image.Resampling.BILINEAR))
    digit = digit / digit.max()
    image, corner = torch.zeros(1, DIGIT_SIZE, DIGIT_SIZE), []
    for side, mass in zip(digit.shape, (digit.sum(1), digit.sum(0)), strict=True):
        centre = (mass * np.arange(side)).sum() / mass.sum()
        corner.append(min(max(round(DIGIT_SIZE / 2 - centre), 0), DIGIT_SIZE - side))  # a lopsided digit stays whole
    top, left = corner
    image[0, top : top + digit.shape[0], left : left + digit.shape[1]] = torch.from_numpy(digit)
    return image
