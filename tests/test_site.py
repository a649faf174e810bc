"""The static site, as a newcomer meets it: pages in a real browser, where networks draw what they draw in torch."""

import base64
import functools
import http.server
import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_one_sentence, sample_history, sample_metrics
from PIL import Image

from s18_utils import notebooks
from s18_utils.cvae_plots import names_of
from s18_utils.data.mnist import normalise_digit
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS, get_experiment
from s18_utils.presets import get_preset
from s18_utils.records import Record, read_record, write_record
from s18_utils.site import build, runtime
from s18_utils.training import load_trained

SETS = ("mnist", "cifar10")
PAGES = ["index", *(row.notebook for row in EXPERIMENTS.values()), "playground"]
SIZES = {"desk": 1280, "phone": 390}


def write_stand_in(name: str, folder: Path) -> None:
    """A record of an untrained network: what it draws is nothing to look at, but always the same."""
    torch.manual_seed(0)
    spec, settings = get_experiment(name), get_preset(name, "tiny")
    module = spec.build(settings.module)
    shape = (40, 1, 28, 28) if spec.data == "mnist" else (40, 3, 32, 32)
    data = {"name": spec.data, "source": "local", "size": shape[-1]}
    data |= {"train": 900, "val": 100, "test": 10_000, "fingerprint": "0" * 16}
    scores = {"accuracy": 0.9, "swap_agreement": 0.5, "swap_agreement_blurred": 0.5, "same_label_agreement": 0.5}
    scores |= {"mse": 0.1, "psnr": 10.0, "kl": 1.0, "bits_per_dim": 7.0}
    scores |= {"classifier_accuracy": 0.9, "judge_accuracy": 0.9}
    metrics = sample_metrics(experiment=name, preset="tiny", data=data, test=scores, spread={})
    kept = {"image": torch.randint(0, 256, shape, dtype=torch.uint8), "label": (torch.arange(40) % 10).byte()}
    record = Record(folder / name, metrics, sample_history(), kept if spec.family == "cvae" else {})
    write_record(record, {"preset": "tiny", "module": settings.module}, module.state_dict(), {})


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    for name in SETS:
        for role in ("classifier", "judge", "cvae"):
            write_stand_in(f"{role}-{name}", folder)
    return folder


@pytest.fixture(scope="module")
def site(records, tmp_path_factory) -> Path:
    """The built site, in a folder of the server, as GitHub serves a project's pages."""
    out = tmp_path_factory.mktemp("www") / "S18"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "PUBLISHED", records)
        try:
            assert build.build_site(out) == ["cvae-mnist", "cvae-cifar10"]
        except InputError as error:
            if "npm" not in str(error):
                raise
            pytest.skip(str(error))
    return out


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site.parent)
    handler.log_message = lambda *arguments: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/S18"
    server.shutdown()


@pytest.fixture
def visit(chromium, address):
    """Opens a page of the site; at the end nothing may have gone wrong in it, nor been asked of another server."""
    opened, wrong = [], []

    def open_page(name: str, width: int = 1280, scheme: str = "light"):
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(page)
        page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda request: wrong.append(request.url))
        page.on("request", lambda request: request.url.startswith(("http:", "https:")) and asked.append(request.url))
        page.goto(f"{address}/{name}.html")
        if name == "playground":
            page.wait_for_selector("#status", state="hidden", timeout=60_000)
        return page

    asked = []
    yield open_page
    for page in opened:
        page.close()
    assert wrong == []
    assert all(url.startswith(address) for url in asked)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_fits_its_screen_and_shows_its_pictures(visit, size, scheme):
    for name in PAGES:
        page = visit(name, SIZES[size], scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]
        broken = "[...document.images].filter(it => !it.complete || !it.naturalWidth || !it.alt).map(it => it.src)"
        assert page.evaluate(broken) == []
        # Contrast as WCAG 2.1 measures it; 4.5 is what it asks of text.
        assert page.evaluate(CONTRAST) >= 4.5


CONTRAST = """() => {
    const luminance = (colour) => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(value => value / 255)
            .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const paper = luminance(getComputedStyle(document.body).backgroundColor);
    const texts = [...document.querySelectorAll("main h1, main p, main td, main a, figcaption, footer")];
    const inks = texts.filter(it => it.offsetParent).map(it => luminance(getComputedStyle(it).color));
    return Math.min(...inks.map(ink => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)));
}"""


def test_links_lead_to_pages_that_are_there(site):
    for file in site.glob("*.html"):
        links = re.findall(r'(?:href|src)="([^"#]+)', file.read_text())
        local = [link for link in links if not link.startswith(("http:", "https:", "data:"))]
        assert [link for link in local if not (site / link).exists()] == []
        assert not any(link.endswith(".ipynb") for link in local)


def test_notebooks_are_shown_as_they_are_committed(site):
    page = (site / "01_unet_maxpool_transpose_bce.html").read_text()
    assert "Open in Colab" in page
    assert "colab-badge" not in page  # its picture is on another server
    assert "skip connections" in page
    assert page.count("data:image/png;base64,") >= 5


def test_the_index_has_the_scores_of_the_records(site):
    assert "cvae-mnist</td>" in (site / "index.html").read_text().replace("\n", "")


@pytest.mark.parametrize("name", SETS)
def test_the_browser_draws_what_torch_draws(visit, records, name):
    page = visit("playground")
    record = read_record(records / f"cvae-{name}")
    module, batch = load_trained(record, records), record.examples(40)
    with torch.no_grad():
        codes, _ = module.vae.encode(batch["image"], batch["label"])
        rows = torch.cat((torch.eye(10), torch.lerp(torch.eye(10)[3], torch.eye(10)[8], 0.25)[None]))
        expected = module.vae.decode(codes[7].expand(11, -1), rows)
        chances = module.scores.judge(expected).softmax(1).max(1)
    drawn = page.evaluate(
        """async ([name, rows]) => {
            const painter = stages[name].painter;
            const code = Float32Array.from(painter.examples.codes[7]);
            const images = await painter.decode(code, rows.map(row => Float32Array.from(row)));
            return { images: Array.from(images), read: await painter.read(images) };
        }""",
        [f"cvae-{name}", rows.tolist()],
    )
    assert np.abs(np.array(drawn["images"]) - expected.flatten().numpy()).max() < 1e-3
    assert [row["label"] for row in drawn["read"]] == chances.indices.tolist()
    assert [row["chance"] for row in drawn["read"]] == pytest.approx(chances.values.tolist(), abs=1e-3)
    if name == "mnist":
        coded = page.evaluate(
            "async () => { const it = stages['cvae-mnist'].painter;"
            " return Array.from(await it.encode(it.example(7), it.examples.labels[7])) }"
        )
        assert np.abs(np.array(coded) - codes[7].numpy()).max() < 1e-3
    options = page.locator(f'section[data-set="cvae-{name}"] [data-part="asked"] option')
    assert options.all_inner_texts() == list(names_of(record))


def test_a_digit_drawn_with_the_mouse_is_normalised_and_drawn_under_every_label(visit):
    page = visit("playground")
    section = page.locator('section[data-set="cvae-mnist"]')
    pad, before = section.locator('[data-part="pad"]'), pictures(section)
    box = pad.bounding_box()
    for stroke in ([(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)], [(0.35, 0.5), (0.65, 0.52)]):
        page.mouse.move(*place(box, stroke[0]))
        page.mouse.down()
        for point in stroke[1:]:
            page.mouse.move(*place(box, point), steps=5)
        page.mouse.up()
    page.wait_for_timeout(500)
    after = pictures(section)
    assert len(after) == 10
    assert all(one != other for one, other in zip(before, after, strict=True))
    url = pad.evaluate("it => it.toDataURL()")
    expected = normalise_digit(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))).numpy().ravel()
    shown = np.array(page.evaluate("Array.from(stages['cvae-mnist'].image)"))
    assert np.abs(shown - expected).max() < 0.02
    # Another label for the same drawing is another code.
    code = "Array.from(stages['cvae-mnist'].code)"
    first = page.evaluate(code)
    own = section.locator('[data-part="own"]')
    own.select_option(str((int(own.input_value()) + 1) % 10))
    page.wait_for_timeout(500)
    assert page.evaluate(code) != first


def test_choosing_an_image_a_label_and_a_mixture_changes_the_drawing(visit):
    page = visit("playground")
    section = page.locator('section[data-set="cvae-cifar10"]')
    output, seen = section.locator('[data-part="output"]'), []
    for change in (
        lambda: section.locator('[data-part="examples"] button').nth(5).click(),
        lambda: section.locator('[data-part="asked"]').select_option("9"),
        lambda: section.locator('[data-part="share"]').fill("60"),
    ):
        seen.append(output.evaluate("it => it.toDataURL()"))
        change()
        page.wait_for_timeout(500)
    seen.append(output.evaluate("it => it.toDataURL()"))
    assert len(set(seen)) == 4
    assert "the judge reads" in section.locator('[data-part="verdict"]').inner_text()


def place(box: dict, point: tuple[float, float]) -> tuple[float, float]:
    return box["x"] + point[0] * box["width"], box["y"] + point[1] * box["height"]


def pictures(section) -> list[str]:
    return section.locator('[data-part="drawings"] canvas').evaluate_all("all => all.map(it => it.toDataURL())")


def test_without_weights_the_site_has_no_playground(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "PUBLISHED", tmp_path / "none")
    assert build.build_site(tmp_path / "site") == []
    assert not (tmp_path / "site" / "playground.html").exists()
    assert "playground" not in (tmp_path / "site" / "index.html").read_text()


def test_what_is_missing_is_said_and_nothing_is_left_half_built(records, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "PUBLISHED", records)
    monkeypatch.setattr(runtime, "user_cache_dir", lambda name: str(tmp_path / "cache"))
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "old").touch()
    with pytest.raises(InputError) as caught:
        build.build_site(tmp_path / "site")
    assert_one_sentence(str(caught.value), "needs npm", "install Node.js")
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["old"]
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "nowhere")
    with pytest.raises(InputError, match="run this from a checkout"):
        build.build_site(tmp_path / "site")
