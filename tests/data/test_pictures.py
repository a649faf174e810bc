"""The door for pictures: each kind of input with values worked out by hand, and what is refused, in one sentence."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_one_sentence, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from s18_utils.data.pictures import picture_to_tensor, read_picture, resize_picture
from s18_utils.errors import InputError

RAMP = np.array([[0, 51, 102, 153, 204], [255, 204, 153, 102, 51]], np.uint8)  # (H, W); fifths of white
COLOURS = np.stack([RAMP, RAMP[:, ::-1], RAMP[::-1]], axis=-1)  # (H, W, C)


def pixels(thing) -> list:
    picture = read_picture(thing)
    assert picture.mode == "RGB"
    return np.asarray(picture).tolist()


def grey(values) -> list:
    """The pixels of a grey picture in RGB."""
    return np.repeat(np.asarray(values)[..., None], 3, axis=-1).tolist()


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def refusal(thing, *parts: str, read=read_picture) -> None:
    with refused(*parts):
        read(thing)


def flat(mode: str, colour) -> Image.Image:
    return Image.new(mode, (4, 3), colour)


def palette(**options) -> Image.Image:
    image = flat("P", 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.info.update(options)
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (flat("RGB", (1, 2, 3)), (1, 2, 3)),
        (flat("L", 100), (100, 100, 100)),
        (flat("1", 1), (255, 255, 255)),
        (palette(), (10, 20, 30)),
        (palette(transparency=1), (255, 255, 255)),
        (flat("RGBA", (200, 0, 0, 51)), (244, 204, 204)),  # a fifth of the colour and four of white
        (flat("LA", (0, 51)), (204, 204, 204)),
        (flat("RGBa", (40, 0, 0, 51)), (244, 204, 204)),  # multiplied by its alpha
        (flat("CMYK", (0, 255, 255, 0)), (255, 0, 0)),
        (flat("HSV", (0, 255, 255)), (255, 0, 0)),
        (flat("I;16", 25700), (100, 100, 100)),  # 257 steps of 16 bits are one of 8
        (flat("I;16B", 65535), (255, 255, 255)),
        (flat("F", 0.4), (102, 102, 102)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_pillow_images_of_every_mode(image, expected):
    assert pixels(image) == [[list(expected)] * 4] * 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_files_of_every_kind(kind, tmp_path):
    content = encode(flat("RGB", (200, 100, 50)), kind)
    expected = pytest.approx(np.broadcast_to([200, 100, 50], (3, 4, 3)), abs=4)  # some lose a little
    path = tmp_path / "ein Bild ohne Endung"
    path.write_bytes(content)
    for thing in (path, str(path), content, bytearray(content), memoryview(content), io.BytesIO(content)):
        assert np.asarray(read_picture(thing)) == expected
    with path.open("rb") as file:
        assert np.asarray(read_picture(file)) == expected


def test_files_in_grey_of_16_bits_cmyk_and_with_transparency():
    deep = Image.fromarray(np.array([[0, 25700], [32896, 65535]], np.uint16))
    for kind in ("PNG", "TIFF"):
        assert pixels(encode(deep, kind)) == grey([[0, 100], [128, 255]])
    assert pixels(encode(flat("CMYK", (255, 255, 0, 0)), "TIFF"))[0][0] == [0, 0, 255]
    assert pixels(encode(palette(), transparency=1))[0][0] == [255, 255, 255]
    assert pixels(encode(flat("RGB", (9, 9, 9)), transparency=(9, 9, 9)))[0][0] == [255, 255, 255]


def test_the_first_frame_of_an_animated_file():
    assert pixels(encode(flat("L", 9), "GIF", save_all=True, append_images=[flat("L", 200)]))[0][0] == [9, 9, 9]


@pytest.mark.parametrize(
    ("tag", "stored"),
    [
        (1, [[1, 2, 3], [4, 5, 6]]),
        (2, [[3, 2, 1], [6, 5, 4]]),
        (3, [[6, 5, 4], [3, 2, 1]]),
        (4, [[4, 5, 6], [1, 2, 3]]),
        (5, [[1, 4], [2, 5], [3, 6]]),
        (6, [[3, 6], [2, 5], [1, 4]]),
        (7, [[6, 3], [5, 2], [4, 1]]),
        (8, [[4, 1], [5, 2], [6, 3]]),
        (9, [[1, 2, 3], [4, 5, 6]]),  # no such tag
    ],
)
def test_orientation_tags_are_obeyed_once(tag, stored):
    image = Image.fromarray(np.array(stored, np.uint8))
    image.getexif()[0x0112] = tag
    for thing in (image, *(encode(image, kind, exif=image.getexif()) for kind in ("PNG", "TIFF"))):
        upright = read_picture(thing)
        assert pixels(upright) == np.asarray(upright).tolist() == grey([[1, 2, 3], [4, 5, 6]])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_picture_with_a_broken_tag_is_a_picture():
    assert pixels(encode(flat("L", 100), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"))[0][0] == [100, 100, 100]


ARRAYS = {
    "HW": (RAMP, grey(RAMP)),
    "HW1": (RAMP[..., None], grey(RAMP)),
    "1HW": (RAMP[None], grey(RAMP)),
    "HWC": (COLOURS, COLOURS.tolist()),
    "CHW": (COLOURS.transpose(2, 0, 1), COLOURS.tolist()),
    "a square of three, channels last": (COLOURS[[0, 1, 0]], COLOURS[[0, 1, 0]].tolist()),
    "alpha": (np.full((2, 2, 4), [200, 0, 0, 51], np.uint8), [[[244, 204, 204]] * 2] * 2),
    "bool": (RAMP > 120, grey([[0, 0, 0, 255, 255], [255, 255, 255, 0, 0]])),
    "uint16": (RAMP.astype(np.uint16) * 257, grey(RAMP)),
    "big-endian": (RAMP.astype(">u2") * 257, grey(RAMP)),
    "float16": ((RAMP / 255).astype(np.float16), grey(RAMP)),
    "float32": ((COLOURS / 255).astype(np.float32), COLOURS.tolist()),
    "float64, a little over": (RAMP / 255 * 1.0005, grey(RAMP)),
}


@pytest.mark.parametrize(("array", "expected"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_and_tensors(array, expected):
    assert pixels(array) == expected
    native = np.array(array, array.dtype.newbyteorder("="))
    channels_last = array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[-1] in (1, 3, 4)
    tensor = torch.from_numpy(native.transpose(2, 0, 1) if channels_last else native)  # a tensor's are first
    assert pixels(tensor) == expected
    if tensor.is_floating_point():
        assert pixels(tensor.clone().requires_grad_()) == expected


def test_kinds_that_numpy_lacks_and_views():
    assert pixels(torch.tensor([[0.0, 1.0], [0.5, 0.25]]).bfloat16()) == grey([[0, 255], [128, 64]])
    assert pixels(RAMP[::-1, ::-1]) == grey([[51, 102, 153, 204, 255], [204, 153, 102, 51, 0]])


def test_what_goes_in_is_left_alone_and_what_comes_out_is_a_copy():
    image = flat("RGB", (1, 2, 3))
    read_picture(image).paste("red", (0, 0, 4, 3))
    array = RAMP / 255
    read_picture(array)
    assert image.getpixel((0, 0)) == (1, 2, 3)
    assert np.array_equal(array, RAMP / 255)


PHOTO = encode(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)))
SVG = (
    b'<?xml version="1.0"?>\n<!-- by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
)
IMAGENET = (np.stack([RAMP] * 3) / 255 - 0.45) / 0.225


def png_of(width: int, height: int) -> bytes:
    """A file whose header promises that many pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return start + struct.pack(">I", 100) + b"IDAT"


REFUSED = {
    "text": (b"not a picture", "can't be read as a picture"),
    "empty": (b"", "can't be read as a picture"),
    "cut in its header": (PHOTO[:20], "can't be read as a picture"),
    "cut in its pixels": (PHOTO[: len(PHOTO) // 2], "cut short or damaged"),
    "drawing": (SVG, "can't be read as a picture", "JPEG, PNG"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "can't be read", "JPEG"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "can't be read"),
    "one pixel": (encode(Image.new("L", (1, 1))), "1×1", "at least 2×2"),
    "one pixel wide": (encode(Image.new("L", (1, 500))), "1×500", "at least 2×2"),
    "bomb": (png_of(20_000, 20_000), "179 million pixels"),
    "missing": (Path("nowhere/to be seen.png"), "there is no file nowhere/to be seen.png"),
    "folder": (Path("."), "'.' is a folder: give the path of a picture"),
    "address": ("https://example.org/cat.jpg", "is an address", "download"),
    "nameless": ("", "'' is a folder: give the path of a picture"),
    "no such user": ("~nobody-of-that-name/cat.jpg", "can't be read"),
    "impossible name": ("line\nbreak\0\udcff.png", "'line\\nbreak", "can't be read"),
    "endless name": ("x" * 5000, "can't be read"),
    "text file": (io.StringIO("text"), "can't be read as a picture"),
    "number": (5, "type int is no picture"),
    "list": ([[1, 2], [3, 4]], "type list is no picture"),
    "nothing": (None, "type NoneType is no picture"),
    "batch of one": (COLOURS[None], "(1, 2, 5, 3) is a batch", "batch[0]"),
    "batch": (torch.zeros(8, 3, 4, 4), "is a batch", "one picture at a time"),
    "two channels": (np.zeros((5, 6, 2), np.uint8), "(5, 6, 2) is no picture", "(C, H, W)"),
    "a row": (np.zeros(784), "(784,) is no picture"),
    "no pixels": (np.zeros((0, 5)), "5×0"),
    "vast array": (np.broadcast_to(np.uint8(0), (20_000, 20_000)), "20000×20000, more than 179 million"),
    "int64": (RAMP.astype(np.int64), "an array of int64", "uint8"),
    "complex": (torch.zeros(4, 4, dtype=torch.complex64), "an array of complex64"),
    "objects": (np.array([["a", None]] * 2), "an array of object"),
    "floats to 255": (RAMP.astype(np.float32), "go from 0 to 255 and not from 0 to 1", "divide 0 to 255 by 255"),
    "normalised": (torch.from_numpy(IMAGENET), "go from -2 to 2.44", "undo any normalisation"),
    "overshot": (RAMP / 200, "go from 0 to 1.27"),
    "NaN": (np.where(RAMP > 200, np.nan, 0.5), "nan"),
    "infinite": (np.where(RAMP > 200, np.inf, 0.5), "inf"),
    "sparse": (torch.zeros(4, 4).to_sparse(), "can't be read", "dense"),
    "without memory": (torch.zeros(4, 4, device="meta"), "can't be read"),
    "32 bits": (Image.new("I", (4, 4), 70_000), "an array of int32"),
    "floats in a picture": (Image.new("F", (4, 4), 70.0), "go from 70 to 70"),
}


@pytest.mark.parametrize(("thing", "parts"), [(thing, parts) for thing, *parts in REFUSED.values()], ids=REFUSED)
def test_what_is_no_picture_is_refused_in_one_sentence(thing, parts):
    refusal(thing, *parts)


def test_files_that_end_early_are_closed_or_vast(monkeypatch):
    closed = io.BytesIO(PHOTO)
    closed.close()
    refusal(closed, "can't be read as a picture")
    refusal(Image.open(io.BytesIO(PHOTO[:-50])), "this picture is cut short")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as some do, to be rid of Pillow's own warning
    refusal(png_of(20_000, 20_000), "20000×20000, more than 179 million")


def one_picture_or_one_sentence(thing) -> Image.Image | None:
    try:
        picture = read_picture(thing)
    except InputError as error:
        assert_one_sentence(str(error))
        return None
    assert picture.mode == "RGB"
    assert min(picture.size) >= 2
    return picture


KINDS = st.one_of(arrays.scalar_dtypes(), st.sampled_from([np.dtype(kind) for kind in ("?", "u1", "<u2", ">u2", "f4")]))
SHAPES = st.one_of(
    arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])),
)
ONCE = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@ONCE
@given(arrays.arrays(KINDS, SHAPES), st.booleans())
def test_any_array_is_a_picture_or_refused(array, as_tensor):
    try:
        thing = torch.from_numpy(array) if as_tensor else array
    except (TypeError, ValueError):  # what torch does not have
        thing = array
    picture = one_picture_or_one_sentence(thing)
    if picture is not None:
        assert picture.width * picture.height * 4 >= array.size
        scale = {"b": 1, "u": 2 ** (8 * array.itemsize) - 1}.get(array.dtype.kind, 1)
        means = array.astype(float) / scale * 255
        if array.ndim == 2:
            assert np.abs(np.asarray(picture)[..., 0] - means).max() <= 0.5 + 255e-3
    elif array.dtype == np.uint8 and array.ndim == 2:
        assert min(array.shape) < 2


FILES = [encode(Image.open(io.BytesIO(PHOTO)).resize((9, 7)), kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP")]
EDITS = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@ONCE
@given(st.sampled_from(FILES), EDITS, st.integers(0, 2000), st.binary(max_size=40))
def test_any_damaged_file_is_a_picture_or_refused(content, edits, end, tail):
    content = bytearray(content)
    for place, value in edits:
        content[place % len(content)] = value
    one_picture_or_one_sentence(bytes(content[:end]) + tail)


@ONCE
@given(st.one_of(st.binary(), st.text(), st.none(), st.floats(), st.lists(st.integers()), st.tuples(st.booleans())))
def test_any_thing_at_all_is_refused(thing):
    assert one_picture_or_one_sentence(thing) is None


def test_a_picture_is_squeezed_by_an_antialiased_filter():
    stripes = read_picture(np.array([[0, 0, 70, 70]] * 6, np.uint8))
    # Pixel 0 of the answer lies between columns 0 and 1; the triangle around it weighs columns 0 to 2 by 3, 3 and 1.
    assert pixels(resize_picture(stripes, 2)) == grey([[10, 60]] * 2)
    assert pixels(resize_picture(stripes, 6))[0] == pixels(resize_picture(stripes, 6))[5]


def test_a_tensor_of_a_picture_has_channels_first_and_goes_back():
    tensor = picture_to_tensor(read_picture(COLOURS))
    assert (tensor.dtype, tensor.shape) == (torch.float32, (3, 2, 5))
    assert tensor.is_contiguous()
    torch.testing.assert_close(tensor, torch.from_numpy(COLOURS.transpose(2, 0, 1)) / 255)
    assert pixels(tensor) == COLOURS.tolist()
