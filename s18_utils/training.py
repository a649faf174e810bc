"""From an experiment's block to a record: `train_or_load`."""

import functools
from pathlib import Path
from typing import Any

import lightning as L
import torch
from matplotlib.figure import Figure

import s18_utils.cvae.figures
import s18_utils.unet.figures
from s18_utils import records
from s18_utils.cvae.checks import check_judge
from s18_utils.cvae.module import CVAEModule
from s18_utils.data.augmentation import augment_labelled, augment_pets
from s18_utils.data.batches import StoreData
from s18_utils.data.dataset import READERS, open_data
from s18_utils.data.store import DataSet
from s18_utils.device import describe_device, precision
from s18_utils.errors import InputError, local_path
from s18_utils.experiments import NETWORKS, Experiment, build_settings, get_experiment, network_name, network_of
from s18_utils.fitting import Hardware, SeedResult, describe_surroundings, score_module, summarise_seeds, train_seed
from s18_utils.records import Record, default_preset
from s18_utils.report.curves import draw_curves
from s18_utils.report.origin import describe_origin
from s18_utils.report.progress import Filmstrip, display_message
from s18_utils.runs import (
    answers,
    check_replaceable,
    differing_settings,
    discard_folder,
    folder_name,
    has_scores,
    is_first_process,
    network_variants,
    normalise_changes,
    replace_folder,
    working_folder,
    write_record,
)
from s18_utils.settings import (
    MOST_SEEDS,
    ClassifierSettings,
    CVAESettings,
    DataSettings,
    UNetSettings,
    at_preset,
)

ANEW = ".anew"  # in a trade-off's folder: where a record that is to replace one of other settings is trained
# The modules that draw a family's records, and choose what of the test split is kept with them and watched meanwhile.
FIGURES = {"unet": s18_utils.unet.figures, "cvae": s18_utils.cvae.figures}
# What changes a family's training images, and the settings that say how much.
AUGMENTATION = {
    UNetSettings: (augment_pets, ("rotate", "zoom", "shift", "colour")),
    CVAESettings: (augment_labelled, ("flip",)),
    ClassifierSettings: (augment_labelled, ("translate", "flip", "rotate", "scale", "shear", "noise", "blur")),
}


def draw_record(record: Record, module: L.LightningModule, data: StoreData) -> dict[str, Figure]:
    """The pictures of a record by name; classifiers have curves alone."""
    if record.family not in FIGURES:
        return {"curves": draw_curves(record)}
    return FIGURES[record.family].draw_record(record, module, data)


def train_or_load(
    experiment: str,
    preset: str | None = None,
    *,
    source: str | None = None,
    seeds: int = 1,
    name: str | None = None,
    out: str | Path | None = None,
    retrain: bool = False,
    devices: int = 1,
    nodes: int = 1,
    strategy: str = "auto",
    **changes: Any,
) -> Record:
    """The record of an experiment or a variant of it: an existing one of the same settings and data, else a new one.

    Training keeps the weights of the epoch with the best validation score and scores them once on the test split. What
    was begun before is gone on with from its last whole epoch. Interrupting it keeps what was reached, as a record that
    says so.

    Args:
        experiment: a name in `EXPERIMENTS`.
        preset: `tiny`, `quick` or `full`; by default what suits the device, or `full` where the repository has a
            trained network of it.
        source: where the data come from, see `data.sources`; by default the preset's.
        seeds: train so many times, with the block's seed and those after it; the record then holds mean and spread. A
            record of more seeds serves as well.
        name: what the variant's folder and label are called; by default what differs, `label_weight=0`.
        out: folder for the record; by default `$S18_RUNS/<preset>`, or `runs/<preset>`.
        retrain: train from the start even if there is such a record or a part of one.
        devices, nodes, strategy: handed to Lightning's trainer.
        changes: settings to change, by name; those of a network as `**{"judge.epochs": 3}`.

    Raises:
        InputError: an unknown name or setting, data that can't be had, a folder that can't be written to, a name that
            is taken by other settings, or another process that is at the same training.
        FloatingPointError: the loss became infinite or no number.
        KeyboardInterrupt: interrupted with nothing to keep yet, or where a finished record would be lost.
    """
    spec = get_experiment(experiment)
    published = not (changes or name or retrain or seeds > 1 or out or source)  # else it is to be trained
    preset = preset or default_preset(experiment if published else None)
    if seeds < 1:
        raise InputError(f"seeds is how many times to train, not {seeds}: use 1 or more")
    settings = build_settings(spec, preset, changes)
    settings = settings.model_copy(update={"source": source}) if source else settings
    if settings.data not in READERS:  # a folder, that is the same from wherever it is named
        settings = settings.model_copy(update={"data": str(local_path(settings.data))})
    if settings.seed + seeds > MOST_SEEDS:
        raise InputError(f"{seeds} seeds from {settings.seed} on go beyond {MOST_SEEDS - 1}: start at a smaller one")
    hardware = Hardware(devices, nodes, strategy)
    check_hardware(hardware, settings.batch_size)
    if reader := READERS.get(settings.data):  # before its images are asked for in a size that they do not have
        check_truth(reader.TRUTH, reader.TITLE, spec)
    data = open_data(settings.data, settings.size, settings.source)
    check_truth(data.truth, data.title, spec)
    batches = build_batches(data, settings, settings.seed)
    if spec.family != "classifier":  # these are trained for an experiment that says it for them
        display_message(batches.describe(), warning=data.synthetic)

    changes = normalise_changes(settings, build_settings(spec, preset), changes)
    config = describe_run(spec, preset, settings, changes, name) | {"seeds": seeds}
    config["fingerprint"] = data.fingerprint
    folder = local_path(out or records.runs_folder(preset)) / folder_name(spec, changes, name)
    if not retrain and (kept := find_answer(folder, config, data, out)):
        return kept
    check_replaceable(folder)
    there = records.read_record(folder)
    if there and there.preset != preset and not retrain:
        raise InputError(
            f"{folder} holds a record of preset {there.preset}: choose another folder, or retrain to replace it"
        )
    check_networks(spec, preset, settings, changes, name, data)
    where = {"source": source, "out": out, "devices": devices, "nodes": nodes, "strategy": strategy}
    networks = {
        role: train_whole(network_name(spec, role), preset, name=called, **where, **own)
        for role, own, called in network_variants(spec, changes, name)
    }
    partial = folder.with_name(f".{folder.name}.training")
    with working_folder(partial, config, retrain):
        results = train_seeds(config, settings, data, partial, networks, hardware)
        if results[-1].interrupted and there and not there.metrics["interrupted"]:
            again = f"move {folder} away and run this again, without retrain," if retrain else "run this again"
            message = f"Interrupted: {folder} stays as it was; {again} to go on from the last epoch."
            display_message(message, warning=True)
            raise KeyboardInterrupt(message)
        if is_first_process():
            save_record(folder, config, batches, settings, results, networks, hardware)
        wait_for_others()
        if is_first_process() and not results[-1].interrupted:
            discard_folder(partial)
    if results[-1].interrupted:
        display_message(
            f"Interrupted: kept the best weights so far in {folder}; run this again{', without retrain,' * retrain} to "
            "go on from the last epoch.",
            warning=True,
        )
    return records.read_record(folder)


def check_hardware(hardware: Hardware, batch_size: int) -> None:
    """Raises an InputError unless there is something to train on that can share a batch."""
    if hardware.devices < 1 or hardware.num_nodes < 1:
        raise InputError(
            f"{hardware.devices} devices on {hardware.num_nodes} machines train nothing: use 1 or more of each"
        )
    if batch_size % hardware.processes:
        raise InputError(
            f"a batch of {batch_size} images can't be shared evenly by {hardware.processes} processes: "
            "use a number of devices that divides it"
        )


def check_truth(given: str, title: str, spec: Experiment) -> None:
    """Raises an InputError if an experiment that learns from masks is given labels, or the other way round."""
    truth = "mask" if spec.family == "unet" else "label"
    if given != truth:
        layout = "images/ and masks/" if truth == "mask" else "a folder of images for each class"
        raise InputError(f"{title} has {given}s, and {spec.name} learns from {truth}s: bring {layout}")


def check_networks(
    spec: Experiment, preset: str, settings: DataSettings, changes: dict[str, Any], name: str | None, data: DataSet
) -> None:
    """Raises an InputError now, and not after other networks were trained, if one that an experiment needs, or in the
    end its own, can't be built."""
    networks = [(network_of(spec, role), own) for role, own, _ in network_variants(spec, changes, name)]
    for network, own in networks:
        needed = build_settings(network, preset, own)
        records.build_module(network.family, needed, describe_images(data))
        build_batches(data, needed, needed.seed)
    if networks:
        records.build_module(spec.family, settings, describe_images(data))


def describe_run(
    spec: Experiment, preset: str, settings: DataSettings, changes: dict[str, Any], name: str | None
) -> dict[str, Any]:
    """What a run is to make, as its record will keep it in `config.json`."""
    variants = network_variants(spec, changes, name)
    networks = {role: folder_name(network_of(spec, role), own, called) for role, own, called in variants}
    return {
        "experiment": spec.name,
        "family": spec.family,
        "preset": preset,
        "changes": changes,
        "settings": settings.model_dump(mode="json"),
        "networks": networks,
        "name": name,
    }


def find_answer(folder: Path, config: dict[str, Any], data: DataSet, out: str | Path | None) -> Record | None:
    """The record, with its weights, that makes a run with `config` needless, see `answers`; None if there is none."""
    kept = records.find_record(folder.name, config["preset"], out)
    if kept is None and out and config["family"] == "classifier":  # a conditional VAE's networks may be had elsewhere
        kept = records.find_record(folder.name, config["preset"])
    if kept is None or not answers(kept, config, folder, data.synthetic):
        return None
    try:
        kept.fetch_weights()
    except InputError as error:
        if kept.released:
            display_message(str(error), warning=True)
        return None
    display_message(f"Loaded the record of {folder.name}: {describe_origin(kept)}", warning=kept.synthetic)
    if kept.data["fingerprint"] != data.fingerprint:
        display_message("The data at hand are others: what is scored on them anew is no score of this record", True)
    return kept


def train_tradeoff(experiment: str, preset: str | None = None, out: str | Path | None = None) -> list[Record]:
    """A conditional VAE trained shortly with each of the label weights of its block's `tradeoff`, on fewer images.

    Records that are there are loaded, and made anew where the block has changed since.

    Args:
        experiment: the name of a conditional VAE.
        preset: whose networks to use; by default what suits the device.
        out: folder for the records; by default `runs/<preset>/<experiment>-tradeoff`.

    Raises:
        InputError: not a conditional VAE, or as for `train_or_load`.
        KeyboardInterrupt: interrupted; the same call goes on.
    """
    spec, preset = get_experiment(experiment), preset or default_preset()
    if spec.tradeoff is None:
        raise InputError(f"{experiment} has no label loss to weigh: choose {' or '.join(records.family_names('cvae'))}")
    folder = local_path(out or records.runs_folder(preset) / f"{experiment}-tradeoff")
    changes = at_preset(spec.tradeoff, preset)
    weights, seeds = changes.pop("label_weights"), changes.pop("seeds")
    for role in NETWORKS:  # where every other run finds them
        train_whole(network_name(spec, role), preset)
    series = []
    for weight in weights:
        name = f"label weight {weight:g}"
        own = changes | {"label_weight": weight}
        settings = build_settings(spec, preset, own)
        there = records.read_record(folder / folder_name(spec, own, name))
        if has_scores(there, settings, seeds):
            series.append(there)
            continue
        other = there and differing_settings(there.config.get("settings", {}), settings.model_dump(mode="json"))
        replaces = bool(other) and there.preset == preset
        place = folder / ANEW if replaces else folder  # what is replaced stands until the new one is whole
        record = train_whole(experiment, preset, name=name, seeds=seeds, out=place, **own)
        if replaces:
            replace_folder(record.folder, there.folder)
            discard_folder(place)
            record = records.read_record(there.folder)
        series.append(record)
    return series


def build_data(experiment: str, preset: str | None = None, source: str | None = None, **changes: Any) -> StoreData:
    """The data module of an experiment; see `open_data` for what can go wrong."""
    settings = build_settings(get_experiment(experiment), preset or default_preset(experiment), changes)
    return build_batches(open_data(settings.data, settings.size, source or settings.source), settings, settings.seed)


def record_data(record: Record, source: str | None = None) -> StoreData:
    """The data module that a record was scored on, as far as the data at hand are the same."""
    settings = record.settings
    source = source or ("synthetic" if record.synthetic else "auto")
    return build_batches(open_data(settings.data, settings.size, source), settings, settings.seed)


def build_batches(data: DataSet, settings: DataSettings, seed: int) -> StoreData:
    """The batches of a data set as the settings want them; an InputError where its images are too small for that."""
    if getattr(settings, "translate", 0) >= data.size:
        raise InputError(f"translate={settings.translate} moves images of {data.size} pixels out of sight: use less")
    change, names = AUGMENTATION[type(settings)]
    half_size_epochs = settings.half_size_epochs if isinstance(settings, UNetSettings) else 0
    return StoreData(
        data,
        settings.batch_size,
        seed=seed,
        limit=settings.limit,
        augment=functools.partial(change, **{name: getattr(settings, name) for name in names}),
        half_size_epochs=min(half_size_epochs, settings.epochs - 1),  # those who ask for fewer epochs get a whole one
        scored_on=settings.scored_on,
    )


def train_whole(experiment: str, preset: str, **options: Any) -> Record:
    """`train_or_load` for those who need the whole training: a KeyboardInterrupt where it was interrupted."""
    record = train_or_load(experiment, preset, **options)
    if record.metrics["interrupted"]:
        raise KeyboardInterrupt(f"Interrupted while training {experiment}: run this again to go on.")
    return record


def train_seeds(
    config: dict[str, Any],
    settings: DataSettings,
    data: DataSet,
    partial: Path,
    networks: dict[str, Record],
    hardware: Hardware,
) -> list[SeedResult]:
    """Trains with one seed after the other, until all are through or the user interrupts."""
    results: list[SeedResult] = []
    family, title = config["family"], get_experiment(config["experiment"]).title + records.describe_variant(config)

    def build() -> L.LightningModule:
        module = records.build_module(family, settings, describe_images(data))
        if networks:
            attach_networks(module, networks)
        return module

    for seed in range(settings.seed, settings.seed + config["seeds"]):
        batches, place = build_batches(data, settings, seed), partial / f"seed-{seed}"
        filmstrip = build_filmstrip(family, batches) if seed == settings.seed else None
        try:
            results.append(train_seed(build, batches, seed, settings.epochs, title, place, hardware, filmstrip))
        except KeyboardInterrupt as error:
            if not results:
                if str(error):
                    display_message(str(error), warning=True)
                raise
            results[-1].interrupted = True
        if results[-1].interrupted:
            break
    return results


def build_filmstrip(family: str, data: StoreData) -> Filmstrip | None:
    """What keeps snapshots of a family's training; None where there is nothing to see."""
    if family not in FIGURES:
        return None
    figures, batch, classes = FIGURES[family], FIGURES[family].choose_watched(data), data.data.classes
    return Filmstrip(
        lambda module: figures.take_snapshot(module, batch),
        lambda snapshot, when: figures.draw_snapshot(batch, snapshot, when, classes),
    )


def attach_networks(module: L.LightningModule, networks: dict[str, Record]) -> None:
    """Gives a conditional VAE its frozen CNN's weights and its judges; an InputError for a judge that can't read."""
    for role, record in networks.items():
        if role != "classifier":
            data = record.data
            check_judge(record.test["accuracy"], data["test"], len(data["classes"]), role.replace("_", " "))
    nets = {role: record.model().net for role, record in networks.items()}
    module.attach(classifier=nets.pop("classifier", None), judges=list(nets.values()))


def describe_images(data: DataSet) -> dict:
    """What a network has to know of its images."""
    return {"classes": data.classes, "channels": data.channels, "size": data.size}


def save_record(
    folder: Path,
    config: dict,
    batches: StoreData,
    settings: DataSettings,
    results: list[SeedResult],
    networks: dict[str, Record],
    hardware: Hardware,
) -> None:
    """Turns finished trainings into a record with its figures."""
    data, family = batches.data, config["family"]
    history = [row for result in results for row in result.history]
    test, spread = summarise_seeds([result.test for result in results])
    validation, _ = summarise_seeds([result.validation for result in results])
    module = records.build_module(family, settings, describe_images(data))
    if networks:
        attach_networks(module, networks)
    module.load_state_dict(results[0].weights)
    metrics = {
        "experiment": config["experiment"],
        "preset": config["preset"],
        "data": {
            "name": data.name,
            "title": data.title,
            "source": data.source,
            "train": len(batches.train),
            "val": len(batches.val),
            "test": len(batches.test),
            "official": data.official,
            **describe_images(data),
            "fingerprint": data.fingerprint,
        },
        "device": describe_device(hardware.processes),
        "precision": precision(),
        "epochs": max(row["epoch"] for row in history),
        "interrupted": results[-1].interrupted,
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "seeds": [result.seed for result in results],
        **describe_surroundings(),
        "parameters": count_trained(module),
        "validation": validation,
        "test": test,
        "spread": spread,
        "by_seed": [result.test for result in results],
    }
    module.eval()
    examples = FIGURES[family].choose_examples(module, batches) if family in FIGURES else {}
    record = Record(folder, metrics, history, examples | results[0].snapshots, config)
    write_record(record, results[0].weights, draw_record(record, module, batches))


def count_trained(module: L.LightningModule) -> int:
    """How many numbers of a model are trained; without those of a discriminator, which only helps it learn."""
    model = module.vae if isinstance(module, CVAEModule) else module
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def score_record(record: Record, data: StoreData) -> dict:
    """A record's trained model scored on the test split again; an InputError if its weights or judges are missing."""
    found = {role: network for role, network in record.networks().items() if role != "classifier"}
    if missing := [record.config["networks"][role] for role, network in found.items() if network is None]:
        raise InputError(f"{record.folder} can't be scored without {' and '.join(missing)}: train it first")
    return score_module(record.model(), data)


def wait_for_others() -> None:
    """Returns when every process of the run has come here."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
