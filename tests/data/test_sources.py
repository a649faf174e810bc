"""Where data come from: the order, what is said when nothing is there, and how soon."""

import os
import socket
import threading
import time
import urllib.error
import urllib.request
from http.client import BadStatusLine
from pathlib import Path

import pytest
from conftest import assert_one_sentence, listing, refused

from s18_utils.data import pets, sources
from s18_utils.data.dataset import open_data
from s18_utils.data.sources import Download, Location, data_directory, locate_data
from s18_utils.errors import InputError

REACHABLE = sources.reachable  # the fixture for all tests replaces it


HOME, MIRROR = "http://marbles.invalid/all.tar", "http://mirror.invalid/marbles"


class Reader:
    """A data set of one file in a folder, with a home server and perhaps a mirror; notes what was downloaded."""

    TITLE = "Marbles"

    def __init__(self, mirror: bool = False):
        self.downloads = []
        self.DOWNLOADS = {"huggingface": Download(MIRROR, lambda folder: self.fetch(folder, "mirror"), "marbles")}
        self.DOWNLOADS |= {"torchvision": Download(HOME, lambda folder: self.fetch(folder, "home"), "marbles")}
        if not mirror:
            del self.DOWNLOADS["huggingface"]

    def find(self, folder: Path) -> Path | None:
        return folder / "marbles" if (folder / "marbles").is_dir() else None

    def files(self, root: Path) -> list[Path]:
        if not (root / "all").is_file():
            raise InputError(f"{root / 'all'} is missing: look for it")
        return [root / "all"]

    def fetch(self, folder: Path, server: str) -> None:
        self.downloads.append(server)
        make(folder)


def make(folder: Path) -> Location:
    """Puts the set into a folder; returns where it is, without its source."""
    (folder / "marbles").mkdir(parents=True, exist_ok=True)
    (folder / "marbles" / "all").write_text("red")
    return folder / "marbles"


def remove(folder: Path) -> None:
    (folder / "marbles" / "all").unlink()
    (folder / "marbles").rmdir()


def found(source: str, root: Path) -> Location:
    return Location(source, root, [root / "all"])


@pytest.fixture(autouse=True)
def displayed(monkeypatch) -> list[str]:
    """What is displayed, in order."""
    messages = []
    monkeypatch.setattr(sources, "display_message", lambda message, warning=False: messages.append(message))
    sources.display_notes.cache_clear()
    sources.ask_server.cache_clear()
    return messages


def answering(monkeypatch, *urls: str) -> None:
    """Only these servers answer."""
    monkeypatch.setattr(sources, "reachable", lambda url: url in urls)


def test_the_data_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("S18_DATA", str(tmp_path))
    assert data_directory() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "s18").mkdir()
    monkeypatch.setenv("S18_DATA", "~/s18")
    assert data_directory() == tmp_path / "s18"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("S18_DATA", "s18")
    assert data_directory() == tmp_path / "s18"
    monkeypatch.setenv("S18_DATA", "")  # as good as unset
    default = data_directory()
    monkeypatch.delenv("S18_DATA")
    assert data_directory() == default
    assert default.is_absolute()
    assert default.name == "s18"


@pytest.mark.parametrize("source", ["auto", "local", "torchvision", "synthetic"])
def test_a_mistyped_data_directory_is_said_and_not_made(monkeypatch, tmp_path, source):
    answering(monkeypatch, HOME)
    monkeypatch.setenv("S18_DATA", str(tmp_path / "mistyped"))
    for attempt in (lambda: locate_data(Reader(), source), lambda: open_data("pets", 16, source)):
        with refused(f"S18_DATA names {tmp_path / 'mistyped'}", "correct the name"):
            attempt()
    (tmp_path / "mistyped").write_text("a file")
    with pytest.raises(InputError, match="which is no folder"):
        locate_data(Reader(), source)
    monkeypatch.setenv("S18_DATA", "gs://bucket/data")
    with pytest.raises(InputError, match="no folder of this machine"):
        locate_data(Reader(), source)
    assert [path.name for path in tmp_path.iterdir()] == ["mistyped"]


def test_the_order_and_what_is_said_on_the_way(data_folder, kaggle, monkeypatch, displayed):
    reader = Reader()
    for _ in range(2):  # the second time says nothing new
        assert locate_data(reader) == Location("synthetic")
    nothing = f"S18_DATA ({data_folder}) holds no Marbles; "
    assert displayed == [nothing + "no server that has Marbles can be reached; synthetic data stand in for it."]
    answering(monkeypatch, HOME)
    assert locate_data(reader) == found("torchvision", data_folder / "marbles")
    assert displayed[1:] == [nothing + f"Marbles is downloaded by torchvision into {data_folder}."]
    remove(data_folder)
    mounted = make(kaggle / "toys")
    (kaggle / "a" / "marbles").mkdir(parents=True)
    assert locate_data(reader) == found("kaggle", mounted)
    over = f"passed over under {kaggle}: a/marbles ({kaggle / 'a/marbles/all'} is missing); "
    assert displayed[2:] == [nothing + over + f"Marbles is read from {mounted}."]
    # From here on nothing asks the network, and what was asked for needs no word.
    monkeypatch.setattr(sources, "reachable", lambda url: pytest.fail("asked the network"))
    make(data_folder)
    for source in ("auto", "local", "torchvision"):
        assert locate_data(reader, source) == found("local", data_folder / "marbles")
    assert locate_data(reader, "synthetic") == Location("synthetic")
    assert len(displayed) == 3
    (data_folder / "marbles" / "all").unlink()
    for source in ("auto", "local", "torchvision"):  # a set that lacks files is no reason to go on
        with pytest.raises(InputError, match="marbles/all is missing: look for it"):
            locate_data(reader, source)
    assert reader.downloads == ["home"]


@pytest.mark.parametrize("path", ["a", "a/b", "datasets/owner/set", "datasets/owner/set/images/images"])
def test_kaggle_inputs_are_found_however_deep_they_are_mounted(kaggle, path):
    make(kaggle / path)
    (kaggle / "a-file").write_text("")
    (kaggle / "datasets" / "other" / "thing").mkdir(parents=True)
    assert locate_data(Reader(), "kaggle") == found("kaggle", kaggle / path / "marbles")


def test_what_was_passed_over_on_kaggle_is_named(kaggle, data_folder):
    for name in ("flowers", "datasets/owner/birds", "competitions/cars"):
        (kaggle / name).mkdir(parents=True)
    with refused(f"nothing under {kaggle} is Marbles", "birds, cars, flowers", "add it as an"):
        locate_data(Reader(), "kaggle")


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("local", ("holds no Marbles", "S18_DATA")),
        ("torchvision", ("can't be reached", "connect to the network", "source='synthetic'")),
        ("web", ("unknown source 'web'", "choose one of auto, local, kaggle", "synthetic")),
        ("huggingface", ("Marbles has no mirror on Hugging Face", "use source='torchvision' or 'auto'")),
    ],
)
def test_a_source_that_has_nothing_says_what_to_do(data_folder, kaggle, source, parts):
    with refused(*parts):
        locate_data(Reader(), source)
    assert listing(data_folder) == {}


FAILURES = {
    "timed out": (OSError(110, "timed out"), "(timed out)"),
    "many lines": (RuntimeError("No luck:\nTried x. Got y.\n"), "(No luck)"),
    "many sentences": (BadStatusLine("Bad. Worse."), "(Bad)"),
    "no words": (TimeoutError(), "(TimeoutError)"),
    "interrupted": (KeyboardInterrupt(), None),
    "nothing came": (None, "marbles"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_download_that_breaks_off_says_why_and_leaves_nothing(data_folder, monkeypatch, failure):
    error, told = FAILURES[failure]

    def fetch(folder, server):
        if error:
            make(folder)
            raise error

    reader = Reader()
    reader.fetch = fetch
    answering(monkeypatch, HOME)
    for source in ("auto", "torchvision"):  # above all, `auto` does not go on to synthetic data
        with pytest.raises(InputError if told else KeyboardInterrupt) as caught:
            locate_data(reader, source)
        if told:
            assert_one_sentence(str(caught.value), f"the download of Marbles from {HOME} failed", told, "try again")
        assert listing(data_folder) == {}


def test_what_a_killed_download_left_is_removed_after_a_day(data_folder, monkeypatch):
    for name, age in (("old", 90_000), ("new", 0)):
        make(data_folder / f".partial-{name}")
        os.utime(data_folder / f".partial-{name}", (time.time() - age,) * 2)
    answering(monkeypatch, HOME)
    locate_data(Reader())
    assert sorted(path.name for path in data_folder.iterdir()) == [".partial-new", "marbles"]


def test_of_two_downloads_at_once_the_first_stays(data_folder, monkeypatch):
    def fetch(folder, server):
        make(folder)
        make(data_folder)  # another process moves its own into place meanwhile

    reader = Reader()
    reader.fetch = fetch
    answering(monkeypatch, HOME)
    assert locate_data(reader) == found("torchvision", data_folder / "marbles")
    assert not list(data_folder.glob(".*"))


def test_the_mirror_goes_first_and_the_home_server_steps_in_for_a_mirror_that_is_silent_or_fails(
    data_folder, monkeypatch, displayed
):
    reader = Reader(mirror=True)
    answering(monkeypatch, MIRROR, HOME)
    assert locate_data(reader) == found("huggingface", data_folder / "marbles")
    remove(data_folder)
    answering(monkeypatch, HOME)
    assert locate_data(reader) == found("torchvision", data_folder / "marbles")
    remove(data_folder)
    answering(monkeypatch, MIRROR, HOME)
    reader.DOWNLOADS["huggingface"] = Download(MIRROR, raise_error(OSError(110, "timed out")), "marbles")
    assert locate_data(reader) == found("torchvision", data_folder / "marbles")
    assert reader.downloads == ["mirror", "home", "home"]
    assert f"from {MIRROR} failed (timed out): try again; Marbles is downloaded by torchvision" in displayed[-1]
    remove(data_folder)
    reader.DOWNLOADS["torchvision"] = Download(HOME, raise_error(OSError(5, "broken")), "marbles")
    with pytest.raises(InputError, match=rf"from {HOME} failed \(broken\)"):
        locate_data(reader)


def test_a_download_asked_for_by_name_is_the_only_one_tried(data_folder, monkeypatch):
    reader = Reader(mirror=True)
    for source, asked, other in (("torchvision", HOME, MIRROR), ("huggingface", MIRROR, HOME)):
        answering(monkeypatch, other)
        with pytest.raises(InputError, match=f"{asked} can't be reached: connect to the network"):
            locate_data(reader, source)
    assert reader.downloads == []


def raise_error(error: Exception):
    def ask(*arguments, **named):
        raise error

    return ask


ANSWERS = [
    (urllib.error.URLError("no such host"), False),
    (TimeoutError(), False),
    (BadStatusLine("nonsense"), False),
    (urllib.error.HTTPError("http://x", 403, "Forbidden", None, None), True),
]


@pytest.mark.parametrize(("error", "answer"), ANSWERS)
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


def serve_pets_from(monkeypatch, url: str) -> None:
    monkeypatch.setitem(pets.DOWNLOADS, "torchvision", Download(url, pets.fetch, "oxford-iiit-pet"))


def hang(monkeypatch, port):
    """As a look-up of a name does where packets get lost."""

    def wait(*arguments, **named):
        time.sleep(20)
        raise urllib.error.URLError("no such host")

    monkeypatch.setattr(urllib.request, "urlopen", wait)


def refuse(monkeypatch, port):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    serve_pets_from(monkeypatch, f"http://127.0.0.1:{closed}/images.tar.gz")


def never_answer(monkeypatch, port):
    serve_pets_from(monkeypatch, f"http://127.0.0.1:{port}/images.tar.gz")


@pytest.mark.parametrize("trouble", [hang, refuse, never_answer])
def test_no_network_is_found_out_within_six_seconds(data_folder, monkeypatch, port, trouble):
    no_proxy(monkeypatch)
    monkeypatch.setattr(sources, "reachable", REACHABLE)
    trouble(monkeypatch, port)
    assert sources.PROBE_SECONDS <= 5
    monkeypatch.setattr(sources, "PROBE_SECONDS", 1)
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        open_data("pets", 16, "torchvision")
    assert time.perf_counter() - start < 3
    assert_one_sentence(str(caught.value), "Oxford-IIIT Pet is not in", "can't be reached", "connect to the network")
    assert listing(data_folder) == {}


def test_a_server_that_did_not_answer_is_not_asked_again_at_once(monkeypatch):
    asked, clock = [], [1000.0]

    def ask(request, timeout):
        asked.append(request.full_url)
        raise urllib.error.URLError("no such host")

    monkeypatch.setattr(urllib.request, "urlopen", ask)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert [REACHABLE("http://a.invalid"), REACHABLE("http://a.invalid"), REACHABLE("http://b.invalid")] == [False] * 3
    assert asked == ["http://a.invalid", "http://b.invalid"]
    clock[0] += sources.REMEMBERED_SECONDS
    assert not REACHABLE("http://a.invalid")
    assert len(asked) == 3


def test_mirror_and_home_server_are_waited_for_together(data_folder, monkeypatch, port):
    no_proxy(monkeypatch)
    monkeypatch.setattr(sources, "reachable", REACHABLE)
    monkeypatch.setattr(sources, "PROBE_SECONDS", 1)
    reader = Reader(mirror=True)
    for source, server in reader.DOWNLOADS.items():
        reader.DOWNLOADS[source] = server._replace(url=f"http://127.0.0.1:{port}/{source}")
    start = time.perf_counter()
    assert locate_data(reader) == Location("synthetic")
    assert 0.9 < time.perf_counter() - start < 1.9
