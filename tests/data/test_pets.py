"""Reading Oxford-IIIT Pet: the round trip, the classes, and files that are not what they should be."""

import numpy as np
import pytest
import torch
from conftest import assert_one_sentence, random_pets, refused, write_pets
from PIL import Image
from test_labelled import assert_refused

from s18_utils.data import pets
from s18_utils.data.dataset import open_data
from s18_utils.errors import InputError


def first_pair(root, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The image and mask of `train_0`."""
    tensors = pets.read(root, size)
    return tensors["train.image"][0], tensors["train.mask"][0]


def test_what_is_written_is_read_again(pets_folder):
    images, masks = random_pets()
    tensors = pets.read(pets_folder, 24)
    assert set(tensors) == {"train.image", "train.mask", "test.image", "test.mask"}
    for split in ("train", "test"):
        assert tensors[f"{split}.image"].dtype == tensors[f"{split}.mask"].dtype == torch.uint8
        assert torch.equal(tensors[f"{split}.mask"], masks[split])
        # JPEG loses a little.
        difference = (tensors[f"{split}.image"].float() - images[split].float()).abs()
        assert difference.mean() < 4
        assert difference.max() < 40


def test_splits_are_those_of_the_lists_in_their_order(pets_folder):
    listed = pets_folder / "annotations" / "trainval.txt"
    listed.write_text("# a comment\n\ntrain_2 1 1 1\ntrain_0 1 1 1\n")
    _, masks = random_pets()
    assert torch.equal(pets.read(pets_folder, 24)["train.mask"], masks["train"][[2, 0]])
    pairs = pets.list_pairs(pets_folder)
    assert [image.stem for image, _ in pairs["train"]] == ["train_2", "train_0"]
    assert [mask.name for _, mask in pairs["test"]] == ["test_0.png", "test_1.png"]


def test_the_layout_is_found_from_the_folder_or_above_it(pets_folder):
    assert pets.find(pets_folder.parent) == pets_folder
    assert pets.find(pets_folder) == pets_folder
    assert pets.find(pets_folder / "images") is None
    (pets_folder / "annotations").rename(pets_folder / "elsewhere")
    assert pets.find(pets_folder.parent) is None


@pytest.mark.parametrize("path", ["the-oxfordiiit-pet-dataset", "datasets/owner/pets/oxford-iiit-pet"])
@pytest.mark.parametrize("nested", [True, False])
def test_kaggles_copies_are_read(kaggle, path, nested):
    root = kaggle / path
    write_pets(root, *random_pets())
    if nested:  # each archive unpacked into a folder of its own name
        for name in ("images", "annotations"):
            (root / name).rename(root / "moved")
            (root / name).mkdir()
            (root / "moved").rename(root / name / name)
    other = kaggle / "aaa-not-pets"  # which comes first
    (other / "images").mkdir(parents=True)
    (other / "annotations").mkdir()
    (other / "annotations" / "instances.json").write_text("{}")
    data = open_data("pets", 24)
    assert (data.source, data.official, data.title) == ("kaggle", 3680, "Oxford-IIIT Pet")
    assert torch.equal(data.train["mask"], random_pets()[1]["train"])
    assert len(data.test["image"]) == 2


def test_pets_without_trimaps_are_passed_over_for_whole_ones(kaggle, capsys):
    for name in ("breeds", "whole"):
        write_pets(kaggle / name, *random_pets())
    for file in (kaggle / "breeds" / "annotations" / "trimaps").iterdir():
        file.unlink()
    assert open_data("pets", 16).source == "kaggle"
    assert "passed over" in (said := capsys.readouterr().out)
    assert "breeds" in said
    assert "train_0.png is missing though trainval.txt lists it" in said


@pytest.mark.parametrize("size", [16, 17, 40, 61])
def test_a_resized_mask_takes_the_nearest_pixel(pets_folder, size):
    # Pet against border, no background anywhere: a blend of 0 and 2 would be 1.
    stripes = (torch.arange(24) // 2 % 2 * 2).to(torch.uint8).expand(24, 24)
    save_mask(pets_folder, (stripes + 1).numpy())
    _, mask = first_pair(pets_folder, size)
    assert mask.unique().tolist() == [0, 2]
    nearest = ((torch.arange(size) + 0.5) * 24 / size).long()  # the source pixel under each target pixel's centre
    assert torch.equal(mask, stripes[:, nearest][nearest])


def test_a_resized_image_is_antialiased(pets_folder):
    # One-pixel stripes of black and white become grey; taking single pixels would leave them black or white.
    stripes = np.tile(np.array([0, 255], np.uint8), (96, 48))
    Image.fromarray(stripes).convert("RGB").save(pets_folder / "images" / "train_0.jpg", quality=100)
    save_mask(pets_folder, np.full((96, 96), 2, np.uint8))
    image, _ = first_pair(pets_folder, 24)
    assert image.float()[:, :, 2:-2].sub(127.5).abs().max() < 25


def test_image_and_mask_are_squeezed_alike(pets_folder):
    # A bright rectangle in a wide picture, and the same as a mask.
    canvas = np.zeros((40, 80), np.uint8)
    canvas[10:20, 40:72] = 255
    Image.fromarray(canvas).convert("RGB").save(pets_folder / "images" / "train_0.jpg", quality=100)
    save_mask(pets_folder, np.where(canvas > 0, 1, 2).astype(np.uint8))
    image, mask = first_pair(pets_folder, 32)
    assert ((image[0] > 127) == (mask == 0)).float().mean() > 0.97
    expected = torch.ones(32, 32, dtype=torch.uint8)
    expected[8:16, 16:29] = 0  # 72 of 80 columns is 28.8 of 32
    assert torch.equal(mask, expected)


# How the upright picture lies in the file, by the tag that a camera writes to say so.
TURNS = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def save_turned(root, tag: int, size: tuple[int, int], mask_upright: bool = True) -> torch.Tensor:
    """A photograph that lies turned in its file, white in its upper left quarter, which the mask says is the pet."""
    width, height = size
    canvas = np.zeros((height, width), np.uint8)
    canvas[: height // 2, : width // 2] = 255
    upright = Image.fromarray(canvas).convert("RGB")
    turned, exif = upright.transpose(TURNS[tag]), Image.Exif()
    exif[0x0112] = tag
    turned.save(root / "images" / "train_0.jpg", quality=100, exif=exif)
    mask = Image.fromarray(np.where(canvas > 0, 1, 2).astype(np.uint8))
    (mask if mask_upright else mask.transpose(TURNS[tag])).save(mask_file(root))


@pytest.mark.parametrize(("tag", "size"), [(6, (32, 32)), (8, (32, 48))])
def test_a_turned_photograph_is_turned_upright_as_its_trimap_is(pets_folder, tag, size):
    save_turned(pets_folder, tag, size)
    image, mask = first_pair(pets_folder, 32)
    assert ((image[0] > 127) == (mask == 0)).float().mean() > 0.95
    assert (mask[:16, :16] == 0).all()


def test_a_trimap_of_a_photograph_as_it_lies_in_its_file_is_read_so(pets_folder):
    save_turned(pets_folder, 6, (32, 48), mask_upright=False)  # 48×32 both, which upright the photograph is not
    image, mask = first_pair(pets_folder, 32)
    assert ((image[0] > 127) == (mask == 0)).float().mean() > 0.95
    assert (mask[16:, :16] == 0).all()


def test_a_turned_photograph_that_does_not_fit_is_refused_with_a_word_about_the_tag(pets_folder):
    save_turned(pets_folder, 6, (32, 48))
    save_mask(pets_folder, np.full((20, 20), 2, np.uint8))
    with pytest.raises(
        InputError, match=r"train_0.jpg is 32×48 \(turned as its orientation tag says\) and train_0.png 20"
    ):
        first_pair(pets_folder, 16)


VALUES = np.random.default_rng(0).integers(1, 4, (24, 24)).astype(np.uint8)
ORDERS = {"as they are": [0, 1, 2, 3], "permuted": [0, 2, 3, 1], "packed": [3, 0, 1, 2]}  # index of each value


@pytest.mark.parametrize("order", ORDERS)
def test_a_palette_of_the_trimaps_values_is_read_whatever_their_order(pets_folder, order):
    index = np.array(ORDERS[order], np.uint8)
    save_palette_mask(pets_folder, "train_0", index[VALUES], {ORDERS[order][value]: [value] * 3 for value in (1, 2, 3)})
    assert torch.equal(first_pair(pets_folder, 24)[1], torch.from_numpy(VALUES) - 1)


@pytest.mark.parametrize("colours", [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0] * 3, [127] * 3, [255] * 3]])
def test_a_palette_for_the_eye_is_not(pets_folder, colours):
    save_palette_mask(pets_folder, "train_0", VALUES, dict(zip((1, 2, 3), colours, strict=True)))
    assert torch.equal(first_pair(pets_folder, 24)[1], torch.from_numpy(VALUES) - 1)


def test_palettes_that_contradict_each_other_are_refused(pets_folder):
    red, green, blue = [255, 0, 0], [0, 255, 0], [0, 0, 255]
    save_palette_mask(pets_folder, "train_0", VALUES, {1: red, 2: green, 3: blue})
    save_palette_mask(pets_folder, "train_1", VALUES, {1: green, 2: red, 3: blue})
    with refused("the number 1", "(0, 255, 0)", "train_1.png", "train_0.png", "one palette"):
        pets.read(pets_folder, 24)


def save_palette_mask(root, name: str, indices: np.ndarray, colours: dict[int, list[int]]) -> None:
    picture = Image.fromarray(indices, "P")
    picture.putpalette(sum([colours.get(index, [9, 9, 9]) for index in range(4)], []))
    picture.save(root / "annotations" / "trimaps" / f"{name}.png")


@pytest.mark.parametrize("how", ["I;16", "RGB", "RGBA", "LA"])
def test_masks_of_other_kinds_of_grey_are_read(pets_folder, how):
    wide = Image.fromarray(VALUES.astype(np.uint16))
    (wide if how == "I;16" else Image.fromarray(VALUES).convert(how)).save(mask_file(pets_folder))
    assert torch.equal(first_pair(pets_folder, 24)[1], torch.from_numpy(VALUES) - 1)


def mask_file(root):
    return root / "annotations" / "trimaps" / "train_0.png"


def save_mask(root, values: np.ndarray) -> None:
    Image.fromarray(values).save(mask_file(root))


def truncate(file) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 2 // 3])


def value(number: int):
    def change(root):
        values = np.full((24, 24), 2, np.uint8)
        values[5, 7] = number
        save_mask(root, values)

    return change


def rewrite(name: str, text: str):
    return lambda root: (root / "annotations" / name).write_text(text)


FAULTS = {
    "truncated image": (lambda root: truncate(root / "images/train_0.jpg"), ("can't decode", "train_0.jpg", "replace")),
    "truncated mask": (lambda root: truncate(mask_file(root)), ("can't decode", "train_0.png", "replace the file")),
    "missing image": (lambda root: (root / "images/test_1.jpg").unlink(), ("test_1.jpg", "missing", "unpack")),
    "missing mask": (lambda root: mask_file(root).unlink(), ("train_0.png", "missing", "trainval.txt", "unpack")),
    "mask value 0": (value(0), ("train_0.png holds values outside 1–3", "one number a class")),
    "mask in colour": (
        lambda root: save_mask(root, np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3)),
        ("train_0.png is in colour", "save masks in grey"),
    ),
    "an image for training and for testing": (
        rewrite("test.txt", "test_0 1 1 1\ntrain_1 1 1 1\n"),
        ("train_1 stands in both trainval.txt and test.txt", "list each image once"),
    ),
    "an image listed twice": (rewrite("test.txt", "test_0\ntest_1\ntest_0\n"), ("test_0 stands in test.txt twice",)),
    "a name that climbs": (rewrite("test.txt", "../images/test_0\n"), ("test.txt lists ../images/test_0", "elsewhere")),
    "a name of Windows": (rewrite("test.txt", "..\\test_0\n"), ("elsewhere",)),
    "another size": (
        lambda root: save_mask(root, np.full((24, 25), 2, np.uint8)),
        ("train_0.jpg is 24×24", "train_0.png 25×24", "one size"),
    ),
    "empty list": (rewrite("test.txt", ""), ("test.txt lists no images", "unpack annotations.tar.gz again")),
    "no list": (lambda root: (root / "annotations/test.txt").unlink(), ("can't read", "test.txt", "unpack")),
    "list of bytes": (
        lambda root: (root / "annotations/test.txt").write_bytes(b"\xff\xfe\x00\x80" * 9),
        ("can't read", "test.txt", "unpack"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_files_is_named_and_nothing_is_left_behind(pets_folder, fault):
    change, parts = FAULTS[fault]
    change(pets_folder)
    assert_refused(pets_folder.parent, "pets", *parts)


def test_pets_have_no_size_of_their_own(data_folder):
    with pytest.raises(InputError) as caught:
        open_data("pets")
    assert_one_sentence(str(caught.value), "Oxford-IIIT Pet come in many sizes", "say how many pixels wide")
    with refused("at least 16 pixels wide, not 15", "choose a larger size"):
        open_data("pets", 15)


def test_synthetic_pets_are_the_same_at_every_call():
    first, again = pets.draw(16), pets.draw(16)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len(first["train.image"]) == pets.SYNTHETIC["train"]
    # Test images are other ones than the training images.
    assert not (first["test.image"][:, None] == first["train.image"][None, :256]).flatten(2).all(dim=2).any()


def test_the_real_splits_are_complete(real_data):
    root, data = real_data(pets), open_data("pets", 64)
    for rows, listed in ((data.train, "trainval.txt"), (data.test, "test.txt")):
        lines = (root / "annotations" / listed).read_text().split("\n")
        assert len(rows["image"]) == len(rows["mask"]) == sum(bool(line) and line[0] != "#" for line in lines)
    assert data.source == "local"


def test_the_real_classes_have_the_known_shares(real_data):
    real_data(pets)
    data = open_data("pets", 64)
    shares = torch.cat([data.train["mask"], data.test["mask"]]).flatten().bincount(minlength=3).float()
    assert len(shares) == 3
    assert (shares / shares.sum()).tolist() == pytest.approx([0.30, 0.58, 0.12], abs=0.02)


def test_real_pets_differ_from_their_background(real_data):
    # A mask of another image, or a mirrored one, would separate colours less well than its own.
    real_data(pets)
    data = open_data("pets", 64)
    images, masks = data.test["image"].float(), data.test["mask"]

    def contrast(masks):
        def mean(label):
            chosen = (masks == label).unsqueeze(1)
            return (images * chosen).sum(dim=(2, 3)) / chosen.sum(dim=(2, 3)).clamp(min=1)

        return (mean(0) - mean(1)).norm(dim=1).mean()

    assert contrast(masks) > 1.05 * contrast(masks.flip(2))
    assert contrast(masks) > 1.2 * contrast(masks.roll(1, dims=0))
