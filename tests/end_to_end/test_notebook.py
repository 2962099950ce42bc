"""The notebook of the tutorial runs, and what it stores is what it does."""

import re

import nbformat
import pytest

from docs import notebook


def words(output):
    """The column names of what a cell printed: the lines above a rule of dashes."""
    return re.findall(r"^(.+)\n(?:-+ *)+$", output.get("text", ""), re.MULTILINE)


def form(cell):
    """What stays the same on every machine: which outputs a cell has, and the columns of its tables."""
    return [(output.output_type, [line.split() for line in words(output)]) for output in cell.get("outputs", [])]


@pytest.mark.timeout(3600)
def test_it_runs_and_is_stored_as_it_runs(tmp_path):
    fresh, stored = notebook.executed(tmp_path / "run"), nbformat.read(notebook.PAGE, as_version=4)
    for cell in fresh.cells:
        assert "stderr" not in [output.get("name") for output in cell.get("outputs", [])]
    for now, then in zip(fresh.cells, stored.cells, strict=True):
        assert [kind for kind, _ in form(now)] == [kind for kind, _ in form(then)]
        for (_, tables), (_, shown) in zip(form(now), form(then), strict=True):
            assert tables == shown
    assert (tmp_path / "run/retrain/export/model.onnx").exists()
    for cells in (fresh.cells, stored.cells):
        assert cells[-2].outputs[0].text.startswith("digit.png: 0 (")
