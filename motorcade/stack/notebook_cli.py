"""`motorcade notebook`: JupyterLab on the notebooks, joined to the stack that runs."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from motorcade.fleet.errors import SettingsError
from motorcade.stack.errors import StackError
from motorcade.stack.shared_options import State

#: Beside the package in a checkout.
_FOLDER = Path(__file__).parents[2] / "notebooks"


def notebook(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="With --execute: which; all when left out."),
    ] = None,
    execute: Annotated[
        bool, typer.Option("--execute", help="Run them without a browser and save the outputs.")
    ] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="With --execute: a parameter at the top."),
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="The notebooks.", show_default="notebooks/ of the checkout")
    ] = _FOLDER,
    port: Annotated[int, typer.Option(help="Of JupyterLab; the next free one if taken.")] = 8888,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    state: State = None,
) -> None:
    """Open the notebooks in JupyterLab, for the stack that runs on this machine.

    They explore the stream, train models from Kafka, and compare them. JupyterLab listens on
    127.0.0.1 alone and asks for the token that it prints. Ctrl-C ends it.

    **Examples**

    - `motorcade notebook` opens JupyterLab

    - `motorcade notebook --execute` runs all of them, one after the other, and saves outputs

    - `motorcade notebook --execute 02-autoencoder --set CARS=60 --set EPOCHS=5`

    **Next:** open `01-live-stream.ipynb`.
    """
    for module in ("jupyterlab", "nbclient", "matplotlib"):
        if find_spec(module) is None:
            raise StackError(
                f"The notebooks need {module}, which is not installed.",
                "Install them: pip install 'motorcade[all]'.",
            )
    if not any(folder.glob("*.ipynb")):
        raise SettingsError(
            f"There are no notebooks in {folder}.",
            "They are in the folder notebooks/ of the source: name it with --folder.",
        )
    from motorcade.stack.notebooks import running

    running(state)
    if execute:
        _execute(folder, names or [], sets or [])
    elif names or sets:
        raise SettingsError("Names and --set are for running without a browser.", "Add --execute.")
    else:
        _open(folder, port, browser=browser)


def _open(folder: Path, port: int, *, browser: bool) -> None:
    """Become JupyterLab: Ctrl-C and its questions are its own."""
    arguments = [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={folder.absolute()}",
        f"--ServerApp.open_browser={browser}",
        # Who is root, as in many containers, has the rights anyway; it would refuse to start.
        "--ServerApp.allow_root=True",
        # It asks its makers for news and for newer versions, unless told not to.
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *arguments])  # noqa: S606


def _execute(folder: Path, names: list[str], sets: list[str]) -> None:
    import nbformat

    from motorcade.stack.notebook_runs import execute

    parameters = {}
    for pair in sets:
        name, equals, value = pair.partition("=")
        if not name.isidentifier() or not equals:
            raise SettingsError(f"--set={pair!r} is not NAME=VALUE, such as CARS=60.")
        parameters[name] = value
    paths = sorted(folder.glob("*.ipynb"))
    if unknown := sorted(set(names) - {path.stem for path in paths}):
        raise SettingsError(
            f"There is no notebook {unknown[0]}.",
            f"There are: {', '.join(path.stem for path in paths)}.",
        )
    console = Console(stderr=True)
    for path in paths:
        if names and path.stem not in names:
            continue
        with console.status(f"{path.name} …"):
            run = execute(path, parameters)
        nbformat.write(run, path)  # type: ignore[no-untyped-call]
        console.print(f"{path.name} ran, top to bottom.")
    console.print("Next: motorcade notebook opens them; their outputs are saved.")
