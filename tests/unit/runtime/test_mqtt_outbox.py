"""What a session remembers of its own messages: ids, the window, and what a reconnect resends."""

from hypothesis import given
from hypothesis import strategies as st

from motorcade.runtime.mqtt_outbox import MAX_PACKET_ID, Outbox


def fill(outbox: Outbox, count: int) -> list[int]:
    ids = [outbox.next_id() for _ in range(count)]
    for packet_id in ids:
        outbox.add(packet_id, bytes((0x32, packet_id & 0xFF)))
    return ids


def test_ids_are_never_reused_while_in_use_and_wrap_around() -> None:
    outbox = Outbox()
    held = outbox.next_id()
    seen = set()
    for _ in range(2 * MAX_PACKET_ID):
        packet_id = outbox.next_id()
        seen.add(packet_id)
        outbox.free(packet_id)
    assert seen == set(range(1, MAX_PACKET_ID + 1)) - {held}


def test_a_new_connection_gets_what_waits_in_order_and_marked_as_duplicate() -> None:
    outbox, written = Outbox(), []
    ids = fill(outbox, 5)
    assert outbox.acknowledged(ids[1], written.append)
    outbox.send_again(written.append, duplicate=True)
    assert written == [bytes((0x3A, ids[i])) for i in (0, 2, 3, 4)]


def test_a_smaller_window_is_respected_when_resending() -> None:
    outbox, written = Outbox(), []
    ids = fill(outbox, 5)
    outbox.window = 2
    outbox.send_again(written.append, duplicate=False)
    assert [packet[1] for packet in written] == ids[:2]
    assert outbox.full
    outbox.acknowledged(ids[0], written.append)
    assert [packet[1] for packet in written] == ids[:3]


def test_an_acknowledgement_that_nothing_waits_for_is_told_apart() -> None:
    outbox = Outbox()
    assert not outbox.acknowledged(7, lambda _: None)


@given(st.lists(st.sampled_from(["publish", "ack", "reconnect", "subscribe"]), max_size=200))
def test_every_id_in_use_belongs_to_a_waiting_message(actions: list[str]) -> None:
    outbox = Outbox()
    for action in actions:
        if action == "publish":
            fill(outbox, 1)
        elif action == "ack" and len(outbox):
            outbox.acknowledged(next(iter(outbox._waiting)), lambda _: None)
        elif action == "reconnect":
            outbox.send_again(lambda _: None, duplicate=True)
        elif action == "subscribe":
            outbox.free(outbox.next_id())
        assert outbox.ids_in_use == len(outbox)
    outbox.clear()
    assert outbox.ids_in_use == 0
