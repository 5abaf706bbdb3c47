"""What a session remembers of its own messages: ids, the window, and what a reconnect resends."""

from hypothesis import given
from hypothesis import strategies as st

from motorcade.runtime.mqtt_outbox import MAX_PACKET_ID, Outbox, Sent


def fill(outbox: Outbox, count: int) -> list[int]:
    ids = []
    for _ in range(count):
        ids.append(outbox.next_id())
        outbox.add(ids[-1], Sent(b"t", b"%d" % ids[-1], False, b"\0"))
    return ids


class Wire:
    """Keeps what is sent again."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.marks: set[bool] = set()

    def __call__(self, packet_id: int, sent: Sent, duplicate: bool) -> None:
        assert sent.payload == b"%d" % packet_id
        self.ids.append(packet_id)
        self.marks.add(duplicate)


def test_ids_are_never_reused_while_in_use_and_wrap_around() -> None:
    subscribes = {3}
    outbox = Outbox(subscribes)
    (held,) = fill(outbox, 1)
    seen = {outbox.next_id() for _ in range(2 * MAX_PACKET_ID)}
    assert seen == set(range(1, MAX_PACKET_ID + 1)) - {held, 3}


def test_a_new_connection_gets_what_waits_in_order_and_marked_as_duplicate() -> None:
    outbox, wire = Outbox(), Wire()
    ids = fill(outbox, 5)
    assert outbox.acknowledged(ids[1])
    outbox.begin_again(duplicate=True)
    outbox.send_again(wire, outbox.window)
    assert wire.ids == [ids[i] for i in (0, 2, 3, 4)]
    assert wire.marks == {True}
    assert not outbox.resending


def test_a_smaller_window_is_respected_when_resending() -> None:
    outbox, wire = Outbox(), Wire()
    ids = fill(outbox, 5)
    outbox.window = 2
    outbox.begin_again(duplicate=False)
    outbox.send_again(wire, outbox.window)
    assert wire.ids == ids[:2]
    assert outbox.full
    assert outbox.acknowledged(ids[0])
    outbox.send_again(wire, 1)
    assert wire.ids == ids[:3]
    assert outbox.resending


def test_an_acknowledgement_that_nothing_waits_for_is_told_apart() -> None:
    assert not Outbox().acknowledged(7)


@given(st.lists(st.sampled_from(["publish", "ack", "reconnect"]), max_size=200))
def test_every_connection_gets_each_waiting_message_once_and_in_order(actions: list[str]) -> None:
    outbox, waiting = Outbox(), []
    outbox.window = 4
    wire = Wire()
    for action in actions:
        if action == "publish" and not outbox.full:
            waiting += fill(outbox, 1)
            wire.ids.append(waiting[-1])
        elif action == "ack" and wire.ids:
            first = wire.ids.pop(0)
            assert outbox.acknowledged(first)
            waiting.remove(first)
            outbox.send_again(wire, 1)
        elif action == "reconnect":
            outbox.window = 5 - outbox.window % 4  # another broker, another window
            wire.ids.clear()
            outbox.begin_again(duplicate=True)
            outbox.send_again(wire, outbox.window)
        assert wire.ids == waiting[: len(wire.ids)]
        assert len(outbox) == len(waiting)
    outbox.clear()
    assert len(outbox) == 0
