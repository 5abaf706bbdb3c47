"""One suite of questions for every broker: what it does, seen from outside by an MQTT 5 client."""

import queue
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from bench.brokers.client import SILENCE_S, Client, NoAnswerError, linked, subscribed
from motorcade.stack.brokers.base import MAX_PACKET_BYTES, Endpoint

Answer = Literal["yes", "partly", "no"]

_NO_MATCHING_SUBSCRIBERS = 0x10
_TAKEN_OVER = 0x8E
_TOO_LARGE = 0x95
_SOME = 5
_AT_A_TIME = 4


@dataclass(frozen=True)
class Finding:
    """What a broker does about one property.

    Args:
        name: the property.
        answer: whether the broker has it.
        observed: what was seen.
    """

    name: str
    answer: Answer
    observed: str


#: A question to a broker whose nodes are the endpoints: the answer and what was seen.
Question = Callable[[Sequence[Endpoint]], tuple[Answer, str]]
_QUESTIONS: list[tuple[str, bool, Question]] = []


def _asks(name: str, *, across: bool = False) -> Callable[[Question], Question]:
    """Adds a question; one that is `across` is asked where there are several nodes."""

    def add(question: Question) -> Question:
        _QUESTIONS.append((name, across, question))
        return question

    return add


def examine(endpoints: Sequence[Endpoint], *, clustered: bool) -> list[Finding]:
    """Asks a broker every question, a few at a time.

    Nodes that are no cluster are asked one by one, and what crosses nodes is no without asking; a
    node alone is not asked for it.
    """
    asked = [one for one in _QUESTIONS if clustered or not one[1]]
    nodes = endpoints if clustered else endpoints[:1]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        found = list(pool.map(lambda one: _ask(one[0], one[2], nodes), asked))
    if len(endpoints) > 1 and not clustered:
        apart = "the nodes know nothing of each other"
        found += [Finding(name, "no", apart) for name, across, _ in _QUESTIONS if across]
    order = [name for name, *_ in _QUESTIONS]
    return sorted(found, key=lambda finding: order.index(finding.name))


def _ask(name: str, question: Question, endpoints: Sequence[Endpoint]) -> Finding:
    try:
        return Finding(name, *question(endpoints))
    except (NoAnswerError, OSError) as error:
        return Finding(name, "no", str(error))


def _topic() -> str:
    return f"conformance/{uuid.uuid4().hex[:12]}"


def _is(condition: bool, observed: str) -> tuple[Answer, str]:
    return ("yes" if condition else "no"), observed


@_asks("QoS 0")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    topic = _topic()
    with subscribed(nodes[0], topic) as subscriber, Client(nodes[0]) as publisher:
        publisher.publish(topic, b"0", qos=0)
        found = subscriber.heard(1)
    return _is(len(found) == 1 and found[0].qos == 0, f"{len(found)} of 1 arrived")


@_asks("QoS 1, with its MQTT 5 properties")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    topic = _topic()
    with subscribed(nodes[0], topic) as subscriber, Client(nodes[0]) as publisher:
        publisher.publish(
            topic,
            b"1",
            ContentType="application/json",
            CorrelationData=b"7",
            ResponseTopic="answers",
            UserProperty=("a", "b"),
        )
        found = subscriber.heard(1)
    if not found:
        return "no", "did not arrive"
    kept = {
        "content type": getattr(found[0].properties, "ContentType", None) == "application/json",
        "correlation": getattr(found[0].properties, "CorrelationData", None) == b"7",
        "response topic": getattr(found[0].properties, "ResponseTopic", None) == "answers",
        "user property": getattr(found[0].properties, "UserProperty", None) == [("a", "b")],
    }
    lost = [name for name, there in kept.items() if not there]
    return ("partly", f"lost: {', '.join(lost)}") if lost else ("yes", "all four arrived")


@_asks("QoS 1 across nodes", across=True)
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    topic = _topic()
    with subscribed(nodes[1], topic) as subscriber, Client(nodes[0]) as publisher:
        crosses = linked(publisher, subscriber, topic)
    return _is(crosses, "arrives" if crosses else "nodes know nothing of each other")


@_asks("order of one publisher")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    topic, count = _topic(), 100
    with subscribed(nodes[-1], topic) as subscriber, Client(nodes[0]) as publisher:
        linked(publisher, subscriber, topic)
        for number in range(count):
            publisher.publish(topic, b"%d" % number)
        found = [int(message.payload) for message in subscriber.heard(count)]
    how = "in order" if found == sorted(found) else "out of order"
    return _is(found == list(range(count)), f"{len(found)} of {count} arrived, {how}")


@_asks("session resumed on its node")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    return _resumed(nodes[0], nodes[0], nodes[-1])


@_asks("session resumed on another node", across=True)
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    return _resumed(nodes[0], nodes[1], nodes[0])


def _resumed(first: Endpoint, second: Endpoint, sender: Endpoint) -> tuple[Answer, str]:
    topic, name = _topic(), f"resumes-{uuid.uuid4().hex[:8]}"
    with subscribed(first, topic, name=name, expiry_s=300) as session, Client(sender) as publisher:
        linked(publisher, session, topic)
    with Client(sender) as publisher:
        for number in range(_SOME):
            publisher.publish(topic, b"%d" % number)
    with Client(second, name, clean=False, expiry_s=300) as session:
        found = {message.payload for message in session.heard(_SOME, 3.0)}
        present = session.session_present
    for node in {first, second}:
        with Client(node, name):
            pass
    seen = f"session {'present' if present else 'absent'}, {len(found)} of {_SOME} messages"
    if present and len(found) == _SOME:
        return "yes", seen
    return ("partly" if found else "no"), seen


@_asks("session ends when it expires")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    topic, name = _topic(), f"expires-{uuid.uuid4().hex[:8]}"
    with subscribed(nodes[0], topic, name=name, expiry_s=1):
        pass
    time.sleep(1 + SILENCE_S)
    with Client(nodes[0], name, clean=False) as session:
        there = session.session_present
    return _is(not there, f"still there {SILENCE_S:g} s later" if there else "after 1 s")


@_asks("take-over on the same node, with 0x8E")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    return _taken_over(nodes[0], nodes[0])


@_asks("take-over across nodes, with 0x8E", across=True)
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    return _taken_over(nodes[0], nodes[1])


def _taken_over(first: Endpoint, second: Endpoint) -> tuple[Answer, str]:
    name = f"taken-{uuid.uuid4().hex[:8]}"
    with Client(first, name) as old, Client(second, name):
        try:
            code = old.ended.get(timeout=3.0)
        except queue.Empty:
            return "no", "both stay connected"
    if code is None:
        return "partly", "the older is closed without a reason code"
    return ("yes" if code == _TAKEN_OVER else "partly"), f"the older is told 0x{code:02X}"


@_asks("will of a lost connection")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    return _willed(nodes[0], nodes[0])


@_asks("will heard on another node", across=True)
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    return _willed(nodes[0], nodes[1])


def _willed(there: Endpoint, here: Endpoint) -> tuple[Answer, str]:
    topic = _topic()
    with subscribed(here, topic) as subscriber, Client(there, will=topic) as lost:
        linked(lost, subscriber, topic)
        lost.cut()
        found = subscriber.heard(1, 3.0)
    return _is(len(found) == 1, "published" if found else "not within 3 s")


@_asks("no will after DISCONNECT")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    topic = _topic()
    with subscribed(nodes[0], topic) as subscriber:
        with Client(nodes[0], will=topic):
            pass
        found = subscriber.heard(1, SILENCE_S)
    return _is(not found, "published" if found else "silence")


@_asks("will delay, ended by coming back")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    topic, name = _topic(), f"delays-{uuid.uuid4().hex[:8]}"
    with subscribed(nodes[0], topic) as subscriber:
        with Client(nodes[0], name, will=topic, will_delay_s=2, expiry_s=60) as lost:
            lost.cut()
            early = subscriber.heard(1, 0.7)
        with Client(nodes[0], name, clean=False, expiry_s=60):
            late = subscriber.heard(1, 1 + SILENCE_S)
    if early:
        return "no", "published at once"
    return _is(not late, "published although it came back" if late else "silence")


@_asks("retained message")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    return _retained(nodes[0], nodes[0])


@_asks("retained message on another node", across=True)
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    return _retained(nodes[0], nodes[1])


def _retained(there: Endpoint, here: Endpoint) -> tuple[Answer, str]:
    topic = _topic()
    with Client(there) as publisher:
        publisher.publish(topic, b"kept", retain=True)
        time.sleep(0 if there == here else SILENCE_S)
        with subscribed(here, topic) as subscriber:
            found = subscriber.heard(1, SILENCE_S)
        publisher.publish(topic, b"", retain=True)
        time.sleep(0 if there == here else SILENCE_S)
        with subscribed(here, topic) as subscriber:
            after = subscriber.heard(1, 0.5)
    if not found:
        return "no", "not delivered to a new subscriber"
    return ("partly", "an empty one does not clear it") if after else ("yes", "kept, and cleared")


@_asks("receive-maximum of a subscriber")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    topic, window, count = _topic(), 5, 20
    options = {"receive_maximum": window, "manual": True}
    with subscribed(nodes[0], topic, **options) as subscriber, Client(nodes[0]) as publisher:
        for number in range(count):
            publisher.publish(topic, b"%d" % number)
        held = subscriber.heard(window + 1, SILENCE_S)
        most, total = len(held), len(held)
        while held:
            subscriber.acknowledge(held.pop(0))
            more = subscriber.heard(window + 1, 0.15)
            total += len(more)
            held += more
            most = max(most, len(held))
    seen = f"{most} outstanding at most, allowed {window}; {total} of {count} arrived"
    if total < count:
        return "no", seen
    return ("yes" if most <= window else "partly"), seen


@_asks("its own receive-maximum is told")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    with Client(nodes[0]) as client:
        told = getattr(client.connack, "ReceiveMaximum", None)
    return _is(told is not None, f"{told}" if told else "none, so 65,535")


@_asks("topic aliases of a publisher")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    topic = _topic()
    with subscribed(nodes[0], topic) as subscriber, Client(nodes[0]) as publisher:
        allowed = getattr(publisher.connack, "TopicAliasMaximum", 0)
        if not allowed:
            return "no", "CONNACK allows none"
        publisher.publish(topic, b"full", TopicAlias=1)
        publisher.publish("", b"alias", TopicAlias=1)
        found = subscriber.heard(2, 3.0)
    return _is(len(found) == 2, f"{allowed} allowed, {len(found)} of 2 arrived")


@_asks("shared subscription: each message once")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    counts, total, unique, _ = _shared(nodes)
    seen = f"{unique} of {total}, {sum(counts) - unique} twice; members got {counts}"
    return _is(unique == total == sum(counts), seen)


@_asks("shared subscription keeps a car's order")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    *_, split = _shared(nodes)
    return _is(not split, f"messages of {split} of 10 cars went to several members")


def _shared(nodes: Sequence[Endpoint]) -> tuple[list[int], int, int, int]:
    """Messages of each member, sent, distinct, and cars whose messages went to several members."""
    root, group, cars, each = _topic(), uuid.uuid4().hex[:8], 10, 12
    share = f"$share/{group}/{root}/+"
    members = [Client(nodes[n % len(nodes)]) for n in range(3)]
    with members[0], members[1], members[2], Client(nodes[0]) as publisher:
        for member in members:
            member.subscribe(share)
        time.sleep(SILENCE_S)
        for number in range(each):
            for car in range(cars):
                publisher.publish(f"{root}/{car}", b"%d" % number)
        got = [member.heard(cars * each, SILENCE_S) for member in members]
    whose = [{(m.topic, m.payload) for m in messages} for messages in got]
    split = sum(
        sum(any(topic == f"{root}/{car}" for topic, _ in one) for one in whose) > 1
        for car in range(cars)
    )
    return [len(one) for one in got], cars * each, len(set().union(*whose)), split


@_asks("message expiry")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    topic, name = _topic(), f"stale-{uuid.uuid4().hex[:8]}"
    with subscribed(nodes[0], topic, name=name, expiry_s=60):
        pass
    with Client(nodes[0]) as publisher:
        publisher.publish(topic, b"stale", MessageExpiryInterval=1)
        publisher.publish(topic, b"fresh", MessageExpiryInterval=60)
        time.sleep(1 + SILENCE_S)
    with Client(nodes[0], name, clean=False) as session:
        found = session.heard(2, SILENCE_S)
    payloads = [message.payload for message in found]
    if payloads != [b"fresh"]:
        return "no", f"delivered: {[payload.decode() for payload in payloads]}"
    left = getattr(found[0].properties, "MessageExpiryInterval", None)
    if left is None or left >= 60:
        return "partly", "the stale one is gone, the time left is not counted down"
    return "yes", f"the stale one is gone, {left} s of 60 left on the other"


@_asks("0x10 when nobody subscribes")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    with Client(nodes[0]) as publisher:
        code = publisher.publish(_topic(), b"?")
    return _is(code == _NO_MATCHING_SUBSCRIBERS, f"PUBACK 0x{code:02X}")


@_asks("0x95 for a packet over the limit")
def _(nodes: Sequence[Endpoint]) -> tuple[Answer, str]:
    code = None
    # A broker that closes before it has read the whole packet resets the connection, and a reset
    # may overtake the DISCONNECT: so one packet is not enough to ask for the reason.
    for _attempt in range(_SOME):
        with Client(nodes[0]) as publisher:
            told = getattr(publisher.connack, "MaximumPacketSize", None)
            try:
                publisher.send(_topic(), b"x" * (MAX_PACKET_BYTES + 1024))
                code = publisher.ended.get(timeout=3.0)
            except queue.Empty:
                return "no", "taken"
        if code == _TOO_LARGE:
            break
    seen = "closed" if code is None else f"0x{code:02X}"
    seen += ", limit told" if told else ", limit not told"
    return ("yes" if code == _TOO_LARGE else "partly"), seen
