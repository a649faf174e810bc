"""What of an input outlives a label swap: slant and ink of a digit, the coarse layout of an object's colours."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

TILES = 4  # each way, of a colour layout


def measures_of(images: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """What may survive: slant and ink of grey images, the colour layout of others."""
    return {"slant": slant, "ink": ink} if images.shape[1] == 1 else {"colour_layout": colour_layout}


def ink(images: Tensor) -> Tensor:
    """The mean brightness (N,) of images (N, 1, S, S)."""
    return images.float().flatten(1).mean(1)


def slant(images: Tensor) -> Tensor:
    """The lean (N,) of the strokes in images (N, 1, S, S): the regression of column on row, weighted by ink.

    0 for an upright stroke, 1 for a diagonal that falls to the right, negative for one that leans right as most
    handwriting does. From image moments: covariance(row, column) / variance(row); 0 for an image without ink.
    """
    weight = images.float().squeeze(1)
    weight = weight / weight.sum((1, 2), keepdim=True).clamp_min(1e-8)
    size = weight.shape[-1]
    place = torch.arange(size, dtype=torch.float32, device=images.device)
    rows, columns = weight.sum(2), weight.sum(1)
    row, column = (rows * place).sum(1), (columns * place).sum(1)
    variance = (rows * place.square()).sum(1) - row.square()
    # No matrix product: under autocast that would be in half precision, and the difference is of large numbers.
    together = (weight * place[:, None] * place).sum((1, 2)) - row * column
    return together / variance.clamp_min(1e-6)


def colour_layout(images: Tensor) -> Tensor:
    """Images (N, C, S, S) averaged over 4 × 4 tiles: (N, 16 C)."""
    return F.adaptive_avg_pool2d(images.float(), TILES).flatten(1)


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of two (N,) tensors, or the mean over columns of two (N, D) tensors. A column that does
    not vary has none and counts as 0."""
    a, b = (x.double().reshape(len(x), -1) for x in (a, b))
    a, b = a - a.mean(0), b - b.mean(0)
    scale = (a.square().sum(0) * b.square().sum(0)).sqrt()
    return float(((a * b).sum(0) / scale.clamp_min(1e-12)).mean())


def centred(values: Tensor, groups: Tensor, classes: int) -> Tensor:
    """`values` (N, ...) less the mean of their group (N,): what is left when the class is taken out."""
    values = values.double()
    sums = torch.zeros(classes, *values.shape[1:], dtype=values.dtype).index_add_(0, groups, values)
    counts = torch.bincount(groups, minlength=classes).clamp_min(1).reshape(-1, *[1] * (values.ndim - 1))
    return values - (sums / counts)[groups]


def survival(before: Tensor, after: Tensor, labels: Tensor, asked: Tensor, classes: int) -> dict[str, float]:
    """How much of a measure (M,) or (M, D) outlives the swap: its correlation between inputs and drawings.

    `correlation` is over all pairs as they are; `within_class` is after each label's mean has been taken out of the
    inputs and each asked label's out of the drawings, since a 1 has less ink than a 0 in anybody's hand; `shuffled`
    and `shuffled_within_class` are the same with the inputs in random order, and should be near 0.
    """
    order = torch.randperm(len(before), generator=torch.Generator().manual_seed(0))
    inside, outside = centred(before, labels, classes), centred(after, asked, classes)
    return {
        "correlation": correlation(before, after),
        "shuffled": correlation(before[order], after),
        "within_class": correlation(inside, outside),
        "shuffled_within_class": correlation(inside[order], outside),
    }
