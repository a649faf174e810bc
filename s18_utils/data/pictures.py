"""The one door for pictures: what a user brings becomes an upright RGB picture, or one sentence says why it can't."""

import io
import os
import re
import threading
import warnings
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image, ImageStat
from PIL.Image import Transpose
from torch import Tensor

from s18_utils.errors import InputError, local_path

MAX_BYTES = 100 * 1000**2
MAX_PIXELS = 178_956_970  # what Pillow decodes at most, whatever its own limit is set to
CHANNELS = (1, 3, 4)
TOLERANCE = 1e-3  # beyond [0, 1]: a quarter of the step between two of 256 values
# Pillow knows others, some of which start a program, or take any bytes for theirs; and may be built without these.
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000", "PPM", "ICO")
ORIENTATION = 0x0112  # the tag of a camera that was turned, and what turns its picture upright
TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE}
TURNS |= {6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}
DIGIT_SIZE = 28
DIGIT_BOX = 20  # pixels: the longest side of a digit
GRAIN = 0.2  # what differs from the paper by less than this share of the strongest stroke is paper, not ink
FAINT = 25  # and so is what differs by less than this, of 255
LOCK = threading.Lock()  # Python's list of what warnings to ignore is one for all threads


def read_picture(thing) -> Image.Image:
    """A picture as RGB, upright as its orientation tag says, at its own size, at least 2×2 pixels.

    Grey, palette, CMYK and 1-bit pictures are converted, 16 bits scaled to 8, transparency laid on white paper. Of an
    animated file the first frame is taken.

    Args:
        thing: a path, a file's bytes, a file opened in binary mode (read from where it stands), a Pillow image, or a
            NumPy array or tensor of shape (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels: bool, uint8, uint16,
            or floats in [0, 1]. Where both orders fit, an array's channels are last and a tensor's first.

    Raises:
        InputError: it is no picture, damaged, too small, above 100 MB or 179 million pixels, or its values do not say
            plainly what they mean.
    """
    if isinstance(thing, np.ndarray | Tensor):
        image, name = image_from_array(thing), "this array"
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
    picture = convert_to_rgb(image, name)
    try:
        with without_warnings():
            turn = TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # a picture with a broken tag is a picture
        turn = None
    if turn is not None:
        picture = picture.transpose(turn)
    picture.info.clear()  # it is upright now: with its tag it would be turned once more
    return picture


@contextmanager
def without_warnings():
    """Ignores Pillow's warnings: of half as many pixels as it refuses, and of damaged tags."""
    with LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_image(thing) -> tuple[Image.Image, str]:
    """The picture in a file, its bytes or at its path, not yet decoded, and what to call it in a message."""
    content, name = read_content(thing)
    Image.init()
    try:
        with without_warnings():
            return Image.open(io.BytesIO(content), formats=[name for name in FORMATS if name in Image.OPEN]), name
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} has more than 179 million pixels: make the picture smaller") from error
    except Exception as error:
        reason, remedy = "can't be read as a picture", "give a whole JPEG, PNG or WebP"
        if b"<svg" in content[:4096].lower():
            reason, remedy = "is an SVG, which holds no pixels", "export it as a PNG"
        elif content[4:12] in (b"ftypheic", b"ftypheix", b"ftypheif", b"ftyphevc", b"ftypmif1", b"ftypmsf1"):
            reason, remedy = "is in Apple's HEIC format", "save it as a JPEG"
        raise InputError(f"{name} {reason}: {remedy}") from error


def read_content(thing) -> tuple[bytes, str]:
    """A file's bytes, and what to call it in a message; `thing` as in `read_picture`."""
    name = "this file"
    try:
        if isinstance(thing, str | os.PathLike):
            text = os.fsdecode(thing)
            name = text if len(text) < 1000 and text.isprintable() else ascii(text[:100])
            if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text):
                raise InputError(f"{name} is an address, no path: download the picture first")
            if not local_path(text).is_file():
                raise InputError(f"there is no file {name}: check the path")
            with local_path(text).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        elif isinstance(thing, bytes | bytearray | memoryview):
            content = thing if memoryview(thing).nbytes > MAX_BYTES else bytes(thing)
        elif hasattr(thing, "read"):
            content = thing.read(MAX_BYTES + 1)
        else:
            raise InputError(
                f"something of type {type(thing).__name__} is no picture: "
                "give a path, bytes, an open file, a Pillow image, an array or a tensor"
            )
        if not isinstance(content, bytes | bytearray | memoryview):
            raise InputError(f"{name} gives {type(content).__name__} instead of bytes: open it with mode 'rb'")
        length = memoryview(content).nbytes
    except InputError:
        raise
    except Exception as error:  # files that are no files, and objects that only look like them
        raise InputError(f"{name} can't be read ({type(error).__name__}): check that it is there and open") from error
    if length > MAX_BYTES:
        raise InputError(f"{name} is larger than 100 MB: make the picture smaller")
    if not length:
        raise InputError(f"{name} is empty, or was read to its end: give a picture, from its start")
    return bytes(content), name


def check_size(width: int, height: int, name: str) -> None:
    """Refuses pictures without an area, and those that would fill the memory."""
    if width < 2 or height < 2:
        raise InputError(f"{name} is {width}×{height} pixels: give a picture of at least 2×2")
    if width * height > MAX_PIXELS:
        raise InputError(f"{name} is {width}×{height}, more than 179 million pixels: make the picture smaller")


def convert_to_rgb(image: Image.Image, name: str) -> Image.Image:
    """A decoded picture of any mode as a new one in RGB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        old = image.mode == "I" and image.format == "PNG"  # how older versions of Pillow open 16 bits
        image = image_from_array(np.asarray(image).astype(np.uint16) if old else np.asarray(image))
    try:
        if image.mode in ("La", "RGBa"):  # colours multiplied by their alpha
            image = image.convert(image.mode.upper())
        if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except Exception as error:
        raise InputError(f"{name} has colours that can't be converted ({image.mode}): save it in RGB") from error


def image_from_array(array: np.ndarray | Tensor) -> Image.Image:
    """An array or tensor as a picture in grey, RGB or RGBA; see `read_picture` for what it may be."""
    shape = tuple(array.shape)
    if len(shape) == 4:
        raise InputError(f"an array of shape {shape} is a batch: give one picture at a time, such as batch[0]")
    first, last = (len(shape) == 3 and shape[axis] in CHANNELS for axis in (0, -1))
    if len(shape) != 2 and not first and not last:
        raise InputError(f"an array of shape {shape} is no picture: give (H, W), (H, W, C) or (C, H, W), C 1, 3 or 4")
    first = first and (isinstance(array, Tensor) or not last)
    height, width = shape[1:] if first else shape[:2]
    check_size(width, height, "this array")
    kind = str(getattr(array.dtype, "name", array.dtype)).removeprefix("torch.")
    if not re.fullmatch(r"bool|uint8|uint16|b?float\d.*", kind):
        raise InputError(f"an array of {kind} is no picture: give uint8 (0 to 255), or floats from 0 to 1")
    try:
        if isinstance(array, Tensor):
            array = array.detach().cpu()
            array = (array.float() if array.is_floating_point() else array).numpy()
        values = np.moveaxis(np.asarray(array), 0, -1) if first else np.asarray(array)
        values = scale_to_bytes(values if len(shape) == 2 or values.shape[-1] > 1 else values[..., 0])
        return Image.fromarray(np.ascontiguousarray(values))
    except InputError:
        raise
    except Exception as error:  # sparse tensors, or without memory behind them
        raise InputError(f"this array can't be read ({type(error).__name__}): give a plain, dense one") from error


def scale_to_bytes(values: np.ndarray) -> np.ndarray:
    """bool, uint8, uint16 or floats as uint8; an InputError says what floats that are not in [0, 1] look like."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * 255
    if values.dtype.kind == "u":
        return values if values.itemsize == 1 else ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise InputError("this array holds NaN or infinity: replace them, and look where they come from")
    if low >= -TOLERANCE and high <= 1 + TOLERANCE:
        return (values.astype(np.float32).clip(0, 1) * 255).round().astype(np.uint8)
    if low >= -TOLERANCE and 2 < high <= 256:
        guess, remedy = "as of 0 to 255", "divide by 255, or give uint8"
    elif low >= -TOLERANCE and 256 < high <= 65536:
        guess, remedy = "as of 16 bits", "divide by 65535, or give uint16"
    elif low >= -1 - TOLERANCE and high <= 1 + TOLERANCE:
        guess, remedy = "as if scaled to −1 to 1", "add 1 and halve them"
    elif -3 <= low < -TOLERANCE and high <= 3:
        guess, remedy = "as if normalised by ImageNet's mean and deviation", "multiply by the deviation, add the mean"
    else:
        guess, remedy = "not from 0 to 1", "scale them to 0 to 1, and clip what lies beyond"
    raise InputError(f"this array's values go from {low:.3g} to {high:.3g}, {guess}: {remedy}")


def resize_picture(picture: Image.Image, size: int) -> Image.Image:
    """A picture squeezed to `size`×`size` pixels by an antialiased bilinear filter, as training images are."""
    return picture.resize((size, size), Image.Resampling.BILINEAR)


def picture_to_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture as float (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float() / 255


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

    Raises:
        InputError: it is no picture, or there is nothing on the paper.
    """
    picture = read_picture(thing).convert("L")
    paper, grey = ImageStat.Stat(picture).median[0], np.asarray(picture, np.float32)
    ink = paper - grey if paper > 127 else grey - paper
    ink = np.where(ink > max(GRAIN * ink.max(), FAINT), ink, 0)
    rows, columns = ink.any(1).nonzero()[0], ink.any(0).nonzero()[0]
    if not len(rows):
        raise InputError("there is no drawing in this picture: draw one digit, dark on light paper or light on dark")
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
