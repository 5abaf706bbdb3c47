"""The ledger comes back from disk as it was written, and workers' ledgers add up."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motorcade.simulator import ledger
from motorcade.simulator.audit.run import generator_problems
from motorcade.simulator.deliveries import Deliveries
from motorcade.simulator.intervals import IntervalSet
from motorcade.simulator.measures import encode, new_histogram, record

seqs = st.sets(st.integers(min_value=1, max_value=200))
VIN = "MC9ABT5E7T0000000"
Boots = dict[tuple[str, int], tuple[set[int], set[int]]]


def columns_of(boots: Boots) -> ledger.BootColumns:
    """Boots by (vin, boot) with the seqs that were sent and acknowledged."""
    deliveries = Deliveries()
    for row, ((_, boot), (sent, acked)) in enumerate(boots.items()):
        number = deliveries.open(row, boot)
        for seq in sent:
            deliveries.sent.noted += (number, seq, seq)
        for seq in acked:
            deliveries.acked.noted += (number, seq, seq)
    return deliveries.columns(np.array([vin for vin, _ in boots], dtype="S17"))


def file_of(
    worker: int, boots: ledger.BootColumns, latencies: tuple[float, ...] = ()
) -> ledger.LedgerFile:
    histogram = new_histogram()
    record(histogram, latencies)
    return ledger.LedgerFile(
        worker=worker,
        started=1000,
        written=2000,
        complete=True,
        cpu_s=1.5,
        counts={"sent": int((boots.sent.last - boots.sent.first + 1).sum())},
        boots=boots,
        dtcs=[ledger.DtcRecord(VIN, 1, "P0217", "coolant_leak", 5, 6, acked=True)],
        histograms={"puback": encode(histogram)},
    )


@given(seqs, seqs)
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, sent: set[int], acked: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    deliveries = Deliveries()
    number = deliveries.open(0, 77)
    for seq in sent:
        deliveries.sent.noted += (number, seq, seq)
    for seq in acked:
        deliveries.acked.noted += (number, seq, seq)
        deliveries.settle()
    deliveries.garbage.noted += (number, 4, 6)
    deliveries.dropped[0], deliveries.unsent[0], deliveries.refused[0] = 3, 2, 1
    one = deliveries.columns(np.array([VIN], dtype="S17"))
    ledger.write(ledger.path_of(folder, 0, 1000), file_of(0, one))
    account = ledger.load(folder)
    assert list(account.sent()) == [(VIN, 77, IntervalSet.of(sent))]
    assert list(account.acknowledged()) == [(VIN, 77, IntervalSet.of(acked))]
    again = account.boots[VIN, 77]
    assert (again.dropped, again.unsent, again.refused) == (3, 2, 1)
    assert again.garbage == [(4, 6)]
    assert [dtc.code for dtc in account.dtcs] == ["P0217"]


def test_the_ledgers_of_workers_add_up(tmp_path: Path) -> None:
    for worker in range(3):
        boots = columns_of({(f"MC9ABT5E7T000000{worker}", 5): ({1, 2}, {1})})
        ledger.write(
            ledger.path_of(tmp_path, worker, 1000), file_of(worker, boots, latencies=(20.0, 40.0))
        )
    account = ledger.load(tmp_path)
    assert len(account.boots) == 3
    assert account.workers == {0, 1, 2}
    assert account.counts["sent"] == 6
    assert account.cpu_s == 4.5
    assert not account.unfinished
    puback = account.histograms["puback"]
    assert puback.total_count == 6
    assert puback.get_max_value() == pytest.approx(40_000, rel=0.001)


def test_a_ledger_that_is_missing_or_not_the_last_is_a_problem_that_names_its_worker(
    tmp_path: Path,
) -> None:
    for worker in (0, 2):
        one = file_of(worker, columns_of({(f"MC9ABT5E7T000000{worker}", 5): ({1}, {1})}))
        one.complete = worker == 0
        ledger.write(ledger.path_of(tmp_path, worker, 1000), one)
    account = ledger.load(tmp_path)
    assert list(generator_problems(account, 3)) == [
        "worker 1 left no ledger",
        "the ledger of worker 2 is not its last: cars still ran",
    ]
    assert next(generator_problems(account, 1)).startswith("worker 2 left a ledger, though")


def test_writing_again_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = ledger.path_of(tmp_path, 0, 1000)
    ledger.write(path, file_of(0, columns_of({(VIN, 1): ({1}, set())})))
    ledger.write(path, file_of(0, columns_of({(VIN, 1): ({1, 2}, {1, 2})})))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert list(ledger.load(tmp_path).acknowledged()) == [(VIN, 1, IntervalSet([(1, 2)]))]


def test_a_worker_that_is_started_again_keeps_the_first_ones_ledger(tmp_path: Path) -> None:
    ledger.write(ledger.path_of(tmp_path, 0, 1000), file_of(0, columns_of({(VIN, 1): ({1}, {1})})))
    ledger.write(ledger.path_of(tmp_path, 0, 2000), file_of(0, columns_of({(VIN, 2): ({1}, {1})})))
    assert set(ledger.load(tmp_path).boots) == {(VIN, 1), (VIN, 2)}


def test_one_boot_in_two_workers_is_an_error(tmp_path: Path) -> None:
    for worker in range(2):
        ledger.write(
            ledger.path_of(tmp_path, worker, 1), file_of(worker, columns_of({(VIN, 1): ({1}, {1})}))
        )
    with pytest.raises(ledger.LedgerError, match=VIN):
        ledger.load(tmp_path)


def test_a_folder_without_ledgers_and_a_torn_ledger_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ledger.LedgerError, match="no ledger"):
        ledger.load(tmp_path)
    (tmp_path / "ledger-0-1.msgpack").write_bytes(b"\x89worker")
    with pytest.raises(ledger.LedgerError, match=r"ledger-0-1\.msgpack"):
        ledger.load(tmp_path)
