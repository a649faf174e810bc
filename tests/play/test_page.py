"""The playground in a real browser: answers as torch gives them, by mouse and finger, and nothing sent anywhere."""

import base64
import http.server
import io
import json
import os
import struct
import threading
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from conftest import watch_page
from own_digit import normalise_digit
from PIL import Image
from play_stand_ins import write_untrained
from playwright import sync_api as playwright

from s18_utils.data.pictures import picture_to_tensor, resize_picture
from s18_utils.errors import InputError
from s18_utils.play.page import BODY, LARGEST, write_players
from s18_utils.records import Record
from s18_utils.unet.overlay import enlarge_mask

SIZES = {"desk": 1280, "phone": 390}
POLICY = "default-src 'self' data: blob:; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Playground</title>
<meta http-equiv="Content-Security-Policy" content="{policy}"><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root {{ color-scheme: light dark }} body {{ margin: 1rem; font-family: sans-serif }}</style>
</head><body>{body}</body></html>"""
FIRST_ANSWER = 12_000_000  # bytes
URL = "canvas => canvas.toDataURL()"


@pytest.fixture(scope="module")
def players(tmp_path_factory) -> list[Record]:
    folder = tmp_path_factory.mktemp("figures")
    write_untrained(folder, "judge-mnist")
    return [
        write_untrained(folder, "unet-maxpool-transpose-bce"),
        write_untrained(folder, "unet-strided-upsample-dice", size=32),
        write_untrained(folder, "cvae-mnist", networks=("judge",)),
    ]


@pytest.fixture(scope="module")
def served() -> list[tuple[str, str, int]]:
    """Which browser asked for which path, and how many bytes that was, in order."""
    return []


@pytest.fixture(scope="module")
def address(chromium, players, served, tmp_path_factory) -> Iterator[str]:
    """The page behind a plain file server, in a folder of it."""
    root = tmp_path_factory.mktemp("www")
    folder = root / "S18"
    folder.mkdir()
    try:
        write_players(folder, players)
    except InputError as error:
        if "npm" not in str(error):
            raise
        pytest.skip(str(error))
    (folder / "playground.html").write_text(PAGE.format(policy=POLICY, body=BODY.read_text()))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=root)

        def log_message(self, *arguments) -> None:
            pass

        def copyfile(self, source, outputfile) -> None:
            served.append((self.headers["User-Agent"], self.path, os.fstat(source.fileno()).st_size))
            super().copyfile(source, outputfile)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/S18/playground.html"
    server.shutdown()


@pytest.fixture
def visit(chromium, address):
    """Opens the page; at the end nothing may have gone wrong in it, nor been asked of another server."""
    opened, wrong, asked = [], [], []

    def open_page(*sections: str, width: int = 1280, scheme: str = "light", **options) -> playwright.Page:
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        opened.append(page)
        watch_page(page, wrong, asked)
        page.goto(address)
        for section in sections:
            page.locator(f"#{section}").scroll_into_view_if_needed()
            page.locator(f"#{section}[data-ready]").wait_for(timeout=60_000)
        return page

    yield open_page
    for page in opened:
        page.close()
    assert wrong == []
    home = address.rpartition("/")[0]
    assert all(url.startswith((home, "data:", "blob:")) for url in asked)


def to_png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def give_file(page: playwright.Page, content: bytes, name: str = "mine.png") -> None:
    page.locator("#photos [data-part=file]").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


def wait_for_answers(page: playwright.Page) -> None:
    for words in page.locator("#photos figure:not([hidden]) figcaption span").all():
        playwright.expect(words).to_contain_text("%")


def choose_picture(page: playwright.Page, number: int) -> None:
    turn = page.evaluate("playground.photos.turn")
    page.locator("#photos [data-part=examples] button").nth(number).click()
    page.wait_for_function("turn => playground.photos.turn > turn", arg=turn)
    wait_for_answers(page)


def show_photograph(page: playwright.Page, content: bytes, name: str = "mine.png") -> None:
    """Chooses a photograph and waits for all answers."""
    turn = page.evaluate("playground.photos.turn")
    give_file(page, content, name)
    page.wait_for_function("turn => playground.photos.turn > turn", arg=turn)
    wait_for_answers(page)


def smooth_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("size", "scheme"), [("desk", "light"), ("phone", "dark")])
def test_the_page_fits_its_screen_and_all_parts_start(visit, size, scheme):
    page = visit("photos", "cvae-mnist", width=SIZES[size], scheme=scheme)
    wait_for_answers(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]
    unnamed = (
        "[...document.querySelectorAll('canvas')].filter(it => !it.getAttribute('aria-label') && !it.closest('button'))"
    )
    assert page.evaluate(f"{unnamed}.length") == 0
    assert page.locator("#cvae-mnist .s18-drawings canvas").count() == 10


def test_few_bytes_are_needed_before_the_first_answer(visit, served):
    wait_for_answers(visit("photos", user_agent="visitor"))  # pages of other tests may still be asking
    asked = [(path, size) for agent, path, size in served if agent == "visitor"]
    first = next(index for index, (path, _) in enumerate(asked) if path.endswith("network.onnx"))
    assert any("wasm" in path for path, _ in asked[:first])
    assert sum(size for _, size in asked[:first]) + LARGEST <= FIRST_ANSWER
    assert not any("cvae" in path for path, _ in asked[:first])  # nobody waits for what is further down


def test_a_picture_of_the_test_split_is_shown_with_its_true_mask(visit, players):
    page, [kept] = visit("photos"), [record.stored_examples for record in players[:1]]
    choose_picture(page, 4)
    assert page.locator("#photos figure:visible").count() == 3
    given = page.evaluate(
        """async () => {
            const { enlargeMask } = await import(new URL("scripts/photo.js", document.baseURI));
            const { squeezePicture } = await import(new URL("scripts/pictures.js", document.baseURI));
            const { photo, answers } = window.playground.photos;
            return [[...squeezePicture(photo, 48)], [...enlargeMask(answers[2].probabilities, 3, 48, 48, 48)]];
        }"""
    )
    np.testing.assert_array_equal(given[0], kept["image"][4].flatten())
    np.testing.assert_array_equal(given[1], kept["mask"][4].flatten())
    show_photograph(page, to_png(smooth_picture(80, 60)))
    assert page.locator("#photos figure:visible").count() == 2  # of one's own nobody knows


@pytest.mark.parametrize("sides", [(300, 200), (90, 120), (40, 30)])
def test_the_masks_in_the_page_are_those_of_torch(visit, players, sides):
    page, picture = visit("photos"), smooth_picture(*sides)
    show_photograph(page, to_png(picture))
    for index, record in enumerate(players[:2]):
        size, module = record.data["size"], record.model()
        given = page.evaluate(
            """async ([index, size, width, height]) => {
                const { enlargeMask } = await import(new URL("scripts/photo.js", document.baseURI));
                const { squeezePicture } = await import(new URL("scripts/pictures.js", document.baseURI));
                const view = window.playground.photos, { probabilities } = view.answers[index];
                const mask = enlargeMask(probabilities, 3, size, width, height);
                return [[...squeezePicture(view.photo, size)], [...probabilities], [...mask]];
            }""",
            [index, size, *sides],
        )
        square, probabilities, mask = map(np.array, given)
        expected = picture_to_tensor(resize_picture(picture, size))
        np.testing.assert_array_equal(square.reshape(3, size, size), (255 * expected).round())
        answer = module.predict_probabilities(torch.tensor(square.reshape(1, 3, size, size), dtype=torch.uint8))[0]
        assert np.abs(probabilities.reshape(3, size, size) - answer.numpy()).max() < 1e-3
        whole = enlarge_mask(module.predict_probabilities(expected[None])[0], sides[1], sides[0])
        assert (mask.reshape(whole.shape) == whole).mean() >= 0.999


def test_a_photograph_is_upright_and_its_answer_is_saved_at_its_own_size(visit, tmp_path):
    page, file, tag = visit("photos"), io.BytesIO(), Image.Exif()
    tag[0x0112] = 6  # taken with the camera on its side
    smooth_picture(320, 240).save(file, "JPEG", exif=tag)
    show_photograph(page, file.getvalue(), "IMG_1.JPG")
    assert page.evaluate("[playground.photos.photo.width, playground.photos.photo.height]") == [240, 320]
    canvas = page.locator("#photos figure canvas").first
    box = canvas.bounding_box()
    assert box["height"] / box["width"] == pytest.approx(4 / 3, rel=0.02)
    with page.expect_download() as download:
        page.locator("#photos [data-part=save]").first.click()
    assert download.value.suggested_filename == "max-pooling-transposed-convolution-cross-entropy-mask.png"
    saved = Image.open(download.value.path())
    assert saved.size == (240, 320)
    before = canvas.evaluate(URL)
    page.locator("#photos [data-part=shows]").select_option("certainty")
    sure = canvas.evaluate(URL)
    page.locator("#photos [data-part=wipe]").fill("0")
    plain = canvas.evaluate(URL)
    assert len({before, sure, plain}) == 3


def test_a_photograph_from_the_camera(visit):
    page = visit("photos")
    page.locator("#photos [data-part=camera]").click()  # this browser has none, or may not use it
    playwright.expect(page.locator("#photos [data-part=message]")).to_contain_text("camera can't be used")
    page.evaluate("""() => {
        const canvas = Object.assign(document.createElement("canvas"), { width: 96, height: 72 });
        const context = canvas.getContext("2d");
        setInterval(() => context.fillRect(0, 0, 50, 50), 50);
        navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(20);
    }""")
    page.locator("#photos [data-part=camera]").click()
    page.locator("#photos [data-part=shoot]").click()
    playwright.expect(page.locator("#photos video")).to_have_count(0)
    page.wait_for_function("() => playground.photos.photo.width === 96")
    wait_for_answers(page)
    for _ in range(2):  # asked for again while it runs, it starts over
        page.locator("#photos [data-part=camera]").click()
        page.locator("#photos [data-part=shoot]:enabled").wait_for()
    tracks = page.evaluate("playground.photos.stream.getTracks().map(it => globalThis.track = it).length")
    assert tracks == 1
    choose_picture(page, 2)  # what is chosen otherwise ends it
    playwright.expect(page.locator("#photos video")).to_have_count(0)
    assert page.evaluate("track.readyState") == "ended"


# Decoding the next picture waits until the page calls `decodeNow()`, which resolves once what comes of it is done.
SLOW = """() => {
    const decode = createImageBitmap;
    globalThis.decodeNow = null;
    globalThis.createImageBitmap = (...given) => new Promise((resolve) => {
        globalThis.createImageBitmap = decode;
        globalThis.decodeNow = async () => {
            const decoded = decode(...given);
            resolve(decoded);
            await decoded.catch(() => {});
            for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
        };
    });
}"""


def test_a_camera_opens_only_for_whoever_still_waits_for_it(visit):
    page = visit("photos")
    page.evaluate("""() => {
        const canvas = Object.assign(document.createElement("canvas"), { width: 96, height: 72 });
        const context = canvas.getContext("2d");
        setInterval(() => context.fillRect(0, 0, 50, 50), 50);
        navigator.mediaDevices.getUserMedia = () => new Promise((resolve, reject) => {
            const stream = canvas.captureStream(20);
            Object.assign(globalThis, { track: stream.getTracks()[0], allow: () => resolve(stream), deny: reject });
        });
    }""")
    camera = page.locator("#photos [data-part=camera]")
    # A file that was chosen before the camera does not close it.
    page.evaluate(SLOW)
    give_file(page, to_png(smooth_picture(80, 60)))
    page.wait_for_function("() => globalThis.decodeNow")
    camera.click()
    page.evaluate("decodeNow()")
    page.evaluate("allow()")
    page.locator("#photos [data-part=shoot]:enabled").wait_for()
    # What is chosen while one is asked for permission stays.
    camera.click()
    choose_picture(page, 2)
    page.evaluate("deny(new Error('not allowed'))")
    playwright.expect(page.locator("#photos [data-part=message]")).to_have_text("")
    close = "playground.photos.closeCamera()"  # as a widget does that is closed
    for meanwhile in (lambda: choose_picture(page, 3), lambda: page.evaluate(close)):
        camera.click()
        meanwhile()
        page.evaluate("allow()")
        playwright.expect(page.locator("#photos video")).to_have_count(0)
        assert page.evaluate("track.readyState") == "ended"


def test_what_is_transparent_is_white_as_the_networks_see_it(visit):
    page = visit("photos")
    choose_picture(page, 1)
    show_photograph(page, to_png(Image.new("RGBA", (64, 64), (200, 0, 0, 0))))
    page.locator("#photos [data-part=wipe]").fill("0")
    colours = "it => [...new Set(it.getContext('2d').getImageData(0, 0, it.width, it.height).data)]"
    assert page.locator("#photos figure canvas").first.evaluate(colours) == [255]


def test_a_photograph_may_be_dropped(visit):
    page = visit("photos")
    wait_for_answers(page)
    content = base64.b64encode(to_png(smooth_picture(72, 50))).decode()
    page.locator("#photos [data-part=examples]").evaluate(
        """async (strip, content) => {
            const dataTransfer = new DataTransfer();
            const blob = await (await fetch(`data:image/png;base64,${content}`)).blob();
            dataTransfer.items.add(new File([blob], "mine.png", { type: "image/png" }));
            const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
            strip.dispatchEvent(event);
            if (!event.defaultPrevented) throw new Error("the browser would open it in place of the page");
        }""",
        content,
    )
    page.wait_for_function("() => playground.photos.photo.width === 72")


def test_a_strip_of_pictures_is_one_stop_of_the_tab_key(visit):
    page = visit("photos")
    strip = page.locator("#photos [data-part=examples]")
    assert strip.locator("button[tabindex='0']").count() == 1
    strip.locator("button").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.ariaLabel") == "picture 2"


def test_hostile_files_are_refused_in_one_sentence(visit, tmp_path):
    page = visit("photos")
    wait_for_answers(page)
    message, before = (
        page.locator("#photos [data-part=message]"),
        "() => [...document.querySelectorAll('#photos figure canvas')].map(it => it.toDataURL()).join()",
    )
    shown = page.evaluate(before)
    whole = io.BytesIO()
    smooth_picture(640, 480).save(whole, "JPEG")
    huge = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    svg = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'><script>document.title = 1</script></svg>"
    for content, part in [
        (svg, "SVG"),
        (b"\xef\xbb\xbf  <svg onload='document.title=1'/>", "SVG"),
        (huge, "20,000×20,000 pixels is too large"),
        (to_png(Image.new("RGB", (1, 1))), "1×1 pixels is too small"),
        (b"no picture at all", "no picture that can be read here"),
        (b"", "no picture that can be read here"),
        (whole.getvalue()[:300], "damaged"),
        (whole.getvalue()[: len(whole.getvalue()) // 2], "damaged"),
        (to_png(smooth_picture(640, 480))[:2000], "damaged"),
        (b"\xff\xd8\xff\xe0", "cut short"),
    ]:
        give_file(page, content)
        playwright.expect(message).to_contain_text(part)
        words = message.inner_text()
        assert words.count(": ") == 1
        assert not words.endswith(".")
        assert page.evaluate(before) == shown  # what was there stays
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(200_000_000)
    page.locator("#photos [data-part=file]").set_input_files(large)
    playwright.expect(message).to_contain_text("200 MB is too large")
    assert page.title() == "Playground"
    give_file(page, to_png(smooth_picture(100, 80)))
    playwright.expect(message).to_have_text("")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# Conditional VAEs.


def test_the_browser_draws_and_reads_what_torch_does(visit, players):
    page, record = visit("cvae-mnist"), players[2]
    module, batch = record.model(), record.examples(24)
    codes, _ = module.encode(batch["image"], batch["label"])
    rows = torch.cat((torch.eye(10), torch.lerp(torch.eye(10)[3], torch.eye(10)[8], 0.25)[None]))
    expected = module.decode(codes[7].expand(11, -1), rows)
    with torch.no_grad():
        chances = module.judges[0](expected).softmax(1).max(1)
    drawn = page.evaluate(
        """async (rows) => {
            const { painter } = window.playground["cvae-mnist"], code = painter.code(7);
            const codes = Float32Array.from(rows.flatMap(() => [...code]));
            const images = await painter.decode(codes, Float32Array.from(rows.flat()));
            const coded = await painter.encode(painter.example(7), painter.labels[7]);
            const read = painter.toReadings(await painter.read(images), rows.length);
            return { images: [...images], read, coded: [...coded] };
        }""",
        rows.tolist(),
    )
    assert np.abs(np.array(drawn["images"]) - expected.flatten().numpy()).max() < 1e-3
    assert [readings[0]["label"] for readings in drawn["read"]] == chances.indices.tolist()
    np.testing.assert_allclose([readings[0]["chance"] for readings in drawn["read"]], chances.values, atol=2e-3)
    assert np.abs(np.array(drawn["coded"]) - codes[7].numpy()).max() < 1e-3


STATE = """() => {
    const { swap } = playground['cvae-mnist'];
    return [[...swap.image], [...swap.result.drawings]].map(values => values.map(value => Math.round(255 * value)));
}"""
BLACK = "it => it.getContext('2d').getImageData(0, 0, it.width, it.height).data.every((v, at) => at % 4 === 3 || !v)"
MARKS = "#cvae-mnist [data-part=drawings] figcaption"


def test_each_drawing_is_marked_by_whether_the_judge_reads_it_as_asked(visit, players):
    page, record = visit("cvae-mnist"), players[2]
    module, batch = record.model(), record.examples(24)
    codes, _ = module.encode(batch["image"], batch["label"])
    for number in (0, 5):
        page.locator("#cvae-mnist [data-part=examples] button").nth(number).click()
        drawings = module.decode(codes[number].expand(10, -1), torch.arange(10))
        with torch.no_grad():
            read = module.judges[0](drawings).argmax(1).tolist()
        marks = [f"{name} {'✓' if name == label else '✗'}" for name, label in enumerate(read)]
        playwright.expect(page.locator(MARKS)).to_have_text(marks)


def place(box: dict, point: tuple[float, float]) -> tuple[float, float]:
    return box["x"] + point[0] * box["width"], box["y"] + point[1] * box["height"]


def drag(page: playwright.Page, locator: playwright.Locator, *points: tuple[float, float], touch: bool = False) -> None:
    """Draws a line through points of an element, in shares of its size, by mouse or by finger."""
    box = None
    while box != (box := locator.bounding_box()):  # what lies above it may still be loading
        locator.scroll_into_view_if_needed()
        page.wait_for_timeout(200)
    places = [place(box, point) for point in points]
    if touch:
        session = page.context.new_cdp_session(page)
        for index, (x, y) in enumerate(places):
            kind = "touchMove" if index else "touchStart"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        return
    page.mouse.move(*places[0])
    page.mouse.down()
    for point in places[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "finger"])
def test_a_digit_is_drawn_undone_and_read_while_one_draws(visit, touch):
    page = visit("cvae-mnist", width=390 if touch else 1280, has_touch=touch)
    section = page.locator("#cvae-mnist")
    pad, drawings = section.locator("[data-part=pad]"), section.locator("[data-part=drawings] canvas")
    first = page.evaluate(STATE)
    drag(page, pad, (0.3, 0.2), (0.7, 0.2), (0.45, 0.85), touch=touch)
    page.wait_for_function(f"before => JSON.stringify(({STATE})()) !== before", arg=as_json(first))
    one = pad.evaluate(URL)
    expected = normalise_digit(Image.open(io.BytesIO(base64.b64decode(one.split(",")[1])))).numpy().ravel()
    assert np.abs(np.array(page.evaluate(STATE)[0]) - 255 * expected).max() <= 5
    before = drawings.evaluate_all("all => all.map(it => it.toDataURL())")
    drag(page, pad, (0.35, 0.5), (0.65, 0.52), touch=touch)
    page.wait_for_function(
        "before => [...document.querySelectorAll('#cvae-mnist [data-part=drawings] canvas')]"
        ".every((it, index) => it.toDataURL() !== before[index])",
        arg=before,
    )
    section.locator("[data-part=undo]").click()
    assert pad.evaluate(URL) == one
    # What the visitor says it is stays so at the next stroke.
    said = str((int(section.locator("[data-part=own]").input_value()) + 3) % 10)
    section.locator("[data-part=own]").select_option(said)
    state = page.evaluate(STATE)
    drag(page, pad, (0.2, 0.7), (0.8, 0.75), touch=touch)
    page.wait_for_function(f"before => JSON.stringify(({STATE})()) !== before", arg=as_json(state))
    assert section.locator("[data-part=own]").input_value() == said
    for _ in range(2 if touch else 1):  # stroke by stroke, or all at once
        section.locator(f"[data-part={'undo' if touch else 'clear'}]").click()
    assert pad.evaluate(BLACK)
    assert page.evaluate("playground['cvae-mnist'].swap.told") is None  # the next digit is another
    # Another label for the same drawing is another code.
    own, state = section.locator("[data-part=own]"), page.evaluate(STATE)
    own.select_option(str((int(own.input_value()) + 1) % 10))
    page.wait_for_function(f"before => JSON.stringify(({STATE})()[1]) !== before", arg=as_json(state[1]))


def as_json(value) -> str:
    return json.dumps(value, separators=(",", ":"))


def changes(page: playwright.Page, canvas: playwright.Locator, act) -> None:
    """Waits until the canvas stands still, does something, and waits until it shows something else."""
    before = None
    while before != (before := canvas.evaluate(URL)):
        page.wait_for_timeout(100)
    act()
    for _ in range(100):
        if canvas.evaluate(URL) != before:
            return
        page.wait_for_timeout(50)
    pytest.fail("nothing changed")


def test_an_example_a_label_and_a_mixture_change_the_drawing(visit):
    page = visit("cvae-mnist")
    section = page.locator("#cvae-mnist")
    output = section.locator("[data-part=output]")
    for act in (
        lambda: section.locator("[data-part=examples] button").nth(5).click(),
        lambda: section.locator("[data-part=asked]").select_option("9"),
        lambda: section.locator("[data-part=share]").fill("60"),
    ):
        changes(page, output, act)
    playwright.expect(section.locator("[data-part=verdict]")).to_contain_text("the judge reads")


def test_a_picture_of_a_digit_is_put_on_the_pad(visit):
    page, pixels = visit("cvae-mnist"), np.full((300, 400, 3), 250, np.uint8)
    section, first = page.locator("#cvae-mnist"), page.evaluate(STATE)
    words, file = (section.locator(f"[data-part={part}]") for part in ("pad-words", "digit-file"))

    def give(content: bytes) -> None:
        file.set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": content})

    for content, part in [
        (to_png(Image.fromarray(pixels)), "there is no drawing in this picture"),
        (b"no picture at all", "no picture that can be read here"),
        (to_png(Image.new("RGB", (1, 1))), "too small"),
    ]:
        give(content)
        playwright.expect(words).to_contain_text(part)
        assert page.evaluate(STATE) == first
    pixels[140:170, 100:300] = 20
    for paper in (pixels, 255 - pixels):  # a dark pen on light paper, and the other way round
        section.locator("[data-part=examples] button").first.click()
        page.wait_for_function(f"before => JSON.stringify(({STATE})()) === before", arg=as_json(first))
        give(to_png(Image.fromarray(paper)))
        page.wait_for_function(f"before => JSON.stringify(({STATE})()) !== before", arg=as_json(first))
        rows, columns = np.array(page.evaluate(STATE)[0]).reshape(28, 28).nonzero()
        # 20 wide, its centre of mass in row 14 and between columns 14 and 15, white on black.
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (13, 15, 5, 24)
    playwright.expect(words).to_contain_text("Draw a digit")
    section.locator("[data-part=undo]").click()
    assert section.locator("[data-part=pad]").evaluate(BLACK)


@pytest.mark.parametrize("meanwhile", ["example", "drawing", "picture"])
def test_a_picture_that_is_read_slowly_does_not_replace_what_came_meanwhile(visit, meanwhile):
    page, pixels = visit("photos", "cvae-mnist"), np.full((300, 400), 250, np.uint8)
    section = page.locator("#cvae-mnist")
    pad, words, file = (section.locator(f"[data-part={part}]") for part in ("pad", "pad-words", "digit-file"))
    pixels[140:170, 100:300] = 20
    quick, slow = to_png(Image.fromarray(pixels)), to_png(smooth_picture(640, 480))
    image = "[...playground['cvae-mnist'].swap.image]"

    def give(content: bytes) -> None:
        file.set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": content})

    acts = {
        "example": lambda: section.locator("[data-part=examples] button").nth(5).click(),
        "drawing": lambda: drag(page, pad, (0.5, 0.2), (0.5, 0.8)),
        "picture": lambda: give(quick),
    }
    for content in (slow, slow[:2000]):  # the second can't be decoded, which nobody needs to know any more
        section.locator("[data-part=clear]").click()
        first = page.evaluate(image)
        page.evaluate(SLOW)
        give(content)
        page.wait_for_function("() => globalThis.decodeNow")
        acts[meanwhile]()
        page.wait_for_function(f"first => {image}.some((value, at) => value !== first[at])", arg=first)
        page.evaluate("() => new Promise(requestAnimationFrame)")  # the whole stroke was told
        before = page.evaluate(image), pad.evaluate(URL), words.inner_text()
        page.evaluate("decodeNow()")
        assert (page.evaluate(image), pad.evaluate(URL), words.inner_text()) == before
        section.locator("[data-part=examples] button").first.click()


def test_what_was_said_of_another_image_is_not_said_of_a_drawing(visit, players):
    page, judge = visit("cvae-mnist"), players[2].model().judges[0]
    section = page.locator("#cvae-mnist")
    own, pad = (section.locator(f"[data-part={part}]") for part in ("own", "pad"))
    for said in ("5", "6"):  # the judge reads one of them at most
        section.locator("[data-part=examples] button").nth(3).click()
        own.select_option(said)
        drag(page, pad, (0.5, 0.2), (0.45, 0.8))
        page.evaluate("() => new Promise(requestAnimationFrame)")  # the whole stroke was told
        image = torch.tensor(page.evaluate("[...playground['cvae-mnist'].swap.image]")).view(1, 1, 28, 28)
        with torch.no_grad():
            playwright.expect(own).to_have_value(str(judge(image).argmax().item()))


WALK = "playground['cvae-mnist'].map"


@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "finger"])
def test_walking_over_the_map(visit, touch):
    page = visit("cvae-mnist", width=390 if touch else 1280, has_touch=touch)
    section = page.locator("#cvae-mnist")
    plane, drawing, way = (section.locator(f"[data-part={part}]") for part in ("map", "drawing", "way"))
    code = f"() => [...{WALK}.code]"
    changes(page, drawing, lambda: drag(page, plane, (0.5, 0.5), (0.7, 0.35), touch=touch))
    # There, and nowhere else: 0.7 and 0.35 of the map are 0.4 and 0.3 of its reach from the middle.
    coordinates = page.evaluate(
        "() => [0, 1].map(at => MAP.coordinate(MAP.code, at) / MAP.deviations[at])".replace("MAP", WALK)
    )
    np.testing.assert_allclose(coordinates, [0.4 * 2.7, 0.3 * 2.7], atol=0.06)
    at = page.evaluate(code)
    changes(page, drawing, lambda: section.locator("[data-part=direction-3]").fill("1.5"))
    moved = np.array(page.evaluate(code)) - at
    third = np.array(
        page.evaluate("() => [...MAP.directions.slice(2 * MAP.latent, 3 * MAP.latent)]".replace("MAP", WALK))
    )
    np.testing.assert_allclose(np.abs(moved @ third), np.linalg.norm(moved), rtol=1e-3)
    changes(page, drawing, lambda: plane.press("ArrowLeft"))
    changes(page, drawing, lambda: section.locator("[data-part=drawn-as]").select_option("3"))
    changes(page, way.locator("canvas").first, lambda: section.locator("[data-part=from]").click())
    changes(page, drawing, lambda: section.locator("[data-part=sample]").click())
    changes(page, way.locator("canvas").last, lambda: section.locator("[data-part=to]").click())
    assert way.locator("canvas").last.evaluate(URL) == drawing.evaluate(URL)
    middle = way.locator("button").nth(4)
    changes(page, drawing, middle.click)
    assert drawing.evaluate(URL) == middle.locator("canvas").evaluate(URL)
    changes(page, plane, lambda: section.locator("[data-part=shown]").select_option("2"))
    # A tap on a mark goes to that test image.
    spot = page.evaluate(
        "() => MAP.placeOf(MAP.painter.code(MAP.labels.indexOf(2))).map(at => at / 480)".replace("MAP", WALK)
    )
    drag(page, plane, spot, spot, touch=touch)
    playwright.expect(section.locator("[data-part=place]")).to_have_text("test image 3, 2")
