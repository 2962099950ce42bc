"""The gates that look at the images of a run, before its first step: too few for a test, unequal, blank, or too much alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spaces.errors import shown
from trials.evidence.gates import GateWarning
from trials.images.blank import Blank, notable
from trials.images.near_copies import NearCopies

SMALL_TEST, BLANK, NEAR_COPIES = "small test part", "blank images", "near copies"
DOUBTFUL = (BLANK, NEAR_COPIES)  # what makes all accuracies of a run doubtful, so that its certificate says it
LEAST_TEST_IMAGES, LEAST_TEST_IMAGES_OF_A_CLASS = 100, 5


def small_test(counts: Mapping[str, int], command: str) -> GateWarning | None:
    """A test part that is too small to tell networks apart.

    Args:
        counts: test images of each class, by its name.
    """
    total, least = sum(counts.values()), min(counts, key=counts.__getitem__)
    if not total:
        text = f"there are no test images, and below {LEAST_TEST_IMAGES} differences are luck; have more"
    elif total < LEAST_TEST_IMAGES:
        text = f"there are {total} test images: one answer is {100 / total:.1f} points, so small differences are luck; have more"
    elif counts[least] < LEAST_TEST_IMAGES_OF_A_CLASS:
        text = f"class '{least}' has {counts[least]} test images, so its accuracy is luck; have more of it"
    else:
        return None
    return GateWarning(SMALL_TEST, text, command)


def unequal_classes(counts: Mapping[str, int], command: str) -> GateWarning | None:
    """One class has most of the images, so that a network which knows nothing looks good.

    Args:
        counts: training images of each class, by its name.
    """
    most = max(counts, key=counts.__getitem__)
    share = counts[most] / sum(counts.values())
    if share <= (1 + 1 / len(counts)) / 2:
        return None
    text = f"class '{most}' has {share:.0%} of the training images: always answering it scores that; look at the balanced accuracy, and let every class count alike"
    return GateWarning("unequal classes", text, command)


def blank_images(blanks: Sequence[Blank], command: str) -> GateWarning | None:
    """Classes of which a notable share of the images is one single colour, which teaches nothing.

    Args:
        blanks: of all classes that have such images, the one with the largest share first.
    """
    found = notable(blanks)
    if not found:
        return None
    first = found[0]
    others = sum(blank.images for blank in found[1:])
    more = f", and {others:,} in {len(found) - 1} more class{'es' * (len(found) > 2)}" if others else ""
    text = (
        f"{first.images:,} of {first.total:,} images of class '{shown(first.name)}' are all {first.colour}, such as "
        f"'{shown(first.example)}'{more}; one that shows nothing teaches nothing"
    )
    return GateWarning(BLANK, text, command)


def near_copies(found: NearCopies, command: str) -> GateWarning | None:
    """Test images that are nearly equal to a training image: accuracies are too good.

    Args:
        found: among the images that were compared.
    """
    if not found.notable or not found.example:
        return None
    one, two = (shown(path) for path in found.example)
    compared = " that were compared" * ((found.test, found.training) != (found.of_test, found.of_training))
    why = "accuracies are too good"
    if found.across:
        why = "most are of another class"
    text = f"{found.near:,} of {found.test:,} test images{compared} are nearly equal to a training image, such as '{one}' and '{two}'; {why}"
    return GateWarning(NEAR_COPIES, text, command)
