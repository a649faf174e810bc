"""Label swaps and digits of one's own: callbacks, what moving controls changes, what is drawn and uploaded."""

import base64
import datetime
import io
import re

import numpy as np
import pytest
import torch
from conftest import assert_one_sentence, sample_metrics
from PIL import Image
from play_stand_ins import BandJudge, band_record

from s18_utils.errors import InputError
from s18_utils.play.labels import SMALL_ZOOM, ZOOM, draw_swap, label_swap, mix_labels, own_digit, read_upload
from s18_utils.records import Record


class Swap:
    """A label-swap widget, its parts by name."""

    def __init__(self, record: Record, **settings):
        controls, shown = label_swap(record, **settings).children
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
    torch.testing.assert_close(mix_labels(4, 9, 0.25, 10), expected)
    torch.testing.assert_close(mix_labels(4, 4, 0.3, 10), torch.eye(10)[4])
    torch.testing.assert_close(mix_labels(0, 2, 0.5, 3), torch.tensor([0.5, 0, 0.5]))


def test_a_swap_shows_input_beside_output_and_what_the_judges_read():
    record = band_record(judges=[BandJudge(), BandJudge(blind=True)])
    batch = record.examples(4)
    png, readings = draw_swap(record.model(), batch["image"][1], int(batch["label"][1]), mix_labels(7, 0, 0, 10))
    assert light(png, "left").argmax() == batch["label"][1]
    assert light(png, "right").argmax() == 7
    assert [label for label, _ in readings] == [7, 0]
    assert readings[0][1] > readings[1][1] == pytest.approx(0.1)
    assert Image.open(io.BytesIO(png)).size == ((28 + 2 + 28) * ZOOM, 28 * ZOOM)


def test_choosing_a_label_changes_picture_and_verdict():
    swap = Swap(band_record())
    first = swap.picture.value
    swap.label.value = 4
    assert swap.picture.value != first
    assert light(swap.picture.value, "right").argmax() == 4
    assert "drawn as <b>4</b><br>" in swap.verdict.value
    assert re.search(r"✓</b> the judge reads <b>4</b> \(\d+% sure\)", swap.verdict.value)


def test_choosing_an_image_changes_the_input_and_keeps_the_label():
    record = band_record()
    swap, labels = Swap(record), record.examples(50)["label"]
    swap.label.value = 9
    for position in (3, 17):
        swap.image.value = position
        assert light(swap.picture.value, "left").argmax() == labels[position]
        assert light(swap.picture.value, "right").argmax() == 9
        assert swap.verdict.value.startswith(f"<b>{labels[position]}</b> drawn")


def test_the_morph_slider_goes_from_one_label_to_the_other():
    swap = Swap(band_record(keeps=False))
    swap.label.value, swap.other.value = 2, 6
    seen = []
    for share in (0.0, 0.25, 1.0):
        swap.morph.value = share
        bands = light(swap.picture.value, "right")
        seen.append((bands[2], bands[6]))
    whole = 0.8 * 255
    np.testing.assert_allclose(seen, [(whole, 0), (0.75 * whole, 0.25 * whole), (0, whole)], atol=1)


@pytest.mark.parametrize(("stuck", "mark"), [(None, "✓"), (6, "✗")])
def test_of_a_mixture_the_judge_may_read_what_there_is_most_of(stuck, mark):
    swap = Swap(band_record(stuck=stuck))
    swap.label.value, swap.other.value, swap.morph.value = 2, 6, 0.25
    assert "drawn as <b>2</b> 75% + <b>6</b> 25%<br>" in swap.verdict.value
    assert f"{mark}</b> the judge reads <b>{stuck or 2}</b>" in swap.verdict.value


def test_a_swap_agrees_only_if_every_judge_reads_what_was_asked():
    swap = Swap(band_record(judges=[BandJudge(), BandJudge(blind=True)]))
    swap.label.value = 5
    assert "✗</b> the judges read <b>5</b>" in swap.verdict.value
    swap.label.value = 0
    assert "✓</b> the judges read <b>0</b>" in swap.verdict.value


def test_without_a_judge_the_swap_is_drawn_and_not_judged():
    swap = Swap(band_record(judges=[]))
    swap.label.value = 4
    assert light(swap.picture.value, "right").argmax() == 4
    assert swap.verdict.value.endswith("drawn as <b>4</b><br>")


def test_every_class_and_every_example_can_be_chosen():
    swap = Swap(band_record(), count=12)
    for menu in (swap.label, swap.other):
        assert [label for _, label in menu.options] == list(range(10))
    assert (swap.image.min, swap.image.max) == (0, 11)
    assert (swap.morph.min, swap.morph.max) == (0, 1)
    assert swap.label.value != swap.other.value


def test_colour_images_are_shown_in_colour():
    image = torch.zeros(3, 32, 32)
    image[0, :4] = 1.0
    png, _ = draw_swap(band_record(channels=3, side=32).model(), image, 0, mix_labels(1, 0, 0, 10))
    assert Image.open(io.BytesIO(png)).convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_an_error_in_a_callback_becomes_one_sentence():
    swap = Swap(band_record(fails=InputError("the code is gone: train again")))
    assert swap.verdict.value == "the code is gone: train again"
    swap = Swap(band_record(fails=RuntimeError("no kernel image\nmore")))
    assert_one_sentence(swap.verdict.value, "RuntimeError, no kernel image", "run the cell again")


def test_a_record_without_weights_or_of_a_unet_is_said(tmp_path):
    record = band_record()
    bare = Record(tmp_path, record.metrics, [], record.stored_examples)
    bare.__dict__["config"] = {"family": "cvae"}
    for widget in (label_swap(bare), own_digit(bare)):
        assert_one_sentence(widget.children[0].value, "keeps no weights", "train cvae-mnist first")
    unet = Record(tmp_path, sample_metrics(), [])
    unet.__dict__["config"] = {"family": "unet"}
    for play in (label_swap, own_digit):
        with pytest.raises(InputError) as caught:
            play(unet)
        assert_one_sentence(str(caught.value), "no labels to swap")


# A drawing of one's own.


class Own:
    """The widget for a digit of one's own, its parts by name."""

    def __init__(self, record: Record):
        self.pad, column = own_digit(record).children
        row, self.answer = column.children
        self.file, self.label = row.children

    def upload(self, content: bytes) -> None:
        file = {"name": "mine.png", "type": "image/png", "size": len(content), "content": memoryview(content)}
        self.file.value = ({**file, "last_modified": datetime.datetime.now()},)

    def pictures(self) -> list[np.ndarray]:
        found = re.findall(r"base64,([^']+)'", self.answer.value)
        half = SMALL_ZOOM // 2
        opened = [np.asarray(Image.open(io.BytesIO(base64.b64decode(it))).convert("L")) for it in found]
        return [pixels[half::SMALL_ZOOM, half::SMALL_ZOOM] for pixels in opened]


def draw_stroke(ink: int = 0, paper: int = 255) -> bytes:
    """A photo of a horizontal stroke, as a PNG."""
    pixels = np.full((300, 400), paper, np.uint8)
    pixels[140:170, 100:300] = ink
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(("ink", "paper"), [(0, 255), (255, 0)])
def test_an_uploaded_drawing_is_shown_under_all_labels(ink, paper):
    own = Own(band_record())
    assert own.label.disabled
    own.upload(draw_stroke(ink, paper))
    yours, *drawn = own.pictures()
    rows, columns = yours.nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (13, 15, 4, 23)  # 20 wide, centred, white on black
    assert len(drawn) == 10
    for label, picture in enumerate(drawn):
        assert picture.mean(1).argmax() // 2 == label
    assert own.answer.value.count("✓") == 10
    assert not own.label.disabled


def test_what_is_drawn_on_the_pad_is_shown_while_one_draws():
    own = Own(band_record())
    for label in (3, 8):
        own.pad.answer({}, [memoryview(draw_bands_bytes(label))])
        yours, *drawn = own.pictures()
        assert yours.mean(1).argmax() // 2 == label
        assert own.label.value == label
        assert len(drawn) == 10
    own.pad.answer({}, [memoryview(b"1234")])  # a page of another version
    assert_one_sentence(own.answer.value.replace("&#x27;", "'"), "run the cell again")


def draw_bands_bytes(label: int) -> bytes:
    image = np.zeros((28, 28), np.float32)
    image[2 * label : 2 * label + 2] = 1
    return image.tobytes()


def test_the_label_of_a_drawing_starts_at_what_the_judge_reads_and_can_be_set_right():
    record = band_record()
    own = Own(record)
    own.upload(draw_stroke())
    assert own.label.value in (6, 7)  # rows 13 to 15
    assert record.painter.told == [{own.label.value}]  # drawn once
    own.label.value = 3
    assert record.painter.told[-1] == {3}
    assert "yours, a 3" in own.answer.value


def test_a_drawing_that_the_judge_reads_otherwise_is_marked():
    own = Own(band_record(stuck=2))
    own.upload(draw_stroke())
    assert own.answer.value.count("✓") == 1
    assert own.answer.value.count("✗</b> reads 2") == 9


def test_without_a_judge_a_drawing_has_the_label_that_is_chosen():
    own = Own(band_record(judges=[]))
    own.upload(draw_stroke())
    assert own.label.value == 0
    own.label.value = 6
    assert len(own.pictures()) == 11
    assert "reads" not in own.answer.value


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"not a picture", "can't be read as a picture"),
        (b"", "empty"),
        (draw_stroke()[:200], "cut short"),
        (draw_stroke(255, 255), "there is no drawing"),
    ],
    ids=["text", "empty", "cut off", "blank"],
)
def test_a_file_that_is_no_drawing_gives_one_sentence(content, part):
    own = Own(band_record())
    own.upload(draw_stroke())
    own.upload(content)
    assert_one_sentence(own.answer.value.replace("&#x27;", "'"), part)
    assert own.label.disabled
    own.upload(draw_stroke())
    assert len(own.pictures()) == 11


def test_uploads_of_both_ages_of_ipywidgets_are_read():
    assert read_upload(({"name": "a.png", "content": memoryview(b"new")},)) == b"new"
    assert read_upload({"a.png": {"metadata": {}, "content": b"old"}}) == b"old"


def test_only_digits_can_be_ones_own():
    with pytest.raises(InputError) as caught:
        own_digit(band_record(channels=3, side=32))
    assert_one_sentence(str(caught.value), "cvae-mnist")
