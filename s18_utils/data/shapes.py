"""Drawing many small pictures at once: random numbers, chunks, smooth noise and signed distances.

A signed distance is negative inside a shape, zero on its outline and positive outside. Pictures are drawn on planes of
shape (N, H, W), in coordinates where the picture reaches from −1 to 1, x to the right and y down. Parameters of shape
(N, 1, 1) give each picture its own value.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor


class Random:
    """Random numbers for a chunk of `count` pictures, all from one generator on the CPU."""

    def __init__(self, count: int, seed: int):
        self.count = count
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers between `low` and `high`, of shape (N, *shape), by default (N, 1, 1)."""
        return torch.rand(self.count, *(shape or (1, 1)), generator=self.generator) * (high - low) + low

    def normal(self, deviation: float, *shape: int) -> Tensor:
        """Numbers around zero, of shape (N, *shape), by default (N, 1, 1)."""
        return torch.randn(self.count, *(shape or (1, 1)), generator=self.generator) * deviation

    def chance(self, probability: float) -> Tensor:
        """1 with `probability`, else 0, of shape (N, 1, 1)."""
        return (self.uniform(0, 1) < probability).float()

    def pick(self, weights: Sequence[float]) -> Tensor:
        """Indices into `weights`, drawn in proportion to them: int64 of shape (N,)."""
        return torch.multinomial(torch.tensor(weights), self.count, replacement=True, generator=self.generator)

    def labels(self, classes: int) -> Tensor:
        """Every class once in each run of `classes` pictures, in random order: int64 of shape (N,)."""
        order = torch.rand(math.ceil(self.count / classes), classes, generator=self.generator).argsort(dim=1)
        return order.flatten()[: self.count]

    def noise(self, cells: int, size: int) -> Tensor:
        """Smooth noise (N, size, size), about `cells` bumps across, the same at any size; mean 0, deviation below 1."""
        bumps = self.normal(1, 1, cells, cells)
        return F.interpolate(bumps, size=(size, size), mode="bicubic", align_corners=False).squeeze(1)


def draw_in_chunks(draw: Callable[[Random], tuple], count: int, chunk: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` images, uint8, and truths, joined from what `draw` makes of each chunk: images in [0, 1], and truths.

    A chunk's random numbers depend on `seed` and the chunk's number alone and a chunk is always drawn whole, so a
    picture does not depend on how many others are asked for.
    """
    # The generator looks at 32 bits of its seed, so seed and number have to be mixed into those.
    seeds = [(seed * 1_000_003 + number) % 2**32 for number in range(math.ceil(count / chunk))]
    # Were each small operation shared out instead, threads would wait for each other whenever a core is busy.
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(min(threads, 4), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            chunks = list(pool.map(lambda seed: draw(Random(chunk, seed)), seeds))
    finally:
        torch.set_num_threads(threads)
    images, truths = (torch.cat(parts)[:count] for parts in zip(*chunks, strict=True))
    return (images.clamp(0, 1) * 255).round().to(torch.uint8), truths


def plane(size: int) -> tuple[Tensor, Tensor]:
    """The coordinates x, of shape (1, 1, size), and y, of shape (1, size, 1), of the pixels' centres."""
    centres = (torch.arange(size) + 0.5) * (2 / size) - 1
    return centres.view(1, 1, size), centres.view(1, size, 1)


def turn(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates in a frame that is turned by `angle` (radians, clockwise as seen)."""
    return x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()


def disc(x: Tensor, y: Tensor, centre_x, centre_y, radius) -> Tensor:
    """Signed distance to a disc."""
    return torch.hypot(x - centre_x, y - centre_y) - radius


def bone(x: Tensor, y: Tensor, ax, ay, bx, by, ra, rb) -> Tensor:
    """Signed distance to a rounded bar from a to b whose radius goes evenly from `ra` to `rb`."""
    dx, dy = bx - ax, by - ay
    px, py = x - ax, y - ay
    along = ((px * dx + py * dy) / (dx * dx + dy * dy + 1e-6)).clamp(0, 1)
    return torch.hypot(px - along * dx, py - along * dy) - (ra + along * (rb - ra))


def box(x: Tensor, y: Tensor, width, height, rounding=0.0) -> Tensor:
    """Signed distance to a box around the origin, by half-width, half-height and radius of its corners."""
    qx, qy = x.abs() - (width - rounding), y.abs() - (height - rounding)
    return torch.hypot(qx.clamp(min=0), qy.clamp(min=0)) + torch.maximum(qx, qy).clamp(max=0) - rounding


def taper(x: Tensor, y: Tensor, top, bottom, half_top, half_bottom) -> Tensor:
    """Signed distance, true near the outline, to a trapezium around x = 0, or triangle (half-width 0)."""
    slope = (half_bottom - half_top) / (bottom - top)
    flank = (x.abs() - half_top - (y - top) * slope) / (1 + slope**2) ** 0.5
    return torch.maximum(flank, torch.maximum(top - y, y - bottom))


def cover(distance: Tensor, soft) -> Tensor:
    """How much of a pixel a shape covers, 0 to 1, with an edge `soft` wide."""
    return (0.5 - distance / soft).clamp(0, 1)


def paint_over(picture: Tensor, colour: Tensor, share: Tensor) -> Tensor:
    """A picture (N, 3, H, W) with `colour`, of a shape that broadcasts, over a `share` (N, H, W) of each pixel."""
    return torch.lerp(picture, colour, share.unsqueeze(1))
