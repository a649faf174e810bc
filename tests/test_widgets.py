"""The widgets: their callbacks, what moving their controls changes, and what is uploaded to them."""

import base64
import datetime
import io
import re

import numpy as np
import pytest
import torch
from conftest import assert_one_sentence, sample_metrics
from cvae_stand_ins import SMALL, BandJudge, Painter, band_set
from PIL import Image

from s18_utils.cvae import CVAEModule
from s18_utils.cvae.swap import SwapScores
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError
from s18_utils.records import Record
from s18_utils.widgets import SMALL_ZOOM, ZOOM, draw_swap, label_swap, mixture, own_digit, uploaded


@pytest.fixture
def data() -> StoreData:
    return StoreData(band_set(), 8)


def module_of(painter: Painter, **settings) -> CVAEModule:
    module = CVAEModule(**SMALL | settings).eval()
    module.vae = painter
    module.scores = SwapScores(BandJudge(), BandJudge())
    return module


class Swap:
    """A label-swap widget, its parts by name."""

    def __init__(self, module: CVAEModule, data: StoreData, **settings):
        origin = sample_metrics()["data"] | {"name": data.data.name, "source": data.data.source}
        metrics = sample_metrics(experiment=f"cvae-{data.data.name}", data=origin)
        record = Record(None, metrics, [], data.stored_examples(len(data.test)))
        controls, shown = label_swap(record, module, **settings).children
        self.image, self.label, self.other, self.morph = controls.children
        self.picture, self.verdict = shown.children


def light(png: bytes, half: str) -> np.ndarray:
    """How bright each label's band is, (10,), in the left (input) or right (output) half of the picture."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=float)[ZOOM // 2 :: ZOOM, ZOOM // 2 :: ZOOM]
    side = pixels.shape[0]
    part = pixels[:, :side] if half == "left" else pixels[:, -side:]
    return part.mean(1)[:20].reshape(10, 2).mean(1)


def test_a_mixture_has_the_rest_of_the_first_label():
    expected = torch.zeros(10)
    expected[4], expected[9] = 0.75, 0.25
    torch.testing.assert_close(mixture(4, 9, 0.25), expected)
    torch.testing.assert_close(mixture(4, 4, 0.3), torch.eye(10)[4])


def test_a_swap_shows_input_beside_output_and_what_the_judge_reads(data):
    batch = data.examples(4)
    png, read, chance = draw_swap(module_of(Painter()), batch["image"][1], int(batch["label"][1]), mixture(7, 0, 0))
    assert light(png, "left").argmax() == batch["label"][1]
    assert light(png, "right").argmax() == 7
    assert read == 7
    assert 0.1 < chance <= 1


def test_the_picture_is_the_two_images_and_a_gap(data):
    png, *_ = draw_swap(module_of(Painter()), data.examples(1)["image"][0], 0, mixture(1, 0, 0))
    assert Image.open(io.BytesIO(png)).size == ((28 + 2 + 28) * ZOOM, 28 * ZOOM)


def test_choosing_a_label_changes_picture_and_verdict(data):
    swap = Swap(module_of(Painter()), data)
    first = swap.picture.value
    swap.label.value = 4
    assert swap.picture.value != first
    assert light(swap.picture.value, "right").argmax() == 4
    assert "drawn as <b>4</b><br>" in swap.verdict.value
    assert "✓ the judge reads <b>4</b>" in swap.verdict.value


def test_choosing_an_image_changes_the_input_and_keeps_the_label(data):
    swap = Swap(module_of(Painter()), data)
    swap.label.value, labels = 9, data.examples(50)["label"]
    for position in (3, 17):
        swap.image.value = position
        assert light(swap.picture.value, "left").argmax() == labels[position]
        assert light(swap.picture.value, "right").argmax() == 9
        assert swap.verdict.value.startswith(f"<b>{labels[position]}</b> drawn")


def test_the_morph_slider_goes_from_one_label_to_the_other(data):
    swap = Swap(module_of(Painter(keeps=False)), data)
    swap.label.value, swap.other.value = 2, 6
    seen = []
    for share in (0.0, 0.25, 1.0):
        swap.morph.value = share
        bands = light(swap.picture.value, "right")
        seen.append((bands[2], bands[6]))
    whole = 0.8 * 255
    np.testing.assert_allclose(seen, [(whole, 0), (0.75 * whole, 0.25 * whole), (0, whole)], atol=1)


def test_of_a_mixture_the_judge_may_read_what_there_is_most_of(data):
    swap = Swap(module_of(Painter()), data)
    swap.label.value, swap.other.value, swap.morph.value = 2, 6, 0.25
    assert "drawn as <b>2</b> 75% + <b>6</b> 25%<br>" in swap.verdict.value
    assert "✓ the judge reads <b>2</b>" in swap.verdict.value
    swap = Swap(module_of(Painter(stuck=6)), data)
    swap.label.value, swap.other.value, swap.morph.value = 2, 6, 0.25
    assert "✗ the judge reads <b>6</b>" in swap.verdict.value


def test_a_drawing_that_is_read_otherwise_says_so(data):
    swap = Swap(module_of(Painter(stuck=2)), data)
    swap.label.value = 5
    assert "✗ the judge reads <b>2</b>" in swap.verdict.value


def test_every_class_and_every_example_can_be_chosen(data):
    swap = Swap(module_of(Painter()), data, count=12)
    for menu in (swap.label, swap.other):
        assert [label for _, label in menu.options] == list(range(10))
    assert (swap.image.min, swap.image.max) == (0, 11)
    assert (swap.morph.min, swap.morph.max) == (0, 1)


def test_colour_images_are_shown_in_colour():
    module = module_of(Painter(channels=3, side=32))
    image = torch.zeros(3, 32, 32)
    image[0, :4] = 1.0
    png, *_ = draw_swap(module, image, 0, mixture(1, 0, 0))
    assert Image.open(io.BytesIO(png)).convert("RGB").getpixel((0, 0)) == (255, 0, 0)


# A drawing of one's own.


class Own:
    """The widget for a digit of one's own, its parts by name."""

    def __init__(self, module: CVAEModule):
        row, self.answer = own_digit(module).children
        self.file, self.label = row.children

    def upload(self, content: bytes) -> None:
        file = {"name": "mine.png", "type": "image/png", "size": len(content), "content": memoryview(content)}
        self.file.value = ({**file, "last_modified": datetime.datetime.now()},)

    def pictures(self) -> list[np.ndarray]:
        found = re.findall(r"base64,([^']+)'", self.answer.value)
        half = SMALL_ZOOM // 2
        opened = [np.asarray(Image.open(io.BytesIO(base64.b64decode(it))).convert("L")) for it in found]
        return [pixels[half::SMALL_ZOOM, half::SMALL_ZOOM] for pixels in opened]


def stroke(ink: int = 0, paper: int = 255) -> bytes:
    """A photo of a horizontal stroke, as a PNG."""
    pixels = np.full((300, 400), paper, np.uint8)
    pixels[140:170, 100:300] = ink
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(("ink", "paper"), [(0, 255), (255, 0)])
def test_an_uploaded_drawing_is_shown_under_all_ten_labels(ink, paper):
    own = Own(module_of(Painter()))
    assert own.label.disabled
    own.upload(stroke(ink, paper))
    yours, *drawn = own.pictures()
    rows, columns = yours.nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (13, 15, 4, 23)  # 20 wide, centred, white on black
    assert len(drawn) == 10
    for label, picture in enumerate(drawn):
        assert picture.mean(1).argmax() // 2 == label
    assert own.answer.value.count("✓") == 10
    assert not own.label.disabled


def test_the_label_of_a_drawing_starts_at_what_the_judge_reads_and_can_be_set_right(monkeypatch):
    module, told = module_of(Painter()), []
    encode = module.vae.encode
    monkeypatch.setattr(
        module.vae, "encode", lambda images, labels: told.append(set(labels.tolist())) or encode(images, labels)
    )
    own = Own(module)
    own.upload(stroke())
    assert own.label.value in (6, 7)  # rows 13 to 15
    assert told[-1] == {own.label.value}
    own.label.value = 3
    assert told[-1] == {3}
    assert "yours, a 3" in own.answer.value


def test_a_drawing_that_the_judge_reads_otherwise_is_marked():
    own = Own(module_of(Painter(stuck=2)))
    own.upload(stroke())
    assert own.answer.value.count("✓") == 1
    assert own.answer.value.count("✗ reads 2") == 9


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"not a picture", "can't read this file as a picture"),
        (b"", "can't read this file as a picture"),
        (stroke()[:200], "can't read this file as a picture"),
        (stroke(255, 255), "there is no drawing"),
    ],
    ids=["text", "empty", "cut off", "blank"],
)
def test_a_file_that_is_no_drawing_gives_one_sentence(content, part):
    own = Own(module_of(Painter()))
    own.upload(stroke())
    own.upload(content)
    assert_one_sentence(own.answer.value.replace("&#x27;", "'"), part)
    assert own.label.disabled
    own.upload(stroke())
    assert len(own.pictures()) == 11


def test_uploads_of_both_ages_of_ipywidgets_are_read():
    assert uploaded(({"name": "a.png", "content": memoryview(b"new")},)) == b"new"
    assert uploaded({"a.png": {"metadata": {}, "content": b"old"}}) == b"old"


def test_only_digits_can_be_ones_own():
    colour = CVAEModule(**SMALL | {"image_shape": [3, 32, 32]})
    with pytest.raises(InputError) as caught:
        own_digit(colour)
    assert_one_sentence(str(caught.value), "cvae-mnist")
