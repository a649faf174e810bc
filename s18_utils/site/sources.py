"""Notebooks and pages of `docs/` made ready for the generator: set-up folded, pictures described."""

import base64
import copy
import posixpath
import re
import shutil
import struct
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from s18_utils.errors import InputError
from s18_utils.records import REPOSITORY
from s18_utils.report.progress import display_message

BRANCH = f"{REPOSITORY}/blob/main"
COLAB = f"https://colab.research.google.com/github/{REPOSITORY.removeprefix('https://github.com/')}/blob/main"
KAGGLE = f"https://kaggle.com/kernels/welcome?src={BRANCH}"
WIDGET = "application/vnd.jupyter.widget-view+json"
LINK = re.compile(r"(?<!!)(\]\()(?![a-z]+:|#|/)([^)\s]+)(\))")
PICTURE = re.compile(r"!\[[^\]]*\]\(([^):\s]+\.(?:png|svg))\)")
# What pictures show, by their files or by the functions that draw them, `draw_…` and `compare_…`.
CAPTIONS = {
    "all_labels": "Test images, one a row, each drawn under all labels; the true one is framed",
    "by_class": "IoU of the networks, as a mean and for each class, with the spread over seeds",
    "composite": "25 test images, each beside itself drawn under another label, with what the judges read",
    "curves": "Each term of the loss and the validation score against the epoch, a line for each seed",
    "effects": "What each choice changes in the scores, with 95 % intervals",
    "examples": "Images of the data set with their labels or trimaps",
    "filmstrip": "The same test images after several epochs of the training",
    "hardest": "The test photographs that the network gets most wrong, with their trimaps, masks and errors",
    "matrix": "Share of swaps in which all judges read the label asked for, by true and asked label",
    "network": "The network as boxes and arrows, with the shapes that each part puts out",
    "photographs": "The test photographs that the record keeps",
    "predictions": "Test photographs with their trimaps and the masks of the networks",
    "quiz": "25 swaps without a word on what was asked for",
    "reconstructions": "Test images above themselves drawn again under their own label",
    "samples": "Codes drawn from the prior, one a row, each under all labels",
    "snapshot": "The same test photographs and their masks while the network learns",
    "side_by_side": "Test photographs with the masks of each network",
    "strip": "The same test images drawn while the model learns, under their own labels and under others",
    "tradeoff": "Agreement, error and what survives, against the weight of the label loss",
    "variety": "Agreement against coverage of the model's drawings, real images and two cheap painters",
}
LONGEST = 160  # characters of an alternative text that is taken from the prose around


def write_docs(root: Path, sources: Path) -> list[str]:
    """Copies the pages of `docs/` with the pictures that they show; returns the pages' names, in order."""
    names = []
    for file in sorted((root / "docs").glob("*.md")):
        text = file.read_text(encoding="utf-8")
        for picture in PICTURE.findall(text):
            path = posixpath.normpath(f"docs/{picture}")
            if (root / path).is_file():
                (sources / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / path, sources / path)
        (sources / "docs").mkdir(exist_ok=True)
        (sources / "docs" / file.name).write_text(lead_on(text, root, "docs"), encoding="utf-8")
        names.append(f"docs/{file.stem}")
    return names


def lead_on(text: str, root: Path, folder: str, docs: bool = True) -> str:
    """Markdown whose links to files of the repository that are no pages lead to the repository's own address.

    Args:
        text: of a page.
        root: of the repository.
        folder: that the page has there.
        docs: whether the pages of `docs/` are among the pages.
    """

    def change(match: re.Match) -> str:
        path, hash_sign, anchor = match[2].partition("#")
        target = posixpath.normpath(posixpath.join(folder, path))
        page = (docs and target.startswith("docs/") and target.endswith(".md")) or target.endswith(".ipynb")
        if page or not (root / target).exists():
            return match[0]
        return f"{match[1]}{BRANCH}/{target}{hash_sign}{anchor}{match[3]}"

    return LINK.sub(change, text)


def write_notebook(file: Path, root: Path, sources: Path, folder: str = "notebooks", docs: bool = True) -> str | None:
    """Writes a notebook as a page, which offers the notebook for download: it has to lie beside the page.

    Args:
        file: the notebook.
        root: of the repository.
        sources: the folder of pages.
        folder: of the page in there; empty for none.
        docs: as of `lead_on`.

    Returns:
        The page's name; None, with a message, if the file is no notebook.
    """
    try:
        notebook = nbformat.read(file, as_version=4)
    except (OSError, ValueError, AttributeError, nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        reason = str(error).splitlines()[0][:100]
        display_message(f"{file.name} can't be read ({reason}): the site is built without it.", warning=True)
        return None
    if not any(cell.get("outputs") for cell in notebook.cells):
        display_message(f"{file.name} has no outputs: its page shows the code alone.", warning=True)
    name = posixpath.join(folder, file.stem)
    (sources / folder).mkdir(exist_ok=True)
    nbformat.write(prepare_notebook(notebook, file.name, root, docs), sources / f"{name}.ipynb")
    return name


def prepare_notebook(notebook: NotebookNode, name: str, root: Path, docs: bool = True) -> NotebookNode:
    """A notebook as the generator shows it: badges become links, set-up is folded, pictures have texts."""
    cells, before = [], []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = lead_on(re.sub(r"^\[!\[.*\n*", "", cell.source, flags=re.M), root, "notebooks", docs)
            before.append(cell.source)
            cells.append(cell)
            continue
        if is_folded(cell):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        cells += describe_pictures(cell, before)
    launch = [f"[Open in Colab]({COLAB}/notebooks/{name}){{.launch}}"]
    launch += [f"[Open in Kaggle]({KAGGLE}/notebooks/{name}){{.launch}}"]
    launch += [f'<a class="launch" href="{name}" download>Download</a>']
    notebook.cells = cells
    first = next((cell for cell in cells if cell.cell_type == "markdown"), None)
    if first is None or not first.source.lstrip().startswith("# "):
        first = nbformat.v4.new_markdown_cell(f"# {Path(name).stem}")
        notebook.cells.insert(0, first)
    title, _, rest = first.source.lstrip().partition("\n")
    first.source = f"{title}\n\n{' '.join(launch)}\n{rest}"
    notebook.nbformat_minor = 5  # whose cells have ids
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    return notebook


def is_folded(cell: NotebookNode) -> bool:
    """Whether a cell's code is hidden in Colab or in JupyterLab."""
    return cell.metadata.get("cellView") == "form" or cell.metadata.get("jupyter", {}).get("source_hidden", False)


def describe_pictures(cell: NotebookNode, before: list[str]) -> list[NotebookNode]:
    """A code cell whose pictures say what they show; where it has several, a cell for each one's output.

    Args:
        cell: the cell; of widgets, which need a kernel, the text remains.
        before: the texts of the cells before it.
    """
    groups: list[list[NotebookNode]] = [[]]
    for output in cell.get("outputs", []):
        output.get("data", {}).pop(WIDGET, None)
        if "image/png" in output.get("data", {}) and any("image/png" in each.get("data", {}) for each in groups[-1]):
            groups.append([])
        groups[-1].append(output)
    cells = []
    for number, outputs in enumerate(groups):
        part = copy.deepcopy(cell)
        part.outputs = outputs
        if number:
            part.metadata["tags"] = ["remove-input"]
        for output in outputs:
            if "image/png" in output.get("data", {}):
                width = find_width(output)
                alt = (
                    find_text(output)
                    or describe_call(cell.source, number, len(groups))
                    or describe_place(before, number)
                )
                part.metadata["mystnb"] = {"image": {"alt": alt, "width": f"{width}px"}}
        cells.append(part)
    return cells


def find_text(output: NotebookNode) -> str | None:
    """The alternative text in a picture's metadata, if there is one."""
    own = output.get("metadata", {})
    return own.get("image/png", {}).get("alt") or own.get("alt")


def find_width(output: NotebookNode) -> int:
    """How wide a picture is shown, in CSS pixels: as its metadata say, else half its own width."""
    told = output.get("metadata", {}).get("image/png", {}).get("width")
    return int(told) if told else max(png_width(base64.b64decode(output["data"]["image/png"])) // 2, 1)


def png_width(content: bytes) -> int:
    """The width of a PNG in pixels, 0 if it is none."""
    return struct.unpack(">I", content[16:20])[0] if content[:8] == b"\x89PNG\r\n\x1a\n" else 0


def describe_call(source: str, number: int, pictures: int) -> str | None:
    """What the function draws that made a picture of a cell, where it is known which function did: the last that is
    called for a single picture, the one at its place where there are as many calls as pictures."""
    called = re.findall(r"\b(?:draw|compare)_(\w+)\(", source)
    if called and pictures == 1:
        return CAPTIONS.get(called[-1])
    return CAPTIONS.get(called[number]) if len(called) == pictures else None


def describe_place(before: list[str], number: int) -> str:
    """An alternative text from the prose above a picture: the heading, and the last sentence before it."""
    lines = [line for text in before for line in text.splitlines() if line.strip()]
    heading = next((line.lstrip("# ") for line in reversed(lines) if line.startswith("#")), "")
    last = "" if not lines or lines[-1].startswith(("#", "|", "```", "$$")) else re.split(r"(?<=[.?!]) ", lines[-1])[0]
    plain = [
        re.sub(r"\[([^\]]*)\]\([^)]*\)|<!--.*?-->|[*`_$]|<[^>]+>", r"\1", text).strip() for text in (heading, last)
    ]
    text = ": ".join(part for part in plain if part) or "Picture"
    text = text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} …"
    return f"{text} ({number + 1})" if number else text


def require_notebooks(folder: Path) -> None:
    """Raises an InputError where there are no notebooks, as in an installed copy of the package."""
    if not folder.is_dir():
        raise InputError(f"there are no notebooks in {folder}: run this from a checkout of the repository")
