"""Name what is on photos, with a network of trials.export, and without Onepath.

    python docs/classify_onnx.py MODEL.onnx PICTURE [PICTURE ...]

A line for each picture: its class, and the three likeliest with their shares. It needs onnxruntime, numpy and pillow (and
pillow-heif for HEIC). The exit code is 1 where a picture cannot be read, or nothing can be done at all.
"""

import contextlib
import json
import sys
import warnings
from pathlib import Path

if __name__ == "__main__" and {"-h", "--help"} & {*sys.argv[1:]}:
    print(__doc__.strip())  # before anything that may be missing
    sys.exit()
try:
    import numpy as np
    import onnxruntime
    from PIL import Image, ImageOps
except ImportError as error:
    if __name__ != "__main__":
        raise
    sys.exit(f"error: {error}; pip install onnxruntime numpy pillow")


def open_rgb(path, how):
    """An image as training sees it: RGB of 8 bits, more bits scaled, an unknown white refused, turned, transparency laid on a colour."""
    with contextlib.suppress(ImportError):  # HEIC, where pillow-heif is installed
        import pillow_heif

        pillow_heif.register_heif_opener()
    image = Image.open(open(path, "rb"))  # by its name, Pillow 13.0 scrambles grey TIFFs that have an orientation
    tags = getattr(image, "tag_v2", {})
    grey_16 = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    if (image.mode in ("F", "I") and not grey_16) or (grey_16 and tags.get(262) == 0):
        sys.exit(f"{path}: no value is known to be white (mode {image.mode}); convert it to 8 bits")
    white = 4095 if tags.get(258) == (12,) else 65535
    laid_on, key = how.get("background"), image.info.get("transparency")
    raw = image.tile[0].args if image.format == "PNG" and image.tile else None
    if isinstance(key, int):  # one colour of a PNG is transparent, counted in the bits of the file
        key *= {"L;2": 85, "L;4": 17}.get(raw, 1)
    elif raw == "RGB;16B" and key:
        key = tuple(value >> 8 for value in key)
    if how.get("exif_orientation"):
        image = ImageOps.exif_transpose(image)
    if grey_16:
        values = np.asarray(image, np.float64).clip(0, white)
        image = Image.fromarray((values * (255 / white)).round().astype(np.uint8)).convert("RGB")
        if laid_on and key is not None:
            image.paste(tuple(laid_on), mask=Image.fromarray(values == key))
    if not laid_on or not image.has_transparency_data:
        return image.convert("RGB")
    image.info |= {"transparency": key} if key is not None else {}
    image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    canvas = Image.new("RGB", image.size, tuple(laid_on))
    canvas.paste(image, mask=image)
    return canvas


def prepare(image, how):
    """What the network takes, float32 (1, 3, R, R), from an RGB image; `how` is the preprocessing that the file stores."""
    side, short, opencv = how["resolution"], how["short_side"], how["resize"] == "opencv"
    if how.get("fit") == "pad":
        square = Image.new("RGB", [max(image.size)] * 2, tuple(how["border"]))
        square.paste(image, tuple((max(image.size) - length) // 2 for length in image.size))
        image = square
    scale = short and [short * length / min(image.size) for length in image.size]
    size = tuple(int(length + 0.5 * opencv) for length in scale or (side, side))  # the long side is cut off, or rounded
    box = (0, 0, *image.size)
    extent = Image.Transform.EXTENT  # without antialiasing
    image = image.transform(size, extent, box, Image.BILINEAR) if opencv else image.resize(size, Image.BILINEAR)
    left, top = (round((length - side) / 2) for length in size)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32).transpose(2, 0, 1)
    pixels = pixels[::-1] if how["channels"] == "BGR" else pixels
    mean, std = (np.array(how[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
    return ((pixels / (255 if how["range"] == 1 else 1) - mean) / std)[None]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("error: give a network and pictures: python classify_onnx.py MODEL.onnx PICTURE [PICTURE ...]")
    if not Path(sys.argv[1]).is_file():
        sys.exit(f"error: there is no network {sys.argv[1]!r}; give an .onnx file of trials.export before the pictures")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    try:
        session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each reason
        sys.exit(f"error: {sys.argv[1]} is no network that onnxruntime reads ({str(error).splitlines()[0]})")
    metadata = session.get_modelmeta().custom_metadata_map
    if not {"preprocessing", "classes"} <= {*metadata}:
        sys.exit(
            f"error: {sys.argv[1]} says nothing of its preprocessing and classes; give an .onnx file of trials.export"
        )
    preprocessing, classes = json.loads(metadata["preprocessing"]), json.loads(metadata["classes"])
    failed = False
    for path in sys.argv[2:]:
        try:
            image = open_rgb(path, preprocessing)
        except (OSError, Image.DecompressionBombError) as error:  # no such file, no picture, or far too large a one
            print(f"error: {path}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
            failed = True
            continue
        (logits,) = session.run(["logits"], {"images": prepare(image, preprocessing)})
        shares = np.exp(logits[0].astype(np.float64) - logits[0].max())
        shares /= shares.sum()
        named = [f"{classes[number]} {shares[number]:.1%}" for number in shares.argsort()[::-1][:3]]
        print(f"{path}: {classes[int(logits[0].argmax())]} ({', '.join(named)})")
    sys.exit(failed)
