"""The scores against numpy, over the whole set and not over batches, and the module around them."""

import inspect
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from unet_stand_ins import CLASSES, build_module

from s18_utils.errors import InputError
from s18_utils.unet.losses import CrossEntropyLoss, DiceLoss
from s18_utils.unet.model import DOWN, UP
from s18_utils.unet.module import Scores, UNetModule


def random_case(count: int = 11, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are right in about two thirds of the pixels; each image has other shares of the classes."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(count, 3, generator=generator) ** 3 + 0.02
    masks = torch.multinomial(shares, 48, True, generator=generator).view(count, 6, 8)
    logits = torch.randn(count, 3, 6, 8, generator=generator)
    return logits + torch.nn.functional.one_hot(masks, 3).movedim(-1, 1), masks


def feed(logits: Tensor, masks: Tensor, *sizes: int, loss=None) -> dict:
    """The scores after batches of the given sizes."""
    scores, loss = Scores(CLASSES), loss or CrossEntropyLoss()
    assert sum(sizes) == len(masks)
    for part, truth in zip(logits.split(sizes), masks.split(sizes), strict=True):
        scores.update(part, truth, loss(part, truth))
    return scores.compute()


def by_numpy(logits: Tensor, masks: Tensor) -> dict:
    predicted, truth = logits.numpy().argmax(axis=1), masks.numpy()
    iou, dice = {}, {}
    for index, name in enumerate(CLASSES):
        mine, theirs = predicted == index, truth == index
        iou[name] = (mine & theirs).sum() / (mine | theirs).sum()
        dice[name] = 2 * (mine & theirs).sum() / (mine.sum() + theirs.sum())
    probability = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
    true = np.take_along_axis(probability, truth[:, None], axis=1)
    return {
        "loss": -np.log(true).mean(),
        "pooled_dice_loss": 1 - true.mean(),
        "pixel_accuracy": (predicted == truth).mean(),
        "mean_iou": np.mean(list(iou.values())),
        "mean_dice": np.mean(list(dice.values())),
        "iou": iou,
        "dice": dice,
    }


@pytest.mark.parametrize("sizes", [(11,), (8, 3), (1, 2, 3, 5), (1,) * 11])
def test_scores_over_the_whole_set_whatever_the_batches(sizes):
    logits, masks = random_case()
    expected, got = by_numpy(logits, masks), feed(logits, masks, *sizes)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-5), name
    each = [by_numpy(logits[i : i + 1], masks[i : i + 1])["mean_iou"] for i in range(11)]
    assert abs(np.mean(each) - got["mean_iou"]) > 0.01  # the mean over images would be another number


def test_scores_by_hand():
    # Truth 0 0 1 1 2 2, prediction 0 1 1 1 1 2.
    truth, predicted = torch.tensor([[[0, 0, 1, 1, 2, 2]]]), torch.tensor([[[0, 1, 1, 1, 1, 2]]])
    logits = torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1).float() * 100
    got = feed(logits, truth, 1)
    assert got["iou"] == pytest.approx({"pet": 1 / 2, "background": 2 / 4, "border": 1 / 2})
    assert got["dice"] == pytest.approx({"pet": 2 / 3, "background": 4 / 6, "border": 2 / 3})
    assert got["pixel_accuracy"] == pytest.approx(4 / 6)
    assert got["pooled_dice_loss"] == pytest.approx(2 / 6)


def test_the_dice_loss_is_the_mean_over_images_of_the_batches_losses():
    logits, masks = random_case()
    dice = DiceLoss()
    expected = (8 * dice(logits[:8], masks[:8]) + 3 * dice(logits[8:], masks[8:])) / 11
    assert feed(logits, masks, 8, 3, loss=dice)["loss"] == pytest.approx(expected.item(), abs=1e-6)


def test_scores_start_again_after_a_reset():
    logits, masks = random_case()
    scores = Scores(CLASSES)
    scores.update(logits.flip(1), masks, torch.tensor(9.0))
    scores.reset()
    scores.update(logits, masks, CrossEntropyLoss()(logits, masks))
    assert scores.compute() == feed(logits, masks, 11)
    assert scores.mean_iou().item() == pytest.approx(by_numpy(logits, masks)["mean_iou"], abs=1e-6)


def test_a_class_that_is_nowhere_has_no_score_and_is_left_out_of_the_mean():
    masks = torch.ones(2, 4, 4, dtype=torch.long)
    logits = torch.zeros(2, 3, 4, 4)
    logits[:, 1] = 100
    got = feed(logits, masks, 2)
    assert got["dice"] == got["iou"] == {"pet": None, "background": 1, "border": None}
    assert (got["mean_iou"], got["mean_dice"], got["pixel_accuracy"]) == (1, 1, 1)
    json.dumps(got, allow_nan=False)
    # A pixel taken for a class that is not there makes that class's score 0, and counts.
    logits[0, 0, 0, 0] = 200
    got = feed(logits, masks, 2)
    assert got["iou"] == pytest.approx({"pet": 0, "background": 31 / 32, "border": None})
    assert got["mean_iou"] == pytest.approx(31 / 64)


def test_masks_alone_are_scored_as_with_their_logits():
    logits, masks = random_case()
    scores = Scores(CLASSES)
    scores.update_masks(logits.argmax(1)[:5], masks[:5])
    scores.update_masks(logits.argmax(1)[5:], masks[5:])
    whole = feed(logits, masks, 11)
    assert scores.compute_masks() == {name: value for name, value in whole.items() if "loss" not in name}


def test_the_names_of_the_classes_are_those_given():
    scores = Scores(("road", "sky"))
    masks = torch.tensor([[[0, 1, 1, 1]]])
    scores.update_masks(torch.tensor([[[0, 0, 1, 1]]]), masks)
    assert scores.compute_masks()["iou"] == pytest.approx({"road": 1 / 2, "sky": 2 / 3})


def test_predictions_are_the_likeliest_classes():
    torch.manual_seed(0)
    module = build_module()
    images = torch.rand(2, 3, 20, 24)
    predicted = module.predict(images)
    assert torch.equal(predicted, module(images).softmax(dim=1).max(dim=1).indices)
    assert not module(images)[0].equal(module(images)[1])
    assert module.monitor == ("val_mean_iou", "max")


def test_the_learning_rate_rises_and_falls_once():
    module = build_module(learning_rate=0.01, weight_decay=0.2)
    module._trainer = SimpleNamespace(estimated_stepping_batches=50)
    chosen = module.configure_optimizers()
    optimiser, schedule = chosen["optimizer"], chosen["lr_scheduler"]["scheduler"]
    assert optimiser.param_groups[0]["weight_decay"] == 0.2
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(list(module.parameters()))
    rates = [optimiser.param_groups[0]["lr"]]
    for _ in range(49):
        optimiser.step()
        schedule.step()
        rates.append(optimiser.param_groups[0]["lr"])
    assert max(rates) == pytest.approx(0.01, rel=0.02)
    assert 10 <= rates.index(max(rates)) <= 20
    assert rates[-1] < 1e-5
    assert chosen["lr_scheduler"]["interval"] == "step"


@pytest.mark.parametrize("loss", ["ce", "dice"])
def test_an_untrained_model_is_undecided(loss):
    torch.manual_seed(0)
    module = build_module(down="strided", up="bilinear", loss=loss, width=8)
    value = module.loss(module(torch.rand(4, 3, 32, 32)), torch.randint(0, 3, (4, 32, 32))).item()
    assert value == pytest.approx(math.log(3) if loss == "ce" else 2 / 3, rel=0.25)


COMBINATIONS = pytest.mark.parametrize(("down", "up"), [(down, up) for down in DOWN for up in UP])


@COMBINATIONS
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (50, 65), (16, 47), (33, 16)])
def test_any_size_comes_back_as_it_was(down, up, size):
    module = build_module(down=down, up=up)
    assert module(torch.rand(2, 3, *size)).shape == (2, 3, *size)


@COMBINATIONS
def test_padding_repeats_the_edge_and_is_cropped_away(down, up):
    module = build_module(down=down, up=up)
    image = torch.rand(1, 3, 30, 45)
    by_hand = torch.cat([image, image[:, :, -1:].expand(-1, -1, 2, -1)], dim=2)
    by_hand = torch.cat([by_hand, by_hand[..., -1:].expand(-1, -1, -1, 3)], dim=3)
    assert by_hand.shape[-2:] == (32, 48)
    torch.testing.assert_close(module(image), module.unet(by_hand)[..., :30, :45])


@pytest.mark.parametrize(("size", "padded"), [((16, 16), False), ((32, 48), False), ((32, 40), True)])
def test_only_sizes_that_need_it_are_padded(monkeypatch, size, padded):
    calls, pad = [], torch.nn.functional.pad
    monkeypatch.setattr(
        torch.nn.functional, "pad", lambda *given, **named: calls.append(given[1]) or pad(*given, **named)
    )
    build_module()(torch.rand(1, 3, *size))
    assert calls == ([(0, 8, 0, 0)] if padded else [])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 32, 32), "must be a batch of shape .*: add the missing axis"),
        (torch.rand(1, 1, 32, 32), "reads images of 3 channels, not 1: convert them first"),
        (torch.rand(1, 48, 48, 3), "3 channels, not 48: put the channels before height and width"),
        (torch.rand(1, 3, 15, 32), "at least 16×16 pixels, not 15×32: resize them first"),
        (torch.rand(1, 3, 32, 32) * 255, r"numbers in \[0, 1\], not .*: divide bytes by 255"),
        (torch.randn(1, 3, 32, 32), "undo any normalisation"),
        (torch.full((1, 3, 32, 32), math.nan), r"numbers in \[0, 1\], not nan"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.int32), "floats in .* or uint8, not torch.int32: convert"),
    ],
)
def test_images_that_can_not_be_meant(images, message):
    with pytest.raises(InputError, match=message):
        build_module().predict(images)


def test_bytes_and_doubles_are_read_as_what_they_are():
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    module = build_module()
    expected = module.predict(images.float() / 255)
    assert torch.equal(module.predict(images), expected)
    assert torch.equal(module.predict(images.double() / 255), expected)


def test_probabilities_add_up_and_mirrored_ones_do_not_know_left_from_right():
    module, images = build_module(), torch.rand(2, 3, 20, 24)
    plain = module.predict_probabilities(images)
    torch.testing.assert_close(plain.sum(1), torch.ones(2, 20, 24))
    mirrored = module.predict_probabilities(images, mirrored=True)
    torch.testing.assert_close(mirrored, module.predict_probabilities(images.flip(-1), mirrored=True).flip(-1))
    assert (mirrored - plain).abs().max() > 1e-4
    assert torch.equal(module.predict(images, mirrored=True), mirrored.argmax(1))


def test_a_module_in_training_mode_is_refused_and_learns_nothing_from_the_images():
    module = build_module().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(InputError, match="training mode.*: call `.eval"):
        module.predict(torch.rand(2, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("value", "message"),
    [(math.nan, "weights are not finite"), (math.inf, "not finite"), (0.0, "weights are all zero")],
)
def test_weights_that_can_not_be_trained_ones(value, message):
    module = build_module()
    for parameter in module.parameters():
        torch.nn.init.constant_(parameter, value)
    with pytest.raises(InputError, match=message):
        module.predict(torch.rand(2, 3, 32, 32))


def test_a_picture_of_one_colour_is_no_reason_to_doubt_the_weights():
    assert build_module().predict(torch.full((1, 3, 32, 32), 0.5)).shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"down": "avgpool"}, "unknown down-sampling 'avgpool': choose one of maxpool, strided"),
        ({"up": "nearest"}, "unknown up-sampling 'nearest': choose one of transpose, bilinear"),
        ({"loss": "focal"}, "unknown loss 'focal'"),
        ({"width": 3}, "an even width, not 3, 3 and 3"),
        ({"width": 0}, "an even width"),
        ({"channels": 0}, "a channel or more"),
        ({"classes": ("pet",)}, "two classes or more"),
    ],
)
def test_settings_that_make_no_model(settings, message):
    with pytest.raises(InputError, match=message):
        build_module(**settings)


def test_no_setting_has_a_second_home():
    parameters = inspect.signature(UNetModule).parameters.values()
    assert {parameter.default for parameter in parameters} == {inspect.Parameter.empty}
