"""Source addresses: as many as the ports of one take, never more cars than they carry."""

import resource
import subprocess
import sys

import pytest

from motorcade.fleet.errors import SettingsError
from motorcade.simulator import descriptors, sources
from motorcade.simulator.descriptors import workers_for
from motorcade.simulator.sources import source_addresses

LOCAL = ("127.0.0.1:1883",)


@pytest.fixture(autouse=True)
def ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "connections_of_an_address", lambda: 25_000)


def test_few_cars_leave_the_address_to_the_system() -> None:
    assert source_addresses(25_000, LOCAL) == (None,)
    assert source_addresses(100_000, tuple(f"127.0.0.1:{n}" for n in range(1, 7))) == (None,)


def test_many_cars_on_one_loopback_endpoint_are_spread() -> None:
    assert source_addresses(60_000, LOCAL) == ("127.0.0.2", "127.0.0.3", "127.0.0.4")
    assert source_addresses(60_000, ("localhost:1883",)) == source_addresses(60_000, LOCAL)


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
