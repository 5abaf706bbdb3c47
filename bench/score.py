"""Scoring: batched calls against `keras.predict` per message, and what scoring adds to latency.

motorcade bench score [--live] [--rate N] [--seconds N] [--json FILE]

Rates are per second of CPU, all threads counted, on networks that nobody trained: what they cost
does not depend on what they learnt. With --live real servers are started, telemetry is written at
a steady rate, and Kafka's own times of each message and of its prediction say what scoring added.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench import arguments
from motorcade.fleet import topics
from motorcade.fleet.avro import TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.messages import ModelSlot
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_header
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.fleet.vin import generate_vin
from motorcade.ml.announce import announce
from motorcade.ml.engine import tensorflow
from motorcade.ml.models import autoencoder, lstm_autoencoder
from motorcade.ml.models.catalogue import load_model
from motorcade.ml.models.gradient import weights_of
from motorcade.ml.scoring.records import TelemetryRecords
from motorcade.ml.scoring.slot import Slot
from motorcade.ml.scoring.step import ScoreStep
from motorcade.ml.store import FORMAT, Manifest, ModelStore, Origin, Weights
from motorcade.ml.windows import WindowSpec
from motorcade.runtime.kafka import producer, read_all, started
from motorcade.runtime.registry import schema_id

CATALOGUE = load_catalogue()
FEATURES = len(CATALOGUE.features)
BATCH, SINGLES = 5000, 30
LOOK_BACK = 10
#: What has to be reached, per second of CPU.
GOALS = {"autoencoder": 1_000_000, "LSTM 32-16, look-back 10": 100_000}
ADDED_MS = 50
_WRITE_EVERY_S = 0.02
#: Messages of one write: about 40 a partition, far from a full batch.
_MOST_AT_ONCE = 500
#: Seconds after which predictions that did not come are given up.
_PATIENCE_S = 60.0
_CARS = 10_000


def manifest(
    name: str, threshold: float, architecture: str = autoencoder.NAME, rows: int = 1
) -> Manifest:
    """Of an untrained model: what it costs does not depend on what it learnt."""
    window = WindowSpec() if rows == 1 else WindowSpec(rows=rows, every_ms=60_000)
    return Manifest(
        format=FORMAT,
        name=name,
        version=1,
        architecture=architecture,
        created=0,
        catalogue=CATALOGUE.name,
        features=list(CATALOGUE.features),
        mean=[0.0] * FEATURES,
        std=[1.0] * FEATURES,
        learnt=[True] * FEATURES,
        residual=[1.0] * FEATURES,
        threshold=threshold,
        minimum_coverage=0.5,
        origin=Origin(ranges=[], schema_ids=[], dataset="", records={}, vehicles={}, seed=0),
        metrics={},
        libraries={},
        window=window,
        minimum_filled=1,
    )


def weights() -> Weights:
    """Of an untrained network for the default catalogue."""
    return weights_of(autoencoder.build(FEATURES, dtype="float32"))


def cpu_s(work: Callable[[], object], at_least_s: float = 2.0) -> float:
    """CPU-seconds of one call, the mean of as many as fill some seconds."""
    work()
    calls, began = 0, time.process_time()
    while time.process_time() - began < at_least_s:
        work()
        calls += 1
    return (time.process_time() - began) / calls


def lstm() -> Any:
    """A plain LSTM 32-16 that predicts the next sample from the ten before it."""
    layers = tensorflow().keras.layers
    shape = out = tensorflow().keras.Input((LOOK_BACK, FEATURES))
    out = layers.LSTM(32, return_sequences=True, unroll=True)(out)
    out = layers.LSTM(16, unroll=True)(out)
    return tensorflow().keras.Model(shape, layers.Dense(FEATURES)(out))


def networks() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """By name: a call of BATCH windows, and keras.predict of one."""
    tf = tensorflow()
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(BATCH, 1, FEATURES)).astype(np.float32)
    windows = rng.normal(size=(BATCH, LOOK_BACK, FEATURES)).astype(np.float32)
    both = np.concatenate([windows, np.ones_like(windows)], axis=2)
    ours = load_model(manifest("bench", 1.0), weights(), CATALOGUE)
    plain = autoencoder.build(FEATURES, dtype="float32")
    sequence = lstm()
    signature = [tf.TensorSpec((None, *windows.shape[1:]), tf.float32)]
    batched = tf.function(sequence, input_signature=signature)
    reproducing = lstm_autoencoder.build(LOOK_BACK, FEATURES)
    whole = load_model(
        manifest("bench", 1.0, lstm_autoencoder.NAME, LOOK_BACK),
        weights_of(reproducing),
        CATALOGUE,
    )
    return {
        "autoencoder": (
            lambda: ours.score(rows),
            lambda: plain.predict(rows[:1, 0], verbose=0),
        ),
        "LSTM 32-16, look-back 10": (
            lambda: np.asarray(batched(windows)),
            lambda: sequence.predict(windows[:1], verbose=0),
        ),
        "LSTM autoencoder 32-16-16-32 with scores and contributions": (
            lambda: whole.score(windows),
            lambda: reproducing.predict(both[:1], verbose=0),
        ),
    }


def compare() -> dict[str, dict[str, float]]:
    """Windows per CPU-second, batched and one by one."""
    found = {}
    print(f"{'per second of one core':60}{'batched':>12}{'keras.predict':>15}{'ratio':>8}")
    for name, (batched, single) in networks().items():
        many, one = BATCH / cpu_s(batched), 1 / cpu_s(single, 1.0)
        goal = GOALS.get(name)
        found[name] = {"batched": many, "keras_predict": one, "ratio": many / one}
        word = (
            "" if goal is None else f"   goal {goal:,}: {'reached' if many >= goal else 'MISSED'}"
        )
        print(f"{name:60}{many:>12,.0f}{one:>15,.1f}{many / one:>8,.0f}{word}")
    return found


def records(count: int) -> list[Any]:
    """A batch of telemetry as the scorer gets it, of twelve partitions."""
    columns = telemetry(np.arange(count), 1, 1_770_000_000_000)
    values = TelemetryAvro(CATALOGUE, 1).encode(columns)
    return [
        SimpleNamespace(
            key=vin, value=value, partition=n * 12 // count, offset=n, timestamp=0, headers=()
        )
        for n, (vin, value) in enumerate(zip(columns.vin.tolist(), values, strict=True))
    ]


def telemetry(cars: Any, seq: int, now_ms: int) -> TelemetryColumns:
    """One message of each of some cars."""
    n = len(cars)
    vins = np.array([VINS[car] for car in cars.tolist()], dtype="S17")
    values = np.random.default_rng(seq).normal(size=(n, len(CATALOGUE.names)))
    at = np.full(n, now_ms)
    return TelemetryColumns(vins, values, np.full(n, 1), np.full(n, seq), at, at)


VINS = [generate_vin(5, car).encode() for car in range(_CARS)]


def whole_step() -> dict[str, float]:
    """CPU-µs per message of the step: decode, windows, score, contributions, encode."""
    found = {}
    models = {
        "autoencoder": (manifest("bench", 1e300), weights()),
        "LSTM autoencoder, windows of 10": (
            manifest("bench", 1e300, lstm_autoencoder.NAME, LOOK_BACK),
            weights_of(lstm_autoencoder.build(LOOK_BACK, FEATURES)),
        ),
    }
    for name, parts in models.items():
        for size in (500, 2000):
            codec = TelemetryAvro(CATALOGUE, 1)
            step = ScoreStep(
                TelemetryRecords(CATALOGUE, codec, lambda _: {}), PredictionAvro(CATALOGUE, 2)
            )
            model = load_model(*parts, CATALOGUE)
            step.live[ModelSlot.CHAMPION] = Slot(model, "", CATALOGUE, 600_000)
            each = cpu_s(partial(step.process, records(size)), 1.0) / size * 1e6
            found[f"{name}, batches of {size}"] = each
            print(f"{name}, batches of {size}, record to prediction: {each:.1f} CPU-µs a message")
    return found


async def fill(settings: ProcessSettings, rate: float, seconds: float, offsets: list[int]) -> int:
    """Write telemetry as refine does, at a steady rate; returns how many.

    offsets is where the next message of each partition stands in telemetry.raw, as its header
    says, and goes on: the scorer takes an offset that it has seen for a repeat.
    """
    codec = TelemetryAvro(CATALOGUE, await schema_id(settings, CATALOGUE, TELEMETRY_SUBJECT))
    partition = np.array([topics.partition_of(vin) for vin in VINS])
    sent = 0
    async with started(producer(settings), settings) as client:
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            # A batch has bounds: what is late after a pause of this process goes out in several.
            due = min(int(elapsed * rate), sent + _MOST_AT_ONCE)
            cars = np.arange(sent, due) % _CARS
            if len(cars):
                values = codec.encode(telemetry(cars, due, time.time_ns() // 1_000_000))
                lanes: dict[int, Any] = {}
                for car, value in zip(cars.tolist(), values, strict=True):
                    lane = int(partition[car])
                    builder = lanes.setdefault(lane, client.create_batch())
                    header = source_header(lane, offsets[lane])
                    offsets[lane] += 1
                    taken = builder.append(
                        timestamp=None, key=VINS[car], value=value, headers=[header]
                    )
                    assert taken is not None, "a batch holds what is due at once"
                await asyncio.gather(
                    *[
                        await client.send_batch(builder, topics.TELEMETRY, partition=lane)
                        for lane, builder in lanes.items()
                    ]
                )
                sent = due
            await asyncio.sleep(_WRITE_EVERY_S)
    return sent


async def added_ms(settings: ProcessSettings, skip: int) -> Any:
    """What passed between each message in Kafka and its prediction there, milliseconds."""
    times: dict[str, dict[int, list[int]]] = {topics.TELEMETRY: {}, topics.PREDICTIONS: {}}
    for topic, of in times.items():
        async for batch in read_all(settings, [topic]):
            of.setdefault(batch[0].partition, []).extend(record.timestamp for record in batch)
    return np.concatenate(
        [
            (np.array(times[topics.PREDICTIONS][p]) - np.array(came))[skip // topics.PARTITIONS :]
            for p, came in times[topics.TELEMETRY].items()
        ]
    )


async def predicted(process: Any, until: float) -> None:
    """Return once the scorer has done so many messages; SystemExit when it does not."""
    deadline = time.monotonic() + _PATIENCE_S
    while (done := process.done()) < until:
        if time.monotonic() > deadline:
            raise SystemExit(f"only {done:,.0f} of {until:,.0f} messages were predicted")
        await asyncio.sleep(0.05)


async def live(running: Any, rate: float, seconds: float) -> dict[str, float]:
    """Latency that scoring adds and its CPU per message, at a steady rate on real Kafka."""
    from bench.pipeline.running import cpu_s as cpu_of

    settings = running.settings
    now = time.time_ns() // 1_000_000
    await announce(
        settings, ModelStore.of(settings).write(manifest("bench", 1e300), weights(), now)
    )
    process = running.processes["score"]
    process.start()
    await process.ready()
    offsets = [0] * topics.PARTITIONS
    done = process.done()
    warm = await fill(settings, rate, 3.0, offsets)
    await predicted(process, done + warm)
    before = cpu_of(process.pid)
    count = await fill(settings, rate, seconds, offsets)
    await predicted(process, done + warm + count)
    used = (cpu_of(process.pid) - before) / count * 1e6
    process.stop()
    found = await added_ms(settings, warm)
    p50, p99 = np.quantile(found, [0.5, 0.99])
    word = "reached" if found.mean() < ADDED_MS else "MISSED"
    print(
        f"at {count / seconds:,.0f} messages/s scoring adds {found.mean():.0f} ms on average "
        f"(median {p50:.0f}, p99 {p99:.0f}); goal {ADDED_MS}: {word}; {used:.1f} CPU-µs a message"
    )
    return {
        "rate": count / seconds,
        "mean_ms": float(found.mean()),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "cpu_us": used,
    }


def main() -> None:
    parser = arguments.parser("score", __doc__)
    parser.add_argument("--live", action="store_true", help="start servers and measure latency")
    parser.add_argument("--only-live", action="store_true", help="measure nothing but latency")
    parser.add_argument("--rate", type=float, default=10_000.0, help="messages/s of --live")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long --live measures")
    parser.add_argument("--json", type=Path, help="write every figure to this file, too")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    if not options.only_live:
        found |= {"networks": compare(), "step_us": whole_step()}
    if options.live or options.only_live:
        from bench.pipeline.running import stack

        with tempfile.TemporaryDirectory() as folder, stack(Path(folder) / "state", {}) as running:
            found["live"] = asyncio.run(live(running, options.rate, options.seconds))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
