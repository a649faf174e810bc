"""The repository's pictures are what the code draws from its records now."""

import functools
import io
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import REAL_DATA
from matplotlib.figure import Figure
from PIL import Image

from s18_utils import records, training
from s18_utils.cvae.tradeoff import draw_tradeoff
from s18_utils.data.batches import StoreData
from s18_utils.data.dataset import open_data
from s18_utils.report.curves import draw_curves
from s18_utils.unet import figures

PUBLISHED = Path(__file__).resolve().parents[1] / "figures"
# A record in the making has no pictures yet.
FOLDERS = sorted(file.parent for file in PUBLISHED.rglob("metrics.json") if (file.parent / "curves.png").is_file())
SERIES = sorted(file.parent for file in PUBLISHED.rglob("tradeoff.png"))
KEPT = {"photographs"}  # what figures are drawn from


def draw_pixels(figure: Figure) -> np.ndarray:
    """What a saved figure shows; to pack it as a PNG and to unpack it would take as long as to draw it."""
    content = io.BytesIO()
    figure.savefig(content, format="rgba")
    width, height = figure.canvas.get_width_height()
    return np.frombuffer(content.getvalue(), np.uint8).reshape(height, width, 4).astype(np.int16)


def assert_alike(figure: Figure, file: Path) -> None:
    """Other versions of fonts and of arithmetic may move an edge by a little, and nothing else may differ."""
    drawn, committed = draw_pixels(figure), np.asarray(Image.open(file).convert("RGBA")).astype(np.int16)
    assert drawn.shape == committed.shape, f"{file} has another size: draw it again"
    inked = (drawn[..., 3] > 0) | (committed[..., 3] > 0)  # figures are transparent where nothing is drawn
    differing = (np.abs(drawn - committed) > 40).any(-1).sum() / inked.sum()
    assert differing < 0.02, f"{differing:.1%} of what {file} shows differ: draw it again"


open_once = functools.cache(open_data)  # fifteen thousand files are looked for each time


def find_data(record: records.Record, monkeypatch) -> StoreData | None:
    """The data set that a record was scored on, where it is at hand."""
    if REAL_DATA is None:
        return None
    monkeypatch.setenv("S18_DATA", os.fspath(REAL_DATA))
    monkeypatch.setattr(training, "open_data", open_once)
    data = training.record_data(record)
    return data if data.data.fingerprint == record.data["fingerprint"] else None


def draw_all(record: records.Record, data: StoreData | None) -> dict[str, Figure]:
    """A record's pictures; those that need no data set and no weights where one or the other is missing."""
    if record.family != "unet" or (data is not None and record.has_weights):
        return training.draw_record(record, record.model(), data)
    drawn = {"curves": draw_curves(record)}
    if "mask" in record.stored_examples:
        drawn["filmstrip"] = figures.draw_filmstrip(record)
        if record.has_weights:
            drawn["predictions"] = figures.draw_predictions(record, record.model())
    return drawn


def test_there_are_pictures_to_compare():
    assert len(FOLDERS) >= 6
    assert len(SERIES) == 2


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(PUBLISHED)))
def test_the_pictures_of_a_record(folder, monkeypatch):
    record = records.read_record(folder)
    data = find_data(record, monkeypatch) if record.family == "unet" else None
    drawn = draw_all(record, data)
    committed = {file.stem for file in folder.glob("*.png")} - KEPT
    if record.family != "unet" or (data is not None and record.has_weights):
        assert drawn.keys() == committed
    for name, figure in drawn.items():
        assert_alike(figure, folder / f"{name}.png")


@pytest.mark.parametrize("folder", SERIES, ids=lambda folder: folder.name)
def test_the_pictures_of_a_trade_off(folder):
    series = records.read_series(folder)
    assert_alike(draw_tradeoff(series), folder / "tradeoff.png")


def test_the_pictures_of_all_unets():
    kept = [records.read_record(PUBLISHED / name) for name in records.family_names("unet")]
    assert_alike(figures.compare_by_class(kept), PUBLISHED / "unets_by_class.png")
    assert_alike(figures.compare_predictions(kept), PUBLISHED / "unets_side_by_side.png")
