"""Figures: the right numbers, the right pictures, and the word synthetic where it belongs."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import sample_history, sample_metrics, tensor_set

from s18_utils import plots
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError
from s18_utils.records import Record, read_record, write_record
from s18_utils.unet import UNetModule

NAME = "unet-maxpool-transpose-bce"
SYNTHETIC = pytest.mark.parametrize("source", ["synthetic", "local"])
pytestmark = pytest.mark.usefixtures("small")


def record_of(source: str = "synthetic", seeds: int = 1, **changes) -> Record:
    data = sample_metrics()["data"] | {"source": source}
    return Record(None, sample_metrics(data=data, seeds=list(range(seeds)), **changes), sample_history(seeds))


def data_of(source: str = "synthetic") -> StoreData:
    return StoreData(tensor_set(20, test=12, source=source), 4)


class Guess(torch.nn.Module):
    """Says background everywhere."""

    def predict(self, images):
        return torch.ones(len(images), *images.shape[-2:], dtype=torch.long)


def title(figure) -> str:
    return figure._suptitle.get_text()


def pictures(figure) -> list[np.ndarray]:
    return [axis.images[0].get_array() for axis in figure.axes]


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    before = plt.get_fignums()
    yield
    assert plt.get_fignums() == before


@SYNTHETIC
def test_the_word_synthetic_in_every_title(source, tmp_path):
    record, data = record_of(source), data_of(source)
    figures = [plots.curves(record), plots.predictions(record, Guess(), data), plots.side_by_side("tiny", data)]
    assert [("synthetic" in title(figure)) for figure in figures] == [source == "synthetic"] * 3


def test_curves_show_the_history():
    figure = plots.curves(record_of(seeds=2))
    left, right = figure.axes
    lines = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in left.lines]
    assert lines == [
        ([1, 2], [1.0, 0.5]),
        ([1, 2], [1.25, 0.625]),
        ([1, 2], [2.0, 1.5]),
        ([1, 2], [2.25, 1.625]),
    ]
    assert [line.get_ydata().tolist() for line in right.lines] == [[0.1, 0.2]] * 2
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["training", "validation"]
    assert (left.get_xlabel(), left.get_ylabel(), right.get_ylabel()) == ("epoch", "loss", "mean IoU")


def test_predictions_show_input_truth_prediction_and_errors():
    data = data_of()
    figure = plots.predictions(record_of(), Guess(), data, count=3)
    shown, batch = pictures(figure), data.examples(3)
    assert len(shown) == 12
    for column in range(3):
        np.testing.assert_allclose(shown[column], batch["image"][column].permute(1, 2, 0))
        np.testing.assert_array_equal(shown[3 + column], batch["mask"][column])
        np.testing.assert_array_equal(shown[6 + column], np.ones((16, 16)))
        np.testing.assert_array_equal(shown[9 + column], batch["mask"][column] != 1)
    assert [axis.get_ylabel() for axis in figure.axes[::3]] == ["input", "truth", "prediction", "errors"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["pet", "background", "border", "wrong"]


def test_the_share_of_errors_is_right():
    errors = torch.zeros(3, 10, 20, dtype=torch.bool)
    errors[1, :5, :5], errors[2] = True, True  # 25 of 200, and all
    figure = plots.picture_grid([("errors", errors)], "title")
    assert [axis.get_xlabel() for axis in figure.axes] == ["0.0% wrong", "12.5% wrong", "100.0% wrong"]


def test_classes_keep_their_colours_when_one_is_missing():
    # Without fixed limits, a mask of one class would be drawn in the first colour.
    figure = plots.picture_grid([("mask", torch.full((1, 8, 8), 2))], "title")
    image = figure.axes[0].images[0]
    assert image.to_rgba(np.array([[0, 1, 2]]))[0].tolist() == [list(plots.MASK_COLOURS(index)) for index in range(3)]
    assert "wrong" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_side_by_side_has_a_line_for_each_record_with_weights(tmp_path):
    data = data_of()
    bare = "unet-strided-transpose-bce"
    for name in (NAME, "unet-maxpool-transpose-dice", bare):
        folder = tmp_path / "runs" / "tiny" / name
        module = UNetModule("maxpool" if "maxpool" in name else "strided", "transpose", "ce", width=4)
        record = Record(folder, sample_metrics(experiment=name), sample_history())
        write_record(record, {"module": {"width": 4}}, module.state_dict(), {})
        if name == bare:
            (folder / "weights.safetensors").unlink()
    figure = plots.side_by_side("tiny", data, count=2)
    labels = [axis.get_ylabel() for axis in figure.axes[::2]]
    assert labels == ["input", "truth", "maxpool\ntranspose\nce", "maxpool\ntranspose\ndice"]
    expected = read_record(tmp_path / "runs" / "tiny" / NAME).model().predict(data.examples(2)["image"])
    np.testing.assert_array_equal(pictures(figure)[4], expected[0])


class GuessesRight(torch.nn.Module):
    """Is right about the first rows of an image, as many as its number, and says a wrong class below them."""

    def predict(self, images):
        numbers = (images[:, 0, 0, 0] * 255).round().long()
        truth = (numbers % 3).view(-1, 1, 1).expand(-1, *images.shape[-2:])
        below = torch.arange(images.shape[-2]).view(1, -1, 1) >= numbers.view(-1, 1, 1)
        return torch.where(below, (truth + 1) % 3, truth)


def test_the_score_of_each_image_by_itself():
    # Of 16 rows n are right, and all of the image is of one class, so its IoU is n / 16, and the wrong class has 0.
    expected = [0.0] + [n / 16 / 2 for n in range(1, 12)]
    np.testing.assert_allclose(plots.image_scores(GuessesRight(), data_of()), expected, rtol=1e-6)


@SYNTHETIC
def test_extremes_show_the_hardest_and_the_easiest(source):
    figure = plots.extremes(record_of(source), GuessesRight(), data_of(source), count=2)
    inputs = [round(float(picture[0, 0, 0]) * 255) for picture in pictures(figure) if picture.ndim == 3]
    assert inputs == [0, 1, 11, 10]
    captions = [axis.get_xlabel() for axis in figure.axes if axis.get_xlabel()]
    assert captions == ["mIoU 0.00", "mIoU 0.03", "mIoU 0.34", "mIoU 0.31"]
    assert "The 2 hardest and the 2 easiest of 12 test images" in title(figure)
    assert ("synthetic" in title(figure)) == (source == "synthetic")


def test_by_class_has_a_mark_for_each_run_and_panel(tmp_path):
    for number, name in enumerate(("unet-maxpool-transpose-bce", "unet-strided-upsample-dice")):
        metrics = sample_metrics(experiment=name)
        metrics["test"] |= {"mean_iou": 0.6 + 0.1 * number}
        spread = {"mean_iou": 0.02, "iou": {"pet": 0.01, "background": 0.01, "border": 0.03}}
        record = Record(tmp_path / "runs" / "tiny" / name, metrics | {"spread": spread, "seeds": [0, 1, 2]}, [])
        write_record(record, {}, {}, {})
    figure = plots.by_class("tiny")
    assert [axis.get_title() for axis in figure.axes] == ["mean", "pet", "background", "border"]
    marks = [[float(bar.lines[0].get_ydata()[0]) for bar in axis.containers] for axis in figure.axes]
    assert marks == [[0.6, 0.7], [0.7, 0.7], [0.8, 0.8], [0.3, 0.3]]
    ends = [segment[:, 1] for segment in figure.axes[0].containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[0.58, 0.62]])
    heights = [high - low for low, high in (axis.get_ylim() for axis in figure.axes)]
    np.testing.assert_allclose(heights, heights[0])  # differences can be compared across panels
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["1 · maxpool, transpose, ce", "4 · strided, bilinear, dice"]
    assert "synthetic data, preset tiny, 3 seeds: mean ± standard deviation" in title(figure)
    with pytest.raises(InputError, match="no record of a UNet at quick"):
        plots.by_class("quick")


def test_provenance_names_everything():
    line = plots.provenance(record_of())
    for part in (
        "synthetic pets",
        "fingerprint 0123456789abcdef",
        "1,234 to train on, 137 to choose the epoch by, 56 test images, at 32 px",
        "preset tiny, 2 epochs, seed 0, 61 s on CPU, 2 threads in 32-true",
        "commit abc1234, torch 2.6.0",
    ):
        assert part in line
    assert "interrupted" not in line
    assert "\n" not in line
    real = plots.provenance(record_of("local"))
    assert "synthetic" not in real
    assert "Oxford-IIIT Pet, 1,371 of the 3,680 official training images (37%), from local" in real
    assert "3 seeds" in plots.provenance(record_of(seeds=3))
    assert plots.provenance(record_of(interrupted=True)).endswith("; interrupted")
