"""What a worker's cars say: who is due is sampled, numbered, encoded and handed to its session."""

from collections.abc import Sequence

import numpy as np

from motorcade.fleet.arrays import Bools, Ints
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.simulator.blocks import CarBlock
from motorcade.simulator.car_session import CarSession
from motorcade.simulator.deliveries import Deliveries
from motorcade.simulator.measures import Measures
from motorcade.simulator.payload import SORTS, JsonPayload, Payload, TemplatePayload, spoil
from motorcade.simulator.population import FleetPlan
from motorcade.simulator.settings import SimulatorSettings

_NOBODY = np.zeros(0, dtype=np.int64)


class Talk:
    """Boot and seq of each row, and what it has measured for its next publish.

    Attributes:
        payload: the form of telemetry; an Avro one is set when the schema's id is known.
        finished: cars that have sent all they were to send.
    """

    def __init__(
        self,
        plan: FleetPlan,
        settings: SimulatorSettings,
        measures: Measures,
        deliveries: Deliveries,
    ) -> None:
        self.payload: Payload = (
            TemplatePayload(plan.catalogue, settings.payload_template)
            if settings.payload_template
            else JsonPayload(plan.catalogue)
        )
        self.finished = 0
        self._plan = plan
        self._batch = settings.batch
        self._limit = settings.messages
        self._measures = measures
        self._deliveries = deliveries
        self._boot = _NOBODY
        self._seq = _NOBODY
        #: Until when (wall clock, ms) a row's firmware is bad, and until when any is.
        self._bad_until = _NOBODY
        self._any_bad_until = 0
        #: Samples of a batch that is not full, by row, and when the last was due.
        self._held: dict[int, tuple[list[bytes], int]] = {}
        #: Samples made ahead by row, each with its seq and due time, and where the cars then stood.
        self._ahead: dict[int, tuple[int, int, bytes]] = {}
        self._ahead_at_ms = 0

    def grow(self, rows: int) -> None:
        """Add rows."""
        more = np.zeros(rows, dtype=np.int64)
        self._boot = np.concatenate((self._boot, more))
        self._seq = np.concatenate((self._seq, more))
        self._bad_until = np.concatenate((self._bad_until, more))

    def start(self, row: int, now_ms: int) -> int:
        """A car starts: its new boot, newer than the last even if the clock was set back."""
        if self._limit is not None and self._seq[row] >= self._limit:
            self.finished -= 1
        self._seq[row] = 0
        self._ahead.pop(row, None)
        self._boot[row] = boot = max(now_ms, int(self._boot[row]) + 1)
        return boot

    def finish(self, row: int, session: CarSession) -> None:
        """A car stops: send what it has measured of a batch."""
        if (held := self._held.pop(row, None)) is not None:
            samples, due = held
            self._send_batch(row, samples, int(self._seq[row]), due, session)

    def break_firmware(self, hit: Bools, until_ms: int) -> None:
        """Let the rows that are hit, shape (rows,), send garbage until then."""
        self._bad_until[hit] = until_ms
        self._any_bad_until = max(self._any_bad_until, until_ms)

    def prepare(self, rows: Ints, due: Ints, block: CarBlock) -> None:
        """Measure and encode ahead what these rows, shape (n,), are to send next, at `due`.

        `send` takes it if the cars still stand where they stood, and makes it anew if not. One
        large batch costs a fraction of many small ones.
        """
        seq = self._seq[rows] + 1
        samples = self.payload.encode(self._measure(rows, seq, due, block))
        made = zip(seq.tolist(), due.tolist(), samples, strict=True)
        self._ahead = dict(zip(rows.tolist(), made, strict=True))
        self._ahead_at_ms = block.event_ms

    def send(
        self, rows: Ints, due: Ints, block: CarBlock, sessions: Sequence[CarSession | None]
    ) -> Ints:
        """Let these rows measure and send; returns those that have sent all they were to send.

        Args:
            rows: shape (n,), each once; they have a session.
            due: shape (n,), wall-clock milliseconds.
        """
        self._seq[rows] += 1
        seq = self._seq[rows]
        samples = self._samples(rows, seq, due, block)
        if self._batch > 1:
            self._hold(rows, seq, due, samples, sessions)
        else:
            bad = self._bad_until[rows] > due
            if bad.any():
                self._spoil(np.flatnonzero(bad), rows, seq, due, samples, block)
                self._deliveries.garbage.noted += [
                    number
                    for row, one in zip(rows[bad].tolist(), seq[bad].tolist(), strict=True)
                    for number in (sessions[row].number, one, one)
                ]
            for row, number, at, sample in zip(
                rows.tolist(), seq.tolist(), due.tolist(), samples, strict=True
            ):
                sessions[row].send(number, number, at, sample)
        if self._limit is None:
            return _NOBODY
        done: Ints = rows[seq >= self._limit]
        self.finished += len(done)
        return done

    def _hold(
        self,
        rows: Ints,
        seq: Ints,
        due: Ints,
        samples: list[bytes],
        sessions: Sequence[CarSession | None],
    ) -> None:
        """Put samples to those that wait; send the batches that are full, and a car's last."""
        for row, number, at, sample in zip(
            rows.tolist(), seq.tolist(), due.tolist(), samples, strict=True
        ):
            held = self._held[row][0] if row in self._held else []
            held.append(sample)
            if len(held) < self._batch and number != self._limit:
                self._held[row] = held, at
                continue
            self._held.pop(row, None)
            session = sessions[row]
            assert session is not None, "a row that runs has a session"
            self._send_batch(row, held, number, at, session)

    def _send_batch(
        self, row: int, samples: list[bytes], last: int, due: int, session: CarSession
    ) -> None:
        first = last - len(samples) + 1
        whole = self.payload.join(samples)
        if self._bad_until[row] > due:
            whole = whole[: len(whole) // 2]
            self._deliveries.garbage.noted += (session.number, first, last)
        session.send(first, last, due, whole)

    def _spoil(
        self, at: Ints, rows: Ints, seq: Ints, due: Ints, samples: list[bytes], block: CarBlock
    ) -> None:
        """Break the samples at these positions, each car in its turn in another way."""
        broken = self._measure(rows[at], seq[at], due[at], block)
        sorts = (broken.seq + block.indices[rows[at]]) % SORTS
        spoilt = spoil(self.payload, self._plan.catalogue, broken, sorts)
        for position, sample in zip(at.tolist(), spoilt, strict=True):
            samples[position] = sample

    def _samples(self, rows: Ints, seq: Ints, due: Ints, block: CarBlock) -> list[bytes]:
        """What these rows have measured, as far as possible what was made ahead."""
        ahead = self._ahead
        if not ahead or self._ahead_at_ms != block.event_ms:
            return self.payload.encode(self._measure(rows, seq, due, block))
        samples: list[bytes] = []
        missing: list[int] = []
        for row, number, at in zip(rows.tolist(), seq.tolist(), due.tolist(), strict=True):
            made = ahead.pop(row, None)
            if made is None or made[0] != number or made[1] != at:
                missing.append(len(samples))
                samples.append(b"")
            else:
                samples.append(made[2])
        if missing:
            rest = np.array(missing)
            anew = self.payload.encode(self._measure(rows[rest], seq[rest], due[rest], block))
            for position, sample in zip(missing, anew, strict=True):
                samples[position] = sample
        return samples

    def _measure(self, rows: Ints, seq: Ints, due: Ints, block: CarBlock) -> TelemetryColumns:
        return TelemetryColumns(
            vin=block.vins[rows],
            values=block.sample(rows),
            boot=self._boot[rows],
            seq=seq,
            time=self._plan.clock.events_ms(due),
            due=due,
        )
