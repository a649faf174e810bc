"""A trained network to take away: ONNX files with a model card that says what they are and how to run them."""

from pathlib import Path

from s18_utils.errors import InputError, make_folder
from s18_utils.play.export import (
    EXAMPLES,
    Readings,
    find_photographs,
    smooth_noise,
    write_cvae,
    write_network,
    write_unet,
)
from s18_utils.records import Record
from s18_utils.report.origin import describe_origin, describe_share
from s18_utils.report.tables import list_scores

CARD = "README.md"
LICENCES = {
    "pets": "The photographs of Oxford-IIIT Pet are under CC BY-SA 4.0, their copyright is their owners'.",
    "mnist": "MNIST is under CC BY-SA 3.0.",
    "cifar10": "CIFAR-10 comes without a licence, from photographs found on the web.",
}
USES = {
    "unet": """\
import numpy as np, onnxruntime
from PIL import Image
image = np.asarray(Image.open("photograph.jpg").convert("RGB").resize(({size}, {size}), Image.Resampling.BILINEAR))
network = onnxruntime.InferenceSession("network.onnx")
mask = network.run(None, {{"images": image.transpose(2, 0, 1)[None].astype("float32") / 255}})[0].argmax(1)[0]""",
    "cvae": """\
import numpy as np, onnxruntime
encoder, decoder = (onnxruntime.InferenceSession(name) for name in ("encoder.onnx", "decoder.onnx"))
image, own, other = np.zeros((1, {channels}, {size}, {size}), "float32"), 0, 1  # your image, in [0, 1], and its label
codes = encoder.run(None, {{"images": image, "labels": np.eye({classes}, dtype="float32")[[own]]}})[0]
drawing = decoder.run(None, {{"codes": codes, "labels": np.eye({classes}, dtype="float32")[[other]]}})[0]""",
    "classifier": """\
import numpy as np, onnxruntime
image = np.zeros((1, {channels}, {size}, {size}), "float32")  # yours, in [0, 1]
network = onnxruntime.InferenceSession("network.onnx")
probabilities = network.run(None, {{"images": image}})[0][0, 0]
print(probabilities.argmax(), probabilities.max())""",
}
FILES = {
    "unet": "`network.onnx`: `images`, float32 (N, {channels}, {size}, {size}) in [0, 1], to `probabilities` of the "
    "classes in every pixel, float32 (N, {classes}, {size}, {size}).",
    "cvae": "`encoder.onnx`: `images`, float32 (N, {channels}, {size}, {size}) in [0, 1], and `labels`, float32 "
    "(N, {classes}), one-hot, to `codes`, float32 (N, {latent}). `decoder.onnx`: `codes` and `labels`, one-hot or "
    "shares that add up to 1, to `images`. `judges.onnx`, where there are judges: `images` to `probabilities`, float32 "
    "(judges, N, {classes}), of networks that took no part in the training.",
    "classifier": "`network.onnx`: `images`, float32 (N, {channels}, {size}, {size}) in [0, 1], to `probabilities`, "
    "float32 (1, N, {classes}).",
}
LIMITS = {
    "unet": "It has learned from photographs that show a pet in the middle, squeezed to {size}×{size} pixels. It finds "
    "something of a pet in most pictures, cannot tell two animals apart, and its borders are no finer than its pixels.",
    "cvae": "It draws {size}×{size} pixels of the {classes} classes that it has learned from, and nothing else. That "
    "judges read a drawing as asked does not make it a good one: see the variety beside the agreement.",
    "classifier": "It gives one of {classes} answers to any picture, also to one that shows none of them.",
}


def export_record(record: Record, folder: str | Path) -> list[Path]:
    """Writes a record's networks as ONNX files, and `README.md`, their model card, into a folder.

    Args:
        record: with its weights.
        folder: made if it is not there; files of the same names in it are replaced if they are an earlier export's.

    Returns:
        The files.

    Raises:
        InputError: a record without weights, or a folder that holds something else under these names.
    """
    folder = make_folder(folder, "choose another folder")
    names = (CARD, "network.onnx", "encoder.onnx", "decoder.onnx", "judges.onnx")
    there = [name for name in names if (folder / name).exists()]
    if there and not (folder / CARD).is_file():
        raise InputError(f"{folder} holds a {there[0]} of somebody else's: choose another folder")
    if (folder / CARD).is_file() and MARK not in (folder / CARD).read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{folder} holds a {CARD} that is no model card of this package: choose another folder")
    for name in there:
        (folder / name).unlink()
    write_networks(record, folder)
    (folder / CARD).write_text(write_card(record), encoding="utf-8")
    return [folder / name for name in names if (folder / name).is_file()]


def write_networks(record: Record, folder: Path) -> None:
    """The ONNX files of a record of any family."""
    if record.family == "unet":
        return write_unet(record, find_photographs(record), folder / "network.onnx")
    module = record.model()
    if record.family == "cvae":
        return write_cvae(module, record.examples(EXAMPLES), folder)
    images = smooth_noise(4, record.data["channels"], record.data["size"])
    return write_network(Readings([module.net]), {"images": images}, "probabilities", folder / "network.onnx")


MARK = "<!-- a model card of s18_utils -->"


def write_card(record: Record) -> str:
    """The model card, in Markdown."""
    data, family = record.data, record.family
    values = {"size": data["size"], "channels": data["channels"], "classes": len(data["classes"])}
    values["latent"] = getattr(record.settings, "latent", 0)
    changes = f" It differs from the experiment's own settings: {record.variant_text()[2:]}." if record.changes else ""
    licence = "The drawn images are this package's own." if record.synthetic else LICENCES.get(data["name"], "")
    parts = {
        "What it is": f"`{record.experiment}` at the preset `{record.preset}`, trained from scratch, "
        f"{record.metrics['parameters']:,} parameters.{changes} Classes, as numbered: {', '.join(data['classes'])}.",
        "Files": FILES[family].format(**values) + " Weights are in half precision where that changes next to nothing.",
        "Use": f"```python\n{USES[family].format(**values)}\n```",
        "Data": f"{describe_share(record)}. {licence}".strip(),
        "Scores": f"On {data['test']:,} test images"
        + (", means over seeds and standard deviations" if record.spread else "")
        + f":\n\n{list_scores(record.test, record.spread).markdown()}\n\n{describe_origin(record)}.",
        "Limits": LIMITS[family].format(**values),
        "Licence": "Code and weights: MIT.",
    }
    title = f"{MARK}\n\n# {record.title()}"
    return "\n\n".join([title, *(f"## {name}\n\n{text}" for name, text in parts.items())]) + "\n"
