"""A drawing of the conditional VAE with its shapes, and of the networks that read what it draws."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from s18_utils.cvae.module import CVAEModule
from s18_utils.report.style import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, draw_arrow, new_figure


def draw_network(module: CVAEModule, judges: Sequence[str] = ()) -> Figure:
    """Encoder, code and decoder from left to right, the label into both, and below them who reads the drawings: the
    frozen CNN, the discriminator where there is one, and the judges.

    Shapes are those of one image, as channels × height × width; `judges` are names for a module that has none attached.
    """
    channels, size, _ = module.image_shape
    encoder, decoder = module.vae.encoder, module.vae.decoder
    image, maps = f"{channels}×{size}×{size}", decoder.maps[0].shape[-1]
    halves = [
        f"{block.conv.out_channels}×{size // 2**level}×{size // 2**level}"
        for level, block in enumerate(encoder.blocks, 1)
    ]
    doubles = [
        f"{block.conv.out_channels}×{each.shape[0]}×{each.shape[0]}"
        for block, each in zip(decoder.blocks, decoder.maps, strict=True)
    ]
    length = encoder.embedding.matrix.out_features
    title = "Conditional VAE: an image is coded with its label, and drawn under any"
    figure, [[axis]] = new_figure(title, width=10, height=4.7)
    axis.set(xlim=(-0.9, 13.9), ylim=(-4.4, 2.3))
    axis.axis("off")

    def write(x: float, y: float, text: str, size: float = 8, colour: str = GREY, align: str = "center") -> None:
        axis.text(x, y, text, color=colour, fontsize=size, ha=align, va="center", linespacing=1.4)

    def box(
        x: float, y: float, high: float, name: str, text: str, colour: str, line: str = "-", wide: float = 1.7
    ) -> None:
        corner, style = (x - wide / 2, y - high / 2), "round,pad=0.02,rounding_size=0.12"
        shape = FancyBboxPatch(corner, wide, high, boxstyle=style, facecolor="none", edgecolor=colour, linestyle=line)
        axis.add_patch(shape)
        write(x, y + high / 2 - 0.3, name, 9, colour)
        write(x, y - 0.2, text)

    box(0, 1, 1.2, "image", image, GREY)
    box(2.5, 1, 2.4, "encoder", "\n".join(halves), BLUE)
    box(5, 1, 1.5, "code", f"μ and σ, {module.latent}\nz = μ + σε", PURPLE)
    box(7.5, 1, 1.5, "batch norm", f"{module.latent}, scaled and\nshifted by label", GREEN)
    box(10, 1, 2.4, "decoder", "\n".join(doubles), GREEN)
    box(12.4, 1, 1.2, "drawing", image, GREY)
    for start, end in ((0.85, 1.65), (3.35, 4.15), (5.85, 6.65), (8.35, 9.15), (10.85, 11.55)):
        draw_arrow(axis, (start, 1), (end, 1))
    box(2.5, -1.6, 1.2, "true label", f"one-hot, {len(module.classes)}", ORANGE)
    draw_arrow(axis, (2.5, -1.0), (2.5, -0.2), ORANGE)
    write(2.65, -0.6, f"embedded, {length},\nadded", align="left")
    box(8.75, -1.6, 1.2, "any label", f"one-hot, {len(module.classes)}", ORANGE)
    draw_arrow(axis, (8.2, -1.0), (7.5, 0.25), ORANGE)
    draw_arrow(axis, (9.3, -1.0), (10, -0.2), ORANGE)
    write(9.78, -0.68, f"{maps} maps, γ and β\nat each size", align="left")
    frozen = -3.7 if module.discriminator is None else -1.6
    box(12.4, frozen, 1.2, "frozen CNN", f"{type(module.frozen).__name__}, label loss", VERMILION, wide=2.2)
    draw_arrow(axis, (12.5, 0.4), (12.5, frozen + 0.6), VERMILION)
    if module.discriminator is not None:
        box(12.4, -3.7, 1.2, "discriminator", "real, and of this label?", VERMILION, wide=2.2)
        draw_arrow(axis, (12.5, frozen - 0.6), (12.5, -3.1), VERMILION)
        write(12.6, -2.6, "features", align="left")
        axis.plot([13.25, 13.75, 13.75], [1, 1, -3.7], color=VERMILION, linewidth=1.5)  # it sees the drawing too
        draw_arrow(axis, (13.75, -3.7), (13.5, -3.7), VERMILION)
    named = " and ".join([type(judge).__name__ for judge in module.judges] or judges) or "none attached"
    box(8.6, -3.7, 1.2, "judges", f"{named}\nscore drawings, take no part in training", GREY, "--", wide=4.6)
    draw_arrow(axis, (11.65, 0.4), (10.5, -3.1), line="--")
    return figure
