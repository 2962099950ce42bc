"""How an image that is not square becomes square: the values of --fit. Light to import."""

from __future__ import annotations

from trials.images.background import Colour

CROP, SQUASH, PAD = "crop", "squash", "pad"
FITS = (CROP, SQUASH, PAD)
BLACK: Colour = (0, 0, 0)
# what is done with a picture that is not square, for people
WORDS = {
    CROP: "its centre is cut out",
    SQUASH: "all of it is resized to a square",
    PAD: "it is laid in the middle of a square",
}


def border_of(background: Colour | None) -> Colour:
    """The colour of the borders of --fit pad: that of --background, black where transparency is dropped."""
    return background or BLACK
