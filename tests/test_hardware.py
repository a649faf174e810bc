"""The devices of a run: every combination that can't be had is refused in one sentence, before anything is done."""

import dataclasses
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import assert_one_sentence
from torch.distributed.run import get_args_parser
from typer.main import get_command

from s18_utils import __main__ as command_line
from s18_utils import hardware, presets
from s18_utils.errors import InputError
from s18_utils.hardware import Hardware, gather, is_first_process, is_shared, wait_for_others
from s18_utils.training import train_or_load

ROOT = Path(__file__).resolve().parent.parent
LAUNCHERS = ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "SLURM_NTASKS", "SLURM_JOB_NAME")


@pytest.fixture(autouse=True)
def started_alone(monkeypatch) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delattr(sys, "ps1", raising=False)
    on(monkeypatch, gpus=0)


def on(monkeypatch, gpus: int) -> None:
    """Pretends to be a machine with so many GPUs."""
    kind = SimpleNamespace(type="cuda" if gpus else "cpu")
    monkeypatch.setattr(hardware, "device", lambda: kind)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


def by_torchrun(monkeypatch, here: int, everywhere: int) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    monkeypatch.setenv("WORLD_SIZE", str(everywhere))


def refusal(of: Hardware, batch_size: int = 32) -> str:
    with pytest.raises(InputError) as caught:
        of.check(batch_size)
    return str(caught.value)


@pytest.mark.parametrize(
    ("asked", "gpus", "parts"),
    [
        (Hardware(devices=0), 0, ("0 devices on 1 nodes are none", "use 1 or more of each")),
        (Hardware(devices=2, nodes=-1), 0, ("2 devices on -1 nodes are none",)),
        (Hardware(strategy="magic"), 0, ("unknown strategy 'magic'", "choose one of auto, ddp, ")),
        # These cut the model up, or start processes whose history and scores are lost with them.
        (Hardware(2, strategy="fsdp"), 2, ("unknown strategy 'fsdp'",)),
        (Hardware(2, strategy="ddp_spawn"), 0, ("unknown strategy 'ddp_spawn'",)),
        (Hardware(devices=4), 2, ("this machine has 2 GPUs, not 4", "use --devices 2")),
        (Hardware(2, sync_batchnorm=True), 0, ("between GPUs only", "leave out --sync-batchnorm")),
        (Hardware(devices=3), 0, ("a batch of 32 images can't be shared evenly by 3 processes", "that divides it")),
        (Hardware(devices=5), 8, ("by 5 processes",)),
        (Hardware(devices=8, nodes=2), 8, ("2 machines have to be told of each other", "with torchrun")),
    ],
)
def test_what_cannot_be_had_is_refused(monkeypatch, asked, gpus, parts):
    on(monkeypatch, gpus)
    assert_one_sentence(refusal(asked), *parts)


@pytest.mark.parametrize(
    ("asked", "gpus"),
    [
        (Hardware(), 0),
        (Hardware(), 1),
        (Hardware(2), 0),
        (Hardware(2, strategy="ddp"), 0),
        (Hardware(8, strategy="ddp_find_unused_parameters_true", sync_batchnorm=True), 8),
    ],
)
def test_what_can_be_had_is_not(monkeypatch, asked, gpus):
    on(monkeypatch, gpus)
    asked.check(batch_size=32)


def test_torchrun_and_the_options_have_to_agree(monkeypatch):
    on(monkeypatch, gpus=8)
    by_torchrun(monkeypatch, here=8, everywhere=16)
    Hardware(8, nodes=2).check(32)
    # Each of them would train alone, and write over the others.
    for asked in (Hardware(), Hardware(8), Hardware(2, nodes=8)):
        parts = ("torchrun started 8 processes here and 16 in all", "use --devices 8 --nodes 2")
        assert_one_sentence(refusal(asked), *parts)


def test_machines_that_know_of_each_other(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    Hardware(2, nodes=2).check(32)
    monkeypatch.delenv("MASTER_ADDR")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_JOB_NAME", "pets")
    Hardware(2, nodes=2).check(32)


def test_a_notebook_stays_one_process(monkeypatch):
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    Hardware().check(32)
    assert_one_sentence(refusal(Hardware(2)), "a notebook can't be run by several", "`python -m s18_utils fit`")


def test_the_networks_an_experiment_leans_on_are_checked_before_anything_is_trained(tmp_path, monkeypatch):
    odd = dataclasses.replace(presets.get_preset("judge-cifar10", "full"), batch_size=250)
    monkeypatch.setitem(presets.PRESETS["judge-cifar10"], "full", odd)
    assert presets.get_preset("cvae-cifar10", "full").batch_size % 4 == 0
    with pytest.raises(InputError, match="a batch of 250 images can't be shared evenly by 4 processes"):
        train_or_load("cvae-cifar10", "full", source="synthetic", out=tmp_path / "out", hardware=Hardware(4))
    assert not (tmp_path / "out").exists()


def test_a_process_by_itself():
    assert is_first_process()
    assert not is_shared()
    wait_for_others()  # nobody to wait for
    assert gather({"score": 1}) == [{"score": 1}]
    assert Hardware(4, 3).processes == 12


def test_what_processes_say_to_each_other():
    """In a group of one, which takes the same ways as one of many; the runs of test_distributed are of two."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        assert is_shared()
        wait_for_others()
        assert gather({"score": torch.tensor([1.0])}) == [{"score": torch.tensor([1.0])}]
    finally:
        torch.distributed.destroy_process_group()


def commands_of_the_readme() -> list[list[str]]:
    """Every training that the README starts by torchrun, as words, with the shell's variables left in."""
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    starts = [line.partition("torchrun ")[2] for line in text.splitlines() if " fit " in line]
    return [shlex.split(start) for start in starts if start]


def test_the_readme_starts_as_many_processes_as_it_says(monkeypatch):
    commands = commands_of_the_readme()
    assert len(commands) == 2  # by hand, and by Slurm
    for words in commands:
        launch = get_args_parser().parse_args(words)
        assert (launch.module, launch.training_script) == (True, "s18_utils")
        name, *options = launch.training_script_args
        fit = get_command(command_line.app).commands[name].make_context(name, options).params
        here, machines = int(launch.nproc_per_node), int(launch.nnodes)
        on(monkeypatch, gpus=here)
        by_torchrun(monkeypatch, here, here * machines)
        asked = Hardware(fit["devices"], fit["nodes"], fit["strategy"], fit["sync_batchnorm"])
        asked.check(presets.get_preset(fit["experiment"], fit["preset"]).batch_size)
