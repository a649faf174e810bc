"""A mask over its photograph: class colours, enlarging, outlines and tint."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from PIL import Image
from torch import Tensor

from s18_utils.errors import InputError
from s18_utils.report.style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

# The trimap's classes have fixed colours, other classes the next of the palette. Neither is near white or black.
BACKGROUND, BORDER = "background", "border"
NAMED = {BACKGROUND: ORANGE, "pet": BLUE, BORDER: PURPLE}  # few cats are blue
OTHERS = (ORANGE, PURPLE, GREEN, SKY, VERMILION)
BAND = 64  # rows enlarged at a time, so that what is worked on stays in the processor's cache
OUTLINE = 1 / 320  # its width, of the picture's longer side
TINTS = {BACKGROUND: 0.0, BORDER: 0.7}  # how opaque the colour of a class lies over the photograph
TINT = 0.35  # that of all others


def class_colours(classes: Sequence[str]) -> list[str]:
    """A colour for each class, as `#rrggbb`."""
    others = [name for name in classes if name not in NAMED]
    free = [colour for colour in OTHERS if colour not in {NAMED.get(name) for name in classes}]
    if len(others) > len(free):
        free = [to_hex(colormaps["hsv"](index / len(others))) for index in range(len(others))]
    return [(NAMED | dict(zip(others, free, strict=False)))[name] for name in classes]


def class_tints(classes: Sequence[str]) -> list[float]:
    """How opaque the colour of each class lies over the photograph, 0 to 1."""
    return [TINTS.get(name, TINT) for name in classes]


def enlarge_mask(probabilities: Tensor, height: int, width: int) -> np.ndarray:
    """The likeliest class of each pixel after bilinear interpolation, uint8 (height, width), of float (C, h, w).

    The same as interpolating all of it first, in a tenth of the time and without its memory.
    """
    rows = F.interpolate(probabilities[None].float(), (probabilities.shape[1], width), mode="bilinear")[0]
    last = rows.shape[1] - 1
    places = ((torch.arange(height) + 0.5) * rows.shape[1] / height - 0.5).clamp(0, last)
    above = places.long()
    below, weight = (above + 1).clamp(max=last), (places - above)[:, None]
    mask = torch.zeros(height, width, dtype=torch.uint8)
    for band in torch.arange(height).split(BAND):
        best = torch.full((len(band), width), -torch.inf)
        for index, scores in enumerate(rows):
            value = torch.lerp(scores[above[band]], scores[below[band]], weight[band])
            mask[band[0] : band[-1] + 1].masked_fill_(value > best, index)
            best = torch.maximum(best, value)
    return mask.numpy()


def find_outlines(mask: np.ndarray, width: int) -> np.ndarray:
    """Where classes meet, as bands of `width` pixels, boolean (H, W)."""
    edges = np.zeros(mask.shape, dtype=bool)
    height, length = mask.shape
    before = width // 2
    if width < height:
        edges[before : before + height - width] |= mask[width:] != mask[:-width]
    if width < length:
        edges[:, before : before + length - width] |= mask[:, width:] != mask[:, :-width]
    return edges


def draw_overlay(picture: Image.Image, mask: np.ndarray | Tensor, classes: Sequence[str]) -> Image.Image:
    """The photograph with the mask as outlines and a tint over it, at its own size.

    Args:
        picture: in RGB.
        mask: class numbers, integer (H, W), of the picture's size.
        classes: their names; what is called `background` stays as it is.

    Raises:
        InputError: a mask of another size, or with numbers that no class has.
    """
    mask = np.asarray(mask)
    if mask.shape != picture.size[::-1]:
        raise InputError(f"the mask is {mask.shape[::-1]} pixels wide and high, the picture {picture.size}: resize one")
    if mask.size and not 0 <= mask.min() <= mask.max() < len(classes):
        raise InputError(
            f"mask values must lie in 0–{len(classes) - 1}, not {mask.min()}–{mask.max()}: pass all classes"
        )
    # One more value for the outline, white, and one for the black on both its sides: it is seen on anything.
    line = max(1, round(OUTLINE * max(picture.size)))
    index = mask.astype(np.uint8)
    np.copyto(index, len(classes) + 1, where=find_outlines(mask, 2 * line))
    np.copyto(index, len(classes), where=find_outlines(mask, line))
    opacity = [round(255 * tint) for tint in class_tints(classes)] + [255, 140]
    colours = Image.fromarray(index)
    alpha = colours.point(opacity + [0] * (256 - len(opacity)))
    colours.putpalette(palette_of([*class_colours(classes), "#ffffff", "#000000"]))
    return Image.composite(colours.convert("RGB"), picture, alpha)


def draw_index(mask: np.ndarray, classes: Sequence[str]) -> Image.Image:
    """The mask as a palette image: pixels hold class numbers and are seen in the classes' colours."""
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette(palette_of(class_colours(classes)))
    return image


def palette_of(colours: Sequence[str]) -> list[int]:
    return [round(255 * part) for colour in colours for part in to_rgb(colour)]
