"""Trained networks as ONNX files, and what the playground's page has to know of them."""

import base64
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor, nn

from s18_utils.errors import InputError
from s18_utils.play.latent import LatentMap, map_codes
from s18_utils.records import Record
from s18_utils.report.origin import describe_share
from s18_utils.unet.overlay import class_colours

EXAMPLES = 100  # test images to choose from, and marks on the map
PHOTOGRAPHS = 12
TOLERANCE = 1e-3  # what half precision may change about an output in [0, 1]
AGREEMENT = 0.999  # and the share of pixels in which a mask must stay the same
LARGE = 256  # numbers: smaller tensors are left in full precision


class PixelProbabilities(nn.Module):
    """A UNet's probabilities (N, classes, S, S) for images (N, channels, S, S) in [0, 1]."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images).softmax(1)


class Codes(nn.Module):
    """An encoder's means alone: images (N, C, S, S) and one-hot labels (N, classes) to codes (N, latent)."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.encoder(images, labels)[0]


class Readings(nn.Module):
    """What classifiers read: images (N, C, S, S) to probabilities (judges, N, classes)."""

    def __init__(self, nets: list[nn.Module]):
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([net(images).softmax(1) for net in self.nets])


def export_unet(record: Record, folder: Path) -> dict:
    """Writes a UNet for the playground: `network.onnx`, and `photographs.png` if the record keeps test photographs.

    Args:
        record: with its weights.
        folder: where to write to; it must exist.

    Returns:
        What the page needs: `label`, `size`, `classes`, `colours`, `note`, and the names of both files as `file` and
        `examples` (None without photographs).
    """
    photographs = find_photographs(record)
    write_unet(record, photographs, folder / "network.onnx")
    if photographs is not None:
        (folder / "photographs.png").write_bytes(join_tiles(photographs))
    return describe_unet(record) | {
        "file": "network.onnx",
        "examples": None if photographs is None else "photographs.png",
    }


def describe_unet(record: Record) -> dict:
    """What the script of the photo view has to know of a UNet."""
    classes = list(record.data["classes"])
    return {
        "label": record.label(),
        "size": record.data["size"],
        "classes": classes,
        "colours": class_colours(classes),
        "note": f"Trained on {describe_share(record)}, at {record.data['size']} px, and on nothing else.",
    }


def write_unet(record: Record, photographs: Tensor | None, file: Path) -> None:
    """Exports a UNet; its masks of `photographs`, float (N, C, S, S), have to stay the same."""
    module, size = record.model(), record.data["size"]
    probe = photographs if photographs is not None else smooth_noise(4, module.channels, size)

    def same_masks(before: np.ndarray, after: np.ndarray) -> bool:
        return (before.argmax(1) == after.argmax(1)).mean() >= AGREEMENT

    write_network(PixelProbabilities(module.unet), {"images": probe}, "probabilities", file, same_masks)


def find_photographs(record: Record) -> Tensor | None:
    """The test photographs that a UNet's record keeps, float (N, C, S, S); None if it keeps none.

    They are in `examples.safetensors` as `image`, or in `photographs.png`, a row of squares.
    """
    size = record.data["size"]
    if "image" in record.stored_examples:
        return record.stored_examples["image"][:PHOTOGRAPHS].float() / 255
    if record.folder is None or not (record.folder / "photographs.png").is_file():
        return None
    row = torch.from_numpy(np.array(Image.open(record.folder / "photographs.png").convert("RGB")))
    tiles = row.permute(2, 0, 1).unfold(2, row.shape[0], row.shape[0]).permute(2, 0, 1, 3).float() / 255
    return nn.functional.interpolate(tiles[:PHOTOGRAPHS], (size, size), mode="bilinear", antialias=True)


def join_tiles(images: Tensor) -> bytes:
    """Images, float (N, 1 or 3, S, S) in [0, 1], as a PNG of one row."""
    row = torch.cat(list(images.expand(-1, 3, -1, -1)), dim=2)
    file = io.BytesIO()
    Image.fromarray((row.permute(1, 2, 0) * 255).round().byte().numpy()).save(file, "PNG")
    return file.getvalue()


def smooth_noise(count: int, channels: int, size: int) -> Tensor:
    """Images without meaning, of soft blobs, to compare networks on where there are no real ones."""
    coarse = torch.rand(count, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, (size, size), mode="bilinear")


def export_cvae(record: Record, folder: Path) -> dict:
    """Writes a conditional VAE for the playground: its networks as `write_cvae` does, and `examples.json`.

    `examples.json` has test images with labels and codes, and the directions of a map of the codes; numbers are float32
    in base64, images uint8.

    Args:
        record: with its weights and test images.
        folder: where to write to; it must exist.

    Returns:
        What the page needs: `title`, `side`, `channels`, `classes`, `latent`, and how many `judges` there are.
    """
    module, batch = record.model(), record.examples(EXAMPLES)
    space = map_examples(module, batch)
    write_cvae(module, batch, folder)
    arrays = {name: pack(values.numpy().astype("<f4")) for name, values in space.arrays().items()}
    images = pack((batch["image"] * 255).round().byte().numpy())
    examples = {"labels": batch["label"].tolist(), "images": images} | arrays
    (folder / "examples.json").write_text(json.dumps(examples), encoding="utf-8")
    channels, side, _ = module.image_shape
    return {
        "title": record.title(),
        "side": side,
        "channels": channels,
        "classes": list(module.classes),
        "latent": module.latent,
        "judges": len(module.judges),
    }


def map_examples(module: nn.Module, batch: dict[str, Tensor]) -> LatentMap:
    """A map of the codes of a batch of test images."""
    codes, _ = module.encode(batch["image"], batch["label"])
    return map_codes(codes, batch["label"])


def write_cvae(module: nn.Module, batch: dict[str, Tensor], folder: Path) -> None:
    """Exports a conditional VAE's networks, rows of labels being shares that add up to 1.

    `encoder.onnx`: `images` (N, C, S, S) and `labels` (N, classes) to `codes` (N, latent); `decoder.onnx`: `codes` and
    `labels` to `images`; `judges.onnx`, if there are judges: `images` to `probabilities` (judges, N, classes).
    """
    images, labels = batch["image"], nn.functional.one_hot(batch["label"], len(module.classes)).float()
    codes, _ = module.encode(images, batch["label"])
    asked = labels.roll(1, 1)  # a swap
    write_network(Codes(module.vae.encoder), {"images": images, "labels": labels}, "codes", folder / "encoder.onnx")
    write_network(module.vae.decoder, {"codes": codes, "labels": asked}, "images", folder / "decoder.onnx")
    if module.judges:
        write_network(Readings(module.judges), {"images": images}, "probabilities", folder / "judges.onnx")


def pack(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def write_network(
    net: nn.Module,
    inputs: dict[str, Tensor],
    output: str,
    file: Path,
    same: Callable[[np.ndarray, np.ndarray], bool] = lambda before, after: True,
) -> None:
    """Exports a network, with a first dimension of any length, its weights in half precision if that changes little.

    Args:
        net: in evaluation mode.
        inputs: examples by name, to trace the network with and to compare its outputs on.
        output: the output's name.
        file: where to write to.
        same: whether outputs before and after, float (N, …), mean the same.

    Raises:
        InputError: the exported network does not do what the network does.
    """
    net = net.eval().cpu().to(memory_format=torch.contiguous_format)
    inputs = {name: tensor.detach().contiguous() for name, tensor in inputs.items()}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own insides
        program = torch.onnx.export(
            net,
            tuple(tensor[:2] for tensor in inputs.values()),
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=[{0: torch.export.Dim("count")}] * len(inputs),
            dynamo=True,
            verbose=False,
            optimize=False,  # it multiplies weights by batch norms: what a record keeps in half precision stays exact
        )
        expected = net(*inputs.values()).numpy()
    feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
    for model in (halve_weights(program.model_proto), program.model_proto):
        given = run_network(model, feeds)
        if np.abs(given - expected).max() <= TOLERANCE and same(expected, given):
            onnx.save(model, file)
            return
    raise InputError(
        f"the network exported to {file} differs from the trained one: use other versions of torch and onnx"
    )


def halve_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a network that keeps its large tensors in half precision and computes with them in full."""
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    graph, casts = halved.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LARGE:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return halved


def run_network(model: onnx.ModelProto | Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """An ONNX network's first output, by onnxruntime on the CPU."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]
