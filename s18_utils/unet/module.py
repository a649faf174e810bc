"""Training and scoring of a UNet under Lightning, and what it predicts for batches of any size."""

from collections.abc import Sequence
from numbers import Number

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.segmentation import DiceScore

from s18_utils.data.store import Batch
from s18_utils.errors import InputError, check_choice
from s18_utils.unet.losses import DiceLoss, build_loss
from s18_utils.unet.model import DOWN, STRIDE, UP, UNet
from s18_utils.unet.pretrained import PretrainedUNet


class Scores(nn.Module):
    """Scores of predicted masks over all pixels of all images that it was given, and their mean losses.

    Pixel accuracy in [0, 1]; IoU = overlap / union (Jaccard index) and Dice = 2 overlap / (sum of sizes), in [0, 1],
    for each class and as their mean. A class that is nowhere, neither in a mask nor in a prediction, has no IoU: it is
    None, and left out of the mean. The training loss and the pooled Dice loss are means over batches: the Dice loss
    depends a little on their size.
    """

    def __init__(self, classes: Sequence[str]):
        super().__init__()
        self.classes, count, nowhere = tuple(classes), len(classes), float("nan")
        self.accuracy = MulticlassAccuracy(count, average="micro")
        self.iou = MulticlassJaccardIndex(count, average="none", zero_division=nowhere)
        self.dice = DiceScore(count, average="none", input_format="index", aggregation_level="global")
        self.loss, self.pooled = MeanMetric(), MeanMetric()
        self.pooled_dice_loss = DiceLoss(pooled=True)

    def update(self, logits: Tensor, masks: Tensor, loss: Tensor) -> None:
        """Adds a batch: `logits` (N, C, H, W), `masks` int64 (N, H, W), `loss` its scalar loss."""
        self.update_masks(logits.argmax(dim=1), masks)
        self.loss.update(loss, len(masks))
        self.pooled.update(self.pooled_dice_loss(logits, masks), len(masks))

    def update_masks(self, predicted: Tensor, masks: Tensor) -> None:
        """Adds a batch of predicted masks, int64 (N, H, W), that no logits belong to."""
        for metric in (self.accuracy, self.iou, self.dice):
            metric.update(predicted, masks)

    def mean_iou(self) -> Tensor:
        return self.iou.compute().nanmean()

    def compute(self) -> dict:
        """All scores as plain numbers, in the form of a record's `test`."""
        return {
            "loss": self.loss.compute().item(),
            "pooled_dice_loss": self.pooled.compute().item(),
            **self.compute_masks(),
        }

    def compute_masks(self) -> dict:
        """The scores that need no logits."""
        iou, dice = self.iou.compute(), self.dice.compute()
        return {
            "pixel_accuracy": self.accuracy.compute().item(),
            "mean_iou": iou.nanmean().item(),
            "mean_dice": dice.nanmean().item(),
            "iou": name_values(self.classes, iou),
            "dice": name_values(self.classes, dice),
        }

    def reset(self) -> None:
        for metric in (self.accuracy, self.iou, self.dice, self.loss, self.pooled):
            metric.reset()


def name_values(classes: Sequence[str], values: Tensor) -> dict[str, Number | None]:
    """A number for each class, None for those that have none."""
    return {name: None if value != value else value for name, value in zip(classes, values.tolist(), strict=True)}


class UNetModule(L.LightningModule):
    """A UNet with its loss, scores and optimiser: AdamW under a one-cycle schedule (Smith & Topin 2018).

    Args:
        encoder: `scratch`, or `efficientnet-lite0` for a `PretrainedUNet`, which the next four don't concern.
        down, up, skip, width: as for `UNet`.
        loss: `ce` or `dice`.
        learning_rate: the peak of the schedule.
        weight_decay: AdamW's.
        classes: their names, in the order of their numbers in the masks.
        channels: of the images.
    """

    monitor = ("val_mean_iou", "max")

    def __init__(
        self,
        encoder: str,
        down: str,
        up: str,
        skip: bool,
        loss: str,
        width: int,
        learning_rate: float,
        weight_decay: float,
        *,
        classes: Sequence[str],
        channels: int,
    ):
        super().__init__()
        check_choice("down-sampling", down, DOWN)
        check_choice("up-sampling", up, UP)
        if channels < 1 or len(classes) < 2 or width < 2 or width % 2:
            raise InputError(
                "a UNet needs a channel or more, two classes or more and an even width, "
                f"not {channels}, {len(classes)} and {width}: change what does not fit"
            )
        if encoder != "scratch" and channels != 3:
            raise InputError(f"the pretrained encoder reads three colours, not {channels}: use encoder='scratch'")
        self.save_hyperparameters()
        self.classes, self.channels = tuple(classes), channels
        if encoder == "scratch":
            self.unet = UNet(down, up, in_channels=channels, classes=len(classes), width=width, skip=skip)
        else:
            self.unet = PretrainedUNet(classes=len(classes))
        self.loss = build_loss(loss)
        self.scores = Scores(classes)
        self.test_results: dict = {}

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float (N, C, H, W) for C classes, of `images`, float (N, channels, H, W) in [0, 1].

        Any H and W from 16 up: what four halvings can't divide is padded with the edge pixels and cropped back.

        Raises:
            InputError: another shape, another number of channels, or a side under 16 pixels.
        """
        check_shape(images, self.channels)
        height, width = images.shape[-2:]
        if height % STRIDE or width % STRIDE:
            images = F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        return self.unet(images)[..., :height, :width]

    @torch.no_grad()
    def predict_probabilities(self, images: Tensor, mirrored: bool = False) -> Tensor:
        """Probability of each class, float (N, C, H, W), for `images`, float (N, channels, H, W) in [0, 1] or uint8.

        With `mirrored` it is the mean over each picture and its mirror image (test-time averaging), at twice the cost.

        Raises:
            InputError: as `forward`; pixels that are no such numbers; a module in training mode, in which batch norm
                would mix the images and learn from them; weights that can't be trained ones.
        """
        if self.training:
            raise InputError("the network is in training mode, which changes what it predicts: call `.eval()` on it")
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        check_pixels(images)
        logits = self(images.to(self.unet.outc.weight.dtype))
        if not logits.isfinite().all():
            raise InputError("the network's weights are not finite numbers: load other weights, or train again")
        # Padding makes a network's scores vary from edge to middle even in a picture of one colour.
        if (logits == logits[..., :1, :1]).all():
            raise InputError("the network's weights are all zero, or say the same of every pixel: load trained ones")
        probabilities = logits.float().softmax(dim=1)
        if mirrored:
            return (probabilities + self.predict_probabilities(images.flip(-1)).flip(-1)) / 2
        return probabilities

    def predict(self, images: Tensor, mirrored: bool = False) -> Tensor:
        """Masks of the likeliest classes, int64 (N, H, W); arguments and errors as of `predict_probabilities`."""
        return self.predict_probabilities(images, mirrored).argmax(dim=1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(self(batch["image"]), batch["mask"])
        count = len(batch["image"])
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=count, sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        logits = self(batch["image"])
        self.scores.update(logits, batch["mask"], self.loss(logits, batch["mask"]))

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.log("val_loss", self.scores.loss.compute(), prog_bar=True)
        self.log("val_pooled_dice_loss", self.scores.pooled.compute())
        self.log("val_mean_iou", self.scores.mean_iou(), prog_bar=True)
        self.scores.reset()

    def on_test_epoch_end(self) -> None:
        self.test_results = self.scores.compute()
        self.scores.reset()

    def configure_optimizers(self) -> dict:
        rate = self.hparams.learning_rate
        optimiser = torch.optim.AdamW(self.parameters(), lr=rate, weight_decay=self.hparams.weight_decay, fused=True)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def check_shape(images: Tensor, channels: int) -> None:
    """Raises an InputError that names what does not fit about a batch of images."""
    if images.ndim != 4:
        raise InputError(
            f"images must be a batch of shape (N, C, H, W), not {tuple(images.shape)}: add the missing axis"
        )
    if images.shape[1] != channels:
        last = images.shape[-1] == channels
        remedy = "put the channels before height and width" if last else "convert them first"
        raise InputError(f"this UNet reads images of {channels} channels, not {images.shape[1]}: {remedy}")
    if min(images.shape[-2:]) < STRIDE:
        raise InputError(
            f"images must be at least {STRIDE}×{STRIDE} pixels, not {images.shape[-2]}×{images.shape[-1]}: "
            "resize them first"
        )


def check_pixels(images: Tensor) -> None:
    """Raises an InputError unless images hold floats in [0, 1], give or take the overshoot of a resize."""
    if not images.is_floating_point():
        raise InputError(f"images must be floats in [0, 1] or uint8, not {images.dtype}: convert them first")
    low, high = (images.min().item(), images.max().item()) if images.numel() else (0, 0)
    if not -0.1 <= low <= high <= 1.1:  # false for NaN as well
        raise InputError(
            f"images must hold numbers in [0, 1], not {low:.3g} to {high:.3g}: divide bytes by 255, and undo any "
            "normalisation"
        )
