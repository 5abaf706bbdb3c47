"""Entry point of the `motorcade` command."""

import sys

from motorcade.fleet.errors import MotorcadeError


def main() -> None:
    """Runs a command; prints an error on one line, with its remedy, and exits 1.

    Ctrl-C exits 130; modules are imported here, so that it may come while they are.
    """
    try:
        from motorcade.stack import processes

        if len(sys.argv) == 2 and sys.argv[1] in processes.MODULES:
            # Six of these run in a stack: they load nothing that only a person's commands need.
            processes.run(sys.argv[1])
            return
        from motorcade.stack.commands import app

        app()
    except MotorcadeError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:  # Commands that have begun say themselves what it means for them.
        sys.stderr.write("Interrupted.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
