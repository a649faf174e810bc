"""Publishes results: records, pictures, the README's tables and the notebooks of this repository, all made anew."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat

from s18_utils import notebooks, plots, records, tradeoff, training
from s18_utils.errors import InputError, check_choice
from s18_utils.experiments import EXPERIMENTS, get_experiment
from s18_utils.presets import get_preset
from s18_utils.progress import tell
from s18_utils.records import Record
from s18_utils.tables import insert_results

SEEDS = {"unet": 3, "cvae": 1, "classifier": 1}


def publish(preset: str, only: Sequence[str] = ()) -> list[str]:
    """Trains what has no record of this preset in `figures/` yet, then writes all that is drawn from the records.

    Every step can be repeated: a record of the same settings and data is kept, and an interrupted training goes on
    from its last epoch. A record of another preset is replaced once the new one is there. UNets are trained with three
    seeds. A notebook is executed on the published records and written in place if it runs to its end.

    Args:
        preset: `tiny`, `quick` or `full`.
        only: names of experiments, to publish these alone.

    Returns:
        The names of the notebooks that failed, which are left as they were.

    Raises:
        InputError: an unknown name, no notebooks around the package, or no real data where the preset wants them.
        KeyboardInterrupt: the training was interrupted; the same call goes on with it.
    """
    for name in only:
        check_choice("experiment", name, EXPERIMENTS)
    if not notebooks.NOTEBOOKS.is_dir():
        raise InputError(f"there are no notebooks in {notebooks.NOTEBOOKS}: run this from a checkout of the repository")
    names = [name for name in EXPERIMENTS if not only or name in only]
    for name in names:
        check_data(name, preset)
    for name in names:
        for needed in (*get_experiment(name).needs.values(), name):
            redraw(published(needed, preset))
        if get_experiment(name).family == "cvae":
            measured = records.read_record(records.PUBLISHED / f"{name}-tradeoff")
            if measured is None or measured.metrics["preset"] != preset:
                tradeoff.measure(name, preset, records.PUBLISHED, records.PUBLISHED)
    with tempfile.TemporaryDirectory() as empty:  # records of one's own runs must not get into what is published
        os.environ |= {"S18_RUNS": empty, "S18_PRESET": preset}
        compare_unets(preset)
        readme = notebooks.NOTEBOOKS.parent / "README.md"
        readme.write_text(insert_results(readme.read_text()))
        return [file for name in names if not render(file := EXPERIMENTS[name].notebook)]


def check_data(name: str, preset: str) -> None:
    """Raises an InputError if an experiment would be trained on synthetic data for want of real ones."""
    data = training.build_data(name, preset)
    if data.kind == "synthetic" and get_preset(name, preset).source != "synthetic":
        raise InputError(
            f"there are no real {data.data.name} at hand and synthetic ones are not for publishing: "
            "name a folder that has them with S18_DATA"
        )


def published(name: str, preset: str) -> Record:
    """The experiment's record in `figures/`, trained if it isn't there or is one of another preset."""
    folder, seeds = records.PUBLISHED, SEEDS[get_experiment(name).family]
    kept = records.read_record(folder / name)
    other = kept is not None and kept.metrics["preset"] != preset
    record = training.train_or_load(name, preset, seeds=seeds, out=folder, resume=True, retrain=other)
    if record.metrics["interrupted"]:
        raise KeyboardInterrupt(f"Interrupted while training {name}: run this again to go on.")
    return record


def redraw(record: Record) -> None:
    """Draws a record's pictures again, so that all that is published is drawn by the same code."""
    name = record.metrics["experiment"]
    data = training.build_data(name, record.metrics["preset"])
    draw = training.FIGURES[get_experiment(name).family]
    records.save_figures(record.folder, draw(record, training.load_trained(record, records.PUBLISHED), data))


def compare_unets(preset: str) -> None:
    """Draws the figures that show several UNets at once, as far as there are published records of the preset.

    What they predict stays as it was drawn where not all have weights: a clone of the repository has none.
    """
    kept = plots.unet_records(preset)
    pictures = {"unets_by_class": plots.by_class(preset)} if kept else {}
    if kept and all(record.has_weights for record in kept):
        data = training.build_data(kept[0].metrics["experiment"], preset)
        pictures["unets_side_by_side"] = plots.side_by_side(preset, data)
    records.save_figures(records.PUBLISHED, pictures)


def render(name: str) -> bool:
    """Executes a notebook and writes it in place; one that fails is left as it was."""
    file = notebooks.NOTEBOOKS / f"{name}.ipynb"
    tell(f"{name}: running")
    notebook, good = notebooks.run(file)
    if good:
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            nbformat.write(notebook, Path(folder, file.name))
            Path(folder, file.name).replace(file)
    tell(f"{name}: {'done' if good else 'failed'}", warning=not good)
    return good
