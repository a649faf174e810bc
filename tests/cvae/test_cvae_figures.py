"""Figures of the conditional VAEs: the right pictures, labels and verdicts, of painters whose drawings are known."""

import numpy as np
import pytest
import torch
from conftest import sample_metrics
from cvae_stand_ins import DIGITS, BandJudge, Painter, band_data, module_of, new_module
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from s18_utils.cvae import diagram, figures, plots
from s18_utils.cvae.variety import PAINTERS, SCORES
from s18_utils.data.batches import StoreData
from s18_utils.records import Record
from s18_utils.report.style import GREY, RIGHT, WRONG

MATRIX = [[round(0.9 + 0.001 * (10 * true + asked), 3) for asked in range(10)] for true in range(10)]
COLOUR = {"channels": 3, "side": 32}
VARIETY = {
    painter: {"agreement": 0.5 + 0.1 * number} | dict.fromkeys(SCORES, 0.2 * number)
    for number, painter in enumerate(PAINTERS)
}


def record_of(source: str = "synthetic", epochs: int = 3, data: StoreData | None = None, **test) -> Record:
    metrics = sample_metrics(
        experiment="cvae-mnist",
        data=sample_metrics()["data"] | {"source": source, "name": "mnist", "title": "MNIST", "classes": list(DIGITS)},
        test={"swap_matrix": MATRIX, "swap_agreement": 0.9876, "same_label_agreement": 0.9} | test,
    )
    terms = ("nll", "kl", "label_true", "label_swapped")
    rows = [
        {"seed": 0, "epoch": epoch, "seconds": 1.0}
        | {f"{split}_{term}": epoch + number for number, term in enumerate(terms) for split in ("train", "val")}
        for epoch in range(1, epochs + 1)
    ]
    record = Record(None, metrics, rows, (data or band_data()).stored_examples(100), {"family": "cvae"})
    return record


def title(figure: Figure) -> str:
    return figure._suptitle.get_text()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def tile(figure: Figure, row: int, column: int, side: int = 28, wide: int | None = None) -> np.ndarray:
    """The RGB pixels of a tile, which must be opaque."""
    canvas, wide = np.asarray(figure.axes[0].images[0].get_array()), wide or side
    opaque = canvas[:, :, 3] > 0
    tops, lefts = (np.flatnonzero(np.diff(opaque.any(axis), prepend=False) & opaque.any(axis)) for axis in (1, 0))
    pairs = wide // side  # a tile of two images has a gap in it
    part = canvas[tops[row] : tops[row] + side, lefts[pairs * column] : lefts[pairs * column] + wide]
    return part[:, :, :3]


def row_of_light(picture: np.ndarray) -> int:
    """Which label's band is lit."""
    return int(picture.reshape(len(picture), -1).mean(1).argmax()) // 2


@pytest.mark.parametrize("source", ["synthetic", "local"])
def test_every_figure_and_the_word_synthetic_in_its_title(source):
    drawn = figures.draw_record(record_of(source), module_of(Painter()), band_data(source=source))
    assert list(drawn) == [
        "curves",
        "composite",
        "quiz",
        "all_labels",
        "reconstructions",
        "samples",
        "matrix",
        "variety",
    ]
    assert {("synthetic" in title(figure)) for figure in drawn.values()} == {source == "synthetic"}
    assert all("Conditional VAE on MNIST" in title(figure) for figure in drawn.values())


@pytest.mark.parametrize("count", [24, 5])
def test_examples_stand_above_their_classes(count):
    data = band_data()
    figure = figures.draw_examples(data, count)
    batch = data.examples(count)
    assert texts(figure) == [str(label.item()) for label in batch["label"]]
    np.testing.assert_array_equal(tile(figure, 0, 2)[:, :, 0], batch["image"][2, 0])


def test_the_composite_shows_25_pairs_under_labels_that_are_not_their_own():
    figure = figures.draw_composite(record_of(), module_of(Painter()))
    examples = record_of().examples(25)
    assert len(texts(figure)) == 25
    for number, (image, label) in enumerate(zip(examples["image"], examples["label"], strict=True)):
        true, asked = texts(figure)[number].split(" → ")
        assert true == str(label.item())
        assert asked in DIGITS
        assert asked != true
        pair = tile(figure, *divmod(number, 5), wide=58)
        np.testing.assert_array_equal(pair[:, :28, 0], image[0])
        assert row_of_light(pair[:, 30:]) == int(asked)
        assert to_hex(figure.axes[0].texts[number].get_color()) == RIGHT
    again, other = (texts(figures.draw_composite(record_of(), module_of(Painter()), seed=seed)) for seed in (0, 1))
    assert texts(figure) == again != other


def test_the_composite_says_what_the_judges_read_instead():
    judges = [BandJudge(), BandJudge(confused={3: 4, 4: 3})]
    figure = figures.draw_composite(record_of(), module_of(Painter(stuck=3), judges))
    for text in figure.axes[0].texts:
        asked, *read = text.get_text().split(" → ")[1].split("\nread as ")
        assert read == (["4"] if asked == "3" else ["3"] if asked == "4" else ["3 / 4"])
        assert to_hex(text.get_color()) == WRONG


def test_a_composite_without_judges_has_no_verdicts_and_one_without_captions_no_words():
    figure = figures.draw_composite(record_of(), module_of(Painter(stuck=3), judges=[]))
    assert {to_hex(text.get_color()) for text in figure.axes[0].texts} == {GREY}
    assert not any("read as" in text for text in texts(figure))
    quiz = figures.draw_composite(record_of(), module_of(Painter()), captions=False)
    assert texts(quiz) == []
    np.testing.assert_array_equal(
        tile(quiz, 2, 3, wide=58), tile(figures.draw_composite(record_of(), module_of(Painter())), 2, 3, wide=58)
    )


def test_the_composite_of_few_images_leaves_the_other_places_empty():
    data = band_data(test=7)
    figure = figures.draw_composite(record_of(data=data), module_of(Painter()))
    assert len(texts(figure)) == 7
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    assert canvas[-28:, -28:, 3].max() == 0


def test_colour_images():
    data = band_data(**COLOUR)
    module = module_of(Painter(**COLOUR), channels=3, size=32)
    figure = figures.draw_composite(record_of(data=data), module)
    examples = record_of(data=data).examples(25)
    np.testing.assert_array_equal(tile(figure, 0, 1, 32, 66)[:, :32], examples["image"][1].permute(1, 2, 0))


def test_each_input_is_drawn_under_all_labels_and_its_own_is_framed():
    figure = figures.draw_all_labels(record_of(), module_of(Painter()), count=6)
    examples = record_of().examples(6)
    frames = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    for row, (image, label, frame) in enumerate(zip(examples["image"], examples["label"], frames, strict=True)):
        np.testing.assert_array_equal(tile(figure, row, 0)[:, :, 0], image[0])
        drawn = [tile(figure, row, column) for column in range(1, 11)]
        assert [row_of_light(picture) for picture in drawn] == list(range(10))
        assert [picture.max() for picture in drawn] == pytest.approx([image.max().item()] * 10)  # all of one input
        x, y = frame.get_xy()
        assert (round((x + 1.5) / 30), round((y + 1.5) / 30)) == (label + 1, row)
    axis = figure.axes[0]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["input", *DIGITS]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == [str(label.item()) for label in examples["label"]]


def test_one_image_drawn_under_all_labels():
    batch = band_data().examples(3)
    drawings = figures.draw_all(module_of(Painter()), batch["image"][1], batch["label"][1])
    assert drawings.shape == (10, 1, 28, 28)
    assert [row_of_light(drawing[0].numpy()) for drawing in drawings] == list(range(10))


def test_reconstructions_stand_below_their_inputs():
    figure = figures.draw_reconstructions(record_of(), module_of(Painter(keeps=False)), count=5)
    examples = record_of().examples(5)
    for column, (image, label) in enumerate(zip(examples["image"], examples["label"], strict=True)):
        np.testing.assert_array_equal(tile(figure, 0, column)[:, :, 0], image[0])
        assert row_of_light(tile(figure, 1, column)) == label
        assert tile(figure, 1, column).max() == pytest.approx(0.8)


def test_samples_have_a_code_a_row_and_a_label_a_column():
    figure = figures.draw_samples(record_of(), module_of(Painter()), count=3)
    codes = torch.randn(3, 1, generator=torch.Generator().manual_seed(0)).clamp(0, 1)
    for row, code in enumerate(codes):
        drawn = [tile(figure, row, column) for column in range(10)]
        assert [picture.max() for picture in drawn] == pytest.approx([code.item()] * 10)


def test_the_filmstrip_has_a_row_for_each_snapshot_below_the_inputs():
    module, data = module_of(Painter()), band_data()
    batch = figures.choose_watched(data)
    assert batch["label"].tolist() == list(range(10))
    assert torch.equal(batch["image"], data.examples(40)["image"][:10])  # the first of each class
    snapshot = figures.take_snapshot(module, batch)
    assert (snapshot.shape, snapshot.dtype) == ((2, 10, 1, 28, 28), torch.uint8)
    labels = [row_of_light(picture[0].numpy()) for picture in snapshot.flatten(0, 1)]
    assert labels == [*range(10), 5, 6, 7, 8, 9, 0, 1, 2, 3, 4]
    record = record_of()
    assert "keeps no snapshots: train" in texts(figures.draw_filmstrip(record))[0]
    record.stored_examples.update(figures.choose_examples(module, data))
    kept = {"snapshots": torch.stack([0 * snapshot, snapshot]), "snapshot_epochs": torch.tensor([0.5, 3.0])}
    record.stored_examples.update(kept)
    figure = figures.draw_record(record, module.eval(), data)["filmstrip"]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["input", "epoch 0.5", "epoch 3.0"]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()][9:11] == ["as 9", "as 5"]
    np.testing.assert_allclose(tile(figure, 0, 13)[:, :, 0], batch["image"][3, 0])
    assert tile(figure, 1, 0).max() == 0
    np.testing.assert_allclose(tile(figure, 2, 13)[:, :, 0] * 255, snapshot[1, 3, 0])


def test_the_matrix_shows_percentages_names_the_worst_pairs_and_never_agreement_alone():
    figure = plots.draw_matrix(record_of(variety=VARIETY))
    axis = figure.axes[0]
    shown = np.ma.filled(axis.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shown, np.where(np.eye(10, dtype=bool), np.nan, 100 * np.array(MATRIX)), atol=1e-4)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("asked", "true")
    low, high = axis.images[0].get_clim()
    assert (low, high) == (90, 100)
    assert "0 → 1 90.1, 0 → 2 90.2, 0 → 3 90.3" in figure.get_supxlabel().replace("\n", " ")
    assert "0 → 0" not in figure.get_supxlabel()  # not a swap
    assert "60.0% of swaps agree and cover 20%" in title(figure)
    assert "variety is not scored" in title(plots.draw_matrix(record_of()))


def test_with_two_classes_there_are_two_swaps_to_name():
    record = record_of(swap_matrix=[[0.5, 0.8], [0.7, 0.6]])
    record.metrics["data"]["classes"] = ["cat", "dog"]
    assert plots.draw_matrix(record).get_supxlabel() == "worst, framed: dog → cat 70.0, cat → dog 80.0"


def test_agreement_is_plotted_against_coverage_with_controls_and_ceiling():
    figure = plots.draw_variety([record_of(variety=VARIETY)])
    points = [tuple(line.get_xydata()[0]) for line in figure.axes[0].lines]
    expected = [(VARIETY[name]["coverage"], VARIETY[name]["agreement"]) for name in (*plots.MODEL, *plots.CONTROLS)]
    np.testing.assert_allclose(points, expected)
    assert set(texts(figure)) == set(plots.NAMES.values())


def test_several_records_share_the_controls_of_the_first():
    records = [record_of(variety=VARIETY), record_of(variety=VARIETY)]
    for number, record in enumerate(records):
        record.config["name"] = f"variant {number}"
    figure = plots.draw_variety(records)
    assert len(figure.axes[0].lines) == 2 * 2 + 3
    assert "MNIST, variant 1, swapped" in texts(figure)


def test_what_was_not_scored_is_named_and_not_drawn_as_zero():
    figure = plots.draw_variety([record_of()])
    assert len(figure.axes[0].lines) == 0
    assert texts(figure)[0].startswith("not scored: swapped,\ntrue label")


def test_the_drawing_of_the_network_has_its_shapes():
    module = new_module()
    module.attach(judges=[BandJudge(), BandJudge()])
    words = "\n".join(texts(diagram.draw_network(module)))
    for part in ("1×28×28", "8×14×14\n8×7×7", "μ and σ, 4", "16×7×7\n16×14×14\n16×28×28", "8 maps", "DigitNet"):
        assert part in words
    assert "BandJudge and BandJudge" in words
    assert "none attached" in "\n".join(texts(diagram.draw_network(new_module())))
