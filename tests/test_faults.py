"""Bad input of every kind: one sentence that says what to do, and nothing half-written left behind."""

import shutil

import pytest
from conftest import assert_one_sentence, listing
from PIL import Image

from s18_utils import notebooks
from s18_utils.data.dataset import open_data
from s18_utils.data.pictures import read_picture
from s18_utils.errors import InputError
from s18_utils.experiments import build_settings, get_experiment
from s18_utils.play.card import export_record
from s18_utils.records import find_record
from s18_utils.report import bench
from s18_utils.report.style import new_figure
from s18_utils.runs import folder_name, network_variants
from s18_utils.training import train_or_load

NAME = "unet-maxpool-transpose-bce"
pytestmark = pytest.mark.usefixtures("small")


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


def test_no_command_overwrites_what_it_did_not_make(run, tmp_path, monkeypatch, trained_cvae):
    train_or_load(NAME, "tiny", out=tmp_path / "runs")
    monkeypatch.setattr(bench, "measure", lambda name: iter([("swap", bench.Measurement("a swap", [{"way": 1.0}]))]))
    monkeypatch.setattr("s18_utils.cvae.figures.draw_composite", lambda *arguments, **options: new_figure("")[0])
    Image.new("RGB", (40, 30), "red").save(tmp_path / "cat.jpg")
    kept, made = ("--preset", "tiny"), tmp_path / "made"
    commands = {
        made / "x.png": ("swap", "cvae-mnist", *kept, "--records", trained_cvae, "--file", made / "x.png"),
        made / "x.jpg": ("swap", "cvae-mnist", *kept, "--records", trained_cvae, "--file", made / "x.jpg"),
        made / "x.pdf": ("swap", "cvae-mnist", *kept, "--records", trained_cvae, "--file", made / "x.pdf"),
        made / "x.svg": ("swap", "cvae-mnist", *kept, "--records", trained_cvae, "--file", made / "x.svg"),
        made / "x.json": ("bench", "swap", "--json", made / "x.json"),
        made / "cat-overlay.png": (
            *("predict", tmp_path / "cat.jpg", "--experiment", NAME, *kept),
            *("--records", tmp_path / "runs", "--out", made),
        ),
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
    shutil.copytree(notebooks.NOTEBOOKS, made)
    before = listing(made)
    assert run("run", "--only", NAME, "--out", made)[0] == 2  # nor the notebooks themselves
    assert listing(made) == before
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


def test_a_network_whose_changes_make_no_name_for_a_folder_is_called_as_its_conditional_vae():
    changes = {"judge.net_settings": {"widths": [8, 16], "hidden": 32}, "classifier.epochs": 3}
    called = {role: name for role, _, name in network_variants(get_experiment("cvae-mnist"), changes, "small")}
    assert called == {"classifier": None, "judge": "small", "second_judge": None}


def test_a_name_with_line_breaks_in_it_is_still_one_line():
    with pytest.raises(InputError, match="has no setting a b: its settings are") as caught:
        build_settings(get_experiment(NAME), "tiny", {"a\nb": 1})
    assert len(str(caught.value).splitlines()) == 1


def test_mistakes_are_input_errors_and_value_errors():
    # So that a caller who never heard of the package's own error can still catch it.
    assert issubclass(InputError, ValueError)
