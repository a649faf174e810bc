"""What views of a conditional VAE have to know of it, and directions to walk in through its latent space."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from s18_utils.data.store import Batch
from s18_utils.errors import InputError

SHOWN = 6  # directions with a slider of their own


class LatentMap(NamedTuple):
    """Test codes and the directions in which they differ most.

    Attributes:
        codes: float (N, latent), means of the posteriors.
        mean: float (latent,), of the codes: the middle of the map.
        directions: float (K, latent), orthonormal, the largest deviation first; the first two span the map.
        deviations: float (K,), standard deviations of the codes along them.
    """

    codes: Tensor
    mean: Tensor
    directions: Tensor
    deviations: Tensor


def describe_painter(module: nn.Module, batch: Batch, **arrays: Tensor) -> tuple[dict, bytes]:
    """What `painter.js` has to know of a conditional VAE and some test images.

    Args:
        module: a trained `CVAEModule`.
        batch: test images, float (N, C, S, S) in [0, 1], with their labels.
        arrays: numbers that go with them, such as their `codes`.

    Returns:
        `side`, `channels`, `classes`, `latent`, how many `judges` there are, the images' `labels`, and `arrays`, pairs
        of a name and a length; and the arrays one after the other, float32, and the images, uint8, as bytes.
    """
    channels, side, _ = module.image_shape
    about = {"side": side, "channels": channels, "classes": list(module.classes), "latent": module.latent}
    about |= {"judges": len(module.judges), "labels": batch["label"].tolist()}
    about |= {"arrays": [[name, values.numel()] for name, values in arrays.items()]}
    parts = [values.numpy().astype("<f4") for values in arrays.values()]
    parts += [(batch["image"] * 255).round().byte().numpy()]
    return about, b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def map_images(module: nn.Module, batch: Batch) -> LatentMap:
    """A map of the codes of test images."""
    return map_codes(module.encode(batch["image"], batch["label"])[0])


def map_codes(codes: Tensor, shown: int = SHOWN) -> LatentMap:
    """A map of codes, float (N, latent), by principal component analysis, with up to `shown` directions.

    Raises:
        InputError: fewer than 3 codes, or codes that are all alike.
    """
    if len(codes) < 3:
        raise InputError(f"{len(codes)} codes make no map: give test images of at least 3")
    mean = codes.double().mean(0)
    _, scale, directions = torch.linalg.svd(codes.double() - mean, full_matrices=False)
    deviations = scale / (len(codes) - 1) ** 0.5
    count = min(shown, int((deviations > 1e-6 * max(1.0, float(deviations[0]))).sum()))
    if not count:
        raise InputError("all codes are alike, so there is no map: train longer, or with less weight on the KL")
    # A direction and its opposite serve as well: the one whose largest part is positive, so that maps stay the same.
    signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    directions = (directions * signs)[:count].float().contiguous()
    return LatentMap(codes.float(), mean.float(), directions, deviations[:count].float())
