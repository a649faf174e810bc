"""Widgets for label swaps: images drawn under another label or between two, from the test set or by hand."""

from html import escape

import ipywidgets
import torch
from torch import Tensor, nn

from s18_utils.errors import InputError
from s18_utils.play.latent import describe_painter
from s18_utils.play.scripts import Answer, SwapView
from s18_utils.records import Record

EXAMPLES = 50  # test images to choose from, at most
DIGIT = (1, 28)  # channels and side of images that one can draw


def say_instead(message: str) -> ipywidgets.Widget:
    """A sentence in a widget's place, for a record that has not what the widget needs: the notebook goes on."""
    return ipywidgets.HTML(escape(message))


def label_swap(record: Record):
    """Choose a test image and a label, or a mixture of two: the drawing, and what the judges read.

    Args:
        record: a conditional VAE's. Without its judges' records the swaps are drawn and not judged; without weights or
            test images of its own there is a sentence that says so.

    Raises:
        InputError: the record of something else.
    """
    return view_swaps(record, pad=False)


def own_digit(record: Record):
    """Draw a digit, or take a picture of one, and see it drawn under all labels, with what the judges read.

    It is centred and scaled as those of MNIST were. The encoder also needs its label: the menu follows what the first
    judge reads while you draw, and can be set right.

    Args:
        record: a conditional VAE's on images of 1×28×28; one without judges or weights as of `label_swap`.

    Raises:
        InputError: the record of something else.
    """
    check_family(record)
    if (record.data["channels"], record.data["size"]) != DIGIT:
        raise InputError(f"{record.experiment} does not draw digits: give the record of cvae-mnist")
    return view_swaps(record, pad=True)


def check_family(record: Record) -> None:
    if record.family != "cvae":
        raise InputError(f"{record.experiment} has no labels to swap: give the record of a conditional VAE")


def view_swaps(record: Record, pad: bool):
    """The view of `label_swap`, with a pad to draw on or without."""
    check_family(record)
    try:
        module, batch = record.model(), record.examples(EXAMPLES)
    except InputError as error:
        return say_instead(str(error))
    about, content = describe_painter(module, batch)
    return SwapView(run_networks(module), about=about | {"pad": pad}, content=content)


def run_networks(module: nn.Module) -> Answer:
    """The kernel's part of a view: the same as `Painter` in `painter.js` says, for float32 buffers."""
    classes = len(module.classes)

    @torch.no_grad()
    def read(images: Tensor) -> Tensor:
        chances = [judge(images).softmax(1) for judge in module.judges]
        return torch.stack(chances) if chances else torch.empty(0)

    def swap(image: Tensor, shares: Tensor, label: int | None) -> list[Tensor]:
        image = image.view(1, *module.image_shape)
        label = read(image)[0].argmax(1) if label is None else torch.tensor([label])
        codes, _ = module.encode(image, label)
        drawings = module.decode(codes.expand(len(shares), -1), shares)
        return [label.float(), drawings, read(drawings)]

    def answer(content: dict, buffers: list[memoryview]) -> list[bytes]:
        first, shares = (torch.frombuffer(bytearray(buffer), dtype=torch.float32) for buffer in buffers)
        shares = shares.view(-1, classes)
        if content["work"] == "swap":
            outputs = swap(first, shares, content["label"])
        else:
            outputs = [module.decode(first.view(-1, module.latent), shares)]
        return [output.float().contiguous().numpy().tobytes() for output in outputs]

    return answer
