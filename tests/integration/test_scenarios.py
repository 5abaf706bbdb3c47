"""Every scenario that comes along, played small on one real stack: broker farm, Kafka, pipeline.

Each run audits its own messages alone, although all of them use the same topics.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from motorcade.fleet import topics
from motorcade.simulator.audit.verdict import RECONNECT, Outcome
from motorcade.simulator.report.document import Document, read
from motorcade.simulator.scenarios.load import load_scenario, names
from motorcade.stack import bringup
from motorcade.stack.brokers.mosquitto import find
from motorcade.stack.load import recording
from motorcade.stack.load.options import LoadOptions
from motorcade.stack.load.runner import Finished, LoadRun
from motorcade.stack.options import StackOptions
from motorcade.stack.ports import free_ports
from motorcade.stack.settings import StackSettings
from motorcade.stack.state import StateFolder

from .servers import run_async

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(find() is None, reason="mosquitto is not installed"),
]

CARS = 40
#: What makes a scenario small; a busy test machine is no reason to call a run invalid.
SMALL = (
    "target.stack=running",
    f"fleet.cars={CARS}",
    "ramp.per_s=100",
    "publish.interval_s=0.5",
    "thresholds.generator_lag_p99_ms=10000",
    "thresholds.due_to_kafka_p99_ms=null",
    "thresholds.due_to_puback_p99_ms=null",
)
PLAYED: set[str] = set()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateFolder]:
    """A farm of two brokers, which ask for TLS and passwords, with everything behind it."""
    folder = StateFolder(tmp_path_factory.mktemp("scenarios") / "state")
    options = StackOptions(
        state=folder.path,
        broker="mosquitto",
        broker_nodes=2,
        broker_tls=True,
        broker_login=True,
        cars=CARS,
        rate_per_s=200,
    )
    run_async(bringup.start(options, StackSettings()))
    yield folder
    bringup.stop(folder)


async def play(name: str, stack: StateFolder, *changes: str) -> Finished:
    """Play a scenario with changes; the run's own words are shown when it does not pass."""
    PLAYED.add(name)
    words = io.StringIO()
    scenario = load_scenario(name, [*SMALL, *changes])
    options = LoadOptions(web_port=free_ports(1)[0])
    finished = await LoadRun(scenario, options, stack, Console(file=words, width=200)).run()
    broken = [check for check in finished.verdict.checks if not check.ok]
    assert finished.verdict.outcome is Outcome.PASS, f"{broken}\n{words.getvalue()}"
    accounts = finished.verdict.accounts
    assert accounts.lost == accounts.unaccounted == accounts.unpredicted == accounts.reordered == 0
    return finished


async def test_steady_accounts_for_its_own_messages_and_keeps_a_record(
    stack: StateFolder, tmp_path: Path
) -> None:
    finished = await play("steady", stack, "stages.0.seconds=5s")
    accounts = finished.verdict.accounts
    assert 5 * CARS < accounts.sent < 30 * CARS
    assert accounts.sent == accounts.acknowledged == accounts.refined == accounts.not_scored

    document = keep(finished, "steady", tmp_path)
    assert [stage.name for stage in document.stages] == ["ramp", "hold"]
    assert max(n for n in document.series.figures["cars.connected"] if n is not None) == CARS
    assert any(n for n in document.series.figures["rate.raw"] if n)
    assert document.manifest.scenario["fleet"]["cars"] == CARS
    report = (tmp_path / "report.html").read_text()
    assert "PASS" in report
    assert "locust-worker" in report


def keep(finished: Finished, name: str, folder: Path) -> Document:
    """The record of a run, as it is read back."""
    options = LoadOptions(document=folder / "run.json", report=folder / "report.html")
    recording.keep(finished, load_scenario(name, SMALL), options)
    return read(folder / "run.json")


async def test_evaluation_sends_forty_messages_a_car_and_no_more(stack: StateFolder) -> None:
    finished = await play(
        "evaluation", stack, "fleet.cars=25", "publish.interval_s=0.1", "stages.0.seconds=6s"
    )
    assert finished.verdict.accounts.acknowledged == 25 * 40


async def test_rush_hour_adds_cars_and_takes_them_away(stack: StateFolder) -> None:
    spans = [f"stages.{n}.seconds={s}s" for n, s in enumerate((2, 5, 4))]
    intervals = ("stages.1.interval_s=0.25", "stages.2.interval_s=0.5")
    finished = await play("rush-hour", stack, *spans, *intervals)
    assert [span["name"] for span in finished.spans] == ["ramp", "night", "morning", "evening"]

    def connected(stage: int) -> int:
        span = finished.spans[stage]
        last = [s for s in finished.samples if s.time_ms < span["to_ms"] and s.fleet]
        return last[-1].connected

    assert (connected(1), connected(2), connected(3)) == (10, CARS, 16)


async def test_every_car_of_a_reconnect_storm_comes_back_with_what_it_measured(
    stack: StateFolder,
) -> None:
    finished = await play("reconnect-storm", stack, "stages.0.seconds=20s", "events.0.at=hold+2s")
    fleet = finished.verdict.fleet
    assert fleet.disconnects == CARS
    assert fleet.connects >= 2 * CARS
    assert fleet.recovered_s is not None


async def test_cars_that_use_all_that_mqtt_has_come_back_from_a_drop_without_loss_and_in_order(
    stack: StateFolder,
) -> None:
    cars, batch = 50, 4
    finished = await play(
        "steady",
        stack,
        f"fleet.cars={cars}",
        "publish.payload=avro",
        f"publish.batch={batch}",
        "publish.interval_s=0.25",
        "publish.topic_alias=true",
        "mqtt.session_expiry_s=60",
        "events=[{at: hold+3s, kind: drop}]",
        f"thresholds.disconnects={cars}",
        "stages.0.seconds=11s",
    )
    settings, verdict = finished.settings, finished.verdict
    assert settings.mqtt_ca is not None
    assert settings.mqtt_credentials is not None
    fleet, accounts = verdict.fleet, verdict.accounts
    assert (fleet.connected, fleet.disconnects) == (cars, cars)
    assert verdict.latencies[RECONNECT].n == cars
    assert accounts.sent == accounts.acknowledged == accounts.raw == accounts.refined > 20 * cars
    assert accounts.raw_reordered == fleet.unsent == fleet.refused == fleet.buffer_dropped == 0

    first, last = (
        next(s for s in some if s.kafka and s.fleet)
        for some in (finished.samples, finished.samples[::-1])
    )
    assert first.kafka is not None
    assert last.kafka is not None
    publishes = last.kafka.counts[topics.RAW] - first.kafka.counts[topics.RAW]
    assert publishes < 1.5 * accounts.sent / batch
    assert last.fleet["bytes_sent"] < 250 * accounts.sent  # the same sample as JSON is over 600


async def test_a_killed_broker_node_loses_what_its_durability_excuses_and_no_more(
    stack: StateFolder,
) -> None:
    # While the bridge is away the node holds messages for it in memory; then it is killed.
    events = (
        "{at: hold+2s, kind: stop, what: bridge, seconds: 6}",
        "{at: hold+5s, kind: kill, what: broker-node, node: 2, seconds: 1}",
    )
    finished = await play(
        "broker-node-loss",
        stack,
        "target.broker_nodes=1",
        f"events=[{', '.join(events)}]",
        "stages.0.seconds=24s",
    )
    broker = finished.verdict.broker
    assert broker.excused > 0
    assert any("mosquitto-2, which was killed" in reason for reason in broker.reasons)
    assert finished.verdict.fleet.disconnects >= CARS // 4
    killed = next(one for one in finished.recoveries if one.happening.kind == "kill")
    assert killed.seconds is not None


async def test_a_killed_bridge_loses_nothing(stack: StateFolder) -> None:
    finished = await play(
        "bridge-loss",
        stack,
        "stages.0.seconds=22s",
        "events.0.at=hold+2s",
        "events.0.seconds=2s",
    )
    [killed] = finished.recoveries
    assert killed.happening.programs == ("bridge",)
    assert killed.seconds is not None
    bridge = next(one for one in finished.verdict.usage if one.name == "bridge")
    assert bridge.cpu_seconds > 0


async def test_kafka_may_be_away_and_come_back(stack: StateFolder) -> None:
    finished = await play(
        "kafka-pause",
        stack,
        "stages.0.seconds=40s",
        "events.0.at=hold+2s",
        "events.0.seconds=6s",
    )
    away = [s for s in finished.samples if s.kafka is None]
    assert away, "Kafka was never away"
    [stopped] = finished.recoveries
    assert stopped.seconds is not None
    latency = finished.verdict.latencies["due → Kafka"]
    assert latency.max is not None
    assert latency.max > 6_000  # what was due while it was away came all the same


async def test_cars_in_a_tunnel_store_and_forward(stack: StateFolder) -> None:
    tunnel = "{at: hold+1s, kind: offline, share: 0.5, groups: 2, seconds: 4, stagger_s: 2}"
    finished = await play("tunnel", stack, f"events=[{tunnel}]", "stages.0.seconds=12s")
    assert max(s.fleet.get("offline", 0) for s in finished.samples) > CARS // 8
    latency = finished.verdict.latencies["due → Kafka"]
    assert latency.max is not None
    assert latency.max > 3_000  # stored in the tunnel, forwarded after it
    accounts = finished.verdict.accounts
    assert accounts.sent == accounts.acknowledged == accounts.raw


async def test_garbage_ends_in_the_dead_letter_queue_and_nothing_else_does(
    stack: StateFolder,
) -> None:
    garbage = "{at: hold+1s, kind: garbage, share: 0.2, seconds: 5}"
    finished = await play("bad-firmware", stack, f"events=[{garbage}]", "stages.0.seconds=8s")
    accounts = finished.verdict.accounts
    assert accounts.garbage == accounts.quarantined_records > 0
    assert len(accounts.quarantined_by_rule) >= 3


@pytest.mark.parametrize("qos", [0, 1])
async def test_demo_100k_in_small(stack: StateFolder, qos: int) -> None:
    finished = await play(
        "demo-100k",
        stack,
        "target.broker_nodes=1",
        "stages.0.seconds=6s",
        f"publish.qos={qos}",
        "thresholds.least_rate_share=0.5",  # a few seconds on a machine that does much else
    )
    assert finished.verdict.fleet.rate_share is not None
    assert finished.verdict.qos == qos
    assert finished.verdict.fleet.disconnects == 0
    assert finished.verdict.accounts.sent_missing == 0


async def test_find_the_limit_climbs_on_the_whole_pipeline(stack: StateFolder) -> None:
    finished = await play(
        "find-the-limit",
        stack,
        "limit.start_per_s=40",
        "limit.factor=2",
        "limit.most_per_s=80",
        "limit.settle_s=3",  # as long as the interval of a car before a step
        "limit.hold_s=5",
        # Levels of a machine that does much else meanwhile.
        "limit.service_levels.due_to_puback_p99_ms=20000",
        "limit.service_levels.due_to_kafka_p99_ms=20000",
        "limit.service_levels.lag_s=60",
    )
    assert finished.seeker is not None
    search = finished.seeker.search
    assert [step.load for step in search.steps] == [40, 80]
    assert search.steps[1].offered > 1.5 * search.steps[0].offered
    assert search.steps[0].observed.keys() >= {"due_to_kafka_p99_ms", "due_to_puback_p99_ms"}
    assert search.confirmed == 80


def test_every_scenario_that_comes_along_was_played() -> None:
    assert set(names()) == PLAYED
