"""The label-swap widget: choose an image and a label, and see the one drawn under the other."""

import io

import ipywidgets
import torch
from PIL import Image

from s18_utils.cvae import CVAEModule
from s18_utils.data import class_names
from s18_utils.data.batches import StoreData

ZOOM = 7  # screen pixels for each pixel of an image


def draw_swap(module: CVAEModule, image: torch.Tensor, label: int, asked: int) -> tuple[bytes, int, float]:
    """One image drawn under the label `asked`, as the widget shows it.

    Args:
        module: a trained module with its judge attached.
        image: float (C, S, S) in [0, 1].
        label: its own label.
        asked: the label to draw it under.

    Returns:
        A PNG of the input beside the output, the label that the judge reads, and how sure it is, in [0, 1].
    """
    images, labels = image.unsqueeze(0), torch.tensor([label])
    drawing = module.swap(images, labels, torch.tensor([asked]))
    with torch.no_grad():
        chances = module.scores.judge(drawing).softmax(dim=1)[0]
    gap = torch.ones_like(image[:, :, :2])
    pixels = torch.cat([image, gap, drawing[0]], dim=2).expand(3, -1, -1).permute(1, 2, 0)
    picture = Image.fromarray((pixels * 255).round().to(torch.uint8).numpy())
    file = io.BytesIO()
    picture.resize((picture.width * ZOOM, picture.height * ZOOM), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue(), int(chances.argmax()), float(chances.max())


def label_swap(module: CVAEModule, data: StoreData, count: int = 50) -> ipywidgets.Widget:
    """A dropdown for the label, a slider for the image, the input beside the output, and the judge's verdict."""
    batch, names = data.examples(count), class_names(data.data.name, data.data.source)
    slider = ipywidgets.IntSlider(0, 0, len(batch["label"]) - 1, description="image")
    menu = ipywidgets.Dropdown(options=[(name, number) for number, name in enumerate(names)], description="draw as")
    picture, verdict = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def update(change=None) -> None:
        label = int(batch["label"][slider.value])
        png, read, chance = draw_swap(module, batch["image"][slider.value], label, menu.value)
        picture.value = png
        mark = "✓" if read == menu.value else "✗"
        verdict.value = (
            f"{mark} a <b>{names[label]}</b> drawn as <b>{names[menu.value]}</b>: "
            f"the judge reads <b>{names[read]}</b> ({chance:.0%} sure)"
        )

    slider.observe(update, "value")
    menu.observe(update, "value")
    update()
    return ipywidgets.VBox([ipywidgets.HBox([slider, menu]), picture, verdict])
