"""Which slots a bridge worker takes, and settings that cannot be."""

import pytest

from motorcade.fleet.errors import SettingsError
from motorcade.streaming.bridge import Settings

FARM = ("a:1", "b:1", "c:1")


def test_by_default_each_endpoint_has_two_slots() -> None:
    slots = Settings(brokers=FARM).my_slots()
    assert [slot.endpoint for slot in slots] == [0, 1, 2, 0, 1, 2]
    for endpoint in range(3):
        shards = [s for slot in slots if slot.endpoint == endpoint for s in slot.shards]
        assert sorted(shards) == list(range(100))


def test_workers_divide_the_slots_so_that_each_has_one_worker() -> None:
    taken = [
        slot.client_id
        for worker in range(4)
        for slot in Settings(
            brokers=FARM, bridge_slots=9, bridge_worker=worker, bridge_workers=4
        ).my_slots()
    ]
    assert sorted(taken) == [f"bridge-{n}" for n in range(9)]


def test_settings_that_cannot_be_are_named() -> None:
    with pytest.raises(SettingsError, match="bridge_worker=2 is not below bridge_workers=2"):
        Settings(bridge_worker=2, bridge_workers=2)
    with pytest.raises(SettingsError, match="slots=4 cannot be divided over 3"):
        Settings(brokers=FARM, bridge_slots=4)
