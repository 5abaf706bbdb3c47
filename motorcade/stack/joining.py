"""Lets a command find the stack that runs on this machine."""

import os
from pathlib import Path

from motorcade.stack.plan import environment
from motorcade.stack.shared_options import folder_of


def join(state: Path | None) -> bool:
    """Whether a stack runs in a state folder; settings then are its own, unless they are set.

    Args:
        state: the folder; None: the default one.
    """
    folder = folder_of(state)
    running = folder.load()
    if running is None:
        return False
    for name, value in environment(running, folder).items():
        os.environ.setdefault(name, value)
    return True
