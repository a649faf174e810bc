"""The static site, as a newcomer meets it: in a real browser, on a phone and a desk, by light and in the dark."""

import contextlib
import functools
import html.parser
import http.server
import io
import posixpath
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import watch_page

from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS
from s18_utils.notebooks import NOTEBOOKS
from s18_utils.records import find_published, find_references
from s18_utils.site import build, npm

NAMES = [f"notebooks/{each.notebook}" for each in EXPERIMENTS.values()]
# One of each kind: what is true of it is true of the others.
PAGES = ["index", NAMES[1], NAMES[4], "results", "docs/definitions", "playground", "search"]
SCREENS = {"phone": (390, "dark"), "desk": (1600, "light")}
HEAVIEST = 3_000_000  # bytes of a page, before any network
PAINTED = 1500  # milliseconds until the first page is seen, with nothing cached
AXE = "axe-core@4.14.1"
pytestmark = [
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm: formulas and playground can't be had"),
    pytest.mark.filterwarnings("ignore:.*MystReferenceResolver.*"),  # of the generator about its own insides
]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site; whatever the build said would be something that it left out, or a link that leads nowhere."""
    out, said = tmp_path_factory.mktemp("www") / "S18", io.StringIO()
    with contextlib.redirect_stdout(said):
        players = build.build_site(out)
    left_out = [line for line in said.getvalue().splitlines() if "has no outputs" not in line]
    if any("npm can't fetch" in line for line in left_out):
        pytest.skip(left_out[0])
    assert left_out == []
    assert "cvae-mnist" in players
    return out


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    """Where it is served, in a folder of the server, as GitHub serves a project's pages."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site.parent))
    handler.log_message = lambda *arguments: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/S18"
        server.shutdown()


@pytest.fixture(scope="module")
def axe() -> str:
    try:
        return (npm.fetch_package(AXE, ["axe.min.js"]) / "axe.min.js").read_text(encoding="utf-8")
    except InputError as error:
        pytest.skip(str(error))


class Page(html.parser.HTMLParser):
    """The links, anchors, pictures and loaded files of a page."""

    def __init__(self, file: Path):
        super().__init__()
        self.links, self.ids, self.pictures, self.files = [], set(), [], []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "img":
            self.pictures.append(values)
        if tag in ("script", "img", "iframe", "source") and values.get("src"):
            self.files.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "shortcut icon", "prefetch"):
            self.files.append(values["href"])


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Page]:
    return {file.relative_to(site).as_posix(): Page(file) for file in site.rglob("*.html")}


def test_every_link_and_every_anchor_leads_somewhere(site, pages):
    broken = []
    for name, page in pages.items():
        for link in [*page.links, *page.files]:
            if link.startswith(("https:", "http:", "data:", "mailto:")):
                continue
            path, _, anchor = unquote(link).partition("#")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), path.split("?")[0])) if path else name
            if not (site / path).exists() or (anchor and path in pages and anchor not in pages[path].ids):
                broken.append((name, link))
    assert broken == []


def test_no_page_loads_a_file_of_another_host(pages):
    assert [link for page in pages.values() for link in page.files if re.match("(https?:)?//", link)] == []


def test_the_menu_names_the_notebooks_and_every_page_is_in_it(site, pages):
    for name in (*NAMES, "results", "docs/data", "docs/definitions", "playground"):
        assert f"{name}.html" in pages["index.html"].links
    titles = [re.search(r"<h1>(.*?)<a", (site / f"{name}.html").read_text(encoding="utf-8"), re.S)[1] for name in NAMES]
    index = (site / "index.html").read_text(encoding="utf-8")
    assert all(title in index for title in titles)
    assert len(set(titles)) == 6


@pytest.mark.parametrize("name", NAMES)
def test_a_notebooks_page_can_be_launched_and_downloaded_and_its_pictures_say_something(site, pages, name):
    text, page = (site / f"{name}.html").read_text(encoding="utf-8"), pages[f"{name}.html"]
    assert sum(link.startswith("https://colab.research.google.com") for link in page.links) == 1
    assert sum(link.startswith("https://kaggle.com") for link in page.links) == 1
    assert (site / f"{name}.ipynb").read_bytes() == (NOTEBOOKS.parent / f"{name}.ipynb").read_bytes()
    assert text.count("<details") >= 1  # the set-up
    assert not re.search(r"\\frac|\$\$", re.sub(r'<(span|div) class="math">.*?</\1>', "", text, flags=re.S))
    for picture in page.pictures:
        assert len(picture["alt"].split()) >= 3, picture
        assert "Output" not in picture["alt"]


def test_the_results_are_those_of_the_records(site):
    page = (site / "results.html").read_text(encoding="utf-8")
    for name in EXPERIMENTS:
        record = find_published(name)
        score = "mean_iou" if record.family == "unet" else "swap_agreement"
        assert f"{record.test[score]:.3f}" in page
        assert (site / "records" / f"{name}.html").is_file() or list((site / "records").glob(f"*-{name}.html"))
        for text, reference in find_references(name, record.preset).items():
            assert text in page
            assert f"{reference.test[score]:.3f}" in page


@pytest.fixture
def visit(chromium, address):
    """Opens a page; at the end nothing may have gone wrong in it, nor been asked of another server."""
    opened, wrong, asked = [], [], []

    def open_page(name: str, width: int = 1280, scheme: str = "light"):
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(page)
        watch_page(page, wrong, asked)
        page.goto(f"{address}/{name}.html")
        page.wait_for_load_state("networkidle")
        return page

    yield open_page
    for page in opened:
        page.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_screen_and_can_be_used_by_all(visit, axe, name, screen):
    width, scheme = SCREENS[screen]
    page = visit(name, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('img').forEach(it => it.loading = 'eager')")
    broken = "[...document.images].filter(it => it.complete && !it.naturalWidth).map(it => it.src)"
    assert page.evaluate(broken) == []
    if name in (NAMES[1], "docs/definitions"):
        assert page.locator(".katex").count() >= 3
        assert page.locator(".katex-error").count() == 0
    page.evaluate(axe)
    found = page.evaluate("axe.run().then(it => it.violations)")
    serious = [(it["id"], it["nodes"][0]["html"][:200]) for it in found if it["impact"] in ("serious", "critical")]
    assert serious == []
    weight = "performance.getEntries().filter(it => !/models|runtime/.test(it.name))"
    assert page.evaluate(f"{weight}.reduce((sum, it) => sum + (it.transferSize || 0), 0)") <= HEAVIEST


def test_no_width_in_between_scrolls_sideways(visit):
    page, wide = visit(NAMES[4]), []
    for width in range(390, 1601, 220):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)  # the menus slide
        wide += [width] if page.evaluate("document.documentElement.scrollWidth") > width else []
    assert wide == []


def test_a_keyboard_alone_opens_the_menus_of_a_phone_and_closes_them(visit):
    page = visit(NAMES[0], 390)
    for key, name, box in (("Enter", "Menu", "__navigation"), (" ", "Contents of this page", "__toc")):
        label = page.get_by_role("button", name=name, exact=True).locator("visible=true")
        label.focus()
        page.keyboard.press(key)
        assert page.evaluate(f"document.getElementById('{box}').checked")
        assert label.get_attribute("aria-expanded") == "true"
        page.keyboard.press("Escape")
        assert not page.evaluate(f"document.getElementById('{box}').checked")


def test_a_keyboard_reaches_every_control(visit):
    page = visit(NAMES[4])
    controls = "a[href], button, select, summary, input:not([type=checkbox], [type=hidden]), label[for]:not(.overlay)"
    seen = "it.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && it.getClientRects().length"
    lost = (
        f"[...document.querySelectorAll({controls!r})].filter(it => {seen} && it.tabIndex < 0).map(it => it.outerHTML)"
    )
    assert page.evaluate(lost) == []
    page.keyboard.press("Tab")
    assert "Skip to content" in page.evaluate("document.activeElement.textContent")


def test_the_search_finds_without_a_network(visit):
    page = visit("index")
    page.locator("input[name=q]").fill("checkerboards")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    found = page.locator("#search-results li a").evaluate_all("all => all.map(it => it.getAttribute('href'))")
    assert any("docs/definitions" in link for link in found)


def test_code_can_be_copied_and_words_lead_to_their_definitions(visit):
    page = visit(NAMES[1])
    assert page.locator(".cell_input button.copybtn").count() >= 5
    terms = page.locator("article a.term").evaluate_all("all => all.map(it => it.getAttribute('href'))")
    assert "../docs/definitions.html#dice-loss" in terms
    assert len(terms) == len(set(terms))  # each where it first stands


def test_the_first_page_is_seen_soon(visit):
    times = []
    for _ in range(3):
        page = visit("index")
        times.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    assert min(times) <= PAINTED
