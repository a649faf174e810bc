"""Curves and origins of records: the right numbers, and the word synthetic where it belongs."""

import pytest
from conftest import sample_history, sample_metrics

from s18_utils.records import Record
from s18_utils.report.curves import draw_curves
from s18_utils.report.origin import describe_origin

pytestmark = pytest.mark.usefixtures("small")


def record_of(folder, source: str = "synthetic", seeds: int = 1, **changes) -> Record:
    data = sample_metrics()["data"] | {"source": source}
    return Record(folder, sample_metrics(data=data, seeds=list(range(seeds)), **changes), sample_history(seeds))


def test_curves_show_the_history(tmp_path):
    figure = draw_curves(record_of(tmp_path, seeds=2))
    left, right = figure.axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in left.lines]
    assert lines == [
        ([1, 2], [1.0, 0.5]),
        ([1, 2], [1.25, 0.625]),
        ([1, 2], [2.0, 1.5]),
        ([1, 2], [2.25, 1.625]),
    ]
    assert [list(line.get_ydata()) for line in right.lines] == [[0.1, 0.2]] * 2
    assert {text.get_text() for text in left.texts} == {"training", "validation"}
    assert (left.get_xlabel(), left.get_ylabel(), right.get_ylabel()) == ("epoch", "loss", "mean IoU")


def test_the_origin_names_everything(tmp_path):
    line = describe_origin(record_of(tmp_path))
    for part in (
        "synthetic Oxford-IIIT Pet",
        "fingerprint 0123456789abcdef",
        "1,234 to train on, 137 to choose the epoch by, 56 test images, at 32 px",
        "preset tiny, 2 epochs, seed 0, 61 s on CPU, 2 threads in 32-true",
        "commit abc1234, torch 2.6.0",
    ):
        assert part in line
    assert "interrupted" not in line
    assert "\n" not in line
    real = describe_origin(record_of(tmp_path, "local"))
    assert "synthetic" not in real
    assert "Oxford-IIIT Pet, 1,371 of the 3,680 official training images, from local" in real
    assert "seeds 0, 1, 2" in describe_origin(record_of(tmp_path, seeds=3))
    assert describe_origin(record_of(tmp_path, interrupted=True)).endswith("; interrupted")
