"""Runs notebooks without a browser: top to bottom, at the scale asked for, outputs kept."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motorcade.fleet.errors import MotorcadeError

#: A cell that takes longer is stuck; training at the notebooks' own scale takes a minute or two.
CELL_S = 1800
#: Tag of the cell whose assignments may be changed from outside, as papermill has it.
_TAG = "parameters"


class NotebookError(MotorcadeError):
    """A notebook cannot be run, or one of its cells failed; the message names it."""


def execute(path: Path, parameters: Mapping[str, str] | None = None) -> Any:
    """Run a notebook in its folder, in a kernel of its own.

    Args:
        path: the notebook; it is not written to.
        parameters: Python literals by name, for assignments of its cell tagged "parameters"; names
            that it does not assign are left out.

    Returns:
        The notebook as it was run, with outputs; `nbformat.write` keeps it.

    Raises:
        NotebookError: it is no notebook, or a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise NotebookError(f"{path} cannot be read as a notebook: {error}.") from error
    for cell in notebook.cells:
        if _TAG in cell.metadata.get("tags", []):
            cell.source = changed(cell.source, parameters or {})
    client = NotebookClient(
        notebook,
        timeout=CELL_S,
        kernel_name="python3",
        record_timing=False,
        # It warns of TCP without encryption, which is loopback here.
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        return client.execute()
    except CellExecutionError as error:
        # TensorFlow's go on for pages.
        first, _, _ = error.evalue.partition("\n")
        raise NotebookError(
            f"{path.name} failed: {error.ename}: {first}",
            "Run it cell by cell: motorcade notebook.",
        ) from error
    except CellTimeoutError as error:
        raise NotebookError(
            f"{path.name}: a cell took longer than {CELL_S} s.", "Take a smaller scale: --set."
        ) from error
    except (DeadKernelError, AssertionError) as error:
        # nbclient cleans up twice after a dead kernel, and asserts that there is one.
        raise NotebookError(
            f"{path.name}: its kernel died.", "Is memory short? Take a smaller scale: --set."
        ) from error


def changed(source: str, parameters: Mapping[str, str]) -> str:
    """A cell's source with other values assigned; comments behind them stay."""
    for name, value in parameters.items():
        pattern = rf"^{re.escape(name)} = [^#\n]*?(?=(  #.*)?$)"
        assigned = f"{name} = {value}".replace("\\", r"\\")
        source = re.sub(pattern, assigned, source, flags=re.MULTILINE)
    return source
