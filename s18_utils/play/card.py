"""A trained network to take away: ONNX files with a model card that says what they are and how to run them."""

import tempfile
from pathlib import Path

from s18_utils.errors import check_overwritable, local_path, make_folder
from s18_utils.play.export import EXAMPLES, MAKER, Probabilities, draw_noise, write_cvae, write_network, write_unet
from s18_utils.records import Record
from s18_utils.report.origin import describe_origin, describe_scored, describe_share
from s18_utils.report.tables import list_scores

CARD = "README.md"
MARK = "<!-- a model card of s18_utils -->"
NAMES = (CARD, "network.onnx", "encoder.onnx", "decoder.onnx", "judges.onnx")
LICENCES = {
    "pets": "The photographs of Oxford-IIIT Pet are under CC BY-SA 4.0, their copyright is their owners'.",
    "mnist": "MNIST is under CC BY-SA 3.0.",
    "cifar10": "CIFAR-10 comes without a licence, from photographs found on the web.",
}
IMAGES = "`images`, float32 (N, {channels}, {size}, {size}) in [0, 1]"
FILES = {
    "unet": f"`network.onnx`: {IMAGES}, to `probabilities` of the classes in every pixel, (N, {{classes}}, {{size}}, "
    "{size}).",
    "cvae": f"`encoder.onnx`: {IMAGES}, and `labels`, float32 (N, {{classes}}), one-hot, to `codes`, (N, {{latent}}). "
    "`decoder.onnx`: `codes` and `labels`, one-hot or shares that add up to 1, to `images`. `judges.onnx`, where there "
    "are judges: `images` to `probabilities`, (judges, N, {classes}), of networks that took no part in the training.",
    "classifier": f"`network.onnx`: {IMAGES}, to `probabilities`, (1, N, {{classes}}).",
}
USES = {
    "unet": """\
import numpy as np, onnxruntime
from PIL import Image, ImageOps
image = ImageOps.exif_transpose(Image.open("photograph.jpg")).convert("RGB").resize(({size}, {size}), Image.BILINEAR)
values = np.asarray(image, "float32").transpose(2, 0, 1)[None] / 255  # of a picture with 8 bits a channel, and opaque
mask = onnxruntime.InferenceSession("network.onnx").run(None, {{"images": values}})[0].argmax(1)[0]""",
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
LIMITS = {
    "unet": "It has learned from {title} alone, squeezed to {size}×{size} pixels: what looks otherwise it has never "
    "seen. It cannot tell two things of one class apart, and its borders are no finer than its pixels.",
    "cvae": "It draws {size}×{size} pixels of the {classes} classes that it has learned from, and nothing else. That "
    "judges read a drawing as asked does not make it a good one: see the variety beside the agreement.",
    "classifier": "It gives one of {classes} answers to any picture, also to one that shows none of them.",
}


def export_record(record: Record, folder: str | Path) -> list[Path]:
    """Writes a record's networks as ONNX files, and `README.md`, their model card, into a folder.

    Args:
        record: of any family, with its weights.
        folder: made if it is not there; in it, the files of an earlier export are replaced.

    Returns:
        The files.

    Raises:
        InputError: a record without weights, or a folder that holds something else under the files' names.
    """
    folder = local_path(folder)
    record.fetch_weights()  # without any, no folder is made
    make_folder(folder, "choose another folder")
    for name in NAMES:
        check_overwritable(folder / name, MARK if name == CARD else MAKER)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as name:
        partial = Path(name)
        if record.family == "unet":
            write_unet(record, partial / "network.onnx")
        elif record.family == "cvae":
            write_cvae(record.model(), record.examples(EXAMPLES), partial)
        else:
            images, net = draw_noise(record.data["channels"], record.data["size"]), record.model().net
            write_network(Probabilities(net, stack=True), {"images": images}, "probabilities", partial / "network.onnx")
        (partial / CARD).write_text(write_card(record), encoding="utf-8")
        for name in NAMES:
            if (partial / name).is_file():
                (partial / name).replace(folder / name)
            else:  # of an export of another family
                (folder / name).unlink(missing_ok=True)
    return [folder / name for name in NAMES if (folder / name).is_file()]


def write_card(record: Record) -> str:
    """The model card of a record, in Markdown."""
    data, family = record.data, record.family
    values = {"title": data["title"], "size": data["size"], "channels": data["channels"]}
    values["classes"] = len(data["classes"])
    values["latent"] = getattr(record.settings, "latent", None)
    licence = "" if record.synthetic else LICENCES.get(data["name"], "")
    scores = list_scores(record.test, record.spread).markdown()
    encoder = getattr(record.settings, "encoder", "scratch")
    start = (
        "trained from scratch" if encoder == "scratch" else f"with the encoder {encoder}, trained on ImageNet before"
    )
    spread = ", means over seeds and standard deviations" if record.spread else ""
    parts = {
        "What it is": f"`{record.folder.name}` at the preset `{record.preset}`, {start}, "
        f"{record.metrics['parameters']:,} parameters. Classes, as numbered: {', '.join(data['classes'])}.",
        "Files": f"{FILES[family].format(**values)} Weights are in half precision where that changes next to nothing.",
        "Use": f"```python\n{USES[family].format(**values)}\n```",
        "Data": f"{describe_share(data)}. {licence}".strip(),
        "Scores": f"{describe_scored(record).capitalize()}{spread}:\n\n{scores}\n\n{describe_origin(record)}.",
        "Limits": LIMITS[family].format(**values),
        "Licence": "Code and weights: MIT.",
    }
    return "\n\n".join([MARK, f"# {record.title()}", *(f"## {name}\n\n{text}" for name, text in parts.items())]) + "\n"
