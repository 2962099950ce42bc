"""Whatever training makes of an image's values, the shipped forms make too, or refuse; and a verdict on a file is about the file."""

import dataclasses
import errno
import io
import json
import os
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image, ImageFile
from torch import nn

from spaces.errors import InputError, Stopped
from tests.commands import ROOT
from tests.unit.test_data import LOADERS, open_folder
from trials.common.changes import changed_options
from trials.export_formats.formats import ESCAPED, set_metadata
from trials.export_formats.module_file import constant, preprocess_source
from trials.images import inspect_file, scan
from trials.images.crops import central_crops
from trials.images.options import DataOptions
from trials.images.torch_loader import TorchLoader, decode
from trials.training import supernet_config

EIGHT = np.random.default_rng(0).integers(0, 256, (24, 30)).astype(np.uint8)  # a picture in grey
COLOUR = np.random.default_rng(1).integers(0, 256, (24, 30, 3)).astype(np.uint8)
HOW = {"resolution": 16, "short_side": 18, "channels": "RGB", "range": 1, "mean": [0.5] * 3, "std": [0.25] * 3, "resize": "antialias"}  # fmt: skip


def tiff(values, shape, *, bits=16, photometric=1, sample_format=1):
    """A grey TIFF of one strip, `values` its bytes: PIL writes none of 12 bits nor with a sign."""
    height, width = shape
    tags = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: photometric,
        273: 0,
        277: 1,
        278: height,
        279: len(values),
        339: sample_format,
    }
    tags[273] = 8 + 2 + 12 * len(tags) + 4  # where the values begin, behind the header and this table
    table = b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in tags.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + table + struct.pack("<I", 0) + values


def twelve_bits(values):
    """Rows of 12-bit numbers, two in three bytes."""
    one, two = values[:, 0::2].astype(np.uint16), values[:, 1::2].astype(np.uint16)
    return np.stack((one >> 4, ((one & 15) << 4) | (two >> 8), two & 255), 2).astype(np.uint8).tobytes()


def encoded(pixels, form, **how):
    buffer = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(buffer, form, **how)
    return buffer.getvalue()


DEEP = EIGHT.astype(np.uint16) * 257
SCALED = {
    "png of 8": encoded(EIGHT, "PNG"),
    "png of 16": encoded(DEEP, "PNG"),
    "tiff of 16": encoded(DEEP, "TIFF"),
    "tiff of 16, big endian": encoded(Image.frombytes("I;16B", (30, 24), DEEP.astype(">u2").tobytes()), "TIFF"),
    "tiff of 12": tiff(twelve_bits((EIGHT * (4095 / 255)).round()), EIGHT.shape, bits=12),
    "pgm of 16": b"P5 30 24 65535\n" + DEEP.astype(">u2").tobytes(),
    "pgm of 10": b"P5 30 24 1023\n" + (EIGHT * (1023 / 255)).round().astype(">u2").tobytes(),
    "png in colour": encoded(COLOUR, "PNG"),
    "gif": encoded(Image.fromarray(EIGHT), "GIF"),
    "gif that moves": encoded(Image.fromarray(EIGHT), "GIF", save_all=True, append_images=[Image.fromarray(EIGHT[::-1].copy())]),
}  # fmt: skip
REFUSED = {
    "float tiff": (encoded(EIGHT.astype(np.float32) / 255, "TIFF"), "has floating-point values, of which none is known to be white"),
    "float tiff of 255": (encoded(EIGHT.astype(np.float32), "TIFF"), "has floating-point values"),
    "int32 tiff": (encoded(EIGHT.astype(np.int32) * 1000, "TIFF"), "has numbers of 32 bits or with a sign"),
    "int32 tiff below 256": (encoded(EIGHT.astype(np.int32), "TIFF"), "has numbers of 32 bits or with a sign"),
    "uint32 tiff": (tiff(EIGHT.astype(np.uint32).tobytes(), EIGHT.shape, bits=32), "has numbers of 32 bits"),
    "int16 tiff": (tiff(EIGHT.astype(np.int16).tobytes(), EIGHT.shape, sample_format=2), "has numbers of 32 bits or with a sign"),
    "16 bits, 0 for white": (tiff(DEEP.tobytes(), EIGHT.shape, photometric=0), "has 16 bits with 0 for white"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALED)
def test_training_and_shipped_forms_see_the_same_values(name, classify, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(SCALED[name])
    expected = COLOUR if "colour" in name else np.stack([EIGHT] * 3, 2)
    assert np.array_equal(decode(str(path)).permute(1, 2, 0).numpy(), expected)
    assert np.array_equal(np.asarray(classify.open_rgb(str(path), HOW)), expected)
    found = inspect_file.inspect_image(str(path))
    assert (found.height, found.width, found.problem) == (24, 30, "")
    assert ("first image of several" in found.unusual) == ("moves" in name)
    # what the network takes is the same too, up to a grey level of resizing
    loader = TorchLoader([str(path)], np.array([[24, 30]]), np.array([path.stat().st_size]), 16, workers=0)
    images, _ = loader.decode_batch(central_crops(np.array([0]), np.array([[24, 30]]), 16, spos=False))
    trained = (images.float() / 255 - 0.5) / 0.25
    assert (
        np.abs(classify.prepare(classify.open_rgb(str(path), HOW), {**HOW, "short_side": 18}) - trained.numpy()).max()
        < 1.5 * 4 / 255
    )


@pytest.mark.parametrize("name", REFUSED)
def test_images_without_a_known_white_are_refused_everywhere(name, classify, tmp_path):
    content, reason = REFUSED[name]
    path = tmp_path / "image.tif"
    path.write_bytes(content)
    assert inspect_file.inspect_image(str(path)).problem.startswith(reason)
    with pytest.raises(ValueError, match=reason):
        decode(str(path))
    with pytest.raises(SystemExit, match="no value is known to be white"):
        classify.open_rgb(str(path), HOW)


@pytest.mark.parametrize(
    "how", [HOW, {**HOW, "short_side": None}, {**HOW, "channels": "BGR", "range": 255, "resize": "opencv"}]
)
def test_the_exported_preprocess_scales_16_bits_and_refuses_other_types(how):
    names = {"torch": torch, "F": nn.functional}
    exec(constant("PREPROCESSING", how) + preprocess_source(how), names)
    preprocess = names["preprocess"]
    image = torch.from_numpy(COLOUR).permute(2, 0, 1)
    expected = preprocess(image)
    assert expected.shape == (1, 3, 16, 16)
    deep = (image.to(torch.int32) * 257).to(torch.uint16)
    assert torch.equal(preprocess(deep), expected)
    assert torch.equal(preprocess(torch.stack([deep, deep])), torch.cat([expected] * 2))
    for wrong in (image.float() / 255, image.to(torch.int32) * 257, image.double(), image.bool()):
        with pytest.raises(TypeError, match="an image of 8 or 16 bits is wanted, uint8 or uint16, not torch."):
            preprocess(wrong)


def test_class_names_of_older_runs_that_are_not_utf_8_are_written_escaped():
    names = ["katze", "k\udcf6ter", "日本 ü"]
    text = constant("CLASSES", names).encode(errors=ESCAPED).decode()
    read: dict[str, list[str]] = {}
    exec(text, read)
    assert read["CLASSES"] == names
    assert "日本 ü" in text
    model = onnx.ModelProto()
    set_metadata(model, {"classes": names})
    assert json.loads(model.metadata_props[0].value) == names


# an error of the program is no verdict


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A good JPEG and PNG, a damaged JPEG and one that is empty; a cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    good = encoded(COLOUR, "JPEG")
    contents = {"good.jpg": good, "good.png": encoded(COLOUR, "PNG"), "half.jpg": good[:400], "empty.jpg": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return [str(tmp_path / name) for name in contents]


def cached(tmp_path):
    """Names of the files that the cache knows."""
    with sqlite3.connect(tmp_path / "cache" / "onepath" / "scan.sqlite") as cache:
        return sorted(Path(os.fsdecode(path)).name for (path,) in cache.execute(f"SELECT path FROM {scan.TABLE}"))


def test_only_files_that_can_be_read_are_remembered(files, tmp_path):
    for _ in range(2):
        assert scan.scan(files, 2).problems == {2: "is truncated", 3: "is empty (0 bytes)"}
        assert cached(tmp_path) == ["good.jpg", "good.png"]


def test_a_missing_library_is_said_and_no_file_is_blamed(files, tmp_path, monkeypatch):
    code = "import sys; sys.modules['simplejpeg'] = None; from trials.images import inspect_file"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0  # other data need it not
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "simplejpeg", None)
        with pytest.raises(
            InputError, match="needs simplejpeg, which does not import here .*; install it with: pip install simplejpeg"
        ):
            scan.scan(files, 2)
    with monkeypatch.context() as patch:
        patch.setattr(inspect_file.features, "check", lambda name: name != "webp")
        with pytest.raises(InputError, match="Pillow was built here without webp; install another"):
            scan.scan(files, 2)
    assert not (tmp_path / "cache").exists()
    assert scan.scan(files, 2).problems == {2: "is truncated", 3: "is empty (0 bytes)"}


@pytest.mark.parametrize(
    "error",
    [ImportError("no decoder"), NameError("name 'x' is not defined"), OSError(errno.EMFILE, "Too many open files"), OSError(errno.ENOMEM, "Cannot allocate memory")],
)  # fmt: skip
def test_an_error_of_the_program_is_no_verdict_on_a_file(error, files, tmp_path, monkeypatch):
    def fail(self):
        raise error

    loader = TorchLoader(files, np.array([[24, 30]] * 4), np.array([os.path.getsize(f) for f in files]), 16, workers=0)
    spread = TorchLoader(loader.files, loader.sizes, loader.nbytes, 16, workers=1)
    plan = central_crops(np.array([1]), np.array([[24, 30]]), 16, spos=False)
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", fail)
        said = (
            f"the program failed at '.*good.png' .*{str(error).split('] ')[-1]}.*, which says nothing about that file"
        )
        with pytest.raises(Stopped, match=said) as caught:
            scan.scan(files[1:2], 2)
        assert "\n" not in str(caught.value)
        for read in (
            lambda: loader.decode_batch(plan),
            lambda: list(loader.read([plan])),
            lambda: list(spread.read([plan])),
        ):
            with pytest.raises(Stopped, match=said) as caught:
                read()
            assert "\n" not in str(caught.value)
    assert not cached(tmp_path)
    assert not scan.scan(files[:2], 2).problems


def test_too_many_open_files_are_no_verdict_on_a_file(files, monkeypatch):
    """With real limits: no file can be opened any more."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(Stopped, match="the program failed at '.*good.jpg' .OSError: Too many open files."):
            inspect_file.inspect_image(files[0])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_huge_image_is_not_called_damaged(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(encoded(Image.new("1", (20_000, 20_000)), "PNG"))
    assert (
        inspect_file.inspect_image(str(path)).problem == "has more pixels than are read (178,956,970); make it smaller"
    )


# EXIF orientation


@pytest.fixture(scope="module")
def turned(shared):
    """The same 24 pictures in two folders: upright, and stored on their side or mirrored with the EXIF tag that says so."""
    return shared("orientation", make_turned)


def make_turned(folder):
    t = Image.Transpose  # by orientation, from 2 on: what turns an upright picture into the stored one
    stored_by = (
        t.FLIP_LEFT_RIGHT,
        t.ROTATE_180,
        t.FLIP_TOP_BOTTOM,
        t.TRANSPOSE,
        t.ROTATE_90,
        t.TRANSVERSE,
        t.ROTATE_270,
    )
    for number in range(24):
        name, orientation = "ab"[number % 2], 1 + number // 3
        draw = np.random.default_rng(number)
        small = Image.fromarray(draw.integers(0, 256, (5, 4, 3)).astype(np.uint8))
        image = small.resize((60 + number, 80), Image.Resampling.BICUBIC)
        form, how = (("jpg", {"quality": 95}), ("png", {}))[number % 3 == 1]
        for kind in ("upright", "turned"):
            (folder / kind / name).mkdir(parents=True, exist_ok=True)
        image.save(folder / "upright" / name / f"{number:02d}.{form}", **how)
        exif = Image.Exif()
        exif[274] = orientation
        stored = image.transpose(stored_by[orientation - 2]) if orientation > 1 else image
        stored.save(folder / "turned" / name / f"{number:02d}.{form}", exif=exif, **how)


@pytest.mark.parametrize("loader", LOADERS)
def test_exif_orientation_turns_images_in_every_form(loader, turned, classify, capfd):
    upright = open_folder(turned / "upright", loader)
    capfd.readouterr()
    data = open_folder(turned / "turned", loader, exif_orientation=True)
    assert "EXIF" not in capfd.readouterr().out
    assert data.sizes.tolist() == upright.sizes.tolist()
    assert (upright.preprocessing()["exif_orientation"], data.preprocessing()["exif_orientation"]) == (False, True)
    for part in ("all", "test"):
        (x, a), (y, b) = (next(source.eval_batches(part, 24)) for source in (data, upright))
        assert torch.equal(a, b)
        assert (x.int() - y.int()).abs().float().mean() < 3  # JPEG codes a turned picture differently
    for (x, a), (y, b) in zip(
        *(source.train_batches("train", 4, seed=0, epoch=0) for source in (data, upright)), strict=True
    ):
        assert torch.equal(a, b)
        assert (x - y).abs().mean() < 0.1
    for path in data.files:
        seen = np.asarray(classify.open_rgb(path, data.preprocessing()))
        assert np.array_equal(seen, decode(path, turn=True).permute(1, 2, 0).numpy())
        if path.endswith("png"):
            assert np.array_equal(seen, np.asarray(Image.open(path.replace("/turned/", "/upright/"))))


@pytest.mark.parametrize("loader", LOADERS)
def test_without_the_option_images_stay_as_they_are_stored(loader, turned, capfd):
    data = open_folder(turned / "turned", loader)
    assert "JPEG RGB turned 6" in data.images.kinds
    assert (
        "note: 21 images have an EXIF orientation and are used as stored; --exif-orientation turns"
        in capfd.readouterr().out
    )
    for number, path in enumerate(data.files):
        assert list(decode(path).shape[1:]) == data.sizes[number].tolist()
    images, _ = next(data.eval_batches("all", 24))
    plain, _ = next(open_folder(turned / "turned", "torchvision", workers=0).eval_batches("all", 24))
    assert (images.int() - plain.int()).abs().max() <= 2
    if loader == "dali":
        assert data.loader().plain.all()  # they go to DALI as they are
    with pytest.raises(InputError, match="--exif-orientation is of --data folder, and --data is digits"):
        DataOptions(data="digits", exif_orientation=True)


def test_deep_images_and_tiffs_are_turned_once(classify, tmp_path):
    """PIL turns a TIFF when it loads it, whoever asks."""
    exif = Image.Exif()
    exif[274] = 6
    for name, image, upright in (
        ("deep.png", Image.fromarray(DEEP), np.rot90(EIGHT, -1)),
        ("a.tif", Image.fromarray(EIGHT), np.rot90(EIGHT, -1)),
        ("deep.tif", Image.fromarray(DEEP), np.rot90(EIGHT, -1)),
    ):
        image.save(tmp_path / name, exif=exif)
        path = str(tmp_path / name)
        for turn in (True, False):
            expected = upright if turn or name.endswith("tif") else EIGHT
            assert np.array_equal(decode(path, turn=turn)[0].numpy(), expected), (name, turn)
            assert np.array_equal(np.asarray(classify.open_rgb(path, {"exif_orientation": turn}))[:, :, 0], expected)
        found = inspect_file.inspect_image(path)
        stored = upright if name.endswith("tif") else EIGHT
        assert ((found.height, found.width), inspect_file.orientation_of(found.kind)) == (
            stored.shape,
            1 if name.endswith("tif") else 6,
        )


def test_runs_of_older_code_go_on_without_the_option():
    config = supernet_config.Config(data="folder", data_root="x", out="y", preset="tiny", batch_size=8, epochs=1)
    stored = dataclasses.asdict(config)
    del stored["exif_orientation"]
    assert changed_options(stored, config) == []
    changed = changed_options(stored, dataclasses.replace(config, exif_orientation=True))
    assert changed == [("--exif-orientation", None, True)]
