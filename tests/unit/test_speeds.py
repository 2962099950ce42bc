"""How long a training took is said whole, with what was trained before it was resumed."""

import json
import re

import pytest

from trials import supernet
from trials.common.speeds import seconds_of

FLAGS = (
    "--space spos --preset tiny --data digits --resolution 16 --epochs 1 --batch-size 128 --warm-start 0 --eval-paths 0"
)


def test_seconds_are_those_of_all_lines_with_a_speed():
    lines = [
        {"step": 10, "images_per_second": 32.0},
        {"step": 10, "fixed_paths_top1": 12.0},
        {"step": 30, "images_per_second": 64.0},
    ]
    assert seconds_of(lines, 32) == pytest.approx(10 + 10)
    assert seconds_of(lines[1:2], 32) == seconds_of([], 32) == 0


def test_a_resumed_supernet_says_the_seconds_of_both_parts(tmp_path, capsys):
    words = [*FLAGS.split(), "--device", "cpu", "--resume", "--out", str(tmp_path)]
    supernet.main([*words, "--stop-after", "4"])
    log = tmp_path / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[-1]["step"] == 4
    # the first four steps as if they had taken 5,000 seconds
    slow = [line | ({"images_per_second": 4 * 128 / 5000} if "loss" in line else {}) for line in lines]
    log.write_text("".join(json.dumps(line) + "\n" for line in slow))
    capsys.readouterr()
    supernet.main(words)
    said = re.search(r"^trained in (\d+) s, 5000 of them before it was resumed$", capsys.readouterr().out, re.M)
    assert int(said[1]) >= 5000  # not the second part alone
