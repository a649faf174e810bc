"""A drawing of the UNet with its shapes."""

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from s18_utils.report.style import BLUE, GREEN, GREY, ORANGE, PURPLE, draw_arrow, new_figure

NAMES = {
    "maxpool": "max pooling\nhalves the sides",
    "strided": "strided convolution\nhalves the sides",
    "transpose": "transposed convolution\ndoubles the sides",
    "bilinear": "bilinear up-sampling\ndoubles the sides",
}
LEVELS = 5  # of resolution


def draw_network(
    width: int,
    size: int,
    *,
    down: str = "maxpool",
    up: str = "transpose",
    skip: bool = True,
    channels: int = 3,
    classes: int = 3,
) -> Figure:
    """The UNet of these settings for images of `size` pixels: a box for each part, with the shape that it puts out.

    A box is the higher the larger its resolution, and the wider the more channels it has, neither to scale. The names
    are those of the child modules.
    """
    half = 2 if up == "bilinear" else 1
    figure, [[axis]] = new_figure(f"UNet of width {width} on {size}×{size} images", width=9, height=4.8)
    axis.set(xlim=(-1.6, 17.6), ylim=(-9.7, 1.0))
    axis.axis("off")
    high, wide = [1.4 - 0.2 * level for level in range(LEVELS)], [0.2 + 0.09 * level for level in range(LEVELS)]

    def box(x: float, level: int, name: str, depth: int, colour: str, side: str) -> None:
        corner = x - wide[level], -2 * level - high[level] / 2
        axis.add_patch(Rectangle(corner, 2 * wide[level], high[level], facecolor=colour))
        shape = f"{name}\n{depth}×{size // 2**level}×{size // 2**level}"
        if side == "below":
            write(x, -2 * level - high[level] / 2 - 0.65, shape, "center")
        else:
            reach = wide[level] + 0.2
            write(x - reach if side == "left" else x + reach, -2 * level, shape, "right" if side == "left" else "left")

    def write(x: float, y: float, text: str, align: str, colour: str = GREY) -> None:
        axis.text(x, y, text, color=colour, fontsize=8.5, ha=align, va="center", linespacing=1.3)

    left, right = [2 + 1.5 * level for level in range(LEVELS)], [14 - 1.5 * level for level in range(LEVELS)]
    for level in range(LEVELS):
        depth = width * 2**level
        bottom = level == LEVELS - 1
        name = f"down{level}" if level else "inc"
        box(left[level], level, name, depth // half if bottom else depth, BLUE, "below" if bottom else "left")
        if bottom:
            break
        box(right[level], level, f"up{LEVELS - 1 - level}", depth // half if level else depth, GREEN, "right")
        lower, upper = -2 * (level + 1) + high[level + 1] / 2 + 0.08, -2 * level - high[level] / 2 - 0.08
        draw_arrow(axis, (left[level] + 0.1, upper), (left[level + 1] - 0.1, lower), BLUE)
        draw_arrow(axis, (right[level + 1] + 0.1, lower), (right[level] - 0.1, upper), GREEN)
        if skip:
            y, reach = -2 * level, wide[level] + 0.1
            draw_arrow(axis, (left[level] + reach, y), (right[level] - reach, y), ORANGE, "--")
    write(left[0] - 0.9, -1.25, f"image\n{channels}×{size}×{size}", "right")
    draw_arrow(axis, (left[0] - 0.8, -1.1), (left[0] - wide[0] - 0.05, -0.5), GREY)
    draw_arrow(axis, (right[0] + wide[0] + 0.05, -0.5), (right[0] + 0.8, -1.1), PURPLE)
    write(right[0] + 0.9, -1.25, f"outc, 1×1 convolution\n{classes}×{size}×{size}", "left", PURPLE)
    write(
        8,
        0.35,
        "skip connections hand over features" if skip else "no skip connections: zeros instead",
        "center",
        ORANGE,
    )
    write(left[3] - 2.1, -7.3, NAMES[down], "right", BLUE)
    write(right[3] + 2.1, -7.3, NAMES[up], "left", GREEN)
    return figure
