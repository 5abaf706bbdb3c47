"""Fleet events: what is understood, whom they hit, and when."""

import numpy as np
import pytest

from motorcade.simulator import wire
from motorcade.simulator.fleet_events import (
    Disturbances,
    Drop,
    FleetEventError,
    Garbage,
    Offline,
    Pace,
    chosen,
    groups_of,
    parse_event,
)

ALL = np.arange(20_000)


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (b'{"kind": "drop"}', Drop(1.0)),
        (b'{"kind": "offline", "seconds": 5, "groups": 2}', Offline(5.0, 1.0, 2)),
        (b'{"kind": "garbage", "seconds": 60, "share": 0.5}', Garbage(60.0, 0.5)),
        (b'{"kind": "pace", "interval_s": 2}', Pace(2.0)),
    ],
)
def test_an_event_is_read_and_survives_the_way_to_a_worker(body: bytes, event: object) -> None:
    read = parse_event(body)
    assert read == event
    assert wire.event_from(wire.event_to(read, 17)) == (event, 17)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'{"kind": "explode"}', "explode"),
        (b'{"kind": "drop", "share": 1.5}', "share"),
        (b'{"kind": "offline"}', "seconds"),
        (b'{"kind": "pace", "interval_s": 0}', "interval_s"),
        (b'{"kind": "drop", "cars": 3}', "cars"),
    ],
)
def test_an_event_that_cannot_be_says_what_is_wrong(body: bytes, word: str) -> None:
    with pytest.raises(FleetEventError, match=word):
        parse_event(body)


def test_the_same_cars_are_hit_whatever_the_number_of_workers() -> None:
    event = Offline(60, share=0.25, groups=4)
    whole, groups = chosen(event, 1, ALL), groups_of(event, 1, ALL)
    for worker in range(3):
        assert (chosen(event, 1, ALL[worker::3]) == whole[worker::3]).all()
        assert (groups_of(event, 1, ALL[worker::3]) == groups[worker::3]).all()
    assert whole.mean() == pytest.approx(0.25, abs=0.02)
    assert np.bincount(groups).min() > 4500
    assert (chosen(event, 2, ALL) != whole).any()
    assert (chosen(Garbage(60, 0.25), 1, ALL) != whole).any()


def test_events_begin_at_their_moment_and_a_tunnels_groups_one_after_the_other() -> None:
    coming = Disturbances()
    tunnel = Offline(60, groups=3, stagger_s=1)
    coming.add(tunnel, 1000)
    coming.add(Drop(), 1500)
    assert list(coming.take(999)) == []
    assert list(coming.take(1000)) == [(tunnel, 0)]
    assert list(coming.take(2500)) == [(Drop(), 0), (tunnel, 1)]
    assert list(coming.take(9000)) == [(tunnel, 2)]
