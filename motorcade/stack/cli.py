"""Entry point of the `motorcade` command."""

import sys

from motorcade.fleet.errors import MotorcadeError
from motorcade.stack import processes


def main() -> None:
    """Runs a command; prints an error on one line, with its remedy, and exits 1."""
    try:
        if len(sys.argv) == 2 and sys.argv[1] in processes.MODULES:
            # Six of these run in a stack: they load nothing that only a person's commands need.
            processes.run(sys.argv[1])
            return
        from motorcade.stack.commands import app

        app()
    except MotorcadeError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
