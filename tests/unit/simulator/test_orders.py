"""A car carries out a command once, and says why it does not carry out another."""

from motorcade.fleet.messages import CommandRequest, CommandState
from motorcade.simulator.orders import DRIVER_WARNING, Orders

VIN = "MC9ABT5E7T0000000"


def request(
    command: str = "c1", vin: str = VIN, name: str = DRIVER_WARNING, expires: int = 2000
) -> CommandRequest:
    return CommandRequest(command, vin, name, 1000, expires)


def test_a_driver_warning_succeeds() -> None:
    orders = Orders(VIN)
    answer = orders.answer(request(), 1500)
    assert answer.status is CommandState.SUCCEEDED
    assert (answer.id, answer.vin, answer.time, answer.reason) == ("c1", VIN, 1500, "")
    assert orders.warnings == 1


def test_an_expired_command_is_rejected_and_not_carried_out() -> None:
    orders = Orders(VIN)
    answer = orders.answer(request(), 2001)
    assert answer.status is CommandState.REJECTED
    assert "expired" in answer.reason
    assert orders.warnings == 0


def test_an_unknown_command_is_rejected_by_name() -> None:
    answer = Orders(VIN).answer(request(name="self_destruct"), 1500)
    assert answer.status is CommandState.REJECTED
    assert "self_destruct" in answer.reason


def test_a_command_for_another_car_is_rejected() -> None:
    answer = Orders(VIN).answer(request(vin="MC9ABT5E0T0000002"), 1500)
    assert answer.status is CommandState.REJECTED


def test_a_repeated_command_gets_the_same_answer_even_when_expired_since() -> None:
    orders = Orders(VIN)
    first = orders.answer(request(), 1500)
    assert orders.answer(request(), 9999) == first
    assert orders.warnings == 1


def test_only_the_latest_answers_are_remembered() -> None:
    orders = Orders(VIN)
    for number in range(40):
        orders.answer(request(str(number), expires=10**9), 1500)
    assert orders.answer(request("39", expires=10**9), 1600).time == 1500
    assert orders.answer(request("0", expires=10**9), 1600).time == 1600
