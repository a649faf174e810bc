"""Experiments as blocks: a new one is a new block and nothing else, and a wrong one is refused in one sentence."""

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import names, refused
from matplotlib.text import Text

from s18_utils import experiments, notebooks, records
from s18_utils.errors import InputError
from s18_utils.experiments import (
    CVAE_MNIST,
    EXPERIMENTS,
    NETWORKS,
    PRESETS,
    UNET,
    Experiment,
    build_settings,
    get_experiment,
    network_name,
)
from s18_utils.report.tables import compare_records, compare_settings
from s18_utils.settings import flatten
from s18_utils.training import train_or_load
from s18_utils.unet.figures import compare_by_class, compare_predictions


@pytest.mark.usefixtures("small", "drawn")
def test_a_fifth_unet_is_a_block_and_nothing_else(tmp_path, monkeypatch):
    fifth = Experiment(
        name="unet-maxpool-upsample-bce",
        title="UNet: max pooling, bilinear up-sampling, cross-entropy",
        label="max pooling, bilinear up-sampling, cross-entropy",
        family="unet",
        notebook="",
        block=EXPERIMENTS["unet-maxpool-transpose-bce"].block | dict(up="bilinear"),
    )
    monkeypatch.setitem(EXPERIMENTS, fifth.name, fifth)
    kept = [train_or_load(name, "tiny", out=tmp_path) for name in ("unet-maxpool-transpose-bce", fifth.name)]
    assert names(kept[1].folder) == names(kept[0].folder)  # as many files and figures
    assert kept[1].model().hparams.up == "bilinear"
    assert [row[0] for row in compare_records(kept).rows] == [record.label() for record in kept]
    assert compare_settings(kept).rows == [["up", "transpose", "bilinear"]]
    words = " ".join(text.get_text() for text in compare_by_class(kept).findobj(Text)).replace("\n", " ")
    assert "bilinear up-sampling" in words
    assert compare_predictions(kept).axes
    assert fifth.name in records.family_names("unet")
    assert notebooks.run_notebooks(tmp_path / "run", only=fifth.name) == []  # it has none


def test_a_cvae_on_another_labelled_set_is_a_block_and_nothing_else(tmp_path, monkeypatch):
    mine = dataclasses.replace(
        CVAE_MNIST,
        name="cvae-shapes",
        title="Conditional VAE on shapes",
        label="shapes",
        notebook="",
        block=CVAE_MNIST.block | dict(data=str(tmp_path), size=28),
    )
    monkeypatch.setitem(EXPERIMENTS, mine.name, mine)
    assert get_experiment(mine.name) is mine
    assert [network_name(mine, role) for role in NETWORKS] == [
        "classifier-shapes",
        "judge-shapes",
        "second-judge-shapes",
    ]
    for role in NETWORKS:
        network = get_experiment(network_name(mine, role))
        assert (network.family, build_settings(network, "tiny").data) == ("classifier", str(tmp_path))
    data = {"classes": ("bar", "block", "frame"), "channels": 1, "size": 28}
    module = records.build_module("cvae", build_settings(mine, "tiny"), data).eval()
    batch = {"image": torch.rand(4, 1, 28, 28), "label": torch.tensor([0, 1, 2, 0])}
    assert module.swap(batch["image"], batch["label"], (batch["label"] + 1) % 3).shape == (4, 1, 28, 28)


def test_the_page_on_presets_says_what_the_blocks_do():
    page = (Path(__file__).parent.parent / "docs" / "experiments.md").read_text()
    shown = ("unet-maxpool-transpose-bce", "cvae-mnist", "cvae-cifar10")
    for preset in PRESETS:
        unet, mnist, cifar10 = (build_settings(EXPERIMENTS[name], preset) for name in shown)
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{preset}` |")]
        assert f"{unet.size} px, {unet.width} channels first, {unet.epochs} epochs" in row
        assert f"{mnist.epochs} epochs" in row
        assert preset == "tiny" or f"{cifar10.epochs} (CIFAR-10)" in row


def test_the_four_unets_differ_in_what_their_titles_say():
    blocks = [each.block for each in EXPERIMENTS.values() if each.family == "unet"]
    assert {name for block in blocks for name in block if any(block[name] != other[name] for other in blocks)} == {
        "down",
        "up",
        "loss",
    }
    assert UNET.keys() | {"down", "up", "loss"} == blocks[0].keys()


def test_a_networks_settings_are_changed_by_its_role():
    settings = build_settings(CVAE_MNIST, "tiny", {"judge.epochs": 9, "second_judge.net_settings": {"a": 1}})
    assert settings.judge.epochs == 9
    assert settings.classifier.epochs != 9
    assert "judge.epochs" in flatten(settings.model_dump())
    for name in ("jury.epochs", "judge", "judge.net_settings.widths", "latent.a"):
        with refused(f"has no setting {name}", "judge.epochs", "label_weight"):
            build_settings(CVAE_MNIST, "tiny", {name: 9})


def test_a_block_that_lacks_a_setting_says_which(monkeypatch):
    monkeypatch.delitem(CVAE_MNIST.block, "latent")
    with refused("the settings of cvae-mnist lack latent", "add them"):
        build_settings(CVAE_MNIST, "tiny")


def test_every_network_of_a_cvae_is_an_experiment_too():
    for spec in (CVAE_MNIST, experiments.CVAE_CIFAR10):
        for role in NETWORKS:
            network = get_experiment(network_name(spec, role))
            assert network.family == "classifier"
            assert build_settings(network, "full").net == build_settings(spec, "full").model_dump()[role]["net"]
    with pytest.raises(InputError, match="unknown experiment 'jury-mnist'"):
        get_experiment("jury-mnist")
