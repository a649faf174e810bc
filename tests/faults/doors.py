"""Generated inputs at every door of the package: the right answer, or an error of one sentence, within ten seconds."""

import contextlib
import copy
import io
import json
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from s18_utils import __main__ as command_line
from s18_utils import notebooks, publish, training
from s18_utils.data.dataset import open_data
from s18_utils.data.pictures import read_picture
from s18_utils.data.store import fingerprint
from s18_utils.errors import InputError
from s18_utils.experiments import build_settings, get_experiment
from s18_utils.records import build_module, read_record
from s18_utils.report import bench
from s18_utils.report.curves import draw_curves
from s18_utils.report.origin import describe_origin
from s18_utils.report.tables import list_scores
from s18_utils.settings import UNetSettings, list_settings
from s18_utils.site import build
from s18_utils.unet.losses import CrossEntropyLoss, DiceLoss

NAME = "unet-maxpool-transpose-bce"
SECONDS = 10
PLAIN = st.none() | st.booleans() | st.integers() | st.integers(-2, 40) | st.floats() | st.text(max_size=8)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
KINDS = st.sampled_from(["bool", "uint8", "uint16", "int8", "int64", "float16", "float32", "float64", "complex64"])
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
SHAPES |= st.sampled_from([(3,), (9, 8), (9, 8, 3), (3, 9, 8), (2, 16, 16)])
ARRAYS = st.tuples(KINDS, SHAPES).flatmap(lambda kind: arrays.arrays(*kind, fill=st.nothing()))
THINGS = f"tiny huge x.png x.json x.jpg width=8 down=[] epochs=-1 0 1 -1 nan {10**20} a::b s3:x synthetic local"
WORDS = st.text("ab-=.,é☃ '\n\0", max_size=6) | st.sampled_from([*THINGS.split(), NAME, "cvae-mnist"])
OPTIONS = [
    "--out",
    "--set",
    "--seeds",
    "--source",
    "--name",
    "--file",
    "--seed",
    "--records",
    "--data",
    "--only",
    "--json",
]
COMMANDS = [each.name or each.callback.__name__ for each in command_line.app.registered_commands]
COMMANDS = st.tuples(
    st.sampled_from(COMMANDS).map(lambda name: [name]),
    st.sampled_from([[], [NAME], ["cvae-mnist"], ["x.jpg"]]) | WORDS.map(lambda word: [word]),
    st.sampled_from([[], ["--preset", "tiny"], ["--preset", "tiny"], ["--experiment", NAME]]),
    st.lists(st.tuples(st.sampled_from(OPTIONS), WORDS).map(list), max_size=2).map(lambda pairs: sum(pairs, [])),
).map(lambda words: sum(words, []))
DEFAULTS = ("masks", "export", "build", "composite.png")  # what commands write where they are not told otherwise


def read_whole(folder: Path) -> tuple:
    """All that the package reads of a record."""
    record = read_record(folder)
    draw_curves(record)
    texts = (str(list_scores(record.test, record.spread)), describe_origin(record), record.title(), record.history)
    state = fingerprint({name: values.contiguous() for name, values in record.model().state_dict().items()})
    return *texts, state, fingerprint(dict(record.examples(4))), record.settings


def encode(kind: str) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((12, 9), 80).convert("RGB").save(file, kind)
    return file.getvalue()


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """A file with some of its bytes changed, cut off somewhere."""
    changed, places = bytearray(content), st.integers(0, len(content) - 1)
    for position, byte in draw(st.dictionaries(places, st.integers(0, 255), max_size=4)).items():
        changed[position] = byte
    return bytes(changed[: draw(places | st.just(len(content)))])


def to_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array if array.dtype != np.uint16 else array.astype(np.int32)))


def stop(*arguments) -> None:
    raise InputError("this is far enough: stop here")


def build_doors(place: Path) -> dict[str, tuple[st.SearchStrategy, Callable]]:
    """Every door with what knocks at it; a door raises an AssertionError for a wrong answer."""
    folder, data = place / "runs" / "tiny" / NAME, {"classes": tuple("0123456789"), "channels": 1, "size": 28}
    painter = build_module("cvae", build_settings(get_experiment("cvae-mnist"), "tiny"), data).eval()
    logits, images = torch.rand(2, 3, 16, 16), torch.rand(3, 1, 28, 28)
    pages = {"classes": ("a", "b"), "channels": 3, "size": 32}

    def picture(thing) -> None:
        assert read_picture(thing).mode == "RGB"

    def labels(things: tuple) -> None:
        own, asked = map(to_tensor, things)
        assert painter.swap(images, own, asked).shape == images.shape

    def mask(array: np.ndarray) -> None:
        for loss in (DiceLoss(), CrossEntropyLoss()):
            assert loss(logits, to_tensor(array)).isfinite()

    def mask_file(content: bytes | np.ndarray) -> None:
        own = place / "own"
        shutil.rmtree(own, ignore_errors=True)
        for name in ("images", "masks"):
            (own / name).mkdir(parents=True)
            for number in range(3):
                Image.fromarray(np.indices((16, 16)).sum(0).astype(np.uint8) % 2).save(own / name / f"{number}.png")
        if isinstance(content, bytes):
            (own / "masks" / "1.png").write_bytes(content)
        else:
            Image.fromarray(content).resize((16, 16), Image.Resampling.NEAREST).save(own / "masks" / "1.png")
        held = open_data(own, 16)
        assert int(held.train["mask"].max()) < len(held.classes)

    def change(changes: dict) -> None:
        found = build_settings(get_experiment(NAME), "tiny", changes)
        if found.width <= 64:  # more is a question of memory
            build_module("unet", found, pages)

    def record(things: tuple) -> None:
        name, where, value = things
        content = (folder / name).read_bytes()
        try:
            if name == "history.csv":
                (folder / name).write_text(str(value), encoding="utf-8", errors="replace")
            else:
                (folder / name).write_text(json.dumps(replace_part(json.loads(content), where, value)))
            read_whole(folder)
        finally:
            (folder / name).write_bytes(content)

    def command(words: list[str]) -> None:
        sys.argv, said = ["s18_utils", *words], Terminal()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                command_line.main()
        except SystemExit as end:
            status, text = end.code, said.getvalue().strip()
            if status == 2 and "Usage: " not in text and "─ Error ─" not in text:  # else it is the parser's
                raise InputError(text.rpartition("error: ")[2]) from None
        for path in Path.cwd().iterdir():
            assert any(path.name in word for word in (*words, *DEFAULTS)), path
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    files = damaged(encode("PNG")) | damaged(encode("JPEG")) | st.binary(max_size=60)
    numbers = arrays.arrays(st.sampled_from(["uint8", "bool"]), st.tuples(st.integers(1, 9), st.integers(1, 9)))
    names = st.sampled_from(list_settings(UNetSettings)) | st.text(max_size=6)
    usual = st.integers(1, 40) | st.floats(0, 1) | st.sampled_from(["strided", "bilinear", "dice", "synthetic", "test"])
    digits = arrays.arrays("uint8", 3, elements=st.integers(0, 9))
    parts = st.sampled_from(["metrics.json", "config.json", "history.csv"])
    return {
        "pictures": (ARRAYS | ARRAYS.map(to_tensor) | files | VALUES, picture),
        "labels": (st.tuples(ARRAYS | arrays.arrays("int64", 3, elements=st.integers(0, 10)), ARRAYS | digits), labels),
        "masks": (ARRAYS | arrays.arrays("int64", (2, 16, 16), elements=st.integers(0, 3)), mask),
        "files of masks": (files | numbers, mask_file),
        "settings": (st.dictionaries(names, VALUES | usual, max_size=2), change),
        "records": (st.tuples(parts, st.integers(0, 10**6), VALUES), record),
        "command line": (COMMANDS, command),
    }


class Terminal(io.StringIO):
    """What the command line takes for a terminal's stream."""

    def reconfigure(self, **options) -> None:
        pass


def replace_part(content: dict, where: int, value) -> dict:
    """JSON content with one of its values, chosen by a number, replaced; sometimes the whole of it."""
    content = copy.deepcopy(content)
    places = [(None, None)]

    def collect(inner) -> None:
        for name in inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ():
            places.append((inner, name))
            collect(inner[name])

    collect(content)
    outer, name = places[where % len(places)]
    if outer is None:
        return value
    outer[name] = value
    return content


def knock(call: Callable, thing) -> str:
    """How a door answers to a thing; what begins with `harm` should not be."""
    began, way = time.perf_counter(), "right answer"
    try:
        call(thing)
    except InputError as error:
        text = str(error)
        way = "one sentence" if "\n" not in text and ": " in text and text[-1] != "." else f"harm: {text}"
    except BaseException:
        way = f"harm: {traceback.format_exc()[-600:]} for {str(thing)[:200]!r}"
    return way if time.perf_counter() - began < SECONDS else f"harm: too slow for {str(thing)[:200]!r}"


def watch(outcome: Counter, door: str, strategy: st.SearchStrategy, call: Callable) -> Callable:
    @given(strategy)
    def check(thing) -> None:
        way = knock(call, thing)
        outcome[way if way.startswith("harm") else f"{door}: {way}"] += 1

    return check


def open_doors(place: Path, count: int) -> Counter:
    """Knocks at each door so many times; what takes long behind a door is left out."""
    training.train_seeds = publish.train_published = notebooks.execute_notebook = stop
    build.render_pages = build.write_docs = notebooks.write_pages = stop
    for name in ("measure_batches", "measure_epochs", "measure_swaps"):
        setattr(bench, name, stop)
    outcome: Counter = Counter()
    plain = {"deadline": None, "database": None, "derandomize": True, "phases": [Phase.generate]}
    once = settings(max_examples=count, suppress_health_check=list(HealthCheck), **plain)
    for name, (strategy, call) in build_doors(place).items():
        with contextlib.redirect_stdout(io.StringIO()):
            once(watch(outcome, name, strategy, call))()
    return outcome
