"""What a UNet is trained on: cross-entropy or the Dice loss."""

import torch
from torch import Tensor, nn

from s18_utils.errors import InputError, check_choice

LOSSES = ("ce", "dice")
# Only keeps 0/0 away when a class is neither predicted nor there; small enough not to move any other value.
EPSILON = 1e-6


def check_target(logits: Tensor, target: Tensor) -> None:
    """Raises an InputError unless `target` holds a class of `logits` for every pixel."""
    if logits.ndim != 4 or target.shape != (logits.shape[0], *logits.shape[2:]):
        raise InputError(
            f"logits of shape (N, C, H, W) need a target of shape (N, H, W), not {tuple(logits.shape)} and "
            f"{tuple(target.shape)}: resize image and mask alike"
        )
    if target.dtype != torch.int64:
        raise InputError(f"masks must hold numbers of classes as int64, not {target.dtype}: convert them with .long()")
    # Looking at the values would make a GPU wait, and there the data set has looked at them already.
    if target.device.type == "cpu" and target.numel() and not 0 <= target.min() <= target.max() < logits.shape[1]:
        raise InputError(
            f"mask values must lie in 0–{logits.shape[1] - 1}, not {int(target.min())}–{int(target.max())}: "
            "trimaps on disk hold 1–3, subtract 1"
        )


class CrossEntropyLoss(nn.CrossEntropyLoss):
    """Mean over all pixels of −log p(true class); at least 0, ln 3 ≈ 1.10 for an undecided three-class prediction.

    Experiments that are trained on it have "bce" in their names; with exclusive classes it is this, over a softmax.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        check_target(logits, target)
        return super().forward(logits.float(), target)


class DiceLoss(nn.Module):
    """1 − Dice (Milletari et al. 2016, https://arxiv.org/abs/1606.04797), in [0, 1], 0 for a perfect prediction.

    The logits go through one softmax. Overlap and sizes are then summed over the batch and all pixels, for each class
    by itself, and the classes' values averaged: mean over c of 1 − 2 Σ p_c t_c / (Σ p_c + Σ t_c). So a class counts
    the same however few pixels it has, which is the point of this loss on a thin border.

    Args:
        pooled: the *pooled Dice loss*, which sums over the classes as well before dividing. Every pixel then counts the
            same, the value is smaller, and it is 1 − the mean probability of the true class.
    """

    def __init__(self, pooled: bool = False):
        super().__init__()
        self.pooled = pooled

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss for `logits`, float (N, C, H, W), and `target`, integer (N, H, W) in 0 … C − 1."""
        check_target(logits, target)
        # In single precision whatever the logits came in: the sums run over up to millions of pixels.
        probability = logits.float().softmax(dim=1)
        truth = torch.zeros_like(probability).scatter_(1, target.long().unsqueeze(1), 1.0)
        axes = (0, 1, 2, 3) if self.pooled else (0, 2, 3)
        overlap = (probability * truth).sum(axes)
        sizes = probability.sum(axes) + truth.sum(axes)
        return (1 - (2 * overlap + EPSILON) / (sizes + EPSILON)).mean()


def build_loss(name: str) -> nn.Module:
    """The loss of that name, one of `LOSSES`."""
    check_choice("loss", name, LOSSES)
    return CrossEntropyLoss() if name == "ce" else DiceLoss()
