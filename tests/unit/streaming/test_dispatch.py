"""The dispatcher's table: when a command is sent, sent again, and given up."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motorcade.fleet.messages import (
    Alert,
    AlertAction,
    CommandRequest,
    CommandResponse,
    CommandState,
    VehicleStatus,
    decode,
    encode,
)
from motorcade.fleet.topics import ALERTS, COMMANDS
from motorcade.streaming.dispatch import DispatchStep
from motorcade.streaming.dispatch_rules import Commands, Key, Schedule, command_for
from motorcade.streaming.malformed import Malformed

from .memory_kafka import Log, run_to_the_end
from .predictions import FakeRecord

CAR = "MC9AAT5E7T0000001"
SCHEDULE = Schedule(answer=10, retry=1, longest=40, grace=5)
EXPIRES = 1000
FARM = ("127.0.0.1:1883", "127.0.0.1:1884")


def request(number: int = 1, vin: str = CAR) -> CommandRequest:
    return CommandRequest(f"c{number}", vin, "driver_warning", issued=0, expires=EXPIRES)


def status(boot: int, connection: int = 1, *, online: bool = True, node: int = 0) -> VehicleStatus:
    return VehicleStatus(CAR, boot, connection, online, FARM[node])


def answer(state: CommandState, number: int = 1, vin: str = CAR) -> CommandResponse:
    return CommandResponse(f"c{number}", vin, state, time=0)


def alert(number: int, action: AlertAction = AlertAction.RAISED, vin: str = CAR) -> Alert:
    return Alert(
        id=f"alert-{number}", vin=vin, kind="cooling", action=action, severity="critical",
        advice="Stop.", evidence_partition=0, evidence_offset=4, boot=1, seq=2, time=3,
        due=4, score=5.0, threshold=1.0, model="autoencoder", version=3, signals=["coolant_temp"],
    )  # fmt: skip


@pytest.fixture
def commands() -> Commands:
    """One command for a car that is online on the farm's first node."""
    made = Commands(SCHEDULE)
    made.reported(status(1))
    made.requested(request())
    return made


KEY = Key(CAR, "c1")


def test_a_command_goes_at_once_to_the_endpoint_of_the_birth(commands: Commands) -> None:
    (delivery,) = commands.deliveries(0)
    assert delivery.request == request()
    assert delivery.endpoint == FARM[0]
    assert commands.deliveries(0) == []


def test_without_an_answer_it_is_sent_again_ever_more_slowly(commands: Commands) -> None:
    sent = [now for now in range(150) if commands.deliveries(now)]
    assert sent == [0, 10, 30, 70, 110]


def test_where_the_broker_had_no_subscriber_it_is_retried_sooner(commands: Commands) -> None:
    sent = []
    for now in range(20):
        if commands.deliveries(now):
            sent.append(now)
            commands.refused(KEY, now)
    assert sent == [0, 1, 3, 7, 15]


def test_a_command_for_a_car_that_is_offline_waits_for_its_birth(commands: Commands) -> None:
    commands.reported(status(1, online=False))
    assert commands.deliveries(0) == []
    commands.reported(status(2, node=1))
    (delivery,) = commands.deliveries(1)
    assert delivery.endpoint == FARM[1]


def test_a_late_will_does_not_hide_a_car_that_came_back(commands: Commands) -> None:
    commands.reported(status(2))
    commands.reported(status(1, online=False))
    assert len(commands.deliveries(0)) == 1


def test_a_car_that_comes_back_gets_it_again_at_once(commands: Commands) -> None:
    assert len(commands.deliveries(0)) == 1
    commands.reported(status(1, 2))
    assert len(commands.deliveries(1)) == 1
    commands.reported(status(1, 2))
    assert commands.deliveries(2) == [], "the same birth again is no news"


def test_a_car_that_works_on_it_is_left_alone(commands: Commands) -> None:
    commands.deliveries(0)
    commands.answered(answer(CommandState.IN_PROGRESS))
    assert [now for now in range(EXPIRES) if commands.deliveries(now)] == []
    assert [r.reason for r in commands.overdue(EXPIRES + 5)] == [
        "the car began and did not finish in time"
    ]


@pytest.mark.parametrize("state", [s for s in CommandState if s.final])
def test_a_final_answer_ends_it(commands: Commands, state: CommandState) -> None:
    commands.answered(answer(state))
    assert commands.deliveries(0) == []
    assert commands.overdue(10**9) == []
    assert len(commands) == 0


def test_an_answer_read_before_its_request_ends_it_too() -> None:
    commands = Commands(SCHEDULE)
    commands.reported(status(1))
    commands.answered(answer(CommandState.SUCCEEDED))
    commands.requested(request())
    assert commands.deliveries(0) == []
    assert commands.knows(KEY)


def test_another_cars_answer_does_not_end_it(commands: Commands) -> None:
    commands.answered(answer(CommandState.SUCCEEDED, vin="MC9AAT5E9T0000002"))
    assert len(commands.deliveries(0)) == 1


def test_the_same_request_twice_is_one_command(commands: Commands) -> None:
    commands.requested(request())
    assert len(commands.deliveries(0)) == 1
    commands.answered(answer(CommandState.SUCCEEDED))
    commands.requested(request())
    assert commands.deliveries(20) == []


def test_nothing_is_sent_after_expiry(commands: Commands) -> None:
    assert commands.deliveries(EXPIRES) == []


def test_it_times_out_once_and_says_why() -> None:
    commands = Commands(SCHEDULE)
    commands.requested(request())
    assert commands.overdue(EXPIRES - 1) == []
    (response,) = commands.overdue(EXPIRES)
    assert (response.id, response.vin, response.status) == ("c1", CAR, CommandState.TIMED_OUT)
    assert response.reason == "the car was never online"
    assert commands.overdue(EXPIRES + 1) == []


def test_an_answer_under_way_at_expiry_has_its_grace(commands: Commands) -> None:
    commands.deliveries(0)
    assert commands.overdue(EXPIRES + 4) == []
    (response,) = commands.overdue(EXPIRES + 5)
    assert response.reason == "no answer after 1 deliveries"


def test_the_id_is_the_alerts_own() -> None:
    first, second = command_for(alert(1), 5, 100), command_for(alert(1), 99, 100)
    other = command_for(alert(2), 5, 100)
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.id == second.id != other.id
    assert (first.issued, first.expires) == (5, 105)
    assert first.parameters["advice"] == "Stop."


def test_an_alert_that_is_cleared_asks_for_no_command() -> None:
    assert command_for(alert(1, AlertAction.CLEARED), 0, 100) is None


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 400)),
        st.tuples(st.just("request"), st.integers(1, 4)),
        st.tuples(st.just("birth"), st.integers(1, 5)),
        st.tuples(st.just("will"), st.integers(1, 5)),
        st.tuples(st.just("refuse"), st.integers(1, 4)),
        st.tuples(st.just("answers"), st.booleans()),
        st.tuples(st.just("killed"), st.booleans()),
    ),
    max_size=40,
)


class World:
    """The topics, one table over them, and a car that answers at once or not at all."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.commands = Commands(SCHEDULE)
        self.now = 0
        self.car_answers = True

    def write(self, message: Any) -> None:
        self.log.append(message)
        self._read(message)

    def _read(self, message: Any) -> None:
        if isinstance(message, CommandRequest):
            self.commands.requested(message)
        elif isinstance(message, CommandResponse):
            self.commands.answered(message)
        else:
            self.commands.reported(message)

    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds

    def request(self, number: int) -> None:
        wanted = request(number)
        if not self.commands.knows(Key(CAR, wanted.id)):
            self.write(msgspec.structs.replace(wanted, expires=self.now + EXPIRES))

    def birth(self, boot: int) -> None:
        self.write(status(boot))

    def will(self, boot: int) -> None:
        self.write(status(boot, online=False))

    def refuse(self, number: int) -> None:
        self.commands.refused(Key(CAR, f"c{number}"), self.now)

    def answers(self, car_answers: bool) -> None:
        self.car_answers = car_answers

    def killed(self, after_produce: bool) -> None:
        timed_out = self.commands.overdue(self.now)
        self.log += timed_out if after_produce else []
        self.commands = Commands(SCHEDULE)
        for message in self.log:
            self._read(message)

    def deliver(self) -> None:
        for delivery in self.commands.deliveries(self.now):
            assert self.now < delivery.request.expires
            if self.car_answers:
                done = CommandState.SUCCEEDED
                self.write(CommandResponse(delivery.request.id, CAR, done, self.now))
        for response in self.commands.overdue(self.now):
            self.write(response)


@settings(max_examples=200)
@given(EVENTS)
def test_whatever_happens_every_command_ends_in_exactly_one_final_state(
    events: list[tuple[str, int]],
) -> None:
    world = World()
    for what, value in events:
        getattr(world, what)(value)
        world.deliver()
    world.wait(10 * EXPIRES)
    world.deliver()
    responses = [m for m in world.log if isinstance(m, CommandResponse)]
    finals = Counter(response.id for response in responses if response.status.final)
    assert finals == Counter({m.id for m in world.log if isinstance(m, CommandRequest)})


class Silent:
    def warning(self, event: str, **fields: object) -> None:
        return None


def step_on(log: Log) -> DispatchStep:
    """A step that knows the commands in the log when it is assigned, and its own clock."""
    commands = Commands(SCHEDULE)

    async def caught_up() -> None:
        for partition in (0, 1):
            for record in log.get((COMMANDS, partition), []):
                commands.requested(decode(CommandRequest, record.value))

    clock: Callable[[], int] = lambda: len(log)  # noqa: E731
    return DispatchStep(commands, 100, Malformed(Silent(), "dispatch"), clock, caught_up)


@settings(max_examples=60)
@given(
    story=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5), st.booleans()), max_size=25),
    kills=st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=5),
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    commits=st.lists(st.booleans(), min_size=1, max_size=4),
    foreign=st.booleans(),
)
def test_killed_anywhere_an_alert_has_one_command(
    story: list[tuple[int, int, bool]],
    kills: list[tuple[int, bool]],
    sizes: list[int],
    commits: list[bool],
    foreign: bool,
) -> None:
    """Also where a command of somebody else's stands at the end of the topic."""
    offsets: Counter[int] = Counter()
    records = []
    for number, (partition, _, raised) in enumerate(story):
        action = AlertAction.RAISED if raised else AlertAction.CLEARED
        value = encode(alert(number, action))
        records.append(FakeRecord(ALERTS, partition, offsets[partition], CAR.encode(), value))
        offsets[partition] += 1

    def make_step(log: Log) -> DispatchStep:
        if foreign and log[COMMANDS, 0]:
            stranger = log[COMMANDS, 0][-1]._replace(
                offset=len(log[COMMANDS, 0]), headers=(), value=encode(request(99))
            )
            log[COMMANDS, 0].append(stranger)
        return step_on(log)

    log = asyncio.run(run_to_the_end(records, make_step, kills, sizes, commits))
    found = Counter(
        decode(CommandRequest, record.value).parameters.get("alert", "")
        for partition in (0, 1)
        for record in log[COMMANDS, partition]
    )
    found.pop("", None)
    expected = {f"alert-{number}" for number, (_, _, raised) in enumerate(story) if raised}
    assert found == Counter(expected)
