"""Compiling in the middle of a run: the same numbers, and only where it pays. On the CPU, by a backend without code."""

from collections.abc import Callable

import lightning as L
import pytest
import torch
from conftest import tensor_set
from torch._dynamo import lookup_backend

from s18_utils import compiling, trainer
from s18_utils.compiling import CompileWhereItPays
from s18_utils.data.batches import StoreData
from s18_utils.trainer import Reseed, build_trainer, quiet
from s18_utils.unet import UNetModule

STEPS, EPOCHS = 5, 2  # 45 images in batches of 8
FASTER, SLOWER = (1.0, 0.5), (1.0, 2.0)  # seconds of the step timed before compiling, and of the one after


APPLIES = CompileWhereItPays.applies


@pytest.fixture(autouse=True)
def early(monkeypatch, cpu):
    """Applies to the CPU too, and decides early: after two steps to compile, after two more to keep it."""
    monkeypatch.setattr(CompileWhereItPays, "applies", staticmethod(lambda module: True))
    for name, value in {"LEAST_SECONDS": 0.0, "WARM_UP": 1, "TIMED": 1}.items():
        monkeypatch.setattr(CompileWhereItPays, name, value)
    monkeypatch.setattr(trainer, "precision", lambda: "32-true")
    with torch._dynamo.config.patch(suppress_errors=False):
        yield
    torch.compiler.reset()


@pytest.fixture
def compiled(monkeypatch) -> list[str]:
    """A word for each time that compiled code ran."""
    runs = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        run = lookup_backend("aot_eager")(graph, inputs)
        return lambda *arguments: runs.append("run") or run(*arguments)

    monkeypatch.setattr(CompileWhereItPays, "BACKEND", staticmethod(backend))
    return runs


class Losses(L.Callback):
    """Every step's."""

    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def train(*callbacks: L.Callback) -> tuple[UNetModule, list[float]]:
    torch.manual_seed(0)
    module = UNetModule("maxpool", "transpose", "ce", width=4, learning_rate=1e-3)
    losses = Losses()
    with quiet():
        fit = build_trainer(EPOCHS, [Reseed(0), *callbacks, losses], progress=False).fit
        fit(module, StoreData(tensor_set(50), 8))
    assert len(losses.values) == EPOCHS * STEPS
    return module, losses.values


def train_and_compile(monkeypatch, seconds: tuple[float, float]) -> tuple[UNetModule, list[float]]:
    """Trains with the callback, whose clock says what the timed steps took."""
    before, after = seconds
    clock = iter([0, 0, before, 0, 0, after])  # each step's start, and the end of every second one
    monkeypatch.setattr(compiling, "now", lambda: next(clock))
    return train(CompileWhereItPays())


def assert_same_numbers(one: tuple[UNetModule, list[float]], other: tuple[UNetModule, list[float]]) -> None:
    assert one[1] == pytest.approx(other[1], rel=1e-4)
    torch.testing.assert_close(one[0].state_dict(), other[0].state_dict(), atol=1e-4, rtol=1e-4)


def test_the_same_numbers_as_without(monkeypatch, compiled):
    assert_same_numbers(train_and_compile(monkeypatch, FASTER), train())
    # All steps but the first two, and no validation.
    assert len(compiled) == EPOCHS * STEPS - 2


def test_where_it_is_no_faster_it_is_dropped(monkeypatch, compiled):
    assert_same_numbers(train_and_compile(monkeypatch, SLOWER), train())
    assert len(compiled) == 2


def test_what_is_left_behind_is_a_module_like_any_other(monkeypatch, compiled):
    module, _ = train_and_compile(monkeypatch, SLOWER)
    plain = UNetModule("maxpool", "transpose", "ce", width=4)
    plain.load_state_dict(module.state_dict())
    compiled.clear()
    module(torch.rand(2, 3, 16, 16))  # the next seed's run may use the compiler again
    assert compiled


def test_a_short_run_is_not_compiled(monkeypatch, compiled):
    monkeypatch.setattr(CompileWhereItPays, "LEAST_SECONDS", EPOCHS * STEPS - 2 + 0.1)  # at a second a step
    train_and_compile(monkeypatch, FASTER)
    assert compiled == []


def test_on_a_cpu_nothing_is_even_timed(monkeypatch, compiled):
    monkeypatch.setattr(CompileWhereItPays, "applies", staticmethod(APPLIES))
    monkeypatch.setattr(compiling, "now", lambda: pytest.fail("a step was timed"))
    train(CompileWhereItPays())
    assert compiled == []


def test_a_compiler_that_fails_changes_nothing(monkeypatch):
    tried = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        tried.append(graph)
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(CompileWhereItPays, "BACKEND", staticmethod(backend))
    assert_same_numbers(train_and_compile(monkeypatch, FASTER), train())
    assert tried
