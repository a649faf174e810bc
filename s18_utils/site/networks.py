"""Conditional VAEs as ONNX files, and what the playground page has to know of them."""

import base64
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from s18_utils.errors import InputError
from s18_utils.records import Record

EXAMPLES = 40  # test images to choose from


class Probabilities(nn.Module):
    """A classifier's answers as probabilities: images (N, C, S, S) to (N, classes)."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images).softmax(1)


def export_networks(record: Record, folder: Path) -> dict:
    """Writes a conditional VAE's networks and examples for the playground.

    `decoder.onnx` takes `codes` (N, latent) and `labels` (N, classes), rows that add up to 1, and gives `images`;
    `judge.onnx` takes `images` and gives `chances` (N, classes). For images of one channel, that can be drawn, there
    is `encoder.onnx` too, `images` and `labels` to `codes`. `examples.json` has test images with labels and codes.

    Args:
        record: a conditional VAE's, with its weights and a judge's.
        folder: where to write to; it must exist.

    Returns:
        What the page needs: `side`, `channels`, `names` of the classes and `latent`.

    Raises:
        InputError: no judge has a record with weights.
    """
    module = record.model()
    if not module.judges:
        raise InputError(f"no judge of {record.experiment} keeps its weights: train {record.experiment} again")
    vae = module.vae.to(memory_format=torch.contiguous_format)
    batch, every = record.examples(EXAMPLES), torch.eye(len(module.classes))
    codes, _ = module.encode(batch["image"], batch["label"])
    write_network(vae.decoder, {"codes": codes[:2], "labels": every[:2]}, ["images"], folder / "decoder.onnx")
    judge = Probabilities(module.judges[0])
    write_network(judge, {"images": batch["image"][:2]}, ["chances"], folder / "judge.onnx")
    channels, side, _ = module.image_shape
    if channels == 1:
        inputs = {"images": batch["image"][:2], "labels": every[:2]}
        write_network(vae.encoder, inputs, ["codes", "logvar"], folder / "encoder.onnx")
    examples = {
        "labels": batch["label"].tolist(),
        "codes": [[round(number, 5) for number in code] for code in codes.tolist()],
        "images": base64.b64encode((batch["image"] * 255).round().byte().numpy().tobytes()).decode(),
    }
    (folder / "examples.json").write_text(json.dumps(examples))
    return {"side": side, "channels": channels, "names": list(module.classes), "latent": module.latent}


def write_network(net: nn.Module, inputs: dict[str, Tensor], outputs: list[str], file: Path) -> None:
    """Exports a network with a first dimension of any length."""
    net = net.eval().to(memory_format=torch.contiguous_format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own insides
        torch.onnx.export(
            net,
            tuple(tensor.contiguous() for tensor in inputs.values()),
            file,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=[{0: torch.export.Dim("count")}] * len(inputs),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
