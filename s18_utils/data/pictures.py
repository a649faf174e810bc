"""The one door for pictures: what a user brings becomes an upright RGB picture, or one sentence says why it can't."""

import io
import os
import re
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from s18_utils.errors import InputError, local_path

MAX_PIXELS = 178_956_970  # what Pillow decodes at most, whatever its own limit is set to
CHANNELS = (1, 3, 4)
TOLERANCE = 1e-3  # beyond [0, 1]: a quarter of the step between two of 256 values
# Pillow knows others, some of which start a program, or take any bytes for theirs; and may be built without these.
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000", "PPM", "ICO")


def read_picture(thing, upright: bool = True) -> Image.Image:
    """A picture as RGB, at its own size, at least 2×2 pixels.

    Grey, palette, CMYK and 1-bit pictures are converted, 16 bits scaled to 8, transparency laid on white paper. Of an
    animated file the first frame is taken.

    Args:
        thing: a path, a file's bytes, a file opened in binary mode, a Pillow image, or a NumPy array or tensor of shape
            (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels: bool, uint8, uint16, or floats in [0, 1]. Where both
            orders fit, an array's channels are last and a tensor's first.
        upright: turn it as its orientation tag says, not leave it as it lies in the file.

    Raises:
        InputError: it is no picture, damaged, too small, above 179 million pixels, or its values do not say plainly
            what they mean.
    """
    if isinstance(thing, np.ndarray | Tensor):
        image, name = image_from_array(thing, "this array"), "this array"
    elif isinstance(thing, Image.Image):
        image, name = thing, "this picture"
    else:
        image, name = open_image(thing)
    check_size(*image.size, name)
    try:
        image.load()
    # Pillow's readers raise whatever a damaged file makes them stumble over.
    except Exception as error:
        raise InputError(f"{name} is cut short or damaged: save or download it again") from error
    return convert_to_rgb(turn_upright(image) if upright else image, name)


def turn_upright(image: Image.Image) -> Image.Image:
    """A copy, turned as its orientation tag says."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a picture with a broken tag is a picture
        return image


def open_image(thing) -> tuple[Image.Image, str]:
    """The picture in a file, its bytes or at its path, not yet decoded, and what to call it in a message."""
    name = "this file"
    if isinstance(thing, str | os.PathLike):
        text = os.fsdecode(thing)
        name = text if len(text) < 1000 and text.isprintable() else ascii(text[:100])
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text):
            raise InputError(f"{name} is an address, no path: download the picture first")
    elif not isinstance(thing, bytes | bytearray | memoryview) and not hasattr(thing, "read"):
        raise InputError(
            f"something of type {type(thing).__name__} is no picture: "
            "give a path, bytes, an open file, a Pillow image, an array or a tensor"
        )
    Image.init()
    formats = [each for each in FORMATS if each in Image.OPEN]
    try:
        if isinstance(thing, str | os.PathLike):
            file = local_path(text)
        else:
            file = thing if hasattr(thing, "read") else io.BytesIO(thing)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of half of what is too much
            return Image.open(file, formats=formats), name
    except FileNotFoundError as error:
        raise InputError(f"there is no file {name}: check the path") from error
    except IsADirectoryError as error:
        raise InputError(f"{name!r} is a folder: give the path of a picture") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} has more than 179 million pixels: make the picture smaller") from error
    except Exception as error:  # no picture, and files and objects that only look like files
        raise InputError(f"{name} can't be read as a picture: save it as a JPEG, PNG or WebP") from error


def check_size(width: int, height: int, name: str) -> None:
    """Refuses pictures without an area, and those that would fill the memory."""
    if width < 2 or height < 2:
        raise InputError(f"{name} is {width}×{height} pixels: give a picture of at least 2×2")
    if width * height > MAX_PIXELS:
        raise InputError(f"{name} is {width}×{height}, more than 179 million pixels: make the picture smaller")


def convert_to_rgb(image: Image.Image, name: str) -> Image.Image:
    """A decoded picture of any mode as a new one in RGB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        sixteen = image.mode == "I" and image.format in ("PNG", "PPM")  # versions of Pillow open 16 bits so
        image = image_from_array(np.asarray(image).astype(np.uint16) if sixteen else np.asarray(image), name)
    try:
        if image.mode in ("La", "RGBa"):  # colours multiplied by their alpha
            image = image.convert(image.mode.upper())
        if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except Exception as error:
        raise InputError(f"{name} has colours that can't be converted ({image.mode}): save it in RGB") from error


def image_from_array(array: np.ndarray | Tensor, name: str) -> Image.Image:
    """An array or tensor, called `name` in messages, as a picture in grey, RGB or RGBA; see `read_picture`."""
    channels_first = isinstance(array, Tensor)
    if channels_first:
        try:
            array = array.detach().cpu()
            array = (array.float() if array.is_floating_point() else array).numpy()
        except Exception as error:  # sparse, or without memory behind it
            raise InputError(f"this tensor can't be read ({type(error).__name__}): give a plain, dense one") from error
    shape = array.shape
    if len(shape) == 4:
        raise InputError(f"an array of shape {shape} is a batch: give one picture at a time, such as batch[0]")
    first, last = (len(shape) == 3 and shape[axis] in CHANNELS for axis in (0, -1))
    if len(shape) != 2 and not first and not last:
        raise InputError(f"an array of shape {shape} is no picture: give (H, W), (H, W, C) or (C, H, W), C 1, 3 or 4")
    if array.dtype.kind not in "buf" or (array.dtype.kind == "u" and array.itemsize > 2):
        raise InputError(f"an array of {array.dtype} is no picture: give uint8 (0 to 255), or floats from 0 to 1")
    if first and (channels_first or not last):
        array = np.moveaxis(array, 0, -1)
    check_size(array.shape[1], array.shape[0], name)
    values = scale_to_bytes(array[..., 0] if array.shape[2:] == (1,) else array, name)
    return Image.fromarray(np.ascontiguousarray(values))


def scale_to_bytes(values: np.ndarray, name: str) -> np.ndarray:
    """bool, uint8, uint16 or floats as uint8; an InputError for floats that are not in [0, 1]."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * 255
    if values.dtype.kind == "u":
        return values if values.itemsize == 1 else ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    if not -TOLERANCE <= low <= high <= 1 + TOLERANCE:  # false for NaN as well
        raise InputError(
            f"the values of {name} go from {low:.3g} to {high:.3g} and not from 0 to 1: "
            "divide 0 to 255 by 255, and undo any normalisation"
        )
    return (values.astype(np.float32).clip(0, 1) * 255).round().astype(np.uint8)


def resize_picture(picture: Image.Image, size: int) -> Image.Image:
    """A picture squeezed to `size`×`size` pixels by an antialiased bilinear filter, as training images are."""
    return picture.resize((size, size), Image.Resampling.BILINEAR)


def picture_to_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture as float (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float() / 255
