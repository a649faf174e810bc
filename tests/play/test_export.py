"""Networks as ONNX files: the same answers as torch, small, with a model card whose lines run."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import assert_one_sentence
from PIL import Image
from play_stand_ins import write_untrained
from torch import nn

from s18_utils import records
from s18_utils.errors import InputError
from s18_utils.play import card, export, page
from s18_utils.play.card import export_record
from s18_utils.play.export import MAKER, Probabilities, export_cvae, write_network
from s18_utils.play.latent import map_codes
from s18_utils.play.photographs import find_photographs
from s18_utils.records import read_record
from s18_utils.unet.module import UNetModule


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """Records of untrained networks, the judges' among them."""
    folder = tmp_path_factory.mktemp("figures")
    write_untrained(folder, "unet-strided-upsample-dice")
    write_untrained(folder, "judge-mnist")
    write_untrained(folder, "cvae-mnist", networks=("judge",))
    return folder


NAMES = ["unet-strided-upsample-dice", "cvae-mnist", "judge-mnist"]


@pytest.fixture(scope="module")
def exports(figures, tmp_path_factory) -> dict:
    """A folder of exported files for each of the records."""
    folders = {name: tmp_path_factory.mktemp(name) for name in NAMES}
    for name, folder in folders.items():
        files = export_record(read_record(figures / name), folder)
        assert {file.name for file in files} == {path.name for path in folder.iterdir()}
    return folders


@pytest.fixture
def unwritten(monkeypatch) -> None:
    """Networks are empty files."""
    monkeypatch.setattr(export, "write_network", lambda net, inputs, output, file: file.touch())


def run(file, **feeds) -> np.ndarray:
    return onnxruntime.InferenceSession(str(file)).run(None, feeds)[0]


def test_a_unet_gives_the_same_probabilities_and_masks_in_onnxruntime(figures, exports):
    record = read_record(figures / "unet-strided-upsample-dice")
    images, module = find_photographs(record)[0], record.model()
    with torch.no_grad():
        expected = module(images).softmax(1).numpy()
    given = run(exports["unet-strided-upsample-dice"] / "network.onnx", images=images.numpy())
    assert np.abs(given - expected).max() < 1e-3
    assert (given.argmax(1) == expected.argmax(1)).mean() >= 0.999
    assert given.argmax(1).min() < given.argmax(1).max()  # a mask of more than one class


def test_a_unet_of_a_side_that_four_halvings_can_not_divide(tmp_path):
    torch.manual_seed(0)
    choices = {"encoder": "scratch", "down": "strided", "up": "bilinear", "skip": True, "loss": "dice", "width": 4}
    rates = {"learning_rate": 1e-3, "weight_decay": 0.0}
    module = UNetModule(**choices, **rates, classes=("pet", "background"), channels=3).eval()
    images = torch.rand(3, 3, 40, 40)
    write_network(Probabilities(module, stack=False), {"images": images}, "probabilities", tmp_path / "network.onnx")
    given = run(tmp_path / "network.onnx", images=images.numpy())
    assert np.abs(given - module.predict_probabilities(images).numpy()).max() < 1e-3


def test_a_conditional_vae_gives_the_same_codes_drawings_and_readings(figures, exports):
    record, folder = read_record(figures / "cvae-mnist"), exports["cvae-mnist"]
    module, batch = record.model(), record.examples(24)
    every, shares = torch.eye(10)[batch["label"]], torch.lerp(torch.eye(10)[3], torch.eye(10)[8], 0.25).expand(24, -1)
    codes, _ = module.encode(batch["image"], batch["label"])
    given = run(folder / "encoder.onnx", images=batch["image"].numpy(), labels=every.numpy())
    assert np.abs(given - codes.numpy()).max() < 1e-3
    drawings = run(folder / "decoder.onnx", codes=codes.numpy(), labels=shares.contiguous().numpy())
    expected = module.decode(codes, shares)
    assert np.abs(drawings - expected.numpy()).max() < 1e-3
    assert expected.std() > 0.05
    read = run(folder / "judges.onnx", images=drawings)
    assert read.shape == (1, 24, 10)
    with torch.no_grad():
        np.testing.assert_allclose(read[0], module.judges[0](expected).softmax(1), atol=2e-3)


def test_test_images_come_with_their_codes(figures, tmp_path, unwritten):
    record = read_record(figures / "cvae-mnist")
    about = export_cvae(record, tmp_path)
    batch, content = record.examples(24), (tmp_path / "examples.bin").read_bytes()
    codes, _ = record.model().encode(batch["image"], batch["label"])
    assert about["arrays"][0] == ["codes", 24 * about["latent"]]
    unpacked = np.frombuffer(content, "<f4", 24 * about["latent"]).reshape(24, -1)
    np.testing.assert_allclose(unpacked, codes.numpy(), atol=1e-5)
    images = np.frombuffer(content[-24 * 28 * 28 :], np.uint8).reshape(24, 1, 28, 28)
    np.testing.assert_allclose(images / 255, batch["image"], atol=0.5 / 255)
    assert about["pad"]
    assert (about["side"], about["channels"], about["judges"]) == (28, 1, 1)


def test_without_a_judge_there_is_none_to_download(tmp_path, unwritten):
    write_untrained(tmp_path, "cvae-mnist", networks=("judge",))
    about = export_cvae(read_record(tmp_path / "cvae-mnist"), tmp_path)
    assert about["judges"] == 0
    assert {file.name for file in tmp_path.glob("*.onnx")} == {"encoder.onnx", "decoder.onnx"}


def test_half_precision_is_kept_only_if_it_changes_next_to_nothing(tmp_path, monkeypatch):
    net = nn.Linear(64, 256)
    size = 64 * 256 * 4
    write_network(net, {"x": torch.rand(4, 64)}, "y", tmp_path / "half.onnx")
    assert (tmp_path / "half.onnx").stat().st_size < size
    write_network(
        net, {"x": torch.rand(4, 64)}, "y", tmp_path / "whole.onnx", lambda before, after: (before == after).all()
    )
    assert (tmp_path / "whole.onnx").stat().st_size > size
    net.weight.data[0, 0] = 1e6  # more than half precision holds
    write_network(net, {"x": torch.rand(4, 64)}, "y", tmp_path / "large.onnx")
    assert (tmp_path / "large.onnx").stat().st_size > size
    monkeypatch.setattr(export, "run_network", lambda model, feeds: np.zeros((4, 256), np.float32))
    with pytest.raises(InputError) as caught:
        write_network(net, {"x": torch.rand(4, 64)}, "y", tmp_path / "wrong.onnx")
    assert_one_sentence(str(caught.value), "differs from the trained one")
    assert not (tmp_path / "wrong.onnx").exists()


def test_weights_that_are_stored_in_half_stay_as_they_are(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 16, 5), nn.BatchNorm2d(16)).eval()
    net[0].weight.data = net[0].weight.data.half().float()
    net[1].running_var.uniform_(0.1, 0.3)
    write_network(net, {"x": torch.rand(2, 1, 8, 8)}, "y", tmp_path / "net.onnx")
    kept = [it for it in onnx.load(tmp_path / "net.onnx").graph.initializer if it.name.endswith("_half")]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kept[0]), net[0].weight.detach().half().numpy())


# A map of codes.


def test_the_map_of_codes_on_a_line_is_that_line():
    along = torch.tensor([-3.0, -1.0, 1.0, 3.0])
    codes = torch.tensor([5.0, -2.0, 0.5]) + along[:, None] * torch.tensor([0.6, 0.0, -0.8])
    space = map_codes(codes)
    torch.testing.assert_close(space.mean, torch.tensor([5.0, -2.0, 0.5]))
    torch.testing.assert_close(space.directions, torch.tensor([[-0.6, 0.0, 0.8]]))  # the largest part is positive
    torch.testing.assert_close(space.deviations, torch.tensor([(20 / 3) ** 0.5]))


def test_directions_are_at_right_angles_the_widest_first():
    codes = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 4.0, 2.0, 0.5, 3.0])
    space = map_codes(codes, shown=3)
    torch.testing.assert_close(space.directions @ space.directions.T, torch.eye(3), atol=1e-5, rtol=0)
    assert space.directions.abs().argmax(1).tolist() == [1, 4, 2]
    torch.testing.assert_close(((codes - space.mean) @ space.directions.T).std(0), space.deviations)


@pytest.mark.parametrize(
    ("codes", "part"), [(torch.rand(2, 4), "of at least 3"), (torch.ones(9, 4), "all codes are alike")]
)
def test_codes_that_make_no_map_are_said(codes, part):
    with pytest.raises(InputError) as caught:
        map_codes(codes)
    assert_one_sentence(str(caught.value), part)


# Taking it away.


@pytest.mark.parametrize(
    ("name", "result", "shape"),
    [(NAMES[0], "mask", (48, 48)), (NAMES[1], "drawing", (1, 1, 28, 28)), (NAMES[2], "probabilities", (10,))],
)
def test_the_exported_files_run_from_the_lines_of_their_card(exports, monkeypatch, name, result, shape):
    folder, done = exports[name], {}
    lines = re.search(r"```python\n(.*?)\n```", (folder / "README.md").read_text(), re.S)[1]
    assert len(lines.splitlines()) == 5
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(folder / "photograph.jpg")
    monkeypatch.chdir(folder)
    exec(lines, done)
    assert done[result].shape == shape


def test_the_card_says_what_on_which_data_how_good_and_under_what_licence(exports):
    text = (exports["unet-strided-upsample-dice"] / "README.md").read_text()
    titles = ["What it is", "Files", "Use", "Data", "Scores", "Limits", "Licence"]
    assert re.findall("^## (.*)", text, re.M) == titles
    assert "| mean iou | 0.6000 |" in text
    assert "CC BY-SA 4.0" in text
    assert "fingerprint 0123456789abcdef" in text
    assert "{" not in re.sub(r"```.*?```", "", text, flags=re.S)


def test_an_export_replaces_an_earlier_one_and_nothing_else(figures, tmp_path, monkeypatch):
    texts = iter((f"{MAKER} first", f"{MAKER} second"))
    monkeypatch.setattr(card, "write_network", lambda net, inputs, output, file: file.write_text(next(texts)))
    record = read_record(figures / "judge-mnist")
    for name in ("network.onnx", "encoder.onnx", "README.md"):
        (tmp_path / name).write_text("somebody's")
        with pytest.raises(InputError) as caught:
            export_record(record, tmp_path)
        assert_one_sentence(str(caught.value), f"{name} is there and was not made by this command", "move it away")
        assert [file.read_text() for file in tmp_path.iterdir()] == ["somebody's"]
        (tmp_path / name).unlink()
    export_record(record, tmp_path / "new")
    (tmp_path / "new" / "notes.txt").touch()
    (tmp_path / "new" / "encoder.onnx").write_text(f"{MAKER}, of a conditional VAE")
    export_record(record, tmp_path / "new")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["README.md", "network.onnx", "notes.txt"]
    assert (tmp_path / "new" / "network.onnx").read_text() == f"{MAKER} second"


def test_a_record_without_weights_is_not_exported(figures, tmp_path):
    record = write_untrained(tmp_path, "judge-mnist")
    (record.folder / "weights.safetensors").unlink()
    with pytest.raises(InputError, match="keeps no weights"):
        export_record(record, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# The page's files.


def test_the_page_takes_published_records_with_weights_that_are_not_too_large(figures, monkeypatch):
    monkeypatch.setattr(records, "PUBLISHED", figures)
    assert [record.experiment for record in page.find_players()] == ["unet-strided-upsample-dice", "cvae-mnist"]
    monkeypatch.setattr(page, "LARGEST", 1000)
    assert [record.experiment for record in page.find_players()] == ["cvae-mnist"]
    monkeypatch.setattr(records, "PUBLISHED", figures / "nowhere")
    assert page.find_players() == []


def test_without_weights_nothing_is_written(tmp_path):
    assert page.write_players(tmp_path, []) == []
    assert list(tmp_path.iterdir()) == []


def test_the_body_can_stand_in_markdown():
    assert "\n\n" not in page.BODY.read_text()
