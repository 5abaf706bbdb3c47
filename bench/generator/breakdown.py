"""Where the CPU time of a car's message goes: a table by part, and by user and system time."""

from pathlib import Path

from bench.generator.measure import Figures, Load, measure
from bench.generator.peers import client

#: Parts that `clients/profiled_cars.py` watches, in the order of a message's way.
_PARTS = {
    "physics": "the cars' physics",
    "samples": "sensors sampled, payload encoded",
    "send": "numbered, noted, made a packet",
    "write": "written: uvloop, TCP on loopback",
    "tick": "the rest of a tick",
    "puback": "PUBACK taken in",
    "reports": "histograms, reports, ledger",
}
_UNWATCHED = {
    "cars": "Motorcade's cars",
    "scattered_cars": "the same, due in random order",
    "floor": "bare asyncio protocol (floor)",
}
_REST = "read: epoll, TCP, uvloop; ledger file"


def breakdown(load: Load, folder: Path) -> tuple[dict[str, Figures], dict[str, float]]:
    """Measure the cars, in order and scattered, and the floor; then the cars while watched.

    Returns:
        The figures of those programs, and microseconds a message of each part, with the rest.

    Raises:
        StackError: a program failed.
    """
    most = load.clients
    plain = {name: measure(client(name), load, most, folder / f"{name}.log") for name in _UNWATCHED}
    watched = measure(
        client("profiled_cars"), load, most, folder / "profiled_cars.log", profiled=True
    )
    spent = {part: us / watched.sent for part, us in watched.parts_us.items()}
    whole = spent.pop("whole")
    parts = {title: spent[part] for part, title in _PARTS.items()}
    return plain, {**parts, _REST: whole - sum(parts.values())}


def breakdown_table(plain: dict[str, Figures], parts: dict[str, float]) -> str:
    """The parts with their sum, and the programs that were not watched."""
    whole = sum(parts.values())
    width = max(map(len, parts)) + 2
    lines = [f"{'part of a message':<{width}}  CPU/message  share"]
    lines += [f"{title:<{width}}  {us:8.1f} µs  {us / whole:5.0%}" for title, us in parts.items()]
    lines.append(f"{'together':<{width}}  {whole:8.1f} µs")
    lines += ["", f"{'not watched':<{width}}  CPU/message         user    system"]
    for name, title in _UNWATCHED.items():
        found = plain[name]
        user = found.message_cpu_us - found.message_system_us
        lines.append(
            f"{title:<{width}}  {found.message_cpu_us:8.1f} µs  {user:8.1f} µs"
            f"  {found.message_system_us:5.1f} µs"
        )
    return "\n".join(lines)
