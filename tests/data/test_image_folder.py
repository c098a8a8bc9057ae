"""Folders of images: listing, decoding, limits, and what is said of broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from whyadam.data.base import Examples
from whyadam.data.batches import evaluation_batches
from whyadam.data.image_folder import ImageFolder
from whyadam.data.images import read_image
from whyadam.errors import UserError

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNTS = {"ant": 3, "bee": 1, "cat": 4}


def everything(examples: Examples) -> dict[str, Tensor]:
    return examples.batch([(0, index) for index in range(len(examples))])


@pytest.fixture
def tree(folder: Path) -> Path:
    """Images of unequal sizes; each one's red says its class, its green its number."""
    for part in ("train", "val"):
        for label, (name, count) in enumerate(COUNTS.items()):
            (folder / "tree" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.zeros((20 + number, 16 + label, 3), dtype=np.uint8)
                pixels[:, :, 0], pixels[:, :, 1] = 10 * label, 10 * number
                Image.fromarray(pixels).save(folder / "tree" / part / name / f"{number}.png")
    return folder / "tree"


def settings(**keys: object) -> ImageFolder:
    return ImageFolder(**{"path": "tree", "image_size": 16, "mean": (0, 0, 0), "std": (1, 1, 1), **keys})


def test_every_image_has_its_label_and_the_first_few_are_of_all_classes(tree: Path) -> None:
    images = settings().load(seed=0)
    assert images.classes == ("ant", "bee", "cat")
    batch = everything(images.train)
    assert batch["labels"].tolist() == [0, 1, 2, 0, 2, 0, 2, 2]
    centre = (batch["images"][:, :, 8, 8] * 25.5).round().int()
    assert centre[:, 0].tolist() == batch["labels"].tolist()
    assert centre[:, 1].tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert batch["images"].shape == (8, 3, 16, 16)


def test_the_limit_is_by_class(tree: Path) -> None:
    images = settings(limit=2).load(seed=0)
    assert everything(images.train)["labels"].bincount().tolist() == [2, 1, 2]


@pytest.mark.parametrize("augment", ["none", "crop_flip"])
def test_memory_and_disk_give_the_same_images(tree: Path, augment: str) -> None:
    disk = settings(augment=augment).load(seed=3)
    memory = settings(augment=augment, in_memory=True).load(seed=3)
    for kept, read in ((memory.train, disk.train), (memory.evaluation, disk.evaluation)):
        assert torch.equal(everything(kept)["images"], everything(read)["images"])


def test_the_held_out_part_is_never_augmented(tree: Path) -> None:
    augmented = settings(augment="resized_crop").load(seed=0).evaluation
    assert torch.equal(everything(augmented)["images"], everything(settings().load(seed=1).evaluation)["images"])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["truncated", "text"])
def test_a_broken_image_is_one_line_with_its_name(tree: Path, damage: str, workers: int) -> None:
    """From a worker process it would come with that process's traceback."""
    file = tree / "train" / "ant" / "1.png"
    file.write_bytes(file.read_bytes()[:60] if damage == "truncated" else b"no image")
    examples = settings().load(seed=0).train
    with pytest.raises(UserError, match=r"^data.path: cannot read the image .*ant/1.png: ") as caught:
        list(evaluation_batches(examples, batch_size=4, workers=workers))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"ant/1.png"):
        settings(in_memory=True).load(seed=0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"path": "wood"}, r"data.path: no file or folder at .*wood"),
        ({"train_folder": "training"}, r"data.train_folder: no folder .*tree/training"),
        ({"evaluation_folder": "val/ant"}, r"data.evaluation_folder: .*"),
        ({"evaluation_folder": "dev"}, r"data.evaluation_folder: ant is not in both .*train and .*dev"),
        ({"evaluation_folder": "empty"}, r"data.evaluation_folder: found no image for the classes fly"),
    ],
)
def test_wrong_folders_are_one_line(tree: Path, keys: dict[str, str], message: str) -> None:
    (tree / "empty" / "fly").mkdir(parents=True)
    (tree / "dev" / "bee").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tree / "dev" / "bee" / "0.png")
    with pytest.raises(UserError, match=f"^{message}") as caught:
        settings(**keys).load(seed=0)
    assert "\n" not in str(caught.value)


def test_the_size_is_known_without_the_files() -> None:
    assert ImageFolder(path="nowhere").image_size == 224


def test_real_images(data_folder: Path) -> None:
    """CIFAR-10 as slightly lossy JPEG files."""
    images = ImageFolder(path=".", evaluation_folder="test", image_size=32, limit=20, in_memory=True).load(seed=0)
    assert images.classes == CIFAR10_CLASSES
    for examples in (images.train, images.evaluation):
        batch = everything(examples)
        assert batch["images"].shape == (200, 3, 32, 32)
        assert batch["labels"].tolist() == list(range(10)) * 20
        assert 0.5 < batch["images"].std() < 1.5


def labels_of(tree: Path) -> tuple[list[str], list[int]]:
    images = settings().load(seed=0)
    files = [str(Path(file).relative_to(tree / "train")) for file in images.train._files]  # type: ignore[attr-defined]
    return files, everything(images.train)["labels"].tolist()


def test_the_listing_is_torchvisions(tree: Path) -> None:
    """Also with folders within a class, whose order is that of their paths."""
    for inner in ("b/deep", "a", "a-1"):
        (tree / "train" / "bee" / inner).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tree / "train" / "bee" / inner / "x.PNG")
    theirs = torchvision.datasets.ImageFolder(str(tree / "train")).samples
    files, labels = labels_of(tree)
    for label in range(3):
        mine = [file for file, own in zip(files, labels, strict=True) if own == label]
        assert mine == [str(Path(file).relative_to(tree / "train")) for file, own in theirs if own == label]


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("ant/again", "."),
        ("ant/again", "../ant"),
        ("ant/up", ".."),
        ("ant/further_up", "../.."),
        ("ant/bees", "../bee"),
        ("ant/3.png", "0.png"),
        ("ant/3.png", "../bee/0.png"),
    ],
)
def test_a_link_into_the_tree_adds_no_image_and_is_told(tree: Path, link: str, target: str) -> None:
    """Torchvision follows a link to itself until the system refuses: 41 times each image."""
    before = labels_of(tree)
    (tree / "train" / link).symlink_to(target)
    with pytest.warns(UserWarning, match=r"data.train_folder: 1 links in .*train lead to its own images"):
        assert labels_of(tree) == before


def test_links_to_elsewhere_are_followed_once(tree: Path, tmp_path: Path) -> None:
    """As in subsets that are made of links to a large set."""
    store = tmp_path / "store"
    store.mkdir()
    Image.new("RGB", (4, 4)).save(store / "0.png")
    (store / "loop").symlink_to(".")
    (tree / "train" / "bee" / "store").symlink_to(store)
    (tree / "train" / "ant" / "file.png").symlink_to(store / "0.png")
    with pytest.warns(UserWarning, match="links in"):
        files, labels = labels_of(tree)
    assert sorted(set(files) - {f"{name}/{k}.png" for name, count in COUNTS.items() for k in range(count)}) == [
        "ant/file.png",
        "bee/store/0.png",
    ]
    assert len(files) == len(labels) == 10


def test_a_class_that_is_a_link_to_another_is_refused(tree: Path) -> None:
    (tree / "train" / "wasp").symlink_to("bee")
    with pytest.raises(UserError, match="found no image for the classes wasp"):
        settings().load(seed=0)


def test_files_that_are_left_out_are_told(tree: Path) -> None:
    for name in ("0.gif", "1.GIF", "notes.txt", ".hidden", "Thumbs.db"):
        (tree / "train" / "ant" / name).write_bytes(b"")
    told = r"^data.train_folder: left out in .*train, no images by their names: 1 of .gif, 1 of .GIF, 1 of .txt$"
    with pytest.warns(UserWarning, match=told):
        assert len(settings().load(seed=0).train) == sum(COUNTS.values())


def ramp() -> NDArray[np.float64]:
    return np.tile(np.linspace(0, 65535, 64), (64, 1))


def save_16_bits(path: Path) -> None:
    values = ramp().astype(np.uint16)
    if path.suffix == ".pgm":
        path.write_bytes(b"P5 64 64 65535\n" + values.astype(">u2").tobytes())
    elif path.stem == "white_is_zero":
        Image.fromarray(65535 - values).save(path, tiffinfo={262: 0})
    else:
        Image.fromarray(values).save(path)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", "white_is_zero.tif"])
def test_grey_images_of_16_bits_are_their_8_bit_twins(tmp_path: Path, name: str) -> None:
    """Pillow's conversion makes every value above 255 white."""
    save_16_bits(tmp_path / name)
    Image.fromarray((ramp() / 257).round().astype(np.uint8)).save(tmp_path / "twin.png")
    twin = read_image(str(tmp_path / "twin.png")).float()
    read = read_image(str(tmp_path / name))
    assert read.dtype == torch.uint8
    assert read.shape == (3, 64, 64)
    assert (read.float() - twin).abs().max() <= 0.5


def test_colour_of_16_bits_is_read_in_8(tmp_path: Path) -> None:
    """Pillow keeps the upper byte, which is at most one level off."""
    values = np.repeat(ramp().astype(">u2")[:, :, None], 3, axis=2)
    (tmp_path / "a.ppm").write_bytes(b"P6 64 64 65535\n" + values.tobytes())
    difference = read_image(str(tmp_path / "a.ppm")).float() - torch.from_numpy(ramp() / 257)
    assert difference.abs().max() <= 1
    assert difference.abs().mean() < 0.5


@pytest.mark.parametrize(("dtype", "kind"), [(np.int32, "integers of 32 bits"), (np.float32, "floats")])
def test_grey_values_without_a_range_are_refused(tmp_path: Path, dtype: type, kind: str) -> None:
    file = tmp_path / "a.tif"
    Image.fromarray(ramp().astype(dtype)).save(file)
    with pytest.raises(UserError, match=rf"^data.path: cannot read the image .*a.tif: its grey values are {kind}"):
        read_image(str(file))


def test_alpha_palettes_frames_and_rotation_are_read_as_by_torchvision(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "alpha.png")
    Image.fromarray(colours[:, :, :3]).quantize(8).save(tmp_path / "palette.png", transparency=3)
    frames = [Image.fromarray(colours[:, :, :3]), Image.new("RGB", (9, 6), "red")]
    frames[0].save(tmp_path / "frames.tif", save_all=True, append_images=frames[1:])
    rotated = Image.Exif()
    rotated[0x0112] = 6
    frames[0].save(tmp_path / "rotated.jpg", exif=rotated)
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "cmyk.jpg")
    for name in ("alpha.png", "palette.png", "frames.tif", "rotated.jpg", "cmyk.jpg"):
        theirs = torchvision.datasets.folder.default_loader(str(tmp_path / name))
        assert read_image(str(tmp_path / name)).movedim(0, 2).tolist() == np.array(theirs).tolist(), name
    assert read_image(str(tmp_path / "alpha.png")).movedim(0, 2).tolist() == colours[:, :, :3].tolist()
