"""Trained networks as ONNX files, and what the playground's page has to know of them."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxscript  # noqa: F401  torch's exporter wants it, and says so late
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from s18_utils.data.store import Batch
from s18_utils.errors import InputError
from s18_utils.play.latent import describe_painter, map_images
from s18_utils.play.photographs import find_photographs
from s18_utils.records import Record

EXAMPLES = 100  # test images to choose from, and marks on the map
TOLERANCE = 1e-3  # what half precision may change about an output in [0, 1]
AGREEMENT = 0.999  # and the share of pixels in which a mask must stay the same
MAKER = "s18_utils export"  # in every network's file, by which a later export knows it
LARGE = 256  # numbers: smaller tensors are left in full precision


class Probabilities(nn.Module):
    """A network's logits as probabilities: (N, classes, …) of a UNet, stacked (judges, N, classes) of classifiers."""

    def __init__(self, *nets: nn.Module, stack: bool):
        super().__init__()
        self.nets, self.stack = nn.ModuleList(nets), stack

    def forward(self, images: Tensor) -> Tensor:
        probabilities = [net(images).softmax(1) for net in self.nets]
        return torch.stack(probabilities) if self.stack else probabilities[0]


class Codes(nn.Module):
    """An encoder's means alone: images (N, C, S, S) and one-hot labels (N, classes) to codes (N, latent)."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.encoder(images, labels)[0]


def write_unet(record: Record, file: Path) -> None:
    """Exports a UNet: `images` (N, C, S, S) to `probabilities` (N, classes, S, S); masks have to stay the same."""
    images, _ = find_photographs(record)

    def same_masks(before: np.ndarray, after: np.ndarray) -> bool:
        return (before.argmax(1) == after.argmax(1)).mean() >= AGREEMENT

    net = Probabilities(record.model(), stack=False)  # the module, which pads what four halvings can't divide
    write_network(net, {"images": images}, "probabilities", file, same_masks)


def draw_noise(channels: int, size: int) -> Tensor:
    """Images without meaning, float (4, C, S, S), of soft blobs, to compare outputs on where there are no real ones."""
    coarse = torch.rand(4, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, (size, size), mode="bilinear")


def export_cvae(record: Record, folder: Path) -> dict:
    """Writes a conditional VAE for the playground: its networks as `write_cvae` does, and test images `examples.bin`.

    Args:
        record: with its weights and test images.
        folder: where to write to; it must exist.

    Returns:
        What the page needs: that of `describe_painter` with a map's arrays, `title`, and whether there is a `pad`.
    """
    module, batch = record.model(), record.examples(EXAMPLES)
    write_cvae(module, batch, folder)
    about, content = describe_painter(module, batch, **map_images(module, batch)._asdict())
    (folder / "examples.bin").write_bytes(content)
    return about | {"title": record.title(), "pad": module.image_shape == (1, 28, 28)}


def write_cvae(module: nn.Module, batch: Batch, folder: Path) -> None:
    """Exports a conditional VAE's networks, rows of labels being shares that add up to 1.

    `encoder.onnx`: `images` (N, C, S, S) and `labels` (N, classes) to `codes` (N, latent); `decoder.onnx`: `codes` and
    `labels` to `images`; `judges.onnx`, if there are judges: `images` to `probabilities` (judges, N, classes).
    """
    images, labels = batch["image"], F.one_hot(batch["label"], len(module.classes)).float()
    codes, _ = module.encode(images, batch["label"])
    write_network(Codes(module.vae.encoder), {"images": images, "labels": labels}, "codes", folder / "encoder.onnx")
    asked = labels.roll(1, 1)  # a swap
    write_network(module.vae.decoder, {"codes": codes, "labels": asked}, "images", folder / "decoder.onnx")
    if module.judges:
        judges = Probabilities(*module.judges, stack=True)
        write_network(judges, {"images": images}, "probabilities", folder / "judges.onnx")


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
        model = torch.onnx.export(
            net,
            tuple(tensor[:2] for tensor in inputs.values()),
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=[{0: torch.export.Dim("count")}] * len(inputs),
            dynamo=True,
            verbose=False,
            optimize=False,  # it multiplies weights by batch norms: what a record keeps in half precision stays exact
        ).model_proto
        expected = net(*inputs.values()).numpy()
    for variant in (halve_weights(model), model):
        given = run_network(variant, {name: tensor.numpy() for name, tensor in inputs.items()})
        if np.abs(given - expected).max() <= TOLERANCE and same(expected, given):
            variant.producer_name = MAKER
            onnx.save(variant, file)
            return
    raise InputError(f"the network exported to {file} differs from the trained one: try another version of torch")


def halve_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a network that keeps its large tensors in half precision and computes with them in full."""
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    casts, most = [], np.finfo(np.float16).max
    for tensor in halved.graph.initializer:
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.FLOAT and values.size >= LARGE and np.abs(values).max() <= most:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def run_network(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """An ONNX network's first output, by onnxruntime on the CPU."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]
