"""Training and scoring of a UNet under Lightning."""

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.segmentation import DiceScore

from s18_utils.data.batches import Batch
from s18_utils.data.pets import CLASSES
from s18_utils.unet.losses import DiceLoss, build_loss
from s18_utils.unet.model import UNet


class Scores(nn.Module):
    """Scores of predicted masks, each over all pixels of all images it was given, not averaged over batches.

    Pixel accuracy in [0, 1]; IoU = overlap / union (Jaccard index) and Dice = 2 overlap / (sum of sizes), in [0, 1],
    for each class and as their mean; the training loss, and the Dice loss with all classes pooled.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.accuracy = MulticlassAccuracy(classes, average="micro")
        self.iou = MulticlassJaccardIndex(classes, average="none")
        self.dice = DiceScore(classes, average="none", input_format="index", aggregation_level="global")
        self.loss, self.pooled = MeanMetric(), MeanMetric()
        self.pooled_dice_loss = DiceLoss(pooled=True)

    def update(self, logits: Tensor, masks: Tensor, loss: Tensor) -> None:
        """Adds a batch: `logits` (N, C, H, W), `masks` int64 (N, H, W), `loss` its scalar loss."""
        predicted = logits.argmax(dim=1)
        for metric in (self.accuracy, self.iou, self.dice):
            metric.update(predicted, masks)
        self.loss.update(loss, len(masks))
        self.pooled.update(self.pooled_dice_loss(logits, masks), len(masks))

    def mean_iou(self) -> Tensor:
        return self.iou.compute().mean()

    def compute(self) -> dict:
        """All scores as plain numbers, in the form of a record's `test`."""
        # A class that is nowhere, neither in a mask nor in a prediction, counts as 0 in both.
        iou, dice = self.iou.compute().tolist(), self.dice.compute().nan_to_num(0).tolist()
        return {
            "loss": self.loss.compute().item(),
            "seed_style_dice_loss": self.pooled.compute().item(),
            "pixel_accuracy": self.accuracy.compute().item(),
            "mean_iou": sum(iou) / len(iou),
            "mean_dice": sum(dice) / len(dice),
            "iou": dict(zip(CLASSES, iou, strict=True)),
            "dice": dict(zip(CLASSES, dice, strict=True)),
        }

    def reset(self) -> None:
        for metric in (self.accuracy, self.iou, self.dice, self.loss, self.pooled):
            metric.reset()


class UNetModule(L.LightningModule):
    """A UNet with its loss, scores and optimiser: AdamW under a one-cycle schedule (Smith & Topin 2018).

    Args:
        down, up, width: as for `UNet`.
        loss: `ce` or `dice`.
        learning_rate: the peak of the schedule.
        weight_decay: AdamW's.
    """

    monitor = ("val_mean_iou", "max")

    def __init__(
        self,
        down: str,
        up: str,
        loss: str,
        width: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.unet = UNet(down, up, in_channels=3, classes=len(CLASSES), width=width)
        self.loss = build_loss(loss)
        self.scores = Scores(len(CLASSES))
        self.test_results: dict = {}

    @property
    def networks(self) -> list[nn.Module]:
        """What a training step spends its time in."""
        return [self.unet]

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float (N, 3, H, W), for `images`, float (N, 3, H, W) in [0, 1]."""
        return self.unet(images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Predicted masks, int64 (N, H, W) with classes 0–2, for `images`, float (N, 3, H, W) in [0, 1]."""
        return self(images).argmax(dim=1)

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


def uNetLightning(bilinear: bool, pool: bool, dice: bool, **settings) -> UNetModule:  # noqa: N802
    """The module under the name and switches that the assignment's code used.

    `bilinear` interpolates on the way up, else transposed convolutions; `pool` takes maxima on the way down, else
    strided convolutions; `dice` trains on the Dice loss, else on cross-entropy. All eight combinations work.
    """
    return UNetModule(
        down="maxpool" if pool else "strided",
        up="bilinear" if bilinear else "transpose",
        loss="dice" if dice else "ce",
        **settings,
    )
