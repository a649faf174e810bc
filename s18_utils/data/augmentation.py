"""Random changes to training images that leave the truth true, drawn for each image of a batch, on its device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def augment_pets(
    images: Tensor,
    masks: Tensor,
    generator: torch.Generator,
    size: int,
    *,
    rotate: float,
    zoom: float,
    shift: float,
    colour: float,
) -> tuple[Tensor, Tensor]:
    """Mirrors every second image, rotates, zooms, shifts and recolours; image and mask move together.

    Args:
        images: float (N, 3, H, W) in [0, 1].
        masks: int64 (N, H, W).
        generator: makes the draw repeatable; on the images' device.
        size: side of what is returned, in pixels: that of the images, or half of it.
        rotate: up to so many degrees each way.
        zoom: natural logarithm of the largest zoom, in and out.
        shift: up to this, in halves of the side, each way.
        colour: brightness, contrast and saturation change by up to this share each way, the tint by a quarter of it.

    Returns:
        The same types and range, (N, 3, size, size) and (N, size, size). Where the frame looks beyond the picture,
        both show its mirror image.
    """

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(len(images), *shape, generator=generator, device=images.device) * (high - low) + low

    turn = math.radians(rotate)
    angle, scale = draw(-turn, turn), draw(-zoom, zoom).exp()
    mirror = draw(0, 2).floor() * 2 - 1
    shift_x, shift_y = draw(-shift, shift), draw(-shift, shift)
    # Output pixels look up input pixels through this matrix, in coordinates from −1 to 1.
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([cos * mirror, -sin * mirror, shift_x, sin, cos, shift_y], dim=1).view(-1, 2, 3)
    # At half the size every sample falls between four pixels, and bilinear interpolation is their average.
    grid = F.affine_grid(matrix, [*images.shape[:2], size, size], align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    classes = masks.unsqueeze(1).to(images.dtype)
    classes = F.grid_sample(classes, grid, mode="nearest", padding_mode="reflection", align_corners=False)

    gain, tint = draw(1 - colour, 1 + colour, 1, 1, 1), draw(-colour / 4, colour / 4, 3, 1, 1)
    contrast, saturation = draw(1 - colour, 1 + colour, 1, 1, 1), draw(1 - colour, 1 + colour, 1, 1, 1)
    moved = torch.lerp(moved.mean(dim=1, keepdim=True), moved, saturation)
    moved = torch.lerp(moved.mean(dim=(1, 2, 3), keepdim=True), moved, contrast)
    return (moved * gain + tint).clamp_(0, 1), classes.squeeze(1).round().long()


def augment_labelled(
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    size: int,
    *,
    flip: bool,
    translate: int = 0,
    rotate: float = 0,
    scale: float = 0,
    shear: float = 0,
    noise: float = 0,
    blur: float = 0,
) -> tuple[Tensor, Tensor]:
    """Shifts, deforms, mirrors, blurs and disturbs images that keep their label; what is 0 is left out.

    Args:
        images: float (N, C, H, W) in [0, 1].
        labels: int64 (N,), returned as they are.
        generator: makes the draw repeatable; on the images' device.
        size: side of what is returned, in pixels: that of the images, or half of it.
        flip: mirror every second image.
        translate: up to so many whole pixels each way; what comes in is black for grey images, mirrored for others.
        rotate: up to so many degrees each way.
        scale: size between 1 − scale and 1 + scale.
        shear: slant up to this each way.
        noise: standard deviation up to this, drawn for each image; values may then leave [0, 1].
        blur: the share of batches that is blurred, by 0.3 to 1.2 pixels.

    Returns:
        Images of the same type, (N, C, size, size), and the labels.
    """
    count, device = len(images), images.device

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, device=device) * (high - low) + low

    if size != images.shape[-1]:
        images = F.adaptive_avg_pool2d(images, size)
    if translate:
        height, width = images.shape[2:]
        padded = F.pad(images, (translate,) * 4, mode="constant" if images.shape[1] == 1 else "reflect")
        down, right = (draw(0, 2 * translate + 1, 1).long().clamp_max(2 * translate) for _ in range(2))
        rows, columns = down + torch.arange(height, device=device), right + torch.arange(width, device=device)
        which = torch.arange(count, device=device)[:, None, None]
        images = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if rotate or scale or shear:
        angle, lean = draw(-1, 1) * math.radians(rotate), draw(-shear, shear)
        wide, high = draw(1 - scale, 1 + scale), draw(1 - scale, 1 + scale)
        cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(count, device=device)
        matrix = torch.stack(
            [cos * wide, (lean * cos - sin) * high, zero, sin * wide, (lean * sin + cos) * high, zero], 1
        )
        grid = F.affine_grid(matrix.view(-1, 2, 3), list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, align_corners=False)
    if flip:
        images = torch.where(draw(0, 1, 1, 1, 1) < 0.5, images.flip(3), images)
    if blur:  # by next to nothing where it was not drawn: asking whether it was would make a GPU wait
        images = gaussian_blur(images, torch.where(draw(0, 1)[0] < blur, draw(0.3, 1.2)[0], 0.0))
    if noise:
        normal = torch.randn(images.shape, generator=generator, device=device)
        images = images + draw(0, noise, 1, 1, 1) * normal
    return images, labels


def gaussian_blur(images: Tensor, sigma: float | Tensor) -> Tensor:
    """Images (N, C, H, W) under a Gaussian of `sigma` pixels, cut at two, edge pixels repeated; as they are at 0.

    Two small matrix products, one for each direction: on a CPU several times faster than a convolution of one channel.
    """
    if not isinstance(sigma, Tensor):
        sigma = torch.full((), sigma, device=images.device)  # filled in there: a copy would make a GPU wait
    sigma = sigma.clamp_min(1e-3)  # small enough to leave a pixel to itself

    def matrix(size: int) -> Tensor:
        taps = torch.arange(-2, 3, device=images.device)
        weights = torch.exp(-0.5 * (taps / sigma) ** 2)
        source = (torch.arange(size, device=images.device)[:, None] + taps).clamp(0, size - 1)
        spread = torch.zeros(size, size, device=images.device)
        return spread.scatter_add_(1, source, (weights / weights.sum()).expand(size, -1)).to(images.dtype)

    return matrix(images.shape[2]) @ images @ matrix(images.shape[3]).T
