"""Which restarts follow from what a run did to its servers, and which are crashes all the same."""

import os
import time

import numpy as np
import pytest

from motorcade.stack.keeper import LOGGED, Crash
from motorcade.stack.load.outages import followed
from motorcade.stack.load.recovery import Happening
from motorcade.stack.load.watch import KafkaView, Sample

BEGAN_MS = 1_700_000_000_000
SERVERS = ("kafka", "registry", "mosquitto-1")
UNAVAILABLE = f"exit status {os.EX_UNAVAILABLE}"


def looks(kafka_from_s: float) -> list[Sample]:
    """A look every five seconds; Kafka answers from a moment on, and before it was stopped."""
    view = KafkaView({}, {}, np.zeros(0))
    moments = range(-10, 300, 5)
    return [
        Sample(
            BEGAN_MS + s * 1000, {}, view if s < 0 or s >= kafka_from_s else None, {}, {}, 0.5, None
        )
        for s in moments
    ]


LOOKS = looks(kafka_from_s=70)


def away(kind: str = "stop", *programs: str) -> Happening:
    """Something that keeps programs away for a minute."""
    return Happening(kind, "", BEGAN_MS, BEGAN_MS + 60_000, True, programs or ("kafka",))


def ended(after_s: float, how: str = UNAVAILABLE, name: str = "refine") -> Crash:
    moment = time.localtime(BEGAN_MS / 1000 + after_s)
    return Crash(name, time.strftime(LOGGED, moment), how)


@pytest.mark.parametrize("kind", ["kill", "stop", "pause"])
def test_a_process_that_ends_because_the_run_took_a_server_away_was_asked_to(kind: str) -> None:
    crashes = [ended(0), ended(41), ended(42, name="twin"), ended(61)]
    assert followed(crashes, [away(kind)], SERVERS, LOOKS) == {"refine": 3, "twin": 1}
    assert followed([ended(20)], [away(kind, "mosquitto-1")], SERVERS, LOOKS) == {"refine": 1}


@pytest.mark.parametrize("how", ["exit status 1", "terminated by SIGSEGV", "terminated by SIGKILL"])
def test_a_crash_is_one_though_kafka_is_away_meanwhile(how: str) -> None:
    assert followed([ended(20, how)], [away()], SERVERS, LOOKS) == {}


def test_a_server_that_goes_away_by_itself_excuses_nothing() -> None:
    assert followed([ended(20)], [], SERVERS, LOOKS) == {}
    assert followed([ended(-30), ended(200)], [away()], SERVERS, LOOKS) == {}
    assert followed([ended(20)], [away("kill", "bridge")], SERVERS, LOOKS) == {}


def test_a_kafka_that_takes_long_to_come_back_is_waited_for() -> None:
    late = [ended(200), ended(219), ended(230)]
    assert followed(late, [away()], SERVERS, looks(kafka_from_s=205)) == {"refine": 2}
    assert followed(late, [away()], SERVERS, looks(kafka_from_s=999)) == {"refine": 3}
    assert followed(late, [away("kill", "mosquitto-1")], SERVERS, looks(kafka_from_s=205)) == {}
