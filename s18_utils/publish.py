"""Publishes results: records, pictures, the README's tables and the notebooks of this repository, all made anew."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

import s18_utils.cvae.tradeoff
import s18_utils.unet.effects
import s18_utils.unet.figures
from s18_utils import notebooks, records, training
from s18_utils.data.dataset import READERS
from s18_utils.data.sources import locate_data
from s18_utils.errors import InputError, check_choice, replacing, write_text
from s18_utils.experiments import EXPERIMENTS, NETWORKS, build_settings, get_experiment, network_name
from s18_utils.records import Record, find_published
from s18_utils.report.progress import display_message
from s18_utils.report.readme import write_results
from s18_utils.report.values import fill_values, look_up_value
from s18_utils.runs import discard_folder, folder_name, has_scores, save_figures
from s18_utils.settings import at_preset, by_preset
from s18_utils.site.sources import require_notebooks

LARGEST = 30_000_000  # bytes of weights that the repository still keeps itself
# Trainings of each family. At `full` one of a UNet takes two hours on a CPU.
SEEDS = {"unet": by_preset(tiny=3, quick=3, full=1), "cvae": 1, "classifier": 1}


def publish(preset: str, only: Sequence[str] = ()) -> list[str]:
    """Trains what has no record of this preset in `figures/` yet, then writes all that is drawn from the records.

    Every step can be repeated: a record of the same settings and data is kept, and an interrupted training goes on
    from its last epoch. UNets are trained with three seeds, at `full` with one. A notebook is executed on the published
    records and written in place if it runs to its end.

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
    require_notebooks(notebooks.NOTEBOOKS)
    names = [name for name in EXPERIMENTS if not only or name in only]
    for name in names:
        check_data(name, preset)
    with tempfile.TemporaryDirectory() as empty:  # records of one's own runs must not get into what is published
        os.environ |= {"S18_RUNS": empty, "S18_PRESET": preset}
        for name in names:
            spec = get_experiment(name)
            networks = [network_name(spec, role) for role in NETWORKS] if spec.family == "cvae" else []
            for needed in (*networks, name):
                record = train_published(needed, preset)
                redraw(record)
                release_weights(record)
            if spec.tradeoff:
                publish_tradeoff(name, preset)
            if published_folder(name, preset) == records.PUBLISHED:
                publish_references(name, preset)
        if preset != "full" and not only:  # trainings of minutes, not of hours
            publish_combinations(preset)
        compare_unets(preset)
        readme = notebooks.NOTEBOOKS.parent / "README.md"
        write_text(readme, write_results(readme.read_text(encoding="utf-8")))
        return [file for name in names if (file := EXPERIMENTS[name].notebook) and not render(file)]


def check_data(name: str, preset: str) -> None:
    """Raises an InputError if an experiment would be trained on synthetic data for want of real ones."""
    settings = build_settings(get_experiment(name), preset)
    reader = READERS[settings.data]
    if settings.source != "synthetic" and locate_data(reader, settings.source).root is None:
        raise InputError(
            f"there are no real {reader.TITLE} at hand and synthetic ones are not for publishing: "
            "name a folder that has them with S18_DATA"
        )


def published_folder(name: str, preset: str) -> Path:
    """Where an experiment's record of a preset, and what belongs to it, is published.

    `figures/` for the preset that was the first, `figures/<preset>/` for others.
    """
    kept = records.read_record(records.PUBLISHED / name)
    return records.PUBLISHED if kept is None or kept.preset == preset else records.PUBLISHED / preset


def train_published(name: str, preset: str) -> Record:
    """The published record of an experiment, trained if there is none of this preset or one of fewer seeds."""
    seeds = at_preset(SEEDS, preset)[get_experiment(name).family]
    return training.train_whole(name, preset, seeds=seeds, out=published_folder(name, preset))


def train_variant(name: str, preset: str, folder: Path, seeds: int, changes: dict[str, Any]) -> None:
    """Trains a variant of which `folder` has no scores yet; its weights are not published."""
    spec = get_experiment(name)
    kept = records.read_record(folder / folder_name(spec, changes, None))
    if not has_scores(kept, build_settings(spec, preset, changes), seeds):
        training.train_whole(name, preset, seeds=seeds, out=folder, **changes)


def release_weights(record: Record) -> None:
    """Moves weights too large for the repository to `build/release/`, with their SHA-256 sums, to be attached to one.

    The record keeps the file's name and sum in `weights.json`, and `record.model()` fetches them by these.
    """
    weights = record.folder / "weights.safetensors"
    if not weights.is_file() or weights.stat().st_size <= LARGEST:
        return
    records.RELEASED.mkdir(parents=True, exist_ok=True)
    name = f"{record.folder.name}-{record.preset}.safetensors"
    digest = records.find_sum(weights, weights.stat().st_mtime_ns)
    records.write_json(record.folder / "weights.json", {"file": name, "sha256": digest})
    shutil.move(weights, records.RELEASED / name)  # only now: a record always knows where its weights are
    sums = [records.read_json(each) for each in sorted(records.PUBLISHED.glob("**/weights.json"))]
    lines = [f"{each['sha256']}  {each['file']}\n" for each in sums]
    write_text(records.RELEASED / "SHA256SUMS", "".join(lines))


def publish_tradeoff(name: str, preset: str) -> None:
    """Measures the trade-off where there is none of these settings, and draws it; records of other weights go."""
    folder = published_folder(name, preset) / f"{name}-tradeoff"
    measured = training.train_tradeoff(name, preset, folder)
    for path in {*folder.glob("*/")} - {record.folder for record in measured}:
        discard_folder(path)
    save_figures(folder, {"tradeoff": s18_utils.cvae.tradeoff.draw_tradeoff(measured)})


def publish_combinations(preset: str) -> None:
    """Trains the combinations of the UNets' choices that are no experiments, and draws the effects of the choices."""
    folder = records.PUBLISHED / s18_utils.unet.effects.FOLDER
    for name, changes in s18_utils.unet.effects.OTHERS:
        train_variant(name, preset, folder, at_preset(SEEDS, preset)["unet"], changes)
    combinations = s18_utils.unet.effects.find_combinations()
    save_figures(folder, {"effects": s18_utils.unet.effects.draw_effects(combinations)})


def publish_references(name: str, preset: str) -> None:
    """Trains the variants that an experiment is held against, one seed each, but none whose package is not there."""
    for what, changes in get_experiment(name).references.items():
        try:
            train_variant(name, preset, records.PUBLISHED / f"{name}-references", 1, changes)
        except InputError as error:
            display_message(f"{name} {what} is left out: {error}", warning=True)


def redraw(record: Record) -> None:
    """Draws a record's pictures again, so that all that is published is drawn by the same code."""
    data = training.record_data(record)
    save_figures(record.folder, training.draw_record(record, record.model(), data))


def compare_unets(preset: str) -> None:
    """Draws the figures that show several UNets of a preset at once, beside their records.

    What they predict stays as it was drawn where not all have weights: a clone of the repository may have none.
    """
    kept = [record for name in records.family_names("unet") if (record := find_published(name, preset))]
    if not kept:
        return
    pictures = {"unets_by_class": s18_utils.unet.figures.compare_by_class(kept)}
    if all(record.has_weights for record in kept):
        pictures["unets_side_by_side"] = s18_utils.unet.figures.compare_predictions(kept)
    save_figures(kept[0].folder.parent, pictures)


def render(name: str) -> bool:
    """Executes a notebook and writes it in place; one that fails is left as it was."""
    file = notebooks.NOTEBOOKS / f"{name}.ipynb"
    display_message(f"{name}: running")
    notebook, good = notebooks.run_notebook(file)
    if good:
        notebooks.reduce_pictures(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = fill_values(cell.source, look_up_value)
        with replacing(file) as partial:
            nbformat.write(notebook, partial)
    display_message(f"{name}: {'done' if good else 'failed'}", warning=not good)
    return good
