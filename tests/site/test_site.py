"""The static site, as a newcomer meets it: pages in a real browser, and nothing taken away that it did not make."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import assert_one_sentence, listing

from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS
from s18_utils.site import build

NOTEBOOKS = [each.notebook for each in EXPERIMENTS.values()]
SIZES = {"desk": 1280, "phone": 390}
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="no npm: formulas and playground can't be had")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site") / "out"
    build.build_site(out)
    return out


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_every_notebook_has_its_page_and_the_menu_names_it(site):
    index = (site / "index.html").read_text(encoding="utf-8")
    for name in NOTEBOOKS:
        page = (site / f"{name}.html").read_text(encoding="utf-8")
        assert f'href="{name}.html"' in index
        assert "colab.research.google.com" in page
        assert "kaggle.com" in page


def test_a_site_replaces_a_site_and_nothing_else(site, tmp_path, monkeypatch):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    monkeypatch.chdir(tmp_path / "thesis")
    before = listing(tmp_path)
    for out in (Path("."), tmp_path / "thesis"):
        with pytest.raises(InputError) as caught:
            build.build_site(out)
        assert_one_sentence(str(caught.value), "is no site of this command", "choose another with --out")
    with pytest.raises(InputError):
        build.build_site(tmp_path / "thesis" / "thesis.txt")
    assert listing(tmp_path) == before
    assert (site / build.MARK).is_file()


@needs_npm
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["index", NOTEBOOKS[1], "playground"])
def test_a_page_asks_no_other_host_and_fits(chromium, address, name, size):
    page = chromium.new_page(viewport={"width": SIZES[size], "height": 800})
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: problems.append(request.url) if not_own(request.url, address) else None)
    page.goto(f"{address}/{name}.html")
    page.wait_for_load_state("networkidle")
    assert problems == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]
    if name == NOTEBOOKS[1]:
        assert page.locator(".katex").count() >= 3
        assert "$$" not in page.inner_text("article")
    page.close()


def not_own(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:"))


def test_without_npm_the_rest_is_built(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("s18_utils.site.npm.user_cache_dir", lambda name: str(tmp_path / "cache"))
    assert build.build_site(tmp_path / "out") == []
    said = capsys.readouterr().out
    assert "built without the playground" in said
    assert "Formulas are shown as their source" in said
    assert (tmp_path / "out" / f"{NOTEBOOKS[0]}.html").is_file()
    assert not (tmp_path / "out" / "playground.html").exists()
