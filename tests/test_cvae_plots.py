"""Figures of the conditional VAEs: the right pictures, labels and verdicts, of painters whose drawings are known."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import sample_metrics
from cvae_stand_ins import SMALL, BandJudge, Painter, band_set
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from s18_utils import cvae_plots
from s18_utils.cvae import CVAEModule
from s18_utils.cvae.swap import SwapScores
from s18_utils.data import class_names
from s18_utils.data.batches import StoreData
from s18_utils.records import Record

MATRIX = [[round(0.01 * (10 * true + asked), 2) for asked in range(10)] for true in range(10)]
COLOUR = {"channels": 3, "side": 32}


def record_of(source: str = "synthetic", name: str = "mnist", epochs: int = 3, data: StoreData | None = None) -> Record:
    metrics = sample_metrics(
        experiment=f"cvae-{name}",
        data=sample_metrics()["data"] | {"source": source, "name": name},
        test={"swap_matrix": MATRIX, "swap_agreement": 0.9876},
    )
    terms = ("nll", "kl", "label_true", "label_swapped")
    rows = [
        {"seed": 0, "epoch": epoch, "seconds": 1.0}
        | {f"{split}_{term}": epoch + number for number, term in enumerate(terms) for split in ("train", "val")}
        for epoch in range(1, epochs + 1)
    ]
    return Record(None, metrics, rows, (data or data_of()).stored_examples(100))


def module_of(painter: Painter) -> CVAEModule:
    module = CVAEModule(**SMALL).eval()
    module.vae = painter
    module.scores = SwapScores(BandJudge(), BandJudge())
    return module


def data_of(test: int = 40, **settings) -> StoreData:
    return StoreData(band_set(test=test, **settings), 8)


def title(figure: Figure) -> str:
    return figure._suptitle.get_text()


def pixels(axis: plt.Axes) -> np.ndarray:
    return np.asarray(axis.images[0].get_array())


def row_of_light(picture: np.ndarray) -> int:
    """Which label's band is lit."""
    return int(picture.reshape(len(picture), -1).mean(1).argmax()) // 2


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    before = plt.get_fignums()
    yield
    assert plt.get_fignums() == before


@pytest.mark.parametrize("source", ["synthetic", "local"])
def test_every_figure_and_the_word_synthetic_in_its_title(source):
    record, data = record_of(source), data_of(source=source)
    figures = cvae_plots.figures(record, module_of(Painter()), data)
    assert list(figures) == ["curves", "composite", "all_labels", "reconstructions", "samples", "matrix"]
    assert {("synthetic" in title(figure)) for figure in figures.values()} == {source == "synthetic"}
    assert all("Conditional VAE on MNIST" in title(figure) for figure in figures.values())


@pytest.mark.parametrize("count", [24, 5])
def test_examples_stand_above_their_classes(count):
    data = data_of()
    figure = cvae_plots.examples(data, count)
    batch = data.examples(count)
    shown = [axis for axis in figure.axes if axis.images]
    for axis, image, label in zip(shown, batch["image"], batch["label"], strict=True):
        np.testing.assert_array_equal(pixels(axis), image[0])
        assert axis.get_title() == str(label.item())


def test_the_composite_shows_25_pairs_under_labels_that_are_not_their_own():
    figure = cvae_plots.composite(record_of(), module_of(Painter()))
    assert len(figure.axes) == 25
    examples = record_of().examples(25)
    for axis, image, label in zip(figure.axes, examples["image"], examples["label"], strict=True):
        true, asked = axis.get_title().split(" → ")
        assert true == str(label.item())
        assert asked in "0123456789"
        assert asked != true
        picture = pixels(axis)
        assert picture.shape == (28, 57)  # input, a white line, drawing
        np.testing.assert_array_equal(picture[:, :28], image[0])
        assert (picture[:, 28] == 1).all()
        assert row_of_light(picture[:, 29:]) == int(asked)
        assert to_hex(axis.title.get_color()) == cvae_plots.RIGHT
    again = cvae_plots.composite(record_of(), module_of(Painter()))
    other = cvae_plots.composite(record_of(), module_of(Painter()), seed=1)
    titles = [[axis.get_title() for axis in drawn.axes] for drawn in (figure, again, other)]
    assert titles[0] == titles[1] != titles[2]


def test_the_composite_says_what_the_judge_read_instead():
    figure = cvae_plots.composite(record_of(), module_of(Painter(stuck=3)))
    for axis in figure.axes:
        asked = axis.get_title().split(" → ")[1]
        if asked.startswith("3"):
            assert asked == "3"
            assert to_hex(axis.title.get_color()) == cvae_plots.RIGHT
        else:
            assert asked.endswith(", read as 3")
            assert to_hex(axis.title.get_color()) == cvae_plots.WRONG


def test_the_composite_of_few_images_leaves_the_other_places_empty():
    figure = cvae_plots.composite(record_of(data=data_of(test=10)), module_of(Painter()))
    assert [bool(axis.images) for axis in figure.axes] == [True] * 10 + [False] * 15
    assert not any(axis.axison for axis in figure.axes[10:])


def test_colour_images_and_their_class_names():
    data = data_of(name="cifar10", **COLOUR)
    figure = cvae_plots.composite(record_of(name="cifar10", data=data), module_of(Painter(**COLOUR)))
    names = class_names("cifar10", "synthetic")
    for axis, label in zip(figure.axes, record_of(data=data).examples(25)["label"], strict=True):
        true, asked = axis.get_title().split(" → ")
        assert true == names[label]
        assert pixels(axis).shape == (32, 65, 3)
        assert names[row_of_light(pixels(axis)[:, 33:])] == asked


def test_each_input_is_drawn_under_all_ten_labels_and_its_own_is_framed():
    figure = cvae_plots.all_labels(record_of(), module_of(Painter()), count=6)
    axes = np.array(figure.axes).reshape(6, 11)
    examples = record_of().examples(6)
    for line, image, label in zip(axes, examples["image"], examples["label"], strict=True):
        np.testing.assert_array_equal(pixels(line[0]), image[0])
        assert [row_of_light(pixels(axis)) for axis in line[1:]] == list(range(10))
        framed = [number for number, axis in enumerate(line[1:]) if axis.spines["left"].get_visible()]
        assert framed == [label.item()]
        assert line[0].get_ylabel() == str(label.item())
        light = [pixels(axis).max() for axis in line[1:]]
        assert light == pytest.approx([image.max().item()] * 10)  # all of one input
    assert [axis.get_title() for axis in axes[0]] == ["input", *map(str, range(10))]


def test_one_image_drawn_under_all_ten_labels():
    batch = data_of().examples(3)
    drawings = cvae_plots.draw_all(module_of(Painter()), batch["image"][1], batch["label"][1])
    assert drawings.shape == (10, 1, 28, 28)
    assert [row_of_light(drawing[0].numpy()) for drawing in drawings] == list(range(10))


def test_reconstructions_stand_below_their_inputs():
    figure = cvae_plots.reconstructions(record_of(), module_of(Painter(keeps=False)), count=5)
    above, below = np.array(figure.axes).reshape(2, 5)
    examples = record_of().examples(5)
    for axis, image in zip(above, examples["image"], strict=True):
        np.testing.assert_array_equal(pixels(axis), image[0])
    assert [row_of_light(pixels(axis)) for axis in below] == examples["label"].tolist()
    assert all(pixels(axis).max() == pytest.approx(0.8) for axis in below)
    assert (above[0].get_ylabel(), below[0].get_ylabel()) == ("input", "drawn")


def test_samples_have_a_code_a_row_and_a_label_a_column():
    figure = cvae_plots.samples(record_of(), module_of(Painter()), count=3)
    codes = torch.randn(3, 1, generator=torch.Generator().manual_seed(0)).clamp(0, 1)
    for line, code in zip(np.array(figure.axes).reshape(3, 10), codes, strict=True):
        assert [pixels(axis).max() for axis in line] == pytest.approx([code.item()] * 10)
        if code > 0:
            assert [row_of_light(pixels(axis)) for axis in line] == list(range(10))
    assert [axis.get_title() for axis in figure.axes[:10]] == list(map(str, range(10)))


def test_the_matrix_shows_percentages_true_down_and_asked_across():
    figure = cvae_plots.matrix(record_of())
    axis = figure.axes[0]
    np.testing.assert_allclose(pixels(axis), 100 * np.array(MATRIX), atol=1e-4)
    shown = {tuple(map(int, text.get_position())): text.get_text() for text in axis.texts}
    assert shown == {(asked, true): f"{10 * true + asked:.1f}" for true in range(10) for asked in range(10)}
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("asked", "true")
    assert "98.8%" in title(figure)
    names = [label.get_text() for label in cvae_plots.matrix(record_of(name="cifar10")).axes[0].get_xticklabels()]
    assert names == list(class_names("cifar10", "synthetic"))
    real = [label.get_text() for label in cvae_plots.matrix(record_of("local", "cifar10")).axes[0].get_yticklabels()]
    assert real == list(class_names("cifar10", "local")) != names


def test_the_curves_have_a_panel_a_term_and_a_line_a_split():
    figure = cvae_plots.curves(record_of())
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert labels == ["negative log-likelihood", "KL divergence", "label loss, true label", "label loss, wrong label"]
    for number, axis in enumerate(figure.axes):
        assert [line.get_ydata().tolist() for line in axis.lines] == [[1 + number, 2 + number, 3 + number]] * 2


def test_curves_of_a_term_that_joins_in_later():
    record = record_of()
    for name in ("train_label_true", "train_label_swapped"):
        del record.history[0][name]
    axis = cvae_plots.curves(record).axes[2]
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [np.nan, 4, 5])
