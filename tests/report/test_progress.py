"""What a run says while it trains, and when it stops by itself."""

import math
from types import SimpleNamespace

import pytest
import torch
from conftest import assert_one_sentence, listing
from lightning.pytorch.utilities import rank_zero_only

from s18_utils.report import progress
from s18_utils.report.progress import Filmstrip, FiniteLoss, History, display_message
from s18_utils.report.style import new_figure
from s18_utils.training import train_or_load
from s18_utils.unet.module import UNetModule

NAME = "unet-maxpool-transpose-bce"


@pytest.mark.parametrize(("bad", "value"), [(2, math.nan), (3, math.inf)])
@pytest.mark.usefixtures("small", "cpu")
def test_on_a_cpu_no_step_follows_one_without_a_finite_loss(tmp_path, monkeypatch, bad, value):
    start, steps = UNetModule.training_step, []

    def step(module, batch, batch_idx):
        steps.append(batch_idx)
        return start(module, batch, batch_idx) * (value if len(steps) == bad else 1)

    monkeypatch.setattr(UNetModule, "training_step", step)
    with pytest.raises(FloatingPointError) as caught:
        train_or_load(NAME, "tiny", out=tmp_path)
    assert len(steps) == bad
    epoch, step = divmod(bad - 1, 2)  # two steps an epoch
    told = f"the loss became {value} in epoch {epoch + 1}, step {step + 1}"
    assert_one_sentence(str(caught.value), told, "train again with a learning rate below 0.004")
    assert listing(tmp_path) == {}


class Run:
    """As much of a trainer as the callback asks: the processes that share a run, the others with `elsewhere` to add."""

    current_epoch = 4

    def __init__(self, processes: int = 1, elsewhere: float = 0.0, steps_elsewhere: int = 99):
        self.world_size = processes
        self.strategy = SimpleNamespace(reduce=self.reduce)
        self.elsewhere, self.steps_elsewhere = elsewhere, steps_elsewhere

    def reduce(self, tensor: torch.Tensor, reduce_op: str) -> torch.Tensor:
        return {"sum": tensor + self.elsewhere, "min": tensor.clamp_max(self.steps_elsewhere)}[reduce_op]


def epoch_of(losses: list[float], run: Run, where: str = "cpu") -> None:
    """Shows an epoch of such losses to the callback."""
    module = SimpleNamespace(device=torch.device("cpu"), hparams=SimpleNamespace(learning_rate=0.125))
    watch = FiniteLoss()
    watch.on_train_epoch_start(run, module)
    module.device = torch.device(where)  # the numbers stay here
    for step, loss in enumerate(losses):
        watch.on_train_batch_end(run, module, {"loss": torch.tensor(loss)}, None, step)
    watch.on_train_epoch_end(run, module)


@pytest.mark.parametrize(("run", "where"), [(Run(), "cuda"), (Run(processes=2), "cpu")])
@pytest.mark.parametrize(
    ("losses", "step", "value"),
    [([1.0, math.nan, 2.0], 2, "nan"), ([math.inf, math.nan], 1, "inf"), ([3.0, 2.0, -math.inf], 3, "-inf")],
)
def test_elsewhere_the_first_bad_step_is_named_when_the_epoch_ends(run, where, losses, step, value):
    with pytest.raises(FloatingPointError) as caught:
        epoch_of(losses, run, where)
    parts = (f"the loss became {value} in epoch 5, step {step}", "train again with a learning rate below 0.125")
    assert_one_sentence(str(caught.value), *parts)


def test_a_bad_loss_in_another_process_ends_this_one_too():
    with pytest.raises(FloatingPointError, match="the loss became nan in epoch 5, step 2:"):
        epoch_of([1.0, 1.0, 1.0], Run(processes=2, elsewhere=math.nan, steps_elsewhere=2))


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_large_losses_are_no_reason_to_stop(where):
    epoch_of([1e30, -1e30, 0.0], Run(), where)


def test_the_first_process_speaks_for_all(monkeypatch, capsys):
    history = History("title", seed=0)
    history.total, history.rows = 1, [{"seed": 0, "epoch": 1, "seconds": 1.0, "train_loss": 0.5}]
    for rank, said in ((0, "word\ntitle, seed 0: epoch 1/1, 1.0 s, train loss 0.5\n"), (1, "")):
        monkeypatch.setattr(rank_zero_only, "rank", rank)
        display_message("word")
        history.display_rows()
        assert capsys.readouterr().out == said


def test_history_survives_as_a_callback():
    history = History("title", 0)
    history.load_state_dict({"rows": [{"seed": 0, "epoch": 1, "seconds": 1.25, "train_loss": 0.5, "val_loss": 0.25}]})
    history.total = 3
    assert history.state_dict()["rows"] == history.rows
    assert history.last_line() == "title, seed 0: epoch 1/3, 1.2 s, train loss 0.5, val loss 0.25"
    page = history.to_html().replace(" style='text-align: right'", "")
    assert page.count("<tr>") == 2
    assert ">1 / 3</td><td>1.2</td><td>0.5000</td><td>0.2500</td>" in page


def watch(epochs: int, steps: int) -> Filmstrip:
    """What a filmstrip keeps of a run of so many steps; a snapshot is the number of the step."""
    module = torch.nn.Dropout()
    run = SimpleNamespace(max_epochs=epochs, estimated_stepping_batches=steps, global_step=0)

    def take(seen: torch.nn.Module) -> torch.Tensor:
        assert not seen.training
        return torch.tensor([run.global_step], dtype=torch.uint8)

    filmstrip = Filmstrip(take, lambda snapshot, when: new_figure(when)[0])
    filmstrip.on_train_start(run, module)
    for step in range(steps):
        run.global_step = step + 1
        filmstrip.on_train_batch_end(run, module, None, None, step)
        assert module.training
    return filmstrip


def test_a_dozen_snapshots_are_spread_over_the_run():
    content = watch(epochs=24, steps=72).content  # three steps an epoch, and every second epoch
    assert content["snapshots"].flatten().tolist() == [6 * n for n in range(1, 13)]
    assert content["snapshot_epochs"].tolist() == [2 * n for n in range(1, 13)]
    few = watch(epochs=14, steps=28).content["snapshot_epochs"].tolist()
    assert (len(few), few[0], few[-1]) == (12, 1, 14)
    assert all(epoch == int(epoch) for epoch in few)
    assert watch(epochs=10, steps=30).content["snapshot_epochs"].tolist() == list(range(1, 11))
    # Where there are few epochs they are taken within them, and there may be fewer steps too.
    assert watch(epochs=2, steps=48).content["snapshot_epochs"].tolist() == pytest.approx([n / 6 for n in range(1, 13)])
    assert watch(epochs=1, steps=3).content["snapshots"].flatten().tolist() == [1, 2, 3]
    assert watch(epochs=1, steps=0).content == {}


def test_snapshots_travel_in_checkpoints():
    first, second = watch(epochs=2, steps=4), Filmstrip(None, None)
    second.load_state_dict(first.state_dict())
    assert second.content.keys() == first.content.keys()
    assert all(torch.equal(second.content[name], values) for name, values in first.content.items())


def test_in_a_notebook_one_picture_is_redrawn(monkeypatch):
    shown = []
    handle = SimpleNamespace(update=lambda content, **about: shown.append(("updated", content, about)))
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(progress, "display", lambda content, **about: shown.append(("new", content, about)) or handle)
    filmstrip = watch(epochs=2, steps=4)
    for epoch in (0, 1):
        filmstrip.on_train_epoch_end(SimpleNamespace(current_epoch=epoch, global_step=2), torch.nn.Dropout())
    assert [kind for kind, _, _ in shown] == ["new", "updated"]
    _, content, about = shown[-1]
    assert content["image/png"].startswith(b"\x89PNG")
    assert about["metadata"]["image/png"]["alt"] == content["text/plain"] == "The same test images after epoch 2"
