"""Widgets to play with a conditional VAE: swap and morph labels, and draw a digit of one's own under all ten."""

import base64
import io
from html import escape

import ipywidgets
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from s18_utils.cvae import CVAEModule
from s18_utils.cvae.checks import CLASSES
from s18_utils.cvae_plots import RIGHT, WRONG, draw_all, names_of
from s18_utils.data.mnist import SIZE, normalise_digit
from s18_utils.errors import InputError
from s18_utils.records import Record

ZOOM = 7  # screen pixels for each pixel of an image
SMALL_ZOOM = 3  # the same where ten images stand in a row
WIDE = {"description_width": "5.5em"}
FIGURE = "margin: 0; text-align: center; line-height: 1.3"


class Player(ipywidgets.Box):
    """A widget that says what it is where there is no kernel to show it."""

    def __repr__(self) -> str:
        return "Here is something to play with, while the notebook's kernel runs."


def mixture(first: int, second: int, share: float) -> Tensor:
    """How much of each label is asked for, float (10,): `share` in [0, 1] of the second, the rest of the first."""
    one, other = F.one_hot(torch.tensor([first, second]), CLASSES).float()
    return torch.lerp(one, other, share)


def as_png(pixels: Tensor, zoom: int) -> bytes:
    """An image, float (C, H, W) in [0, 1], as a PNG with every pixel `zoom` pixels wide and high."""
    picture = Image.fromarray((pixels.expand(3, -1, -1).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
    file = io.BytesIO()
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


@torch.no_grad()
def judged(module: CVAEModule, images: Tensor) -> list[tuple[int, float]]:
    """The label that the judge reads in each of the images (N, C, S, S), and how sure it is, in [0, 1]."""
    chances = module.scores.judge(images).softmax(dim=1).max(dim=1)
    return list(zip(chances.indices.tolist(), chances.values.tolist(), strict=True))


def draw_swap(module: CVAEModule, image: Tensor, label: int, asked: Tensor) -> tuple[bytes, int, float]:
    """One image drawn under a mixture of labels, as the widget shows it.

    Args:
        module: a trained module with its judge attached.
        image: float (C, S, S) in [0, 1].
        label: its own label.
        asked: float (10,), how much of each label to draw.

    Returns:
        A PNG of the input beside the output, the label that the judge reads, and how sure it is, in [0, 1].
    """
    drawings = module.swap(image.unsqueeze(0), torch.tensor([label]), asked.unsqueeze(0))
    gap = torch.ones_like(image[:, :, :2])
    return as_png(torch.cat([image, gap, drawings[0]], dim=2), ZOOM), *judged(module, drawings)[0]


def verdict_text(read: str, chance: float, agrees: bool) -> str:
    """What the judge reads, as HTML: green with a tick where it is what was asked, else red with a cross."""
    colour, mark = (RIGHT, "✓") if agrees else (WRONG, "✗")
    return f"<span style='color: {colour}'>{mark} the judge reads <b>{read}</b></span> ({chance:.0%} sure)"


def label_swap(record: Record, module: CVAEModule, count: int = 50) -> ipywidgets.Widget:
    """Choose a test image and a label, or a mixture of two: the input beside the output, and the judge's verdict."""
    batch, names = record.examples(count), names_of(record)
    options = [(name, number) for number, name in enumerate(names)]
    slider = ipywidgets.IntSlider(0, 0, len(batch["label"]) - 1, description="image", style=WIDE)
    first = (int(batch["label"][0]) + 1) % CLASSES  # a swap from the start
    menu = ipywidgets.Dropdown(options=options, value=first, description="draw as", style=WIDE)
    other = ipywidgets.Dropdown(options=options, value=(first + 5) % CLASSES, description="morph to", style=WIDE)
    morph = ipywidgets.FloatSlider(0, min=0, max=1, step=0.05, description="how far", readout_format=".0%", style=WIDE)
    picture, verdict = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def update(change=None) -> None:
        label, asked = int(batch["label"][slider.value]), mixture(menu.value, other.value, morph.value)
        picture.value, read, chance = draw_swap(module, batch["image"][slider.value], label, asked)
        shares = {names[part]: float(asked[part]) for part in asked.nonzero().flatten().tolist()}
        parts = [f"<b>{name}</b>" + (f" {share:.0%}" if share < 1 else "") for name, share in shares.items()]
        agrees = bool(asked[read] >= 0.5 - 1e-6)  # of a mixture the judge may read what there is most of
        what = f"<b>{names[label]}</b> drawn as {' + '.join(parts)}"
        verdict.value = f"{what}<br>{verdict_text(names[read], chance, agrees)}"

    for control in (slider, menu, other, morph):
        control.observe(update, "value")
    update()
    controls = ipywidgets.VBox([slider, menu, other, morph])
    wrap = ipywidgets.Layout(display="flex", flex_flow="row wrap", align_items="flex-start", grid_gap="0 1.5em")
    return Player([controls, ipywidgets.VBox([picture, verdict])], layout=wrap)


def own_digit(module: CVAEModule) -> ipywidgets.Widget:
    """Upload a picture of a handwritten digit, and see it drawn under all ten labels, with the judge's verdicts.

    The picture is centred and scaled as those of MNIST were (`normalise_digit`). The encoder also needs its label: the
    menu starts at what the judge reads, and can be set right.

    Raises:
        InputError: the module draws something else than MNIST's digits.
    """
    if list(module.hparams.image_shape) != [1, SIZE, SIZE]:
        raise InputError("this module does not draw digits: load that of cvae-mnist")
    upload = ipywidgets.FileUpload(accept="image/*", description="a digit of yours", layout={"width": "14em"})
    menu = ipywidgets.Dropdown(options=list(range(CLASSES)), description="it is a", disabled=True)
    answer = ipywidgets.HTML("A photo or a drawing of one digit, dark on light or light on dark.")
    digit = None

    def show(change=None) -> None:
        if digit is not None:
            answer.value = ten_drawings(module, digit, menu.value)

    def receive(change) -> None:
        nonlocal digit
        if not upload.value:
            return
        try:
            digit = normalise_digit(open_picture(uploaded(upload.value)))
        except InputError as error:
            digit, answer.value = None, escape(str(error))
        else:
            menu.value = judged(module, digit.unsqueeze(0))[0][0]
            show()
        menu.disabled = digit is None

    upload.observe(receive, "value")
    menu.observe(show, "value")
    column = ipywidgets.Layout(display="flex", flex_flow="column", align_items="stretch")
    return Player([ipywidgets.HBox([upload, menu]), answer], layout=column)


def ten_drawings(module: CVAEModule, digit: Tensor, label: int) -> str:
    """HTML of a digit (1, 28, 28) beside its drawings under all ten labels, each above the judge's verdict."""
    drawings = draw_all(module, digit, torch.tensor(label))
    tiles = []
    for asked, (drawing, (read, _)) in enumerate(zip(drawings, judged(module, drawings), strict=True)):
        colour, mark = (RIGHT, "✓") if read == asked else (WRONG, "✗")
        caption = f"as <b>{asked}</b><br><span style='color: {colour}'>{mark} reads {read}</span>"
        tiles.append(tile(drawing, f"yours drawn as a {asked}", caption))
    yours = tile(digit, f"yours, a {label}", "<b>yours</b>")
    grid = f"<div style='display: grid; grid-template-columns: repeat(5, auto); gap: 0.6em'>{''.join(tiles)}</div>"
    return f"<div style='display: flex; gap: 1.8em; margin-top: 0.6em'>{yours}{grid}</div>"


def tile(image: Tensor, alt: str, caption: str) -> str:
    """HTML of one image (C, S, S) above its caption."""
    source = base64.b64encode(as_png(image, SMALL_ZOOM)).decode()
    return (
        f"<figure style='{FIGURE}'><img alt='{alt}' src='data:image/png;base64,{source}'>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def uploaded(value) -> bytes:
    """The last of the files that a `FileUpload` holds: dicts in a tuple, or before ipywidgets 8 in a dict."""
    files = list(value.values()) if isinstance(value, dict) else value
    return bytes(files[-1]["content"])


def open_picture(content: bytes) -> Image.Image:
    """A file's bytes as a picture; an InputError if they are none."""
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    # Pillow's readers fail in their own ways; SyntaxError is what a broken PNG raises.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError("can't read this file as a picture: upload a PNG or a JPEG of one digit") from error
    return picture
