"""The command line: `python -m s18_utils`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS, get_experiment

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Four UNets and two conditional VAEs, one command each.",
)

ExperimentName = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="A name from `list`.")]
PresetName = Annotated[str | None, typer.Option(help="tiny, quick or full; by default what suits the device.")]
SourceName = Annotated[str | None, typer.Option(help="auto, local, kaggle, huggingface, torchvision or synthetic.")]
OutFolder = Annotated[Path | None, typer.Option(help="Folder of the record; by default runs/<preset>.")]


@app.command("list")
def list_experiments() -> None:
    """Lists the experiments."""
    from s18_utils.table import Table

    rows = [[row.name, row.data, row.title, f"notebooks/{row.notebook}.ipynb"] for row in EXPERIMENTS.values()]
    print(Table(["experiment", "data", "title", "notebook"], rows))


@app.command()
def fit(
    experiment: ExperimentName,
    preset: PresetName = None,
    source: SourceName = None,
    seeds: Annotated[int, typer.Option(help="Train so many times, with seeds 0, 1, …")] = 1,
    out: OutFolder = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last epoch of an interrupted run.")] = False,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train even if there is such a record.")] = False,
    devices: Annotated[int, typer.Option(help="GPUs of each machine; on a CPU, processes.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    strategy: Annotated[str, typer.Option(help="auto, ddp or ddp_find_unused_parameters_true.")] = "auto",
    sync_batchnorm: Annotated[
        bool, typer.Option("--sync-batchnorm", help="Take batch statistics over all GPUs.")
    ] = False,
) -> None:
    """Trains an experiment, or loads its record if there is one of the same settings and data."""
    from s18_utils.hardware import Hardware, is_first_process
    from s18_utils.training import train_or_load

    hardware = Hardware(devices, nodes, strategy, sync_batchnorm)
    record = train_or_load(
        experiment, preset, source=source, seeds=seeds, out=out, resume=resume, retrain=retrain, hardware=hardware
    )
    if is_first_process():
        show(record, record.metrics["test"])
        print(f"record: {record.folder}")


@app.command()
def evaluate(
    experiment: ExperimentName, preset: PresetName = None, source: SourceName = None, out: OutFolder = None
) -> None:
    """Scores the trained model of a record on the test split again."""
    from s18_utils import training

    record = existing_record(experiment, preset, out)
    source = source or ("synthetic" if record.synthetic else None)
    data = training.build_data(experiment, record.metrics["preset"], source)
    print(data.describe())
    if data.data.fingerprint != record.metrics["data"]["fingerprint"]:
        print("These are not the data of the record, whose origin is given below the scores.")
    show(record, training.score(training.load_trained(record, out), data))


@app.command()
def swap(
    experiment: ExperimentName,
    preset: PresetName = None,
    out: OutFolder = None,
    seed: Annotated[int, typer.Option(help="Of the mismatched labels.")] = 0,
    file: Annotated[Path, typer.Option(help="The picture to write.")] = Path("composite.png"),
) -> None:
    """Draws 25 test images under wrong labels into one picture, and prints the swap agreement."""
    from s18_utils import cvae_plots, plots, training
    from s18_utils.records import make_folder

    if get_experiment(experiment).family != "cvae":
        raise InputError(f"{experiment} has no labels to swap: choose cvae-mnist or cvae-cifar10")
    record = existing_record(experiment, preset, out)
    figure = cvae_plots.composite(record, training.load_trained(record, out), seed)
    figure.savefig(make_folder(file.absolute().parent) / file.name)
    test = record.metrics["test"]
    swaps = 9 * record.metrics["data"]["test"]
    print(f"swap agreement {test['swap_agreement']:.2%} over {swaps:,} swaps")
    print(f"under the true label {test['same_label_agreement']:.2%}")
    print(f"picture: {file}")
    print(plots.provenance(record))


@app.command()
def tradeoff(
    experiment: ExperimentName,
    preset: PresetName = None,
    out: OutFolder = None,
    folder: Annotated[Path | None, typer.Option(help="Where to keep it; by default figures.")] = None,
) -> None:
    """Measures what the label loss buys and costs, by a short training for each of several weights."""
    from s18_utils import plots, tradeoff

    record = tradeoff.measure(experiment, preset, out, *filter(None, [folder]))
    print(tradeoff.table(record))
    print(plots.provenance(record))
    print(f"record: {record.folder}")


def existing_record(experiment: str, preset: str | None, out: Path | None):
    """The record that the options name; an InputError says how to make one."""
    from s18_utils.presets import default_preset
    from s18_utils.records import find_record

    preset = preset or default_preset(experiment)
    record = find_record(experiment, preset, out)
    if record is None:
        command = f"fit {experiment} --preset {preset}"
        raise InputError(f"there is no record of {experiment} at {preset}: run `{command}` first")
    return record


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="Folder for the executed notebooks.")] = Path("build"),
    only: Annotated[str | None, typer.Option(help="One experiment instead of all.")] = None,
    preset: PresetName = None,
) -> None:
    """Executes the notebooks into a folder of pages."""
    from s18_utils.notebooks import run_notebooks
    from s18_utils.presets import default_preset

    pages = run_notebooks(out, preset or default_preset(), only)
    print(f"open {out / 'index.html'} in a browser")
    if any(page.state == "failed" for page in pages):
        raise typer.Exit(1)


@app.command()
def publish(
    preset: PresetName = None,
    only: Annotated[list[str] | None, typer.Option(help="An experiment, instead of all; can be repeated.")] = None,
) -> None:
    """Trains what is missing in figures/ and makes records, README and notebooks of the repository anew."""
    from s18_utils.presets import default_preset
    from s18_utils.publish import publish

    if failed := publish(preset or default_preset(), only or ()):
        raise InputError(f"{' and '.join(failed)} failed and were left as they were: see the message above")


@app.command()
def readme(file: Annotated[Path, typer.Argument(help="The file to write to.")] = Path("README.md")) -> None:
    """Writes the result table between its marks in the README, from the records in figures/."""
    from s18_utils.tables import insert_results

    file.write_text(insert_results(file.read_text()))


@app.command()
def bench(
    name: Annotated[str | None, typer.Argument(help="One measurement; by default all of them.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file as well.")] = None,
) -> None:
    """Measures what the fast paths gain and what things cost: imports, data, train, loop, epochs, peak, …"""
    import json

    from s18_utils import bench
    from s18_utils.records import make_folder
    from s18_utils.trainer import describe_device

    if json_file:
        make_folder(json_file.absolute().parent)
    numbers = {"device": describe_device()}
    print(numbers["device"])
    for measure, measured in bench.run(name):
        numbers[measure] = {"title": measured.title, "rows": measured.rows}
        print(f"\n{measure}: {measured.title}\n{measured.table()}", flush=True)
    if json_file:
        json_file.write_text(json.dumps(numbers, indent=2) + "\n")


def show(record, scores: dict) -> None:
    """Prints the test scores, and where they come from."""
    from s18_utils import plots, tables

    print(tables.scores(scores))
    print(plots.provenance(record))


def main() -> None:
    """Runs the command line; what the user can mend is said in one line, with exit status 2."""
    try:
        app()
    except (InputError, FloatingPointError) as error:
        sys.exit(complain(str(error)))


def complain(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
