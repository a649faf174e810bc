"""The scores against numpy, over the whole set and not over batches, and the module around them."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from s18_utils.unet import CrossEntropyLoss, DiceLoss, UNetModule
from s18_utils.unet.module import Scores

CLASSES = ("pet", "background", "border")


def random_case(count: int = 11, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are right in about two thirds of the pixels; each image has other shares of the classes."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(count, 3, generator=generator) ** 3 + 0.02
    masks = torch.multinomial(shares, 48, True, generator=generator).view(count, 6, 8)
    logits = torch.randn(count, 3, 6, 8, generator=generator)
    return logits + torch.nn.functional.one_hot(masks, 3).movedim(-1, 1), masks


def feed(logits: Tensor, masks: Tensor, *sizes: int, loss=None) -> dict:
    """The scores after batches of the given sizes."""
    scores, loss = Scores(3), loss or CrossEntropyLoss()
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
        "seed_style_dice_loss": 1 - true.mean(),
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


def test_the_mean_over_images_would_be_another_number():
    # Guards the test above: on this case the two ways of averaging can be told apart.
    logits, masks = random_case()
    each = [by_numpy(logits[i : i + 1], masks[i : i + 1])["mean_iou"] for i in range(11)]
    assert abs(np.mean(each) - by_numpy(logits, masks)["mean_iou"]) > 0.01


def test_scores_by_hand():
    # Truth 0 0 1 1 2 2, prediction 0 1 1 1 1 2.
    truth, predicted = torch.tensor([[[0, 0, 1, 1, 2, 2]]]), torch.tensor([[[0, 1, 1, 1, 1, 2]]])
    logits = torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1).float() * 100
    got = feed(logits, truth, 1)
    assert got["iou"] == pytest.approx({"pet": 1 / 2, "background": 2 / 4, "border": 1 / 2})
    assert got["dice"] == pytest.approx({"pet": 2 / 3, "background": 4 / 6, "border": 2 / 3})
    assert got["pixel_accuracy"] == pytest.approx(4 / 6)
    assert got["seed_style_dice_loss"] == pytest.approx(2 / 6)


def test_the_dice_loss_is_the_mean_over_images_of_the_batches_losses():
    logits, masks = random_case()
    dice = DiceLoss()
    expected = (8 * dice(logits[:8], masks[:8]) + 3 * dice(logits[8:], masks[8:])) / 11
    assert feed(logits, masks, 8, 3, loss=dice)["loss"] == pytest.approx(expected.item(), abs=1e-6)


def test_scores_start_again_after_a_reset():
    logits, masks = random_case()
    scores = Scores(3)
    scores.update(logits.flip(1), masks, torch.tensor(9.0))
    scores.reset()
    scores.update(logits, masks, CrossEntropyLoss()(logits, masks))
    assert scores.compute() == feed(logits, masks, 11)
    assert scores.mean_iou().item() == pytest.approx(by_numpy(logits, masks)["mean_iou"], abs=1e-6)


def test_scores_are_plain_numbers_even_without_a_class():
    masks = torch.ones(2, 4, 4, dtype=torch.long)
    logits = torch.zeros(2, 3, 4, 4)
    logits[:, 1] = 100
    got = feed(logits, masks, 2)
    assert got["dice"] == got["iou"] == {"pet": 0, "background": 1, "border": 0}
    json.dumps(got, allow_nan=False)


def test_predictions_are_the_likeliest_classes():
    torch.manual_seed(0)
    module = UNetModule("maxpool", "transpose", "ce", width=4).eval()
    images = torch.rand(2, 3, 20, 24)
    predicted = module.predict(images)
    assert torch.equal(predicted, module(images).softmax(dim=1).max(dim=1).indices)
    assert not module(images)[0].equal(module(images)[1])
    assert module.monitor == ("val_mean_iou", "max")


def test_the_learning_rate_rises_and_falls_once():
    # One cycle over all steps: up to the peak, then down to almost nothing.
    module = UNetModule("maxpool", "transpose", "ce", width=4, learning_rate=0.01, weight_decay=0.2)
    module._trainer = SimpleNamespace(estimated_stepping_batches=50)
    chosen = module.configure_optimizers()
    optimiser, schedule = chosen["optimizer"], chosen["lr_scheduler"]["scheduler"]
    assert isinstance(optimiser, torch.optim.AdamW)
    assert optimiser.param_groups[0]["weight_decay"] == 0.2
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(list(module.parameters()))
    rates = []
    for _ in range(50):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if len(rates) < 50:
            schedule.step()
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.01, rel=0.02)
    assert 10 <= peak <= 20
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 1e-5
    assert chosen["lr_scheduler"]["interval"] == "step"


@pytest.mark.parametrize("loss", ["ce", "dice"])
def test_an_untrained_model_is_undecided(loss):
    torch.manual_seed(0)
    module = UNetModule("strided", "bilinear", loss, width=8)
    value = module.loss(module(torch.rand(4, 3, 32, 32)), torch.randint(0, 3, (4, 32, 32))).item()
    assert value == pytest.approx(math.log(3) if loss == "ce" else 2 / 3, rel=0.25)
