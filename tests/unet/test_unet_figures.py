"""Figures: the right pictures, chosen by their rule, and the word synthetic where it belongs."""

import dataclasses

import numpy as np
import pytest
import torch
from unet_stand_ins import CLASSES, StandInRecord, build_data, build_module, read_title, sample_scores

from s18_utils.errors import InputError
from s18_utils.unet import figures
from s18_utils.unet.diagram import draw_network

SYNTHETIC = pytest.mark.parametrize("source", ["synthetic", "local"])
TRUTH, PREDICTED = torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2]]), torch.tensor([[0, 1, 2, 0, 1, 2, 0, 1]])


class IsRightAtTheTop(torch.nn.Module):
    """Is right about the first rows of an image, as many as its number, and says a wrong class below them."""

    def predict(self, images):
        numbers = (images[:, 0, 0, 0] * 255).round().long()
        truth = (numbers % 3).view(-1, 1, 1).expand(-1, *images.shape[-2:])
        below = torch.arange(images.shape[-2]).view(1, -1, 1) >= numbers.view(-1, 1, 1)
        return torch.where(below, (truth + 1) % 3, truth)


def record_of(source: str = "synthetic", **changes) -> StandInRecord:
    rows = [{"seed": 0, "epoch": n, "train_loss": 1 / n, "val_loss": 1 / n, "val_mean_iou": n / 10} for n in (1, 2)]
    return StandInRecord(synthetic=source == "synthetic", history=rows, **changes)


def keeping(network: torch.nn.Module, data, source: str = "synthetic", **changes) -> StandInRecord:
    """A record that keeps test images of `data`, as the network sees them."""
    return record_of(source, stored_examples=figures.choose_examples(network, data), module=network, **changes)


def pictures(figure) -> np.ndarray:
    """The pictures of a figure, (rows, columns, H, W, 3)."""
    axes = np.array([axis for axis in figure.axes if axis.images])
    columns = sum(axis.get_subplotspec().rowspan.start == 0 for axis in axes)
    return np.array([axis.images[0].get_array() for axis in axes]).reshape(
        -1, columns, *axes[0].images[0].get_array().shape
    )


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def captions(figure) -> list[str]:
    return [axis.get_xlabel() for axis in figure.axes if axis.get_xlabel()]


def test_errors_are_told_apart_by_kind():
    kinds, names = figures.find_errors(TRUTH, PREDICTED, CLASSES)
    assert names == ("pet missed", "background taken for pet", "border off")
    assert kinds.tolist() == [[0, 1, 3, 2, 0, 3, 3, 3]]


def test_errors_of_other_classes():
    kinds, names = figures.find_errors(TRUTH % 2, PREDICTED % 2, ("background", "cell"))
    assert names == ("cell missed", "background taken for cell")
    assert kinds.tolist() == [[0, 2, 0, 1, 0, 1, 0, 2]]
    kinds, names = figures.find_errors(TRUTH, PREDICTED, ("cat", "background", "dog"))
    assert names == ("object missed", "background taken for object", "objects exchanged")
    assert kinds.tolist() == [[0, 1, 3, 2, 0, 2, 3, 1]]
    kinds, names = figures.find_errors(TRUTH, PREDICTED, ("sky", "road", "car"))
    assert names == ("wrong class",)
    assert torch.equal(kinds > 0, TRUTH != PREDICTED)


def test_the_score_of_each_image_by_itself():
    # Of 16 rows n are right, and all of the image is of one class, so its IoU is n / 16, and the wrong class has 0.
    expected = [0.0] + [n / 16 / 2 for n in range(1, 12)]
    np.testing.assert_allclose(figures.score_images(IsRightAtTheTop(), build_data()), expected, rtol=1e-6)


@SYNTHETIC
def test_predictions_show_the_easiest_the_median_and_the_hardest(source):
    network = IsRightAtTheTop()
    figure = figures.draw_predictions(keeping(network, build_data(source=source), source), network)
    assert captions(figure)[:6] == [
        *("easiest, mIoU 0.34", "easiest, mIoU 0.31"),
        *("median, mIoU 0.19", "median, mIoU 0.16"),
        *("hardest, mIoU 0.03", "hardest, mIoU 0.00"),
    ]
    # Images 11, 10, 6, 5, 1 and 0, each wrong in what is left of 16 rows.
    assert captions(figure)[6:] == [f"{(16 - n) / 16:.0%} of pixels wrong" for n in (11, 10, 6, 5, 1, 0)]
    assert "Of 12 test images the two with the highest, the median and the lowest mean IoU" in read_title(figure)
    assert ("synthetic" in read_title(figure)) == (source == "synthetic")
    assert [axis.get_ylabel() for axis in figure.axes[::6]] == ["truth", "prediction", "errors"]
    assert legend(figure) == ["pet", "border", "pet missed", "background taken for pet", "border off"]
    truth, predicted, errors = pictures(figure)
    assert not np.array_equal(truth[0], predicted[0])
    # Image 10 is of class 1: without a tint where the network is right, which is at the top, it is all but black.
    assert truth[1].max() == predicted[1][:100].max() < 20
    assert predicted[1][-50:].max() > 100
    # Image 6 is all pet, with background below its sixth row: missed, in vermilion.
    np.testing.assert_allclose(errors[2][-1, 0], [213, 94, 0], atol=8)
    assert errors[2][:80].max() < 20


def test_the_hardest_images():
    figure = figures.draw_hardest(record_of(), IsRightAtTheTop(), build_data(), count=3)
    assert captions(figure)[:3] == ["mIoU 0.00", "mIoU 0.03", "mIoU 0.06"]
    assert "The 3 hardest of 12 test images, by mean IoU" in read_title(figure)


@pytest.mark.parametrize("test", [1, 2, 3])
def test_few_test_images_are_enough(test):
    data, network = build_data(test=test), IsRightAtTheTop()
    figures.draw_predictions(keeping(network, data), network)
    figures.draw_hardest(record_of(), network, data)
    figures.compare_predictions([keeping(network, data)])


@pytest.mark.parametrize("classes", [CLASSES, ("background", "cell"), ("sky", "road", "car", "tree")])
def test_the_pictures_of_a_record(classes):
    module = build_module(classes=classes)
    data = build_data(classes=classes)
    drawn = figures.draw_record(keeping(module, data, classes=classes), module, data)
    assert list(drawn) == ["curves", "predictions", "hardest"]
    assert all("synthetic" in read_title(figure) for figure in drawn.values())
    assert not module.training


def test_what_a_record_keeps_of_the_test_split():
    kept = figures.choose_examples(IsRightAtTheTop(), build_data(size=18))
    # Six spread evenly over twelve images, then the easiest, the median and the hardest: an image is its number.
    assert kept["image"][:, 0, 0, 0].tolist() == [0, 2, 4, 6, 8, 11, 11, 10, 6, 5, 1, 0]
    assert kept["mask"][:, 0, 0].tolist() == [0, 2, 1, 0, 2, 2, 2, 1, 0, 2, 1, 0]
    torch.testing.assert_close(kept["image_iou"], figures.score_images(IsRightAtTheTop(), build_data(size=18)))


def test_a_record_without_test_images_has_no_predictions_to_show():
    network = IsRightAtTheTop()
    bare = record_of(module=network)
    for draw, given in ((figures.draw_predictions, (bare, network)), (figures.compare_predictions, ([bare],))):
        with pytest.raises(InputError, match="keeps no test images: train"):
            draw(*given)


def test_kept_scores_choose_the_images_without_the_network():
    def hardest(scores: torch.Tensor) -> str:
        record = record_of(stored_examples={"image_iou": scores})
        return captions(figures.draw_hardest(record, build_module(), build_data()))[0]

    assert hardest(torch.full((12,), 0.95)) == "mIoU 0.95"
    assert hardest(torch.full((3,), 0.95)) != "mIoU 0.95"  # of a test split that is not at hand


def test_a_filmstrip_where_there_are_snapshots():
    data = build_data()
    masks = torch.stack([torch.full((6, 16, 16), index % 3, dtype=torch.uint8) for index in range(4)])
    kept = figures.choose_examples(IsRightAtTheTop(), data)
    kept |= {"snapshots": masks, "snapshot_epochs": torch.tensor([0.25, 2, 5, 9])}
    figure = figures.draw_record(record_of(stored_examples=kept), build_module(), data)["filmstrip"]
    assert [axis.get_title() for axis in figure.axes if axis.get_title()] == [
        *("0.2", "2", "5", "9", "truth"),
    ]
    strip = pictures(figure)
    assert strip.shape[:2] == (6, 5)
    np.testing.assert_array_equal(strip[0, 0], strip[0, 3])  # masks of class 0 both
    assert not np.array_equal(strip[0, 0], strip[0, 1])
    assert "synthetic" in read_title(figure)
    assert "keeps no snapshots: train" in figures.draw_filmstrip(record_of()).axes[0].texts[0].get_text()


def test_a_snapshot_stands_below_the_truth():
    batch, module = figures.choose_watched(build_data()), build_module()
    snapshot = figures.take_snapshot(module, batch)
    assert (snapshot.shape, snapshot.dtype) == ((6, 16, 16), torch.uint8)
    assert torch.equal(snapshot.long(), module.predict(batch["image"]))
    figure = figures.draw_snapshot(batch, snapshot, "after epoch 3", CLASSES)
    assert [axis.get_ylabel() for axis in figure.axes[::6]] == ["truth", "after epoch 3"]


def test_a_line_for_each_record_with_weights():
    data, module = build_data(), build_module()
    able = [record_of(name="one", module=module), keeping(build_module(width=8), data, name="two, wider")]
    figure = figures.compare_predictions([able[0], record_of(name="bare"), able[1]])
    assert [axis.get_ylabel() for axis in figure.axes[::6]] == ["input", "truth", "one", "two, wider"]
    assert pictures(figure).shape[:2] == (4, 6)
    assert read_title(figure) == "6 test images spread evenly over the split, synthetic data; tiny, 32 px"
    with pytest.raises(InputError, match="none of the records has weights to load: train"):
        figures.compare_predictions([record_of()])


def test_by_class_has_a_mark_for_each_record_and_panel():
    spread = {"mean_iou": 0.02, "iou": {"pet": 0.01, "background": 0.01, "border": None}}
    first = record_of(name="first", seeds=(0, 1, 2), spread=spread)
    second = dataclasses.replace(first, name="second", test=sample_scores(mean_iou=0.7))
    figure = figures.compare_by_class([first, second])
    assert [axis.get_title() for axis in figure.axes] == ["mean", "pet", "background", "border"]
    marks = [[float(bar.lines[0].get_xdata()[0]) for bar in axis.containers] for axis in figure.axes]
    assert marks == [[0.6, 0.7], [0.7, 0.7], [0.8, 0.8], [0.3, 0.3]]
    ends = [segment[:, 0] for segment in figure.axes[0].containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[0.58, 0.62]])
    widths = [high - low for low, high in (axis.get_xlim() for axis in figure.axes)]
    np.testing.assert_allclose(widths, widths[0])  # differences can be compared across panels
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["first", "second"]
    assert (
        read_title(figure) == "IoU on the test split, synthetic data; tiny, 32 px; 3 seeds: mean ± standard deviation"
    )
    with pytest.raises(InputError, match="no record to compare"):
        figures.compare_by_class([])


def test_any_records_can_be_compared():
    # Of other classes, presets and numbers of seeds; a class that was nowhere has no mark.
    other = record_of("local", name="cells", preset="full", test=sample_scores(iou={"cell": 0.5, "border": None}))
    figure = figures.compare_by_class([record_of("local", name="pets", seeds=(0, 1)), other])
    assert [axis.get_title() for axis in figure.axes] == ["mean", "pet", "background", "border", "cell"]
    assert [len(axis.containers) for axis in figure.axes] == [2, 1, 1, 1, 1]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["pets (tiny)", "cells (full)"]
    assert (
        read_title(figure)
        == "IoU on the test split; tiny, 32 px and full, 32 px; 1 or 2 seeds: mean ± standard deviation"
    )


@pytest.mark.parametrize(("up", "skip"), [("transpose", True), ("bilinear", True), ("transpose", False)])
def test_the_drawing_has_the_shapes_of_the_network(up, skip):
    figure = draw_network(8, 64, down="strided", up=up, skip=skip, classes=5)
    texts = {text.get_text() for text in figure.axes[0].texts}
    module, seen = build_module(up=up, width=8, classes=tuple("abcde")), {}
    for name, part in module.unet.named_children():
        part.register_forward_hook(lambda _, __, output, name=name: seen.update({name: tuple(output.shape[1:])}))
    module(torch.rand(1, 3, 64, 64))
    for name, shape in seen.items():
        label = "outc, 1×1 convolution" if name == "outc" else name
        assert f"{label}\n{'×'.join(map(str, shape))}" in texts
    assert any("strided convolution" in text for text in texts)
    assert any("no skip connections" in text for text in texts) == (not skip)
    assert sum(patch.get_linestyle() == "--" for patch in figure.axes[0].patches) == (4 if skip else 0)
