"""Directions to walk in through a latent space: the principal components of test codes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from s18_utils.errors import InputError

SHOWN = 6  # directions with a slider of their own


@dataclass(frozen=True)
class LatentMap:
    """Test codes and the directions in which they differ most.

    Attributes:
        codes: float (N, latent), means of the posteriors.
        labels: int64 (N,).
        mean: float (latent,), of the codes: the middle of the map.
        directions: float (K, latent), orthonormal, the largest deviation first; the first two span the map.
        deviations: float (K,), standard deviations of the codes along them.
    """

    codes: Tensor
    labels: Tensor
    mean: Tensor
    directions: Tensor
    deviations: Tensor

    def arrays(self) -> dict[str, Tensor]:
        """What the script of the map takes as numbers, by its names for them."""
        return {name: getattr(self, name) for name in ("codes", "mean", "directions", "deviations")}


def map_codes(codes: Tensor, labels: Tensor, shown: int = SHOWN) -> LatentMap:
    """A map of codes by principal component analysis.

    Args:
        codes: float (N, latent), N at least 3.
        labels: integer (N,).
        shown: at most so many directions; those in which the codes do not differ are left out.

    Raises:
        InputError: too few codes, or codes that are all alike.
    """
    if len(codes) < 3:
        raise InputError(f"{len(codes)} codes make no map: give test images of at least 3")
    mean = codes.double().mean(0)
    _, scale, directions = torch.linalg.svd(codes.double() - mean, full_matrices=False)
    deviations = scale / (len(codes) - 1) ** 0.5
    count = min(shown, int((deviations > 1e-6 * max(1.0, float(deviations[0]))).sum()))
    if not count:
        raise InputError("all codes are alike, so there is no map: train longer, or with less weight on the KL")
    directions = directions[:count]
    # A direction and its opposite serve as well: the one whose largest part is positive, so that maps stay the same.
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    directions = directions * largest.sign()
    return LatentMap(
        codes.float(), labels.long(), mean.float(), directions.float().contiguous(), deviations[:count].float()
    )
