"""The examples of `docs/data.md`, run as they stand there on small folders."""

import re
import shlex
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import DRAW_RECORD
from PIL import Image, ImageDraw

from s18_utils.cvae.plots import draw_variety
from s18_utils.play.scripts import PhotoView
from s18_utils.records import read_record
from s18_utils.report.tables import compare_records
from s18_utils.training import record_data

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m s18_utils (.*)$", PAGE, re.M)
SHAPES = ("circle", "cross", "square")


def draw_coin(chance: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """A gold disc on a plain ground, and its mask of 0 and 255."""
    x, y, radius = (int(chance.integers(*ends)) for ends in ((20, 60), (20, 44), (8, 18)))
    image, mask = Image.new("RGB", (80, 64), tuple(chance.integers(0, 120, 3).tolist())), Image.new("L", (80, 64))
    for picture, colour in ((image, "gold"), (mask, 255)):
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image, mask


def draw_shape(name: str, chance: np.random.Generator) -> Image.Image:
    image, middle, half = Image.new("L", (28, 28)), 14 + int(chance.integers(-3, 4)), int(chance.integers(5, 9))
    box, pen = (middle - half, middle - half, middle + half, middle + half), ImageDraw.Draw(image)
    if name == "circle":
        pen.ellipse(box, outline=255, width=2)
    if name == "square":
        pen.rectangle(box, outline=255, width=2)
    if name == "cross":
        pen.line(box, fill=255, width=2)
        pen.line((box[0], box[3], box[2], box[1]), fill=255, width=2)
    return image


@pytest.fixture
def folders(tmp_path, monkeypatch, small) -> Path:
    """A folder to work in, with what the page's examples name."""
    chance = np.random.default_rng(0)
    for name in ("coins/images", "coins/masks", "fashion", *(f"shapes/{name}" for name in SHAPES)):
        (tmp_path / name).mkdir(parents=True)
    for number in range(40):
        image, mask = draw_coin(chance)
        image.save(tmp_path / f"coins/images/{number}.jpg")
        mask.save(tmp_path / f"coins/masks/{number}.png")
    (tmp_path / "coins" / "classes.txt").write_text("table\ncoin\n")
    draw_coin(chance)[0].resize((320, 256)).save(tmp_path / "coin.jpg")
    images, labels = [], []
    for label, name in enumerate(SHAPES):
        for number in range(120):
            images.append(draw_shape(name, chance))
            images[-1].save(tmp_path / f"shapes/{name}/{number}.png")
            labels.append(label)
    for split, step in (("train", 1), ("t10k", 4)):
        pixels = np.stack([np.asarray(image) for image in images[::step]])
        for kind, magic, values in (("images-idx3", 0x803, pixels), ("labels-idx1", 0x801, np.uint8(labels[::step]))):
            head = struct.pack(f">{1 + values.ndim}I", magic, *values.shape)
            (tmp_path / "fashion" / f"{split}-{kind}-ubyte").write_bytes(head + values.tobytes())
    (tmp_path / "fashion" / "classes.txt").write_text("shirt\nshoe\nbag\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("S18_PRESET", "tiny")
    return tmp_path


def test_masks_train_a_unet_that_predicts_and_plays(folders, run):
    for command in [words for words in COMMANDS if "unet" in words]:
        status, _, said = run(*shlex.split(command))
        assert status == 0, f"{command}: {said}"
    assert Image.open("masks/coin-mask.png").size == (320, 256)
    record = read_record(folders / "runs" / "tiny" / "unet-maxpool-transpose-dice+data=coins")
    assert record.data["classes"] == ["table", "coin"]
    assert record.test["iou"].keys() == {"table", "coin"}
    [example] = re.findall(r"```python\n(.*?)\n```", PAGE, re.S)
    setting, _, last = example.rpartition("\n")
    names = {}
    exec(setting, names)  # noqa: S102
    view = eval(last, names)
    assert isinstance(view, PhotoView)
    assert view.about["networks"][0]["classes"] == ["table", "coin"]


def test_classes_train_a_conditional_vae_with_their_own_names(folders, run):
    commands = [words for words in COMMANDS if "cvae" in words]
    for command in commands:
        status, _, said = run(*shlex.split(command))
        assert status == 0, f"{command}: {said}"
    assert len(commands) == 4
    for name, classes in (("shapes", list(SHAPES)), ("fashion", ["shirt", "shoe", "bag"])):
        record = read_record(folders / "runs" / "tiny" / f"cvae-mnist+data={name}")
        assert record.data["classes"] == classes
    shapes = read_record(folders / "runs" / "tiny" / "cvae-mnist+data=shapes")
    assert len(shapes.test["swap_matrix"]) == 3
    assert shapes.test["judge_accuracy"] > 0.6
    module = shapes.model()
    assert len(module.judges) == 2
    assert compare_records([shapes]).rows[0][0] == shapes.label()
    assert draw_variety([shapes]).axes
    assert "composite" in DRAW_RECORD(shapes, module, record_data(shapes))
    assert Image.open("composite.png").width > 100
    assert "shirt, shoe, bag" in Path("export/README.md").read_text()
