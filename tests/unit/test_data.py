"""Images: parts, batches that are functions of (seed, epoch, number), two loaders with one result, augmentation."""

import pickle
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms
from torchvision.transforms.v2 import functional as V

from spaces.errors import InputError
from tests.commands import Command, onepath
from trials.images.augment import CUTOUT_DRAWS, JITTER_DRAWS, Geometry, augment_geometry, color_jitter, cutout
from trials.images.crops import CROP_DRAWS, central_crops, random_crops
from trials.images.load import load_data
from trials.images.memory import MemoryData
from trials.images.options import DataOptions
from trials.images.split import split
from trials.scoring.fixed_images import fixed_images

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian package dataset-fashion-mnist
LOADERS = ("dali", "torchvision")


def open_folder(folder, loader="dali", resolution=32, *, workers=2, spos=False, score_fraction=0.25, **more):
    options = DataOptions(
        data="folder", data_root=str(folder), loader=loader, workers=workers, spos_preprocessing=spos, **more
    )
    return load_data(options, resolution, score_fraction=score_fraction)


def contents(batches):
    return [image.numpy().tobytes() for images, _ in batches for image in images]


# parts and memory


@pytest.fixture(scope="module")
def digits():
    return load_data(DataOptions(data="digits"), 32, score_fraction=0.25)


def test_parts_are_disjoint_balanced_and_always_the_same(digits):
    again = load_data(DataOptions(data="digits"), 32, score_fraction=0.25)
    assert all(np.array_equal(digits.parts[part], again.parts[part]) for part in digits.parts)
    train, score = set(digits.parts["train"]), set(digits.parts["score"])
    assert not train & score
    assert train | score == set(digits.parts["all"])
    assert digits.size("all") + digits.size("test") == 1797
    labels = torch.cat([labels for _, labels in digits.eval_batches("score", 100)]).tolist()
    counts = Counter(labels)
    assert max(counts.values()) - min(counts.values()) <= 2


def test_no_test_image_is_a_training_image(digits):
    seen = {image.numpy().tobytes() for images, _ in digits.eval_batches("all", 100) for image in images}
    test = [image.numpy().tobytes() for images, _ in digits.eval_batches("test", 100) for image in images]
    assert len(test) == digits.size("test")
    assert not seen & set(test)


def test_the_size_of_the_test_part(tree, tmp_path):
    data = load_data(DataOptions(test_fraction=0.5), 32, score_fraction=0.25)
    assert [data.size(part) for part in ("train", "score", "test")] == [674, 225, 898]  # half of each class, rounded
    halves = [batch[1] for batch in data.eval_batches("test", 1000)]
    assert np.abs(np.bincount(torch.cat(halves)) - 89.9).max() < 4  # of every class
    folder = open_folder(tree, test_fraction=0.5)
    assert [folder.size(part) for part in ("train", "score", "test")] == [44, 16, 60]
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        for name in ("china", "flower"):
            (tmp_path / part / name).symlink_to(tree / name)
    with pytest.raises(InputError, match="has a test part of its own; leave --test-fraction out"):
        open_folder(tmp_path, test_fraction=0.5)
    with pytest.raises(InputError, match="--data cifar10 has a test part of its own; leave --test-fraction out"):
        DataOptions(data="cifar10", test_fraction=0.5)
    with pytest.raises(InputError, match="--test-fraction 1.0 is out of range; give a number between 0 and 1"):
        DataOptions(test_fraction=1.0)


def test_split_takes_its_part_of_every_class():
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    rest, held = split(labels, 0.2)
    assert Counter(labels[held].tolist()) == {0: 2, 1: 4, 2: 6}
    assert sorted([*rest, *held]) == list(range(60))


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(InputError, match="data folder '.*none' does not exist; give the folder of the images"):
        load_data(DataOptions(data="folder", data_root=str(tmp_path / "none")), 32, score_fraction=0.2)
    with pytest.raises(InputError, match="give each class a subfolder of images"):
        load_data(DataOptions(data="folder", data_root=str(tmp_path)), 32, score_fraction=0.2)
    with pytest.raises(InputError, match="--data folder needs --data-root FOLDER"):
        load_data(DataOptions(data="folder"), 32, score_fraction=0.2)
    with pytest.raises(InputError, match="needs --data-root FOLDER"):
        load_data(DataOptions(data="cifar10", data_root=""), 32, score_fraction=0.2)
    with pytest.raises(InputError, match="unknown data set 'digit'; did you mean 'digits'"):
        load_data(DataOptions(data="digit"), 32, score_fraction=0.2)
    with pytest.raises(InputError, match="--score-fraction 1.5 is out of range"):
        load_data(DataOptions(data="digits"), 32, score_fraction=1.5)


def test_cifar_from_its_own_files(tmp_path):
    """The real format, made of real digits: what torchvision checks is a hash, which is set aside here."""
    digits = load_data(DataOptions(data="digits"), 32, score_fraction=0.25)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for name in names:
        images, labels = next(digits.eval_batches("all", 20))
        content = {"data": images.reshape(20, -1).numpy(), "labels": labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": digits.classes}))
    check = torchvision.datasets.CIFAR10._check_integrity
    torchvision.datasets.CIFAR10._check_integrity = lambda self: True
    meta = torchvision.datasets.CIFAR10.meta
    torchvision.datasets.CIFAR10.meta = {**meta, "md5": None}
    try:
        data = load_data(DataOptions(data="cifar10", data_root=str(tmp_path)), 32, score_fraction=0.2)
        images, labels = next(data.eval_batches("all", 20))
    finally:
        torchvision.datasets.CIFAR10._check_integrity, torchvision.datasets.CIFAR10.meta = check, meta
    expected_images, expected_labels = next(digits.eval_batches("all", 20))
    assert torch.equal(images, expected_images)
    assert torch.equal(labels, expected_labels)


@pytest.mark.skipif(not FASHION.is_dir(), reason="needs the Debian package dataset-fashion-mnist")
def test_fashion_mnist():
    data = load_data(DataOptions(data="fashion-mnist", data_root=str(FASHION)), 32, score_fraction=0.1)
    assert [data.size(part) for part in ("train", "score", "test")] == [54_000, 6_000, 10_000]
    images = torch.cat([images for images, _ in data.eval_batches("score", 1000)])
    normal = data.normalise(images)
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.1


def test_augmentation_moves_whole_pixels_and_nothing_else():
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).reshape(2, 3, 8, 8)
    still = augment_geometry(images, Geometry(), [torch.Generator().manual_seed(0)])
    torch.testing.assert_close(still, images)
    moved = augment_geometry(images, Geometry(shift=0.25), [torch.Generator().manual_seed(1)])
    inner = moved[0, :, 2:6, 2:6]
    windows = [images[0, :, y : y + 4, x : x + 4] for y in range(5) for x in range(5)]
    assert any(torch.allclose(inner, window, atol=1e-3) for window in windows)
    flips = [augment_geometry(images, Geometry(flip=True), [torch.Generator().manual_seed(seed)]) for seed in range(20)]
    mirrored = sum(torch.allclose(image[0], images[0].flip(-1), atol=1e-3) for image in flips)
    assert 3 <= mirrored <= 17


def test_images_in_memory_have_any_resolution_and_augmentation_on_their_device():
    small, large = (load_data(DataOptions(data="digits"), size, score_fraction=0.25) for size in (8, 48))
    images, _ = next(small.eval_batches("score", 4))
    larger, _ = next(large.eval_batches("score", 4))
    assert (images.shape, larger.shape) == ((4, 3, 8, 8), (4, 3, 48, 48))
    assert isinstance(large, MemoryData)
    assert large._stores["train"][0].shape == (1438, 1, 8, 8)  # as small as they are
    large.to(torch.device("meta"))  # a device like any other: where the images are, the batches are
    assert isinstance(large, MemoryData)
    assert large._stores["train"][0].device.type == "meta"
    cut = load_data(DataOptions(data="digits", cutout=16), 32, score_fraction=0.25)
    plain = load_data(DataOptions(data="digits"), 32, score_fraction=0.25)
    (a, _), (b, _) = (next(data.train_batches("train", 8, seed=0, epoch=0)) for data in (cut, plain))
    assert torch.equal(a[a != 0], b[a != 0])
    assert int((a[:, 0] == 0).sum(dim=(1, 2)).min()) >= 64  # at least a quarter of the square is inside


def test_color_jitter_is_that_of_torchvision():
    """But for rounding and cutting off between its steps: here in floats, not near black or white."""
    images = torch.from_numpy(np.random.default_rng(0).integers(90, 150, (12, 3, 16, 16)).astype(np.uint8))
    draws = np.random.default_rng(1).random((12, JITTER_DRAWS))
    changed = color_jitter(images, 0.4, draws)
    orders = set()
    for image, result, row in zip(images, changed, draws, strict=True):
        expected = image.float() / 255
        orders.add(tuple(row[3:].argsort()))
        for what in row[3:].argsort():
            adjust = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation)[what]
            expected = adjust(expected, 0.6 + 0.8 * row[what])
        torch.testing.assert_close(result, 255 * expected, atol=1e-2, rtol=0)
    assert len(orders) > 3
    assert torch.equal(color_jitter(images, 0.0, draws).round().to(torch.uint8), images)


def test_cutout_is_a_square():
    draws = np.array([[0.5, 0.5], [0.0, 0.0], [0.999, 0.5]])
    assert draws.shape[1] == CUTOUT_DRAWS
    images = cutout(torch.ones(3, 3, 32, 32), 8, draws)
    assert [int((image[0] == 0).sum()) for image in images] == [64, 16, 40]
    assert images[0, :, 12:20, 12:20].sum() == 0


# folders: two loaders, one contract


@pytest.mark.slow
@pytest.mark.parametrize("loader", LOADERS)
def test_every_image_exactly_once_at_any_batch_and_world_size(loader, tree):
    data = open_folder(tree, loader, workers=2 if loader == "dali" else 0)
    assert [data.size(part) for part in ("train", "score", "test")] == [72, 24, 24]
    for part in ("score", "test", "all"):
        whole = contents(data.eval_batches(part, 10))
        assert len(set(whole)) == data.size(part)
        for batch in (1, 7, 64, 1000):
            for world in (1, 2, 3, 5):
                pieces = [contents(data.eval_batches(part, batch, rank=rank, world=world)) for rank in range(world)]
                assert sorted(image for piece in pieces for image in piece) == sorted(whole)
                if world == 1:
                    assert pieces[0] == whole
                assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
        some = contents(data.eval_batches(part, 7, count=11))
        assert len(set(some) & set(whole)) == 11
    labels = torch.cat([labels for _, labels in data.eval_batches("score", 7)])
    assert labels.tolist() == data.labels[data.parts["score"]].tolist()


def read(data, part="train", batch=8, **where):
    return list(data.train_batches(part, batch, **where))


def same(one, two):
    return len(one) == len(two) and all(
        torch.equal(x, y) and torch.equal(a, b) for (x, a), (y, b) in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("loader", ["digits", *LOADERS])
def test_batches_are_a_function_of_seed_epoch_and_number(loader, tree):
    def opened(workers=2):
        if loader == "digits":
            return load_data(DataOptions(data="digits", color_jitter=0.4, cutout=8), 32, score_fraction=0.25)
        options = {"data_root": str(tree), "loader": loader, "workers": workers, "color_jitter": 0.4, "cutout": 8}
        return load_data(DataOptions(data="folder", **options), 32, score_fraction=0.25)

    data = opened()
    whole = read(data, seed=1, epoch=2)
    assert len(whole) == data.steps_per_epoch("train", 8)
    assert whole[0][0].shape == (8, 3, 32, 32)
    for start in (1, len(whole) - 1):  # resumed in the middle of an epoch
        assert same(read(data, seed=1, epoch=2, start=start), whole[start:])
    assert same(read(opened(workers=0), seed=1, epoch=2), whole)
    assert not torch.equal(whole[0][0], next(data.train_batches("train", 8, seed=1, epoch=3))[0])
    assert not torch.equal(whole[0][0], next(data.train_batches("train", 8, seed=2, epoch=2))[0])
    for world in (2, 4):  # the processes' parts are the batch
        pieces = [read(data, seed=1, epoch=2, take=np.arange(8)[rank::world]) for rank in range(world)]
        for number, (images, labels) in enumerate(whole):
            for rank, piece in enumerate(pieces):
                assert torch.equal(piece[number][1], labels[rank::world])
                torch.testing.assert_close(piece[number][0], images[rank::world])
    half = data.train_batches("train", 8, seed=1, epoch=2)  # a reader that is given up does not disturb the next
    next(half)
    other = data.train_batches("arch", 4, seed=5, epoch=0)  # nor do two at a time
    first = next(other)
    half.close()
    assert same(read(data, seed=1, epoch=2), whole)
    assert same([first, *other], read(data, "arch", 4, seed=5, epoch=0))


def test_an_epoch_has_every_image_once(tree):
    data = open_folder(tree)
    order = data.epoch_order("train", 8, seed=0, epoch=0)
    assert sorted(order.ravel()) == data.parts["train"].tolist()
    assert Counter(labels.item() for _, batch in read(data, seed=0, epoch=0) for labels in batch) == {
        0: 18,
        1: 18,
        2: 18,
        3: 18,
    }


@pytest.mark.parametrize("spos", [False, True])
def test_both_loaders_train_on_the_same_images(spos, tree):
    """Same files, crops and mirrors; pixels differ by what decoders and resizing round."""
    scale = 1 if spos else 255 * 0.225
    for resolution in (64, 96):  # small and large crops: the rule of their area changes at 96 pixels
        one, two = (read(open_folder(tree, loader, resolution, spos=spos), seed=3, epoch=1) for loader in LOADERS)
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(one, two, strict=True))
        off = [(x - y).abs() * scale for (x, _), (y, _) in zip(one, two, strict=True)]
        assert max(batch.mean() for batch in off) < 0.5
        assert (torch.cat(off) > 8).float().mean() < 1e-4
        if resolution == 96:
            assert torch.cat(off).max() < 16


@pytest.fixture(scope="module")
def odd_sizes(shared):
    """100 photographs of 100 sizes, most of them odd, smaller and larger than what is cut out."""
    return shared("odd", make_odd_sizes)


def make_odd_sizes(folder):
    from sklearn.datasets import load_sample_images

    draw = np.random.default_rng(7)
    for number in range(100):
        image = Image.fromarray(load_sample_images().images[number % 2])
        height, width = (2 * draw.integers(60, (image.height // 2, image.width // 2)) + (number % 4 > 0, 1)).tolist()
        top, left = draw.integers(0, image.height - height + 1), draw.integers(0, image.width - width + 1)
        place = folder / f"{number % 2}" / f"{number:03d}.jpg"
        place.parent.mkdir(exist_ok=True)
        image.crop((left, top, left + width, top + height)).save(place, quality=95, subsampling=number % 3)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("spos", [True, False])
def test_scoring_images_are_those_of_the_official_code_and_of_torchvision(loader, spos, odd_sizes):
    data = open_folder(odd_sizes, loader, 224, spos=spos)
    plain = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    seen = 0
    for part in ("all", "test"):
        images = torch.cat([images for images, _ in data.eval_batches(part, 16)])
        for number, image in zip(data.parts[part], images, strict=True):
            source = Image.open(data.files[number]).convert("RGB")
            if spos:  # OpencvResize(256) and CenterCrop(224) of the official code, on PIL's pixels
                width, height = source.size
                size = (
                    (256, int(256 / width * height + 0.5)) if width < height else (int(256 / height * width + 0.5), 256)
                )
                resized = cv2.resize(np.asarray(source), size, interpolation=cv2.INTER_LINEAR)
                expected = np.asarray(transforms.CenterCrop(224)(Image.fromarray(resized)))
            else:
                expected = np.asarray(plain(source))
            difference = np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected)
            assert difference.max() <= 1 if spos else difference.mean() <= 0.25, data.files[number]
            seen += 1
    assert seen == 100


@pytest.mark.parametrize(("resolution", "least"), [(224, 0.08), (32, 0.5)])
def test_random_crops_are_those_of_torchvision(resolution, least):
    """In distribution: area, shape, place and mirror of 20,000 crops; and each lies within its image."""
    draw = np.random.default_rng(0)
    n, shape = 20_000, np.array([[300, 450]])
    plan = random_crops(np.arange(n), np.repeat(shape, n, 0), resolution, draw.random((n, CROP_DRAWS)))
    top, left, height, width = plan.crop.T.astype(float)
    assert (plan.crop[:, :2] >= 0).all()
    assert (top + height <= 300).all()
    assert (left + width <= 450).all()
    torch.manual_seed(0)
    canvas = torch.zeros(3, 300, 450)
    params = [transforms.RandomResizedCrop.get_params(canvas, (least, 1.0), (3 / 4, 4 / 3)) for _ in range(n)]
    theirs = np.array(params, float)
    for ours, other in zip((top, left, height, width), theirs.T, strict=True):
        assert abs(ours.mean() - other.mean()) < 4 * other.std() / np.sqrt(n / 2)
        assert abs(ours.std() / other.std() - 1) < 0.03
    assert abs(plan.mirror.mean() - 0.5) < 0.02
    thin = random_crops(np.arange(50), np.full((50, 2), (10, 2000)), resolution, draw.random((50, CROP_DRAWS)))
    central = thin.crop[(thin.crop == (0, 993, 10, 13)).all(1)]
    assert len(central) > 10  # no crop of so much of the area fits: the centre, as torchvision


def test_resized_sizes():
    sizes = np.array([(333, 500), (500, 333), (256, 256), (2000, 31)])
    official = central_crops(np.arange(4), sizes, 224, spos=True)
    assert official.size.tolist() == [[256, 384], [384, 256], [256, 256], [16516, 256]]
    assert official.offset.tolist() == [[16, 80], [80, 16], [16, 16], [8146, 16]]
    assert central_crops(np.arange(2), sizes[:2], 224, spos=False).size.tolist() == [[256, 384], [384, 256]]


@pytest.mark.slow
def test_fixed_images_are_decoded_once_for_all_processes(tree, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    options = ["data='folder'", f"data_root={str(tree)!r}", "workers=1"]
    code = (
        "import torch; from pathlib import Path; from trials.scoring import fixed_images as f; decode = f._decode\n"
        f"def counted(*a): open({str(run / 'decoded')!r}, 'a').write('x'); decode(*a)\n"
        "f._decode = counted\n"
        f"config = dict({', '.join(options)}, score_fraction=0.25)\n"
        f"x = f.fixed_images(Path({str(run)!r}), config, 32, 4, calibration=50, scoring=0, device=torch.device('cpu'))\n"
        "print(x.calibration.shape, x.scoring.shape, x.labels.tolist(), x.scoring.sum().item())"
    )
    started = [Command("-c", code) for _ in range(3)]
    outputs = {process.communicate()[0] for process in started}
    assert len(outputs) == 1
    assert "torch.Size([50, 3, 32, 32]) torch.Size([24, 3, 32, 32])" in outputs.pop()
    assert (run / "decoded").read_text() == "x"
    config = {"data": "folder", "data_root": str(tree), "score_fraction": 0.25}
    fixed = fixed_images(run, config, 32, 4, calibration=50, scoring=0, device=torch.device("cpu"))
    batches = list(open_folder(tree).eval_batches("score", 10, count=24))
    assert torch.equal(fixed.scoring, torch.cat([images for images, _ in batches]))
    assert torch.equal(fixed.labels, torch.cat([labels for _, labels in batches]))
    with pytest.raises(InputError, match="the data has 4 classes now, 5 when the supernet was trained"):
        fixed_images(run, config, 32, 5, calibration=49, scoring=0, device=torch.device("cpu"))


@pytest.mark.slow
def test_options_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="--loader is of --data folder, and --data is digits; leave --loader out"):
        DataOptions(data="digits", loader="dali")
    with pytest.raises(InputError, match="unknown loader 'daly'; did you mean 'dali'"):
        DataOptions(data="folder", loader="daly")
    with pytest.raises(InputError, match="--per-class -1 is below 0"):
        DataOptions(data="folder", per_class=-1)
    done = onepath("supernet", "--loader", "daly", "--out", "x")
    assert "invalid choice: 'daly'" in done.stderr
    stored = {"data": "folder", "data_root": "x", "loader": "dali", "epochs": 3}
    assert DataOptions.of(stored).loader == "dali"
    assert DataOptions.of({**stored, "loader": "torchvision"}).loader == "torchvision"


def test_default_loader_without_dali(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    assert DataOptions(data="folder", data_root="x").loader == "torchvision"
    assert DataOptions.of({"data": "folder", "loader": "dali"}).loader == "torchvision"


def test_batches_that_are_prepared_together_are_those_prepared_alone():
    """A GPU prepares several at once; what is drawn for a batch, and for a place in it, stays the same."""
    data = load_data(DataOptions(data="digits", color_jitter=0.4, cutout=4), 32, score_fraction=0.25)
    assert isinstance(data, MemoryData)
    positions, order = np.array([1, 3, 6]), data.epoch_order("train", 8, 0, 2)
    keys = [(0, 2, number) for number in range(3)]
    images = [data._get("train", order[number][positions])[0] for number in range(3)]
    together = data.prepare(torch.cat(images), keys, positions, 8)
    for key, alone, prepared in zip(keys, images, together.split(3), strict=True):
        assert torch.equal(prepared, data.prepare(alone, [key], positions, 8))
