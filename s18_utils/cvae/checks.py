"""What the conditional VAE accepts: images, labels and batches, else one sentence that says what to do."""

from collections.abc import Sequence

import torch
from torch import Tensor

from s18_utils.errors import InputError

CLASSES = 10


def check_images(images: Tensor, shape: Sequence[int]) -> None:
    """Raises an InputError unless `images` is a float (N, *shape) tensor in [0, 1] (NaN counts as outside)."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images must be a float tensor in [0, 1], not {kind}: divide uint8 images by 255")
    if images.ndim != 1 + len(shape) or tuple(images.shape[1:]) != tuple(shape) or len(images) == 0:
        wanted = ", ".join(map(str, shape))
        raise InputError(f"images must have shape (N, {wanted}), not {tuple(images.shape)}: resize or reshape them")
    # Looking at the values would make a GPU wait; what comes from a store was scaled there.
    if images.device.type == "cpu":
        low, high = torch.stack(images.detach().aminmax()).tolist()
        if not (low >= 0 and high <= 1):
            raise InputError(f"images must lie in [0, 1], not {low:.3g} to {high:.3g}: rescale them")


def check_labels(labels: Tensor, count: int) -> None:
    """Raises an InputError unless `labels` is an integer (count,) tensor of values 0 to 9."""
    plain = isinstance(labels, Tensor) and not (
        labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
    )
    if not plain:
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise InputError(f"labels must be an integer tensor of class numbers, not {kind}: use int64")
    if tuple(labels.shape) != (count,):
        raise InputError(f"labels must have shape ({count},), not {tuple(labels.shape)}: give one for each image")
    if labels.device.type == "cpu" and count:
        low, high = torch.stack(labels.aminmax()).tolist()
        if low < 0 or high >= CLASSES:
            raise InputError(f"labels must lie in 0–{CLASSES - 1}, not {low}–{high}: number the classes from 0")


def is_shares(labels: Tensor) -> bool:
    """Whether each row of `labels` says how much of every label is asked for: a float matrix of mixtures."""
    return isinstance(labels, Tensor) and labels.is_floating_point() and labels.ndim == 2


def check_shares(shares: Tensor, count: int) -> None:
    """Raises an InputError unless `shares` is a (count, 10) tensor of rows that are ≥ 0 and add up to 1."""
    if tuple(shares.shape) != (count, CLASSES):
        raise InputError(
            f"shares of labels must have shape ({count}, {CLASSES}), not {tuple(shares.shape)}: "
            "give one for each class and image"
        )
    if shares.device.type == "cpu" and not ((shares >= 0).all() and ((shares.sum(1) - 1).abs() < 1e-3).all()):
        raise InputError("shares of labels must be at least 0 and add up to 1: divide each row by its sum")


def check_batch(batch: Tensor, training: bool) -> None:
    """Raises an InputError for a batch of one in training mode, of which batch normalisation has no statistics."""
    if training and len(batch) < 2:
        raise InputError(
            "a training batch needs at least 2 images for its statistics: drop the last one or call eval()"
        )
