"""The command line: `python -m s18_utils`."""

import importlib
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from s18_utils.errors import MARK, InputError, check_overwritable, local_path, make_folder, replacing, write_text
from s18_utils.experiments import EXPERIMENTS, get_experiment
from s18_utils.report.table import Table

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trains, scores and uses four UNets and two conditional VAEs. Start with `list`, then `predict` or `swap`.",
)

ExperimentName = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="A name from `list`.")]
RecordName = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="A name from `list`, or a variant's folder.")]
PresetName = Annotated[str | None, typer.Option(help="tiny, quick or full; by default what suits the device.")]
SourceName = Annotated[str | None, typer.Option(help="auto, local, kaggle, huggingface, torchvision or synthetic.")]
OutFolder = Annotated[Path | None, typer.Option(help="Folder for the record; by default runs/<preset>.")]
RecordsFolder = Annotated[
    Path | None,
    typer.Option("--records", help="Folder of the record; by default runs/<preset>, then figures/."),
]

INTERRUPTED = 130  # exit status, as shells have it
PICTURES = {".png": {"metadata": {"Software": MARK}}, ".jpg": {"pil_kwargs": {"comment": MARK}}}
PICTURES |= {".jpeg": PICTURES[".jpg"]} | dict.fromkeys((".pdf", ".svg"), {"metadata": {"Creator": MARK}})


def load(name: str) -> ModuleType:
    """A module of the package, imported when a command needs it: torch takes seconds.

    Raises:
        InputError: a package that an installed copy does not bring.
    """
    try:
        return importlib.import_module(f"s18_utils.{name}")
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: run `pip install {error.name}`") from error


@app.command("list")
def list_experiments() -> None:
    """Lists the experiments."""
    rows = [
        [each.name, each.block["data"], each.title, each.notebook and f"notebooks/{each.notebook}.ipynb"]
        for each in EXPERIMENTS.values()
    ]
    print(Table(["experiment", "data", "title", "notebook"], rows))


@app.command()
def fit(
    experiment: ExperimentName,
    preset: PresetName = None,
    source: SourceName = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="SETTING=VALUE", help="Change a setting; can be repeated.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A folder of your own images, instead of the experiment's.")] = None,
    seeds: Annotated[int, typer.Option(help="How many trainings, with seeds 0, 1, …")] = 1,
    name: Annotated[str | None, typer.Option(help="What to call the variant; by default what differs.")] = None,
    out: OutFolder = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Start over, even if there is such a record.")] = False,
    devices: Annotated[int, typer.Option(min=1, help="GPUs of each machine; on a CPU, processes.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    strategy: Annotated[str, typer.Option(help="Lightning's strategy for several processes, such as ddp.")] = "auto",
) -> None:
    """Trains an experiment or a variant of it, going on with what was begun; or loads its record if there is one."""
    changes = parse_changes(change or [])
    if data:
        changes["data"] = str(local_path(data))
    training = load("training")
    for key in changes.keys() & inspect.signature(training.train_or_load).parameters.keys() - {"changes"}:
        raise InputError(f"{key} is given by itself and not by --set: see `python -m s18_utils fit --help`")
    record = training.train_or_load(
        experiment,
        preset,
        source=source,
        seeds=seeds,
        name=name,
        out=out,
        retrain=retrain,
        devices=devices,
        nodes=nodes,
        strategy=strategy,
        **changes,
    )
    if load("runs").is_first_process():
        print_scores(record, record.test, record.spread)
        print(f"record: {record.folder}")
    if record.metrics["interrupted"]:
        raise typer.Exit(INTERRUPTED)


def parse_changes(changes: list[str]) -> dict[str, Any]:
    """`name=value` as settings: values as JSON has them, else as text."""
    parsed = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not name:
            raise InputError(f"--set takes a setting and a value, not {change!r}: write --set label_weight=0")
        try:
            parsed[name] = json.loads(text)
        except ValueError:
            parsed[name] = text
    return parsed


@app.command()
def evaluate(
    experiment: RecordName, preset: PresetName = None, source: SourceName = None, records: RecordsFolder = None
) -> None:
    """Scores the trained model of a record on the test split again."""
    training = load("training")
    record = load("records").existing_record(experiment, preset, records)
    data = training.record_data(record, source)
    print(data.describe())
    if data.data.fingerprint != record.data["fingerprint"]:
        print("These are not the data of the record, whose origin is given below the scores.")
    print_scores(record, training.score_record(record, data))


@app.command()
def predict(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO…", help="Photographs of any size.")],
    experiment: Annotated[
        str, typer.Option(help="The UNet to use, a name from `list` or a variant's folder.")
    ] = "unet-strided-upsample-dice",
    preset: PresetName = None,
    records: RecordsFolder = None,
    out: Annotated[Path, typer.Option(help="Folder for the masks and overlays.")] = Path("masks"),
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="Average the predictions for the photograph and its mirror image.")
    ] = False,
) -> None:
    """Finds the pet in photographs of your own: a mask and an overlay each, at the photograph's own size."""
    if get_experiment(experiment.split("+")[0]).family != "unet":
        raise InputError(f"{experiment} predicts no masks: choose one of the UNets")
    if len(names := {photo.stem for photo in photos}) < len(photos):
        raise InputError(
            f"{len(photos)} photographs have only {len(names)} names, and the masks need one each: rename some"
        )
    record = load("records").existing_record(experiment, preset, records)
    module = record.model()
    for photo in photos:
        prediction = load("unet.prediction").predict_mask(module, photo, size=record.data["size"], mirrored=mirrored)
        for file in prediction.save(make_folder(out, "choose another with --out"), photo.stem):
            print(file)
    print(load("report.origin").describe_origin(record))


@app.command()
def swap(
    experiment: RecordName,
    preset: PresetName = None,
    records: RecordsFolder = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed that chooses the wrong labels.")] = 0,
    file: Annotated[Path, typer.Option(help="The picture to write.")] = Path("composite.png"),
) -> None:
    """Draws 25 test images under wrong labels into one picture, and prints the scores of the swaps."""
    if get_experiment(experiment.split("+")[0]).family != "cvae":
        able = load("records").family_names("cvae")
        raise InputError(f"{experiment} has no labels to swap: choose {' or '.join(able)}")
    if file.suffix.lower() not in PICTURES:
        raise InputError(f"{file} is no picture's name: end it in .png, .jpg, .pdf or .svg")
    check_overwritable(local_path(file), MARK)
    record = load("records").existing_record(experiment, preset, records)
    figure = load("cvae.figures").draw_composite(record, record.model(), seed)
    place = make_folder(local_path(file).parent, "choose another file with --file") / file.name
    with replacing(place) as partial:
        figure.savefig(partial, format=place.suffix[1:].lower(), **PICTURES[place.suffix.lower()])
    print_scores(record, record.test, record.spread)
    print(f"picture: {file}")


@app.command()
def tradeoff(
    experiment: ExperimentName,
    preset: PresetName = None,
    out: Annotated[Path | None, typer.Option(help="Where to keep it; by default runs/<preset>.")] = None,
) -> None:
    """Measures what the label loss buys and costs, by a short training for each of several weights."""
    measured = load("training").train_tradeoff(experiment, preset, out)
    print(load("cvae.tradeoff").tradeoff_table(measured))
    print(load("report.origin").describe_origin(measured[0]))
    print(f"records: {measured[0].folder.parent}")


@app.command()
def export(
    experiment: RecordName,
    preset: PresetName = None,
    records: RecordsFolder = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("export"),
) -> None:
    """Writes a record's networks as ONNX files, with a model card."""
    record = load("records").existing_record(experiment, preset, records)
    for file in load("play.card").export_record(record, local_path(out)):
        print(file)


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="Folder for the executed notebooks.")] = Path("build"),
    only: Annotated[str | None, typer.Option(help="One experiment instead of all.")] = None,
    preset: PresetName = None,
) -> None:
    """Executes the notebooks into a folder of pages."""
    pages = load("notebooks").run_notebooks(out, preset, only)
    print(f"open {out / 'index.html'} in a browser")
    if any(page.state == "failed" for page in pages):
        raise typer.Exit(1)


@app.command()
def publish(
    preset: PresetName = None,
    only: Annotated[list[str] | None, typer.Option(help="An experiment, instead of all; can be repeated.")] = None,
) -> None:
    """Trains what is missing in figures/ and makes records, README and notebooks of the repository anew."""
    if failed := load("publish").publish(preset or load("records").default_preset(), only or ()):
        raise InputError(f"{' and '.join(failed)} failed and were left as they were: see the message above")


@app.command()
def readme(file: Annotated[Path, typer.Argument(help="The file to write to.")] = Path("README.md")) -> None:
    """Writes the results between their marks in the README, from the records in figures/."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"can't read {file} ({error}): name the README of a checkout") from error
    write_text(file, load("report.readme").write_results(text))


@app.command()
def site(out: Annotated[Path, typer.Option(help="Folder for the pages.")] = Path("build/site")) -> None:
    """Builds a static site from the notebooks, as they are, and a playground that needs no kernel."""
    load("site.build").build_site(out)
    print(f"serve it with `python -m http.server --directory {out}`")


@app.command()
def bench(
    name: Annotated[str | None, typer.Argument(help="data, epochs or swap; by default all three.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file as well.")] = None,
) -> None:
    """Measures batches, whole epochs against the plain loop, and one label swap."""
    measurements = load("report.bench")
    if json_file:
        make_folder(local_path(json_file).parent, "choose another file with --json")
        check_overwritable(local_path(json_file), '"made by": "s18_utils bench"')
    numbers = {"made by": "s18_utils bench", "device": load("device").describe_device()}
    print(numbers["device"])
    for each, measured in measurements.measure(name):
        numbers[each] = {"title": measured.title, "rows": measured.rows}
        print(f"\n{each}: {measured.title}\n{measured.to_table()}", flush=True)
    if json_file:
        write_text(local_path(json_file), json.dumps(numbers, indent=2) + "\n")


def print_scores(record: Any, scores: dict, spread: dict | None = None) -> None:
    """Prints test scores, and where they come from."""
    print(load("report.tables").list_scores(scores, spread))
    print(load("report.origin").describe_origin(record))


def main() -> None:
    """Runs the command line; what the user can mend is said in one line, with exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal whose encoding lacks a character is no reason to stop
    try:
        app()
    except (InputError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, and what others do to files meanwhile
        where = error.filename or "its files"
        print(f"error: can't use {where} ({error.strerror or error}): free some space, or allow it", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
