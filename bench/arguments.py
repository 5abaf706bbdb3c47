"""The options of a benchmark: one way to ask for help, with every default in it."""

import argparse

_NONE = (None, False, "", argparse.SUPPRESS)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """The text as it is written, and the default behind each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        said = action.help or ""
        return said if action.default in _NONE else f"{said} (%(default)s)"


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """What reads the options of `motorcade bench NAME`.

    Args:
        name: NAME.
        about: what the benchmark compares and prints.
    """
    return argparse.ArgumentParser(
        prog=f"motorcade bench {name}",
        description=about,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
