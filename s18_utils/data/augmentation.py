"""Random changes to training images that leave the truth true, drawn for each image of a batch, on its device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ROTATE = math.radians(15)
ZOOM = 0.25  # natural logarithm: from 1/1.28 to 1.28
SHIFT = 0.1  # of half the side
COLOUR = 0.3


def augment_pets(images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flips, rotates, zooms, shifts and recolours; image and mask move together.

    Args:
        images: float (N, 3, H, W) in [0, 1].
        masks: int64 (N, H, W).
        generator: makes the draw repeatable; on the images' device.

    Returns:
        The same shapes, types and range. Where the frame looks beyond the picture, both show its mirror image.
    """

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(len(images), *shape, generator=generator, device=images.device) * (high - low) + low

    angle, zoom = draw(-ROTATE, ROTATE), draw(-ZOOM, ZOOM).exp()
    mirror = draw(0, 2).floor() * 2 - 1
    shift_x, shift_y = draw(-SHIFT, SHIFT), draw(-SHIFT, SHIFT)
    # Output pixels look up input pixels through this matrix, in coordinates from −1 to 1.
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    matrix = torch.stack([cos * mirror, -sin * mirror, shift_x, sin, cos, shift_y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    classes = masks.unsqueeze(1).to(images.dtype)
    classes = F.grid_sample(classes, grid, mode="nearest", padding_mode="reflection", align_corners=False)

    gain, tint = draw(1 - COLOUR, 1 + COLOUR, 1, 1, 1), draw(-COLOUR / 4, COLOUR / 4, 3, 1, 1)
    contrast, saturation = draw(1 - COLOUR, 1 + COLOUR, 1, 1, 1), draw(1 - COLOUR, 1 + COLOUR, 1, 1, 1)
    moved = torch.lerp(moved.mean(dim=1, keepdim=True), moved, saturation)
    moved = torch.lerp(moved.mean(dim=(1, 2, 3), keepdim=True), moved, contrast)
    return (moved * gain + tint).clamp_(0, 1), classes.squeeze(1).round().long()
