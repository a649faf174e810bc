"""Where data come from: the order, what is said when nothing is there, and how soon."""

import socket
import threading
import time
import urllib.error
import urllib.request
from http.client import BadStatusLine
from pathlib import Path

import pytest
from conftest import assert_one_sentence, listing, random_pets

from s18_utils.data import open_data, pets, sources
from s18_utils.data.sources import Found, data_directory, locate
from s18_utils.errors import InputError

REACHABLE = sources.reachable  # the fixture for all tests replaces it


class Reader:
    """A data set of one marker file, with a download that leaves it."""

    TITLE, URL = "Marbles", "http://marbles.invalid/all.tar"

    def __init__(self):
        self.downloads = []

    def find(self, folder: Path) -> Path | None:
        return folder / "marbles" if (folder / "marbles").is_dir() else None

    def download(self, folder: Path) -> None:
        self.downloads.append(folder)
        (folder / "marbles").mkdir()


class MirroredReader(Reader):
    """The same with a mirror."""

    MIRROR = "http://mirror.invalid/marbles"

    def download_mirror(self, folder: Path) -> None:
        self.downloads.append("mirror")
        (folder / "marbles").mkdir()


def fail(folder: Path) -> None:
    raise OSError(110, "timed out")


@pytest.fixture
def kaggle(monkeypatch, tmp_path) -> Path:
    folder = tmp_path / "kaggle-input"
    folder.mkdir()
    monkeypatch.setattr(sources, "KAGGLE_INPUT", folder)
    return folder


def test_the_data_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("S18_DATA", str(tmp_path / "mine"))
    assert data_directory() == tmp_path / "mine"
    monkeypatch.setenv("S18_DATA", "~/s18")
    assert data_directory() == Path.home() / "s18"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("S18_DATA", "here")
    assert data_directory() == tmp_path / "here"
    monkeypatch.setenv("S18_DATA", "")  # as good as unset
    default = data_directory()
    monkeypatch.delenv("S18_DATA")
    assert data_directory() == default
    assert default.is_absolute()
    assert default.name == "s18"


def test_auto_takes_the_first_that_has_it(data_folder, kaggle, monkeypatch):
    reader = Reader()
    assert locate(reader) == Found("synthetic", None)
    monkeypatch.setattr(sources, "reachable", lambda url: True)
    assert locate(reader) == Found("torchvision", data_folder / "marbles")
    assert reader.downloads == [data_folder]
    (data_folder / "marbles").rmdir()
    (kaggle / "some-input" / "marbles").mkdir(parents=True)
    assert locate(reader) == Found("kaggle", kaggle / "some-input" / "marbles")
    (data_folder / "marbles").mkdir()
    assert locate(reader) == Found("local", data_folder / "marbles")
    assert reader.downloads == [data_folder]


@pytest.mark.parametrize("source", ["local", "kaggle", "torchvision", "synthetic"])
def test_a_source_asked_for_by_name_is_the_one(data_folder, kaggle, source):
    for folder in (data_folder, kaggle / "input"):
        (folder / "marbles").mkdir(parents=True)
    roots = {"local": data_folder, "torchvision": data_folder, "kaggle": kaggle / "input"}
    root = roots[source] / "marbles" if source in roots else None
    assert locate(Reader(), source) == Found(source, root)


def test_nothing_asks_the_network_where_it_is_not_needed(data_folder, kaggle, monkeypatch):
    monkeypatch.setattr(sources, "reachable", lambda url: pytest.fail("asked the network"))
    assert locate(Reader(), "synthetic").source == "synthetic"
    for source in ("local", "kaggle"):
        with pytest.raises(InputError):
            locate(Reader(), source)
    (data_folder / "marbles").mkdir()
    for source in ("auto", "local", "torchvision"):
        assert locate(Reader(), source).root == data_folder / "marbles"


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_kaggle_inputs_are_found_up_to_three_levels_deep(kaggle, depth):
    folder = kaggle.joinpath(*"abc"[:depth])
    (folder / "marbles").mkdir(parents=True)
    (kaggle / "a-file").write_text("")
    assert locate(Reader(), "kaggle") == Found("kaggle", folder / "marbles")


def test_pets_from_a_kaggle_input(data_folder, kaggle):
    images, masks = random_pets()
    pets.write(kaggle / "the-oxfordiiit-pet-dataset", images, masks)
    data = open_data("pets", 16)
    assert data.source == "kaggle"
    assert (len(data.train["image"]), len(data.test["image"])) == (4, 2)


def test_the_source_is_told(pets_folder):
    assert open_data("pets", 16).source == "local"
    assert open_data("pets", 16, "torchvision").source == "torchvision"
    assert open_data("pets", 16, "synthetic").source == "synthetic"


def test_real_and_synthetic_data_never_share_a_store(pets_folder):
    real, drawn = open_data("pets", 16), open_data("pets", 16, "synthetic")
    assert real.fingerprint != drawn.fingerprint
    assert (len(real.test["image"]), len(drawn.test["image"])) == (2, pets.SYNTHETIC["test"])


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("local", ("holds no Marbles", "S18_DATA")),
        ("kaggle", ("is Marbles", "add it as an input")),
        ("torchvision", ("can't be reached", "connect to the network", "source='synthetic'")),
        ("web", ("unknown source 'web'", "choose one of auto, local, kaggle", "synthetic")),
        ("huggingface", ("Marbles has no mirror on Hugging Face", "use source='torchvision' or 'auto'")),
    ],
)
def test_a_source_that_has_nothing_says_what_to_do(data_folder, kaggle, source, parts):
    with pytest.raises(InputError) as caught:
        locate(Reader(), source)
    assert_one_sentence(str(caught.value), *parts)
    assert listing(data_folder) == {}


@pytest.mark.parametrize("error", [OSError(110, "timed out"), RuntimeError("corrupted"), BadStatusLine("x")])
def test_a_download_that_fails_says_so(data_folder, monkeypatch, error):
    reader = Reader()
    reader.download = lambda folder: (_ for _ in ()).throw(error)
    monkeypatch.setattr(sources, "reachable", lambda url: True)
    with pytest.raises(InputError) as caught:
        locate(reader, "torchvision")
    assert_one_sentence(str(caught.value), "the download of Marbles", "try again")


def test_a_download_that_leaves_nothing_says_so(data_folder, monkeypatch):
    reader = Reader()
    reader.download = lambda folder: None
    monkeypatch.setattr(sources, "reachable", lambda url: True)
    with pytest.raises(InputError) as caught:
        locate(reader, "torchvision")
    assert_one_sentence(str(caught.value), "incomplete", "delete it there and try again")


def test_a_download_into_a_folder_that_cannot_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("S18_DATA", str(tmp_path / "file" / "data"))
    monkeypatch.setattr(sources, "reachable", lambda url: True)
    reader = Reader()
    with pytest.raises(InputError, match="can't write to .*: set S18_DATA to a folder that you can write to"):
        locate(reader, "torchvision")
    assert reader.downloads == []


def answering(monkeypatch, *urls: str) -> None:
    """Only these servers answer."""
    monkeypatch.setattr(sources, "reachable", lambda url: url in urls)


def test_a_mirror_goes_before_the_home_server(data_folder, monkeypatch):
    reader = MirroredReader()
    answering(monkeypatch, reader.MIRROR, reader.URL)
    assert locate(reader) == Found("huggingface", data_folder / "marbles")
    assert reader.downloads == ["mirror"]
    assert locate(reader) == Found("local", data_folder / "marbles")
    assert locate(reader, "huggingface") == Found("huggingface", data_folder / "marbles")
    assert reader.downloads == ["mirror"]


def test_the_home_server_steps_in_for_a_mirror_that_is_silent_or_fails(data_folder, monkeypatch):
    reader = MirroredReader()
    answering(monkeypatch, reader.URL)
    assert locate(reader) == Found("torchvision", data_folder / "marbles")
    (data_folder / "marbles").rmdir()
    answering(monkeypatch, reader.MIRROR, reader.URL)
    reader.download_mirror = fail
    assert locate(reader) == Found("torchvision", data_folder / "marbles")
    assert reader.downloads == [data_folder] * 2


def test_a_download_asked_for_by_name_is_the_only_one_tried(data_folder, monkeypatch):
    reader = MirroredReader()
    answering(monkeypatch, reader.MIRROR)
    with pytest.raises(InputError, match=f"{reader.URL} can't be reached: connect to the network"):
        locate(reader, "torchvision")
    answering(monkeypatch, reader.URL)
    with pytest.raises(InputError, match=f"{reader.MIRROR} can't be reached: connect to the network"):
        locate(reader, "huggingface")
    answering(monkeypatch, reader.MIRROR, reader.URL)
    reader.download_mirror = fail
    with pytest.raises(InputError, match=rf"from {reader.MIRROR} failed \(.*timed out\): try again"):
        locate(reader, "huggingface")
    assert reader.downloads == []
    assert locate(reader, "torchvision").source == "torchvision"


def test_downloads_that_all_fail_are_no_reason_for_synthetic_data(data_folder, monkeypatch):
    reader = MirroredReader()
    reader.download_mirror = reader.download = fail
    for urls in ((reader.MIRROR,), (reader.MIRROR, reader.URL)):
        answering(monkeypatch, *urls)
        with pytest.raises(InputError) as caught:
            locate(reader)
        assert_one_sentence(str(caught.value), f"the download of Marbles from {urls[-1]} failed", "try again")
    assert listing(data_folder) == {}


def test_an_error_of_many_lines_is_told_in_one(data_folder, monkeypatch):
    reader = Reader()
    answering(monkeypatch, reader.URL)
    for error, told in ((RuntimeError("No luck:\nTried x. Got y.\n"), "(No luck)"), (TimeoutError(), "(TimeoutError)")):
        monkeypatch.setattr(reader, "download", raise_error(error))
        with pytest.raises(InputError) as caught:
            locate(reader)
        assert_one_sentence(str(caught.value), told)


@pytest.mark.parametrize("source", ["auto", "huggingface", "torchvision"])
def test_mirror_and_home_server_are_waited_for_together(data_folder, monkeypatch, port, source):
    no_proxy(monkeypatch)
    monkeypatch.setattr(sources, "reachable", REACHABLE)
    monkeypatch.setattr(sources, "PROBE_SECONDS", 1)
    reader = MirroredReader()
    reader.MIRROR, reader.URL = f"http://127.0.0.1:{port}/mirror", f"http://127.0.0.1:{port}/home"
    start = time.perf_counter()
    if source == "auto":
        assert locate(reader) == Found("synthetic", None)
    else:
        with pytest.raises(InputError, match="can't be reached"):
            locate(reader, source)
    assert 0.9 < time.perf_counter() - start < 1.8


def raise_error(error: Exception):
    def ask(*arguments, **named):
        raise error

    return ask


HTTP_ERROR = urllib.error.HTTPError("http://x", 403, "Forbidden", None, None)


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (urllib.error.URLError("no such host"), False),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
        (BadStatusLine("nonsense"), False),
        (HTTP_ERROR, True),
    ],
)
def test_whether_a_server_answers(monkeypatch, error, answer):
    monkeypatch.setattr(urllib.request, "urlopen", raise_error(error))
    monkeypatch.setattr(threading, "excepthook", lambda failed: pytest.fail(f"shown to the user: {failed.exc_value}"))
    assert REACHABLE("http://marbles.invalid") is answer


@pytest.fixture
def port():
    """A local port where connections are taken and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def no_proxy(monkeypatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def hang(monkeypatch, port):
    """As a look-up of a name does where packets get lost."""

    def wait(*arguments, **named):
        time.sleep(20)
        raise urllib.error.URLError("no such host")

    monkeypatch.setattr(urllib.request, "urlopen", wait)


def refuse(monkeypatch, port):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    monkeypatch.setattr(pets, "URL", f"http://127.0.0.1:{closed}/images.tar.gz")


def never_answer(monkeypatch, port):
    monkeypatch.setattr(pets, "URL", f"http://127.0.0.1:{port}/images.tar.gz")


@pytest.mark.parametrize("trouble", [hang, refuse, never_answer])
def test_no_network_is_found_out_within_ten_seconds(data_folder, monkeypatch, port, trouble):
    no_proxy(monkeypatch)
    monkeypatch.setattr(sources, "reachable", REACHABLE)
    trouble(monkeypatch, port)
    assert sources.PROBE_SECONDS < 8
    if trouble is not hang:
        monkeypatch.setattr(sources, "PROBE_SECONDS", 1)
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        open_data("pets", 16, "torchvision")
    assert time.perf_counter() - start < (10 if trouble is hang else 3)
    assert_one_sentence(str(caught.value), "Oxford-IIIT Pet is not in", pets.URL, "connect to the network")
    assert listing(data_folder) == {}


def test_auto_falls_back_to_synthetic_without_a_network(data_folder, monkeypatch, port):
    no_proxy(monkeypatch)
    monkeypatch.setattr(sources, "reachable", REACHABLE)
    refuse(monkeypatch, port)
    monkeypatch.setattr(pets, "SYNTHETIC", {"train": 3, "test": 2})
    data = open_data("pets", 16)
    assert data.source == "synthetic"
    assert len(data.train["image"]) == 3
