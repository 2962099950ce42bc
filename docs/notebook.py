"""Execute docs/tutorial.ipynb from above to below, and store its outputs in it.

python -m docs.notebook
"""

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

PAGE = Path(__file__).with_name("tutorial.ipynb")


def executed(run: Path | None = None) -> nbformat.NotebookNode:
    """The notebook with the outputs of this machine.

    Args:
        run: where its run goes; None: where it says.
    Returns:
        The notebook. Progress bars and times of cells are left out: they are of no use once it has ended.
    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(PAGE, as_version=4)
    environment = {**os.environ, **({"RUN": str(run)} if run else {})}
    # Sockets in a folder of ours instead of ports, which other users of the machine reach
    with tempfile.TemporaryDirectory(prefix="onepath-") as folder:
        private = Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}})
        client = NotebookClient(
            notebook, timeout=None, startup_timeout=600, kernel_name="python3", record_timing=False, config=private
        )
        client.execute(cwd=str(PAGE.parent), env=environment)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = merged([output for output in cell.outputs if output.get("name") != "stderr"])
            for output in cell.outputs:
                output.get("data", {}).pop("image/jpeg", None)  # the picture that stands there as PNG too
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec}
    return notebook


def merged(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The outputs with all that was printed in one piece, however many pieces it came in."""
    printed = [output for output in outputs if output.output_type == "stream"]
    for output in printed[1:]:
        printed[0].text += output.text
    return [output for output in outputs if output not in printed[1:]]


if __name__ == "__main__":
    nbformat.write(executed(), PAGE)
