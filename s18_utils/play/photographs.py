"""What the photo view has to know of a UNet, and the test photographs that its record keeps."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from s18_utils.records import Record
from s18_utils.report.origin import describe_share
from s18_utils.unet.overlay import class_colours

PHOTOGRAPHS = 12


def describe_unet(record: Record) -> dict:
    """`label`, `size`, `classes`, `colours`, and a `note` on what it was trained on."""
    classes, size = list(record.data["classes"]), record.data["size"]
    note = f"Trained on {describe_share(record)}, at {size} px, and on nothing else."
    return {"label": record.label(), "size": size, "classes": classes, "colours": class_colours(classes), "note": note}


def find_photographs(record: Record) -> Tensor | None:
    """The test photographs that a UNet's record keeps, float (N, C, S, S); None if it keeps none.

    They are in `examples.safetensors` as `image`, or in `photographs.png`, a row of squares.
    """
    if "image" in record.stored_examples:
        return record.stored_examples["image"][:PHOTOGRAPHS].float() / 255
    if not (record.folder / "photographs.png").is_file():
        return None
    row = torch.from_numpy(np.array(Image.open(record.folder / "photographs.png").convert("RGB"))).permute(2, 0, 1)
    tiles = torch.stack(row.split(row.shape[1], dim=2)[:PHOTOGRAPHS]).float() / 255
    return F.interpolate(tiles, (record.data["size"],) * 2, mode="bilinear", antialias=True)


def join_tiles(images: Tensor) -> bytes:
    """Images, float (N, 1 or 3, S, S) in [0, 1], as a PNG of one row."""
    row = torch.cat(list(images.expand(-1, 3, -1, -1)), dim=2).permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray((row * 255).round().byte().numpy()).save(file, "PNG")
    return file.getvalue()
