"""A run's document for tests, and what can be changed in it."""

import random
from dataclasses import replace
from typing import Any

from motorcade.simulator.audit.faults import FaultAccounts
from motorcade.simulator.audit.judge import judge
from motorcade.simulator.audit.latency import Latency
from motorcade.simulator.audit.limits import Limits
from motorcade.simulator.audit.reconcile import Accounts
from motorcade.simulator.audit.verdict import (
    CONNECT,
    DUE_TO_KAFKA,
    DUE_TO_PREDICTION,
    DUE_TO_PUBACK,
    RECONNECT,
    BrokerAccount,
    Findings,
    Fleet,
    Generator,
    ProcessUsage,
    Scope,
)
from motorcade.simulator.report.document import (
    Document,
    Event,
    Machine,
    Manifest,
    Series,
    Stage,
)

SENT = 60_000
SECONDS = 120
BEGAN = 1_700_000_000_000

ACCOUNTS = Accounts(
    sent=SENT,
    acknowledged=SENT,
    garbage=0,
    acknowledged_missing=0,
    excused=0,
    lost=0,
    sent_missing=0,
    others=0,
    raw_records=SENT,
    raw=SENT,
    raw_repeats=0,
    raw_reordered=0,
    raw_unidentified=0,
    refined=SENT,
    quarantined=0,
    quarantined_records=0,
    quarantined_by_rule={},
    unaccounted=0,
    refined_and_quarantined=0,
    invented=0,
    refined_repeats=0,
    late=0,
    reordered=0,
    scored=SENT,
    not_scored=0,
    unpredicted=0,
    predicted_repeats=0,
    raw_overtaken=0,
)


def findings(**changes: Any) -> Findings:
    """A run in which all went well."""
    latency = Latency(SENT, 20.0, 15.0, 40.0, 90.0, 200.0, 300.0, 310.0)
    found = Findings(
        scope=Scope.PIPELINE,
        qos=1,
        accounts=ACCOUNTS,
        fleet=Fleet(cars=500, connected=500, connects=500),
        faults=FaultAccounts(),
        latencies=dict.fromkeys(
            (CONNECT, RECONNECT, DUE_TO_PUBACK, DUE_TO_KAFKA, DUE_TO_PREDICTION), latency
        ),
        generator=Generator(lost_workers=0, lag_p99_ms=12.0),
        broker=BrokerAccount("mosquitto", "mosquitto: keeps what it can.", 0),
        usage=(
            ProcessUsage("bridge", 1.2, 150.0, 0, 20.0),
            ProcessUsage("mosquitto-0", 1.2, 20.0, 0, 20.0),
            ProcessUsage("mosquitto-1", 0.6, 20.0, 1, 10.0),
        ),
        asked_restarts={"mosquitto-1": 1},
    )
    return replace(found, **changes)


def series(seed: int = 1, cpu: float = 1.0) -> Series:
    """A steady run, with noise of some per cent."""
    rng = random.Random(seed)

    def noisy(level: float) -> list[float | None]:
        return [level * rng.uniform(0.95, 1.05) for _ in range(SECONDS)]

    return Series(
        [BEGAN + second * 1000 for second in range(SECONDS)],
        {
            "cars.connected": [500.0] * SECONDS,
            "cars.offline": [0.0] * SECONDS,
            "rate.sent": noisy(500),
            "rate.raw": noisy(500),
            "latency.kafka.p50": noisy(15),
            "latency.kafka.p99": [None, *noisy(90)[1:]],
            "lag.refine": noisy(40),
            "cpu.bridge": noisy(0.01 * cpu),
            "cpu.mosquitto-0": noisy(0.01),
            "cpu.mosquitto-1": noisy(0.005),
            "rss.bridge": [150.0] * SECONDS,
        },
    )


def run_document(
    *, seed: int = 1, cpu: float = 1.0, name: str = "steady", **changes: Any
) -> Document:
    """A whole run; changes are of its findings."""
    found = findings(**changes)
    bridge = found.usage[0]
    assert bridge.cpu_us_per_message is not None
    bridge = replace(
        bridge,
        cpu_seconds=bridge.cpu_seconds * cpu,
        cpu_us_per_message=bridge.cpu_us_per_message * cpu,
    )
    found = replace(found, usage=(bridge, *found.usage[1:]))
    return Document(
        manifest=Manifest(
            motorcade="0.1.0",
            python="3.11.2",
            packages={"numpy": "1.26"},
            machine=Machine("a processor", 2, 24.0, "Linux"),
            seed=1,
            scenario={"name": name, "description": "for <tests>", "fleet": {"cars": 500}},
            settings={"cars": 500},
            command="motorcade load steady",
            started=BEGAN,
            ended=BEGAN + SECONDS * 1000,
        ),
        verdict=judge(found, Limits()),
        stages=[Stage("hold", BEGAN + 10_000, BEGAN + 100_000)],
        events=[Event(BEGAN + 50_000, "kill", "bridge </script>", 3.2)],
        series=series(seed, cpu),
    )
