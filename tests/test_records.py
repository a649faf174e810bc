"""Records: whole or not there, read back as they were written, and clear about what does not fit."""

import hashlib
import json
import math
import platform

import pytest
import torch
from conftest import assert_one_sentence, equal, listing, refused, sample_history, sample_metrics
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file

from s18_utils import records, runs
from s18_utils.errors import InputError
from s18_utils.experiments import build_settings, get_experiment
from s18_utils.fitting import describe_surroundings, find_commit, summarise_seeds
from s18_utils.records import Record, build_module, existing_record, find_record, find_records, read_record, write_json
from s18_utils.runs import write_record
from s18_utils.settings import describe_changes
from s18_utils.unet.module import UNetModule

NAME = "unet-maxpool-transpose-bce"
pytestmark = pytest.mark.usefixtures("small")


def new_module() -> UNetModule:
    torch.manual_seed(0)
    data = {"classes": ("pet", "background", "border"), "channels": 3, "size": 32}
    return build_module("unet", build_settings(get_experiment(NAME), "tiny"), data)


def config(**changes) -> dict:
    """What a run of the experiment leaves in `config.json`."""
    settings = build_settings(get_experiment(NAME), "tiny").model_dump(mode="json")
    return {"experiment": NAME, "family": "unet", "name": None, "changes": {}, "settings": settings | changes}


def keep(folder, history=None, **changes) -> Record:
    """Writes a made-up record of an untrained model."""
    record = Record(folder, sample_metrics(**changes), history or sample_history(), config=config())
    return write_record(record, new_module().state_dict(), {"curves": Figure()})


def test_a_record_is_read_as_it_was_written(tmp_path):
    written = keep(tmp_path / "runs" / NAME)
    read = read_record(tmp_path / "runs" / NAME)
    assert read.metrics == written.metrics
    assert read.history == written.history
    assert [{name: type(value) for name, value in row.items()} for row in read.history] == [
        {name: type(value) for name, value in row.items()} for row in written.history
    ]
    assert read.config == config()
    assert read.has_weights
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [NAME]


@pytest.mark.parametrize("value", [1 / 3, 4e-05, 1e-300, 0.1 + 0.2, 3.0, 123456.789, math.inf])
def test_numbers_survive_the_history_to_the_last_bit(tmp_path, value):
    row = {"seed": 0, "epoch": 12, "seconds": 0.25, "train_loss": value}
    read = keep(tmp_path / NAME, [row]) and read_record(tmp_path / NAME)
    assert read.history == [row]
    assert isinstance(read.history[0]["epoch"], int)
    assert isinstance(read.history[0]["train_loss"], float)


def test_a_history_may_lack_numbers_in_some_rows(tmp_path):
    rows = [{"seed": 0, "epoch": 1, "train_loss": 0.5}, {"seed": 0, "epoch": 2, "val_loss": 0.25}]
    keep(tmp_path / NAME, rows)
    assert read_record(tmp_path / NAME).history == rows


def test_the_files_are_plain(tmp_path):
    folder = keep(tmp_path / NAME).folder
    header = "seed,epoch,seconds,train_loss,val_loss,val_pooled_dice_loss,val_mean_iou"
    assert (folder / "history.csv").read_text().splitlines()[0] == header
    assert json.loads((folder / "metrics.json").read_text())["test"]["iou"]["pet"] == 0.7
    assert load_file(folder / "weights.safetensors").keys() == new_module().state_dict().keys()
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o444 == 0o444, file.name  # others may read it
        assert not file.name.endswith((".pt", ".pkl", ".ckpt"))


def test_no_record_is_none(tmp_path):
    assert read_record(tmp_path) is None
    assert read_record(tmp_path / "not-there") is None
    (tmp_path / "config.json").write_text("{}")
    assert read_record(tmp_path) is None


def test_the_model_has_the_weights(tmp_path):
    record = keep(tmp_path / NAME)
    images = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(record.model()(images), new_module().eval()(images))


def damage(name, content):
    def change(folder):
        (folder / name).write_bytes(content)

    return change


def change_json(name, **changes):
    def change(folder):
        file = folder / name
        file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | changes))

    return change


def drop_weight(folder):
    weights = load_file(folder / "weights.safetensors")
    weights.pop("unet.outc.bias")
    save_file(weights, folder / "weights.safetensors")


def flip_weight(folder):
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-9] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def flip_header(folder):
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[0] ^= 255
    (folder / "weights.safetensors").write_bytes(content)


def change_settings(**changes):
    return change_json("config.json", settings=config(**changes)["settings"])


def drop(name, *keys):
    def change(folder):
        content = json.loads((folder / name).read_text())
        for key in keys:
            del (content["settings"] if name == "config.json" else content)[key]
        (folder / name).write_text(json.dumps(content))

    return change


def fill_weights(value):
    def change(folder):
        weights = load_file(folder / "weights.safetensors").items()
        spoilt = {name: torch.full_like(each, value) if each.is_floating_point() else each for name, each in weights}
        save_file(spoilt, folder / "weights.safetensors")

    return change


def remove(name):
    return lambda folder: (folder / name).unlink()


MISFIT = ("do not fit its config.json", "delete the folder and train again")
NO_WEIGHTS = ("not finite or all zero", f"train {NAME} again")
FAULTS = {
    "other width": (change_settings(width=8), MISFIT),
    "a weight missing": (drop_weight, MISFIT),
    "weights damaged": (flip_header, MISFIT),
    "one bit of a weight": (flip_weight, MISFIT),
    "weights of no number": (fill_weights(float("nan")), NO_WEIGHTS),
    "weights of zeros": (fill_weights(0.0), NO_WEIGHTS),
    "no weights": (remove("weights.safetensors"), (f"keeps no weights: train {NAME} first",)),
    "an older block": (drop("config.json", "skip", "zoom"), ("lack skip, zoom", "train again")),
    "a setting of no number": (change_settings(width="huge"), ("width can't be 'huge'",)),
    "an unknown setting": (change_settings(depth=5), ("hold an unknown depth",)),
    "older metrics": (drop("metrics.json", "seeds", "test"), ("no usable test, seeds", "train again")),
    "metrics of another kind": (
        change_json("metrics.json", seeds=3, test=[]),
        ("no usable test, seeds", "train again"),
    ),
    "data without classes": (change_json("metrics.json", data={}), ("no usable data.name", "data.classes")),
    "a config of other kinds": (change_json("config.json", changes=[], networks={"judge": 3}), ("usable changes",)),
    "a score of no number": (change_json("metrics.json", test={"iou": {"pet": "high"}}), ("no usable test",)),
    "weights that lie elsewhere": (
        change_json("weights.json", file="../x", sha256="0"),
        ("can't read", "weights.json"),
    ),
    "no history": (remove("history.csv"), ("can't read", "history.csv", "train again")),
    **{
        f"{name}: {content}": (damage(name, content), ("can't read", name, "train again"))
        for name, content in (
            ("metrics.json", b"[]"),
            ("metrics.json", b"\xff\xfe\x00"),
            ("config.json", b"not json"),
            ("history.csv", b"seed,epoch\n0,first\n"),
            ("history.csv", b"seed\n\xff"),
        )
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_record_that_is_damaged_or_does_not_fit_is_refused_and_left_alone(tmp_path, fault):
    folder = keep(tmp_path / NAME).folder
    change, parts = FAULTS[fault]
    change(folder)
    before = listing(tmp_path)
    with refused(*parts):
        read_record(folder).model()
    assert listing(tmp_path) == before


class Unsavable:
    def savefig(self, path, **options):
        raise OSError(28, "No space left on device")


def test_a_write_that_fails_leaves_the_old_record(tmp_path):
    record = keep(tmp_path / "runs" / NAME)
    before = listing(tmp_path)
    newer = Record(record.folder, sample_metrics(epochs=99), sample_history())
    with pytest.raises(InputError, match="No space left"):
        write_record(newer, new_module().state_dict(), {"curves": Unsavable()})
    assert listing(tmp_path) == before


def test_a_write_replaces_the_whole_record(tmp_path):
    record = keep(tmp_path / NAME)
    (record.folder / "old.png").write_text("a figure of the old run")
    keep(tmp_path / NAME, epochs=99)
    assert read_record(tmp_path / NAME).metrics["epochs"] == 99
    assert not (tmp_path / NAME / "old.png").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with refused("can't write to", "choose another folder with out=, --out or S18_RUNS"):
        keep(tmp_path / "file" / "runs" / NAME)


def test_where_a_record_is_looked_for(tmp_path, monkeypatch):
    published, own, chosen = tmp_path / "published", tmp_path / "runs" / "tiny", tmp_path / "chosen"
    monkeypatch.setattr(records, "PUBLISHED", published)
    assert find_record(NAME, "tiny") is None
    keep(published / NAME, epochs=1)
    assert find_record(NAME, "tiny").metrics["epochs"] == 1
    keep(own / NAME, epochs=2)
    assert find_record(NAME, "tiny").metrics["epochs"] == 2
    assert find_record(NAME, "quick") is None  # neither of that preset
    keep(published / NAME, epochs=4, preset="quick")
    assert find_record(NAME, "quick").metrics["epochs"] == 4
    assert find_record(NAME, "tiny").metrics["epochs"] == 2
    assert find_record(NAME, "tiny", chosen) is None  # a folder that was named is the only one
    keep(chosen / NAME, epochs=3)
    assert find_record(NAME, "tiny", chosen).metrics["epochs"] == 3
    keep(published / "tiny" / NAME, epochs=5)  # where another preset has taken the first place
    keep(published / NAME, epochs=6, preset="full")
    monkeypatch.setenv("S18_RUNS", str(tmp_path / "empty"))
    assert find_record(NAME, "tiny").metrics["epochs"] == 5
    assert find_record(NAME, "full").metrics["epochs"] == 6


def test_a_comparison_is_never_empty(tmp_path, monkeypatch):
    other = "unet-strided-upsample-dice"
    monkeypatch.setattr(records, "PUBLISHED", tmp_path / "published")
    keep(tmp_path / "published" / NAME, preset="quick")
    keep(tmp_path / "published" / other, preset="quick", experiment=other)
    keep(tmp_path / "runs" / "full" / other, preset="full", experiment=other)
    found = find_records([NAME, other, "unet-maxpool-transpose-dice"], "full")
    assert [(record.experiment, record.preset) for record in found] == [(NAME, "quick"), (other, "full")]
    assert [record.label(found) for record in found] == [f"{found[0].label()} (quick)", f"{found[1].label()} (full)"]
    assert found[0].label(found[:1]) == found[0].label()


def test_a_record_that_cannot_be_moved_aside_stands(tmp_path, monkeypatch):
    record = keep(tmp_path / "runs" / NAME)
    before = listing(tmp_path)
    rename = type(tmp_path).rename

    def refuse(path, target):
        if path == record.folder:
            raise PermissionError(13, "the file is in use")
        return rename(path, target)

    monkeypatch.setattr(runs, "exchange_folders", lambda *folders: False)  # as on Windows
    monkeypatch.setattr(type(tmp_path), "rename", refuse)
    with pytest.raises(InputError, match="the file is in use"):
        keep(tmp_path / "runs" / NAME, epochs=99)
    assert listing(tmp_path) == before


def test_a_record_that_is_not_there_says_how_to_make_one(tmp_path):
    with refused(f"no record of {NAME}", f"fit {NAME}"):
        existing_record(NAME, "tiny")
    keep(tmp_path / "runs" / "tiny" / NAME)
    assert existing_record(NAME, "tiny").preset == "tiny"
    assert existing_record(NAME, out=tmp_path / "runs" / "tiny").preset == "tiny"  # of whichever preset it is


@pytest.mark.parametrize(("source", "synthetic"), [("synthetic", True), ("local", False), ("kaggle", False)])
def test_the_title_says_synthetic(tmp_path, source, synthetic):
    record = Record(tmp_path, sample_metrics(data=sample_metrics()["data"] | {"source": source}), [])
    assert record.synthetic == synthetic
    assert ("synthetic" in record.title()) == synthetic
    assert record.title().startswith("UNet: max pooling, transposed convolution, cross-entropy")


def test_mean_and_spread_by_hand():
    results = [{"a": 1.0, "b": {"c": 2.0}, "m": [[0.0, 4.0]]}, {"a": 3.0, "b": {"c": 8.0}, "m": [[1.0, 4.0]]}]
    mean, spread = summarise_seeds(results)
    assert mean == {"a": 2.0, "b": {"c": 5.0}, "m": [[0.5, 4.0]]}
    assert (spread["a"], spread["b"]["c"]) == pytest.approx((2**0.5, 18**0.5))
    assert spread["m"][0] == pytest.approx([0.5**0.5, 0])
    assert summarise_seeds(results[:1]) == (results[0], {})


def test_the_surroundings_name_versions_and_commit():
    around = describe_surroundings()
    assert around["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert around["versions"]["python"] == platform.python_version()
    assert around["commit"] == find_commit()


def test_without_git_the_version_stands_for_the_commit(monkeypatch):
    from s18_utils import __version__

    monkeypatch.setenv("PATH", "")
    assert find_commit() == __version__


def test_weights_that_are_attached_to_a_release_are_fetched_by_their_sum(tmp_path, monkeypatch):
    record = keep(tmp_path / NAME)
    place = tmp_path / "release"
    place.mkdir()
    monkeypatch.setattr(records, "RELEASE", place.as_uri())
    monkeypatch.setattr(records, "RELEASED", tmp_path / "build")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    expected = record.model().state_dict()
    weights = (record.folder / "weights.safetensors").rename(place / "large.safetensors")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    write_json(record.folder / "weights.json", {"file": "large.safetensors", "sha256": digest})
    fresh = read_record(record.folder)
    assert not fresh.has_weights
    assert fresh.loadable
    assert fresh.has_weights
    assert equal(fresh.model().state_dict(), expected)
    weights.unlink()
    assert equal(fresh.model().state_dict(), expected)  # from what was fetched
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "large.safetensors").write_bytes(b"another training's")
    assert equal(fresh.model().state_dict(), expected)


@pytest.mark.parametrize("spoilt", [True, False])
def test_released_weights_that_can_not_be_had_are_one_sentence(tmp_path, monkeypatch, capsys, spoilt):
    record = keep(tmp_path / NAME)
    monkeypatch.setattr(records, "RELEASE", tmp_path.as_uri())
    monkeypatch.setattr(records, "RELEASED", tmp_path / "build")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (record.folder / "weights.safetensors").unlink()
    write_json(record.folder / "weights.json", {"file": "large.safetensors", "sha256": "0" * 64})
    if spoilt:
        (tmp_path / "large.safetensors").write_bytes(b"other bytes")
    with pytest.raises(InputError, match="can't be fetched from file://.*use another preset, or train it") as caught:
        read_record(record.folder).model()
    assert_one_sentence(str(caught.value))
    assert not read_record(record.folder).loadable
    assert "can't be fetched" in capsys.readouterr().out
    assert list((tmp_path / "hub").rglob("*.safetensors")) == []


def test_published_references_are_named_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "PUBLISHED", tmp_path)
    name = "unet-strided-upsample-dice"
    for changes in ({"skip": False}, {"skip": False, "width": 8}):
        folder = tmp_path / f"{name}-references" / describe_changes(changes)
        write_record(Record(folder, sample_metrics(), sample_history(), config={"changes": changes}), {}, {})
    assert list(records.find_references(name, "tiny")) == ["without skip connections"]
    assert records.find_references(name, "quick") == records.find_references("cvae-mnist", "tiny") == {}
