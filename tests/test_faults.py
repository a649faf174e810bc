"""Bad input of every kind: one sentence that says what to do, and nothing half-written left behind."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_one_sentence, listing
from PIL import Image

from s18_utils.data.batches import StoreData
from s18_utils.data.dataset import open_data
from s18_utils.data.pictures import read_picture
from s18_utils.errors import InputError
from s18_utils.experiments import build_settings, get_experiment
from s18_utils.play.card import export_record
from s18_utils.records import find_record, read_record
from s18_utils.report import bench
from s18_utils.runs import folder_name
from s18_utils.training import train_or_load
from s18_utils.unet.losses import CrossEntropyLoss, DiceLoss

NAME = "unet-maxpool-transpose-bce"
pytestmark = pytest.mark.usefixtures("small")


@dataclass
class Place:
    """Where a fault is staged: a data directory with real pets, and a folder for records."""

    tmp_path: Path
    pets: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def out(self) -> Path:
        return self.tmp_path / "records"

    @property
    def mask(self) -> Path:
        return self.pets / "annotations" / "trimaps" / "train_1.png"

    @property
    def image(self) -> Path:
        return self.pets / "images" / "train_1.jpg"

    def block(self, name: str) -> Path:
        """A path below a regular file, where no user, not even root, can make a folder."""
        (self.tmp_path / name).write_text("in the way")
        return self.tmp_path / name / "folder"


@pytest.fixture
def place(tmp_path, pets_folder, monkeypatch) -> Place:
    return Place(tmp_path, pets_folder, monkeypatch)


def fit(place: Place, experiment=NAME, preset="tiny", **options) -> None:
    train_or_load(experiment, preset, **{"out": place.out, "source": "local", **options})


def call_loss(loss, value: int):
    def call(place):
        target = torch.ones(2, 16, 16, dtype=torch.long)
        target[1, 3, 4] = value
        loss(torch.zeros(2, 3, 16, 16), target)

    return call


def mask_of_zeros(place):
    Image.fromarray(np.zeros_like(np.array(Image.open(place.mask)))).save(place.mask)
    fit(place)


def truncated_image(place):
    place.image.write_bytes(place.image.read_bytes()[:-200])
    fit(place)


def one_training_image(place):
    (place.pets / "annotations" / "trainval.txt").write_text("train_0 1 1 1\n")
    StoreData(open_data("pets", 16, "local"), 8)


def no_network(place):
    (place.tmp_path / "empty").mkdir(exist_ok=True)
    place.monkeypatch.setenv("S18_DATA", str(place.tmp_path / "empty"))
    fit(place, source="torchvision")


def unwritable_data(place):
    place.monkeypatch.setenv("S18_DATA", str(place.block("blocked-data")))
    fit(place, source="synthetic")


def unwritable_records(place):
    fit(place, out=place.block("blocked-records"))


def misfit(place):
    fit(place)
    config = place.out / NAME / "config.json"
    content = json.loads(config.read_text())
    content["settings"]["width"] = 6
    config.write_text(json.dumps(content))
    read_record(place.out / NAME).model()


FAULTS = {
    "images of 15 px asked for": (lambda place: open_data("pets", 15), ("at least 16 pixels", "choose a larger size")),
    "mask value 3, Dice": (call_loss(DiceLoss(), 3), ("must lie in 0–2, not 1–3", "subtract 1")),
    "mask value 3, cross-entropy": (call_loss(CrossEntropyLoss(), 3), ("must lie in 0–2, not 1–3", "subtract 1")),
    "mask value -1": (call_loss(DiceLoss(), -1), ("must lie in 0–2, not -1–1",)),
    "mask value 255": (call_loss(CrossEntropyLoss(), 255), ("must lie in 0–2, not 1–255",)),
    "mask value 0 on disk": (mask_of_zeros, ("train_1.png", "outside 1–3", "one number a class")),
    "truncated image": (truncated_image, ("can't decode", "train_1.jpg", "replace the file")),
    "one training image": (one_training_image, ("the split holds no images", "use more data")),
    "unknown source": (lambda place: fit(place, source="ftp"), ("unknown source 'ftp'", "local, kaggle")),
    "unknown data set": (lambda place: open_data("cats", 32), ("unknown data set 'cats'", "choose one of pets")),
    "no network": (no_network, ("can't be reached", "connect to the network, or use source='synthetic'")),
    "data directory that can't be written": (unwritable_data, ("is no folder", "correct the name")),
    "folder of records that can't be written": (unwritable_records, ("can't write to", "--out or S18_RUNS")),
    "weights that do not fit": (misfit, ("do not fit its config.json", "delete the folder and train again")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence_and_leaves_nothing_half_written(place, fault):
    cause, parts = FAULTS[fault]
    with pytest.raises(InputError) as caught:
        cause(place)
    assert_one_sentence(str(caught.value), *parts)
    left = {path for path in listing(place.tmp_path) if "." in Path(path).name}
    whole = {"weights that do not fit", "one training image", "folder of records that can't be written"}
    stores = [path for path in left if path.endswith(".safetensors") and "s18-store" in path]
    assert len(stores) == (fault in whole)  # a whole store is kept where the data were good
    assert not [path for path in left if Path(path).name.startswith(".") or path.endswith((".partial", ".ckpt"))]
    assert (place.out / NAME).exists() == (fault == "weights that do not fit")


def test_nothing_at_all_changes_in_the_folders_that_were_given(place):
    before = listing(place.pets)
    for fault in ("unknown source", "no network", "unwritable"):
        with pytest.raises(InputError):
            (unwritable_data if fault == "unwritable" else FAULTS[fault][0])(place)
    assert listing(place.pets) == before
    assert not place.out.exists()
    assert listing(place.tmp_path / "empty") == {}


@pytest.mark.parametrize(
    "path", ["x" * 256, "x/" * 2100, "a\0b", "~no-such-user/x", "\ud800", "gs://bucket/x", "s3:x", "file:///x", "a::b"]
)
def test_a_path_that_is_no_folder_of_this_machine_is_refused_everywhere(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (
        lambda: train_or_load(NAME, "tiny", out=path),
        lambda: find_record(NAME, "tiny", path),
        lambda: open_data(path, 32),
        lambda: export_record(None, path),
        lambda: read_picture(path),
    ):
        with pytest.raises(InputError) as caught:
            use()
        assert "\n" not in str(caught.value)
    assert listing(tmp_path).keys() <= {"runs"}


def test_a_home_folder_means_the_same_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("S18_RUNS", "~/runs")
    monkeypatch.chdir(tmp_path)
    record = train_or_load(NAME, "tiny")
    assert record.folder == tmp_path / "home" / "runs" / "tiny" / NAME
    assert record.has_weights
    assert train_or_load(NAME, "tiny", out="~/other").folder == tmp_path / "home" / "other" / NAME
    assert not (tmp_path / "~").exists()


def test_no_command_overwrites_what_it_did_not_make(run, tmp_path, monkeypatch):
    train_or_load("cvae-mnist", "tiny", out=tmp_path / "runs")
    train_or_load(NAME, "tiny", out=tmp_path / "runs")
    monkeypatch.setattr(bench, "measure", lambda name: iter([("swap", bench.Measurement("a swap", [{"way": 1.0}]))]))
    Image.new("RGB", (40, 30), "red").save(tmp_path / "cat.jpg")
    kept, made = ("--preset", "tiny"), tmp_path / "made"
    commands = {
        made / "x.png": ("swap", "cvae-mnist", *kept, "--out", tmp_path / "runs", "--file", made / "x.png"),
        made / "x.jpg": ("swap", "cvae-mnist", *kept, "--out", tmp_path / "runs", "--file", made / "x.jpg"),
        made / "x.pdf": ("swap", "cvae-mnist", *kept, "--out", tmp_path / "runs", "--file", made / "x.pdf"),
        made / "x.svg": ("swap", "cvae-mnist", *kept, "--out", tmp_path / "runs", "--file", made / "x.svg"),
        made / "x.json": ("bench", "swap", "--json", made / "x.json"),
        made / "cat-overlay.png": (
            *("predict", tmp_path / "cat.jpg", "--experiment", NAME, *kept),
            *("--records", tmp_path / "runs", "--out", made),
        ),
        made / "network.onnx": ("export", NAME, *kept, "--records", tmp_path / "runs", "--out", made),
    }
    for file, words in commands.items():
        made.mkdir()
        file.write_text("a thesis")
        status, _, errors = run(*words)
        assert (status, file.read_text()) == (2, "a thesis"), file.name
        assert_one_sentence(errors.removeprefix("error: ").strip(), file.name)
        file.unlink()
        for _ in range(2):  # and what it made itself is made anew
            assert run(*words)[0] == 0, file.name
        assert file.stat().st_size > 0
        shutil.rmtree(made)
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "cat.jpg", tmp_path / "b" / "cat.jpg")
    status, _, errors = run("predict", tmp_path / "cat.jpg", tmp_path / "b" / "cat.jpg", "--out", made)
    assert status == 2
    assert_one_sentence(errors.removeprefix("error: ").strip(), "rename some")


@pytest.mark.parametrize("changes", [{"net": "a/b"}, {f"setting_{n}": n for n in range(20)}])
def test_changes_that_make_no_name_for_a_folder_ask_for_one(changes):
    with pytest.raises(InputError) as caught:
        folder_name(get_experiment(NAME), changes, None)
    assert_one_sentence(str(caught.value), "give the variant one with name=")


def test_a_name_with_line_breaks_in_it_is_still_one_line():
    with pytest.raises(InputError, match="has no setting a b: its settings are") as caught:
        build_settings(get_experiment(NAME), "tiny", {"a\nb": 1})
    assert len(str(caught.value).splitlines()) == 1


def test_mistakes_are_input_errors_and_value_errors():
    # So that a caller who never heard of the package's own error can still catch it.
    assert issubclass(InputError, ValueError)
