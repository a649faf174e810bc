"""Widgets for label swaps: test images drawn under another label or between two, and a digit of one's own."""

import base64
import functools
import io
from collections.abc import Callable, Sequence
from html import escape

import ipywidgets
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from s18_utils.data.pictures import DIGIT_SIZE, normalise_digit
from s18_utils.errors import InputError
from s18_utils.play.scripts import PadView, describe_error
from s18_utils.records import Record
from s18_utils.report.style import RIGHT, WRONG

ZOOM = 7  # screen pixels for each pixel of an image
SMALL_ZOOM = 3  # the same where many images stand in a row
WIDE = {"description_width": "5.5em"}
FIGURE = "margin: 0; text-align: center; line-height: 1.3"
WRAP = {"display": "flex", "flex_flow": "row wrap", "align_items": "flex-start", "grid_gap": "0 1.5em"}
Readings = list[tuple[int, float]]  # what each judge reads in an image, and how sure it is, in [0, 1]


class Panel(ipywidgets.Box):
    """A widget that says what it is where there is no kernel to show it."""

    def __repr__(self) -> str:
        return "Here is something to play with, while the notebook's kernel runs."


def say_errors(place: ipywidgets.HTML) -> Callable:
    """Makes a callback say in `place`, in one sentence, what went wrong: nobody sees a callback's traceback."""

    def wrap(callback: Callable) -> Callable:
        @functools.wraps(callback)
        def call(*arguments):
            try:
                return callback(*arguments)
            except Exception as error:
                place.value = escape(describe_error(error))

        return call

    return wrap


def say_instead(message: str) -> ipywidgets.Widget:
    """A sentence in a widget's place, for a record that has not what the widget needs: the notebook goes on."""
    return Panel([ipywidgets.HTML(escape(message))])


def mix_labels(first: int, second: int, share: float, classes: int) -> Tensor:
    """How much of each label is asked for, float (classes,): `share` in [0, 1] of the second, the rest of the first."""
    one, other = F.one_hot(torch.tensor([first, second]), classes).float()
    return torch.lerp(one, other, share)


def to_png(pixels: Tensor, zoom: int) -> bytes:
    """An image, float (C, H, W) in [0, 1], as a PNG with every pixel `zoom` pixels wide and high."""
    picture = Image.fromarray((pixels.expand(3, -1, -1).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
    file = io.BytesIO()
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


@torch.no_grad()
def read_drawings(judges: Sequence[nn.Module], images: Tensor) -> list[Readings]:
    """What each judge reads in each of the images (N, C, S, S); nothing without judges."""
    best = [judge(images).softmax(1).max(1) for judge in judges]
    return [[(int(each.indices[row]), float(each.values[row])) for each in best] for row in range(len(images))]


def describe_verdict(readings: Readings, asked: Sequence[int], names: Sequence[str]) -> str:
    """What the judges read, as HTML: a green tick where each reads something of what was asked, else a red cross."""
    if not readings:
        return ""
    words = " and ".join(f"<b>{escape(names[label])}</b> ({chance:.0%} sure)" for label, chance in readings)
    return f"{mark_readings(readings, asked)} the {'judges read' if len(readings) > 1 else 'judge reads'} {words}"


def mark_readings(readings: Readings, asked: Sequence[int]) -> str:
    """A green tick or a red cross, as HTML."""
    agree = all(label in asked for label, _ in readings)
    return f"<b style='color: {RIGHT if agree else WRONG}'>{'✓' if agree else '✗'}</b>"


def draw_swap(module: nn.Module, image: Tensor, label: int, asked: Tensor) -> tuple[bytes, Readings]:
    """One image drawn under a mixture of labels, as the widget shows it.

    Args:
        module: a trained `CVAEModule`.
        image: float (C, S, S) in [0, 1].
        label: its own label.
        asked: float (classes,), how much of each label to draw.

    Returns:
        A PNG of the input beside the output, and what the judges read in the output.
    """
    drawings = module.swap(image.unsqueeze(0), torch.tensor([label]), asked.unsqueeze(0))
    gap = torch.ones_like(image[:, :, :2])
    return to_png(torch.cat([image, gap, drawings[0]], dim=2), ZOOM), read_drawings(module.judges, drawings)[0]


def label_swap(record: Record, count: int = 50) -> ipywidgets.Widget:
    """Choose a test image and a label, or a mixture of two: the input beside the output, and what the judges read.

    Args:
        record: a conditional VAE's. Without its judges' records the swaps are drawn and not judged; without weights or
            test images of its own there is a sentence that says so.
        count: test images to choose from, at most.

    Raises:
        InputError: the record of something else.
    """
    check_family(record)
    try:
        module, batch = record.model(), record.examples(count)
    except InputError as error:
        return say_instead(str(error))
    names = list(module.classes)
    options = [(name, number) for number, name in enumerate(names)]
    first = (int(batch["label"][0]) + 1) % len(names)  # a swap from the start
    second = (first + len(names) // 2) % len(names)
    slider = ipywidgets.IntSlider(0, 0, len(batch["label"]) - 1, description="image", style=WIDE)
    menu = ipywidgets.Dropdown(options=options, value=first, description="draw as", style=WIDE)
    other = ipywidgets.Dropdown(options=options, value=second, description="morph to", style=WIDE)
    morph = ipywidgets.FloatSlider(0, min=0, max=1, step=0.05, description="how far", readout_format=".0%", style=WIDE)
    picture, verdict = ipywidgets.Image(format="png"), ipywidgets.HTML()

    @say_errors(verdict)
    def update(change=None) -> None:
        label, asked = int(batch["label"][slider.value]), mix_labels(menu.value, other.value, morph.value, len(names))
        picture.value, readings = draw_swap(module, batch["image"][slider.value], label, asked)
        shares = {names[part]: float(asked[part]) for part in asked.nonzero().flatten().tolist()}
        parts = [f"<b>{escape(name)}</b>" + (f" {share:.0%}" if share < 1 else "") for name, share in shares.items()]
        most = (asked >= 0.5 - 1e-6).nonzero().flatten().tolist()  # of a mixture, what there is most of
        what = f"<b>{escape(names[label])}</b> drawn as {' + '.join(parts)}"
        verdict.value = f"{what}<br>{describe_verdict(readings, most, names)}"

    for control in (slider, menu, other, morph):
        control.observe(update, "value")
    update()
    controls = ipywidgets.VBox([slider, menu, other, morph])
    return Panel([controls, ipywidgets.VBox([picture, verdict])], layout=WRAP)


def own_digit(record: Record) -> ipywidgets.Widget:
    """Draw a digit, or upload a picture of one, and see it drawn under all labels, with what the judges read.

    It is centred and scaled as those of MNIST were (`normalise_digit`). The encoder also needs its label: the menu
    follows what the first judge reads while you draw, and can be set right.

    Args:
        record: a conditional VAE's on images of 1×28×28; one without judges or weights as of `label_swap`.

    Raises:
        InputError: the record of something else.
    """
    check_family(record)
    if (record.data["channels"], record.data["size"]) != (1, DIGIT_SIZE):
        raise InputError(f"{record.experiment} does not draw digits: give the record of cvae-mnist")
    try:
        module = record.model()
    except InputError as error:
        return say_instead(str(error))
    names = list(module.classes)
    upload = ipywidgets.FileUpload(accept="image/*", description="or upload one", layout={"width": "12em"})
    options = [(name, number) for number, name in enumerate(names)]
    menu = ipywidgets.Dropdown(options=options, description="it is a", disabled=True, layout={"width": "12em"})
    answer = ipywidgets.HTML("Draw a digit on the pad, with a mouse, a pen or a finger.")
    digit = None

    def show(change=None) -> None:
        if digit is not None:
            answer.value = draw_all_labels(module, digit, menu.value)

    def take(image: Tensor | None) -> None:
        nonlocal digit
        digit, menu.disabled = image, image is None
        if image is None:
            return
        menu.unobserve(shown, "value")  # one drawing for both changes
        for readings in read_drawings(module.judges[:1], image.unsqueeze(0)):
            menu.value = readings[0][0] if readings else menu.value
        menu.observe(shown, "value")
        show()

    @say_errors(answer)
    def draw(content: dict, buffers: list[memoryview]) -> None:
        values = torch.frombuffer(bytearray(buffers[0]), dtype=torch.float32)
        take(values.view(1, DIGIT_SIZE, DIGIT_SIZE).clamp(0, 1))

    @say_errors(answer)
    def receive(change) -> None:
        if upload.value:
            take(None)
            take(normalise_digit(read_upload(upload.value)))

    shown = say_errors(answer)(show)
    menu.observe(shown, "value")
    upload.observe(receive, "value")
    beside = {"flex": "1 1 0", "min_width": "20em"}
    column = ipywidgets.VBox([ipywidgets.HBox([upload, menu], layout=WRAP), answer], layout=beside)
    return Panel([PadView(draw), column], layout=WRAP)


def check_family(record: Record) -> None:
    if record.family != "cvae":
        raise InputError(f"{record.experiment} has no labels to swap: give the record of a conditional VAE")


def draw_all_labels(module: nn.Module, image: Tensor, label: int) -> str:
    """HTML of an image (C, S, S) beside its drawings under all labels, each above the judges' verdict."""
    names, count = module.classes, len(module.classes)
    drawings = module.swap(image.expand(count, -1, -1, -1), torch.full((count,), label), torch.arange(count))
    tiles = []
    for asked, readings in enumerate(read_drawings(module.judges, drawings)):
        read = " and ".join(escape(names[read]) for read, _ in readings)
        verdict = f"<br>{mark_readings(readings, [asked])} reads {read}" if readings else ""
        tiles.append(
            write_tile(drawings[asked], f"yours drawn as a {names[asked]}", f"as <b>{names[asked]}</b>{verdict}")
        )
    yours = write_tile(image, f"yours, a {names[label]}", f"<b>yours</b>, a {escape(names[label])}")
    grid = f"<div style='display: grid; grid-template-columns: repeat(5, auto); gap: 0.6em'>{''.join(tiles)}</div>"
    return f"<div style='display: flex; flex-wrap: wrap; gap: 0.8em 1.8em; margin-top: 0.6em'>{yours}{grid}</div>"


def write_tile(image: Tensor, alt: str, caption: str) -> str:
    """HTML of one image (C, S, S) above its caption."""
    source = base64.b64encode(to_png(image, SMALL_ZOOM)).decode()
    return (
        f"<figure style='{FIGURE}'><img alt='{escape(alt)}' src='data:image/png;base64,{source}'>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def read_upload(value) -> bytes:
    """The last of the files that a `FileUpload` holds: dicts in a tuple, or before ipywidgets 8 in a dict."""
    files = list(value.values()) if isinstance(value, dict) else value
    return bytes(files[-1]["content"])
