"""Source addresses: as many as the ports of one take, never more cars than they carry."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from motorcade.fleet.errors import SettingsError
from motorcade.simulator import descriptors, sources
from motorcade.simulator.descriptors import workers_for
from motorcade.simulator.sources import source_addresses

LOCAL = ("127.0.0.1:1883",)


@pytest.fixture(autouse=True)
def ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The range of ports as Linux has it by itself."""
    path = tmp_path / "ip_local_port_range"
    path.write_text("32768\t60999\n")
    monkeypatch.setattr(sources, "_RANGE", path)
    return path


def test_few_cars_leave_the_address_to_the_system() -> None:
    assert source_addresses(12_704, LOCAL) == (None,)
    assert source_addresses(100_000, tuple(f"127.0.0.1:{n}" for n in range(1, 9))) == (None,)


def test_many_cars_on_one_loopback_endpoint_are_spread_before_connects_grow_slow() -> None:
    assert source_addresses(12_705, LOCAL) == ("127.0.0.2", "127.0.0.3")
    assert source_addresses(60_000, LOCAL) == tuple(f"127.0.0.{n}" for n in range(2, 7))
    assert source_addresses(60_000, ("localhost:1883",)) == source_addresses(60_000, LOCAL)


def test_the_range_of_ports_decides_how_many_cars_an_address_takes(ports: Path) -> None:
    ports.write_text("1024\t65535\n")
    assert source_addresses(25_000, LOCAL) == (None,)
    ports.write_text("40000\t40000\n")
    assert len(source_addresses(3, LOCAL)) == 3
    ports.write_text("nothing that is known\n")
    assert source_addresses(12_704, LOCAL) == (None,)
    assert len(source_addresses(25_000, LOCAL)) == 2


def test_a_far_endpoint_needs_addresses_that_somebody_names() -> None:
    with pytest.raises(SettingsError, match="need 3 source addresses"):
        source_addresses(60_000, ("192.0.2.1:1883",))
    named = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
    assert source_addresses(60_000, ("192.0.2.1:1883",), named) == named
    with pytest.raises(SettingsError, match="there are 2"):
        source_addresses(60_000, LOCAL, named[:2])


def test_workers_are_as_few_as_descriptors_and_ramps_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"hard": 20_000}
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, limits["hard"]))
    assert [workers_for(cars) for cars in (1, 1000, 12_500, 12_501, 100_000)] == [1, 1, 1, 2, 8]
    limits["hard"] = 4096
    assert workers_for(100_000) == 27


def test_a_workers_table_of_descriptors_is_made_before_its_cars_come() -> None:
    code = "from motorcade.simulator.descriptors import make_room; make_room(9000);"
    code += "print(next(x for x in open('/proc/self/status') if x.startswith('FDSize')))"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(said.stdout.split()[1]) >= 9000


def test_too_many_cars_for_one_worker_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    with pytest.raises(SettingsError, match="need 10256 file descriptors, the hard limit is 4096"):
        descriptors.make_room(10_000)
