"""Figures: the right numbers, the right pictures, and the word synthetic where it belongs."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import sample_history, sample_metrics, tensor_set

from s18_utils import plots
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError
from s18_utils.records import Record, read_record, write_record
from s18_utils.unet import UNetModule

NAME = "unet-maxpool-transpose-bce"
SYNTHETIC = pytest.mark.parametrize("source", ["synthetic", "local"])
pytestmark = pytest.mark.usefixtures("small")


def record_of(source: str = "synthetic", seeds: int = 1, **changes) -> Record:
    data = sample_metrics()["data"] | {"source": source}
    return Record(None, sample_metrics(data=data, seeds=list(range(seeds)), **changes), sample_history(seeds))


def data_of(source: str = "synthetic") -> StoreData:
    return StoreData(tensor_set(20, test=12, source=source), 4)


def title(figure) -> str:
    return figure._suptitle.get_text()


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    before = plt.get_fignums()
    yield
    assert plt.get_fignums() == before


def test_curves_show_the_history():
    figure = plots.curves(record_of(seeds=2))
    left, right = figure.axes
    lines = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in left.lines]
    assert lines == [
        ([1, 2], [1.0, 0.5]),
        ([1, 2], [1.25, 0.625]),
        ([1, 2], [2.0, 1.5]),
        ([1, 2], [2.25, 1.625]),
    ]
    assert [line.get_ydata().tolist() for line in right.lines] == [[0.1, 0.2]] * 2
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["training", "validation"]
    assert (left.get_xlabel(), left.get_ylabel(), right.get_ylabel()) == ("epoch", "loss", "mean IoU")


def test_provenance_names_everything():
    line = plots.provenance(record_of())
    for part in (
        "synthetic pets",
        "fingerprint 0123456789abcdef",
        "1,234 to train on, 137 to choose the epoch by, 56 test images, at 32 px",
        "preset tiny, 2 epochs, seed 0, 61 s on CPU, 2 threads in 32-true",
        "commit abc1234, torch 2.6.0",
    ):
        assert part in line
    assert "interrupted" not in line
    assert "\n" not in line
    real = plots.provenance(record_of("local"))
    assert "synthetic" not in real
    assert "Oxford-IIIT Pet, 1,371 of the 3,680 official training images (37%), from local" in real
    assert "3 seeds" in plots.provenance(record_of(seeds=3))
    assert plots.provenance(record_of(interrupted=True)).endswith("; interrupted")
