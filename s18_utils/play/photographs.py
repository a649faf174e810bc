"""What the photo view has to know of UNets, and the pictures that it offers to choose from."""

import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from s18_utils.data import synthetic
from s18_utils.records import Record
from s18_utils.report.origin import describe_share
from s18_utils.unet.overlay import class_colours, class_tints

PHOTOGRAPHS = 12


def describe_unets(records: Sequence[Record]) -> tuple[dict, bytes]:
    """What `photo.js` has to know of UNets.

    Returns:
        `networks`, each with `label`, `size`, `classes`, `colours` and `tints`; a `note` on what they were trained on;
        `examples`, how many pictures there are to choose from; and `truth`, the number of the network whose size and
        classes their true masks have, None without masks. Then the pictures, as of `join_tiles`.
    """
    networks, notes = [], {}
    for record in records:
        classes, size = list(record.data["classes"]), record.data["size"]
        look = {"label": record.label(), "size": size, "classes": classes}
        look |= {"colours": class_colours(classes), "tints": class_tints(classes)}
        networks.append(look)
        only = ", and on nothing else" if record.settings.encoder == "scratch" else ""
        notes[f"Trained on {describe_share(record.data)}, at {size} px{only}."] = None
    source = next((number for number, record in enumerate(records) if "image" in record.stored_examples), None)
    images, masks = find_photographs(records[source or 0])
    if source is None:
        notes["The pictures to choose from are drawn by code: no record here keeps photographs."] = None
    about = {"networks": networks, "note": " ".join(notes), "examples": len(images)}
    return about | {"truth": None if masks is None else source}, join_tiles(images, masks)


def find_photographs(record: Record) -> tuple[Tensor, Tensor | None]:
    """Pictures for a UNet, float (N, 3, S, S) in [0, 1], with their masks, integer (N, S, S), or None.

    They are the test photographs that its record keeps, else drawn by code, without masks.
    """
    kept = record.stored_examples
    if "image" not in kept:
        return synthetic.pets(PHOTOGRAPHS, record.data["size"], seed=0)[0].float() / 255, None
    masks = kept["mask"][:PHOTOGRAPHS] if "mask" in kept else None
    return kept["image"][:PHOTOGRAPHS].float() / 255, masks


def join_tiles(images: Tensor, masks: Tensor | None = None) -> bytes:
    """Images, float (N, 1 or 3, S, S) in [0, 1], as a PNG of one row; below them their masks, a grey value a class."""
    rows = [torch.cat(list((images * 255).round().byte().expand(-1, 3, -1, -1)), dim=2)]
    rows += [] if masks is None else [torch.cat(list(masks.byte()), dim=1).expand(3, -1, -1)]
    file = io.BytesIO()
    Image.fromarray(torch.cat(rows, dim=1).permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.getvalue()
