"""Training of a classifier, frozen CNN or judge, under Lightning.

The recipe is airbench94's (Jordan 2024, arXiv:2404.00498): Nesterov SGD on a triangular schedule, label smoothing,
small shifts and flips, and weights averaged along the way (Lookahead, Zhang et al. 2019, arXiv:1907.08610).

A frozen CNN can be trained on attacked images besides. Changes too small to see then no longer sway it, so that a
drawing has to hold the object and not a texture to be read as asked (Engstrom et al. 2019, "Adversarial Robustness as a
Prior for Learned Representations", arXiv:1906.00945; Santurkar et al. 2019, arXiv:1906.09453).
"""

from collections.abc import Sequence

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from s18_utils.cvae.classifiers import build_classifier
from s18_utils.data.store import Batch


class ClassifierModule(L.LightningModule):
    """One of the networks of `classifiers` with its recipe.

    Args:
        net, net_settings: its class and its constructor's arguments, as for `build_classifier`.
        learning_rate: the peak of the schedule, for the mean loss of a batch.
        momentum, weight_decay: SGD's.
        shift_rate: multiplies the learning rate of batch-norm shifts.
        smoothing: of the labels.
        attack_radius: it learns from images that `attack` has changed within this radius; 0 for unchanged ones.
        classes: their names, in the order of their numbers.
        channels, size: of the images, (N, channels, size, size).
    """

    monitor = ("val_accuracy", "max")

    def __init__(
        self,
        net: str,
        net_settings: dict,
        learning_rate: float,
        momentum: float,
        weight_decay: float,
        shift_rate: float,
        smoothing: float,
        attack_radius: float,
        *,
        classes: Sequence[str],
        channels: int,
        size: int,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.classes = tuple(classes)
        self.net = build_classifier(net, net_settings, classes=len(classes), channels=channels, size=size)
        self.accuracy, self.loss = MulticlassAccuracy(len(classes), average="micro"), MeanMetric()
        self.slow: list[Tensor] | None = None  # of the checkpoint that training goes on from
        self.test_results: dict = {}

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float (N, classes), for `images`, float (N, channels, size, size) in [0, 1]."""
        return self.net(images)

    def on_fit_start(self) -> None:
        if hasattr(self.net, "whiten") and self.slow is None:
            images = self.trainer.datamodule.train.tensors["image"][self.trainer.datamodule.train.rows[:5000]]
            self.net.whiten(images.to(self.device).float() / 255)
        self.average = Lookahead(self.net, self.slow)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["slow"] = self.average.slow

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.slow = checkpoint["slow"]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        h, images, labels = self.hparams, batch["image"], batch["label"]
        if h.attack_radius:
            images = attack(self.net, images, labels, h.attack_radius)
        loss = F.cross_entropy(self(images).float(), labels, label_smoothing=h.smoothing)
        count = len(labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=count, sync_dist=True)
        return loss

    def on_train_batch_end(self, outputs, batch: Batch, batch_idx: int) -> None:
        self.average.step(self.global_step, int(self.trainer.estimated_stepping_batches))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        logits = self(batch["image"]).float()
        self.accuracy.update(logits, batch["label"])
        self.loss.update(F.cross_entropy(logits, batch["label"]), len(logits))

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.log("val_loss", self.loss.compute())
        self.log("val_accuracy", self.accuracy.compute(), prog_bar=True)
        self.reset_scores()

    def on_test_epoch_end(self) -> None:
        self.test_results = {"loss": self.loss.compute().item(), "accuracy": self.accuracy.compute().item()}
        self.reset_scores()

    def reset_scores(self) -> None:
        self.accuracy.reset()
        self.loss.reset()

    def configure_optimizers(self) -> dict:
        h = self.hparams
        learned = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        shifts = {"lr": h.learning_rate * h.shift_rate, "weight_decay": h.weight_decay / h.shift_rate}
        groups = [
            {"params": [parameter for parameter in learned if parameter.ndim > 1]},
            {"params": [parameter for parameter in learned if parameter.ndim == 1], **shifts},
        ]
        optimiser = torch.optim.SGD(
            groups, lr=h.learning_rate, momentum=h.momentum, weight_decay=h.weight_decay, nesterov=True, fused=True
        )
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: triangle(step / total))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def attack(net: nn.Module, images: Tensor, labels: Tensor, radius: float) -> Tensor:
    """Images (N, C, S, S) changed so as to be misread: a step up the loss from a random place, cut back to the ball.

    The change of an image has an L2 norm of `radius` at most, in units of the pixel range. One step suffices for
    training if it starts at random (Wong, Rice & Kolter 2020, "Fast is better than free", arXiv:2001.03994).
    """

    def of_length(changes: Tensor, length: float) -> Tensor:
        return length * F.normalize(changes.flatten(1)).view_as(changes)

    change = of_length(torch.randn_like(images), radius / 2).requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(net(images + change).float(), labels, reduction="sum"), change)
    change = change.detach() + of_length(slope, radius)
    return images + torch.renorm(change, p=2, dim=0, maxnorm=radius)


def triangle(progress: float) -> float:
    """The schedule's factor at `progress` in [0, 1]: from 0.2 up to 1 at a fifth of the way, then down to 0.02."""
    return 0.2 + 4 * progress if progress < 0.2 else 1 - 0.98 * (progress - 0.2) / 0.8


class Lookahead:
    """Slow weights that the fast ones return to every few steps, ever more closely, and end at.

    They start as the fast ones, or as `slow`.
    """

    def __init__(self, net: nn.Module, slow: list[Tensor] | None = None, every: int = 5):
        self.every = every
        self.fast = [parameter for parameter in net.parameters() if parameter.requires_grad]
        start = zip(self.fast, slow or self.fast, strict=True)
        self.slow = [value.detach().to(parameter.device, copy=True) for parameter, value in start]

    @torch.no_grad()
    def step(self, done: int, total: int) -> None:
        """Called after each of `total` steps, with the number done."""
        if done % self.every and done != total:
            return
        decay = 0.95**self.every * (done / total) ** 3 if done < total else 0.0
        for slow, parameter in zip(self.slow, self.fast, strict=True):
            slow.lerp_(parameter, 1 - decay)
            parameter.copy_(slow)
