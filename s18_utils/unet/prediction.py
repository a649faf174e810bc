"""A mask for a photograph of any size."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from s18_utils.data.pictures import picture_to_tensor, read_picture, resize_picture
from s18_utils.device import autocast
from s18_utils.errors import MARK, InputError, check_overwritable, make_folder, replacing
from s18_utils.unet.module import UNetModule
from s18_utils.unet.overlay import draw_index, draw_overlay, enlarge_mask


@dataclass(frozen=True)
class Prediction:
    """What a network says of one photograph.

    Attributes:
        picture: the photograph, RGB, upright, at its own size.
        classes: the names of the network's classes.
        probabilities: of each class, float (C, size, size), at the size that the network saw.
    """

    picture: Image.Image
    classes: tuple[str, ...]
    probabilities: Tensor

    @cached_property
    def mask(self) -> np.ndarray:
        """The likeliest class of each pixel, uint8 (H, W), at the photograph's own size."""
        return enlarge_mask(self.probabilities, self.picture.height, self.picture.width)

    def overlay(self) -> Image.Image:
        """The mask as outlines and a tint over the photograph."""
        return draw_overlay(self.picture, self.mask, self.classes)

    def save(self, folder: str | Path, name: str) -> tuple[Path, Path]:
        """Writes `<name>-mask.png`, a palette image of class numbers, and `<name>-overlay.png`; returns both paths."""
        folder = make_folder(folder, "choose another folder")
        paths = folder / f"{name}-mask.png", folder / f"{name}-overlay.png"
        for path in paths:
            check_overwritable(path, MARK)
        text = PngInfo()
        text.add_text("Software", MARK)
        text.add_text("classes", ", ".join(f"{index} {name}" for index, name in enumerate(self.classes)))
        pictures = draw_index(self.mask, self.classes), self.overlay()
        levels = 6, 1  # of compression: a photograph hardly gets smaller by more
        for path, picture, level in zip(paths, pictures, levels, strict=True):
            with replacing(path) as partial:
                picture.save(partial, "PNG", pnginfo=text, compress_level=level)
        return paths


def predict_mask(network, picture, *, size: int | None = None, mirrored: bool = False) -> Prediction:
    """What a UNet sees in a photograph of any size.

    The photograph is squeezed to the square that the network was trained on, and the answer is enlarged to the
    photograph's own size: at that size itself the network would meet animals far larger than any it has learned from.

    Args:
        network: a record, whose training size is taken; or a `UNetModule` in evaluation mode, with its `size`.
        picture: whatever `read_picture` reads.
        size: side of the square in pixels, at least 16; a record needs none.
        mirrored: average with the answer for the mirror image.

    Raises:
        InputError: what is no picture; a record without weights; a module without `size`, or that can't predict.
    """
    module = network
    if not isinstance(network, UNetModule):
        module, size = network.model(), size or network.data["size"]
    if size is None:
        raise InputError("a network alone does not say how large its training images were: pass size=, or the record")
    picture = read_picture(picture)
    pixels = picture_to_tensor(resize_picture(picture, size))[None].to(module.device)
    with autocast():
        probabilities = module.predict_probabilities(pixels, mirrored)[0]
    return Prediction(picture, module.classes, probabilities.float().cpu())
