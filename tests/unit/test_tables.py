"""Tables of the terminal: their width, and what the commands print in them."""

import pytest

from trials.certifying.show import ranking_line
from trials.common import cli
from trials.common.tables import WIDTH
from trials.reporting.baselines_table import HEADER
from trials.reporting.certificate_view import ranking_lines

LONG = ", ".join(f"option_{number} {number} (not {number + 1})" for number in range(12))
ACCURACY = "96.94% +- 0.42 [94.62, 98.33] (3 seeds, 10,000 images)"
PATH = "/a/folder/" + "that/is/deep/" * 20 + "network.pt"


@pytest.mark.parametrize(
    ("rows", "header"),
    [
        (
            [
                (
                    "timm:mobilenetv2_100,output_stride=8 (pretrained)",
                    ACCURACY,
                    ACCURACY,
                    "300,774,272",
                    "3,504,872",
                    "12.30",
                    LONG,
                )
            ],
            HEADER,
        ),
        ([("name", LONG), ("other", PATH)], ("", "")),
        ([(number, LONG, LONG, LONG) for number in range(3)], ("seed", "one", "two", "three")),
        ([("a", "b")], ("x" * 100, "y" * 100)),
        ([("a", "first\nsecond " + "word " * 40)], ("", "")),
    ],
)
def test_no_table_is_wider_than_the_terminal(rows, header):
    text = cli.table(rows, header, as_is=True)
    assert max(map(len, text.splitlines())) <= WIDTH == 120
    for row in rows:
        for word in str(row[0]).split():
            assert word in text  # names are not broken
    assert len(text.splitlines()) > 3


def test_a_table_that_fits_is_left_alone():
    assert cli.table([("a", "b"), ("c", "long " * 10)], ("x", "y"), as_is=True).splitlines()[0] == "x    y"
    assert cli.table([(1234567, 0.5)], ("n", "share")).splitlines()[-1].split() == ["1,234,567", "0.50"]


@pytest.mark.parametrize("n", [1, 2, 4])
def test_no_tau_of_a_few_networks_is_shown_whatever_the_certificate_holds(n):
    tau = {"tau": 1.0, "interval": [-1.0, 1.0], "needed": 5}
    ranking = {
        "n": n,
        "score": tau,
        "macs": tau,
        "params": tau,
        "seeds": None,
        "score_minus_macs": None,
        "given_up": 0.0,
    }
    assert ranking_line(ranking) == f"ranking: too few networks ({n}) to rank; 5 are the fewest"
    (line,) = ranking_lines({"ranking": ranking})
    assert line.meaning == f"Too few networks ({n}) to rank; 5 are the fewest."
    assert "tau" in ranking_line(ranking | {"n": 5})
