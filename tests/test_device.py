"""The device: a GPU that computes, else the CPU, and one sentence where the GPU is broken."""

import pytest
import torch
from conftest import assert_one_sentence
from lightning.fabric.accelerators import CUDAAccelerator

from s18_utils.device import describe_device, device
from s18_utils.fitting import Hardware, build_trainer


@pytest.fixture(autouse=True)
def asked_anew():
    device.cache_clear()
    yield
    device.cache_clear()


@pytest.fixture
def gpu(monkeypatch):
    """Pretends that there is a GPU; its first operation gives what is passed in, a number or an error."""

    def pretend(outcome) -> list:
        asked = []

        def ones(*shape, device):
            asked.append(device)
            if isinstance(outcome, Exception):
                raise outcome
            return torch.full(shape, outcome)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch, "ones", ones)
        return asked

    return pretend


def test_without_a_gpu_it_is_the_cpu_and_nothing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device() == torch.device("cpu")
    assert capsys.readouterr().out == ""


def test_a_gpu_that_computes_is_used_and_asked_once(gpu, capsys):
    asked = gpu(1.0)
    assert device() == device() == torch.device("cuda", 0)
    assert asked == [torch.device("cuda", 0)]
    assert capsys.readouterr().out == ""


def test_each_process_of_several_gets_its_own_gpu(gpu, monkeypatch):
    gpu(1.0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device() == torch.device("cuda", 3)


def test_a_broken_gpu_is_left_alone_and_told_about_once(gpu, capsys):
    gpu(RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with …"))
    assert device() == device() == torch.device("cpu")
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1
    assert_one_sentence(told[0].removesuffix("."), "no kernel image is available", "on the CPU")


def test_an_apple_gpu_that_computes_is_used(monkeypatch, gpu):
    gpu(1.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device() == torch.device("mps")
    assert describe_device() == "Apple GPU"


def test_lightning_follows(gpu, monkeypatch):
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: True)  # by itself it would take the GPU
    gpu(RuntimeError("CUDA error: unspecified launch failure"))
    assert build_trainer(1, [], Hardware(), progress=False).strategy.root_device == torch.device("cpu")
    for threads, words in ((1, "CPU, 1 thread"), (3, "CPU, 3 threads")):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert describe_device() == words
