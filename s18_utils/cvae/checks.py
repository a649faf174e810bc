"""What conditional VAEs and their judges accept, else one sentence that says what to do."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from s18_utils.errors import InputError


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


def check_labels(labels: Tensor, count: int, classes: int) -> None:
    """Raises an InputError unless `labels` is an integer (count,) tensor of values 0 to `classes` − 1."""
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
        if low < 0 or high >= classes:
            raise InputError(f"labels must lie in 0–{classes - 1}, not {low}–{high}: number the classes from 0")


def is_mixture(labels: Tensor) -> bool:
    """Whether each row of `labels` says how much of every label is asked for: a float matrix."""
    return isinstance(labels, Tensor) and labels.is_floating_point() and labels.ndim == 2


def check_asked(asked: Tensor, count: int, classes: int) -> None:
    """Raises an InputError unless `asked` is what can be drawn under: labels (count,), or mixtures (count, classes) of
    which each row is at least 0 and adds up to 1."""
    if not is_mixture(asked):
        return check_labels(asked, count, classes)
    if tuple(asked.shape) != (count, classes):
        raise InputError(
            f"mixtures of labels must have shape ({count}, {classes}), not {tuple(asked.shape)}: "
            "give one number for each class and image"
        )
    if asked.device.type == "cpu" and not ((asked >= 0).all() and ((asked.sum(1) - 1).abs() < 1e-3).all()):
        raise InputError("mixtures of labels must be at least 0 and add up to 1: divide each row by its sum")


def check_codes(codes: Tensor, latent: int) -> None:
    """Raises an InputError unless `codes` is a float (N, latent) tensor."""
    if not isinstance(codes, Tensor) or not codes.is_floating_point() or codes.shape[1:] != (latent,):
        kind = f"{codes.dtype} {tuple(codes.shape)}" if isinstance(codes, Tensor) else type(codes).__name__
        raise InputError(f"codes must be float (N, {latent}), not {kind}: encode images first")


def check_batch(batch: Tensor, training: bool) -> None:
    """Raises an InputError for a batch of one in training mode, of which batch normalisation has no statistics."""
    if training and len(batch) < 2:
        raise InputError(
            "a training batch needs at least 2 images for its statistics: drop the last one or call eval()"
        )


def check_evaluating(training: bool) -> None:
    """Raises an InputError in training mode, in which batch normalisation mixes the images and codes are drawn."""
    if training:
        raise InputError("the model is in training mode, which changes what it draws: call `.eval()` on it")


def check_widths(size: int, encoder: Sequence[int], decoder: Sequence[int], label_maps: int) -> None:
    """Raises an InputError unless encoder and decoder of these widths fit each other and images of `size` pixels."""
    if len(decoder) != len(encoder) + 1:
        raise InputError(
            f"{len(decoder)} decoder widths do not fit {len(encoder)} encoder widths: "
            "give the decoder one more, for the full resolution"
        )
    if size % 2 ** len(encoder):
        raise InputError(
            f"size {size} can't be halved {len(encoder)} times: use a multiple of {2 ** len(encoder)}, or fewer widths"
        )
    if min(decoder) <= label_maps:
        raise InputError(
            f"decoder widths {tuple(decoder)} leave no room beside {label_maps} label maps: widen the decoder"
        )


def check_judge(accuracy: float, count: int, classes: int, who: str = "judge") -> None:
    """Raises an InputError unless a judge's `accuracy` on `count` test images is clearly better than chance.

    Clearly: above twice chance, or half-way to 1 where that is less, and above chance by four standard errors.
    """
    chance = 1 / classes
    least = max(min(2 * chance, (1 + chance) / 2), chance + 4 * math.sqrt(chance * (1 - chance) / max(count, 1)))
    if count and least >= 1:
        raise InputError(
            f"{count} test images of {classes} classes are too few to tell a {who} from chance: bring more"
        )
    if not accuracy > least:
        raise InputError(
            f"the {who} reads {accuracy:.1%} of {count} test images correctly, no better than chance ({chance:.0%}): "
            "train it longer before scoring with it"
        )


def check_feature_layer(net: nn.Module) -> None:
    """Raises an InputError unless a network has the feature layer in which drawings are compared with real images."""
    if not callable(getattr(net, "features_of", None)):
        raise InputError(
            f"{type(net).__name__} has no feature layer to compare drawings in: "
            "give it a method features_of(images) that returns (N, F)"
        )
