"""The arithmetic of `motorcade size`, by hand, and the page that it writes."""

from dataclasses import replace
from math import ceil
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from motorcade.stack.commands import app
from motorcade.stack.sizing.inputs import Costs, Prices, SizingError, load_costs, load_prices
from motorcade.stack.sizing.model import Fleet, size
from motorcade.stack.sizing.page import page

COSTS = load_costs()
PRICES = load_prices()
ROOT = Path(__file__).parents[3]


def costs(**changes: float) -> Costs:
    """The shipped costs with figures set, as broker__connect_us=…"""
    document = COSTS.model_dump()
    for name, value in changes.items():
        part, figure = name.split("__")
        document[part][figure]["value"] = value
    return Costs.model_validate(document)


def prices(**changes: float) -> Prices:
    return PRICES.model_copy(update=changes)


def test_workers_are_rate_times_cost_over_the_planned_share_of_a_core() -> None:
    found = size(Fleet(1_000_000, 10), costs(refine__message_us=12), prices(vcpu_ratio=1.0))
    assert found.fleet.samples_s == 100_000
    refine = found.part("refine")
    assert refine.cores == pytest.approx(1.2)  # 100,000 × 12 µs
    assert refine.count == 2  # ÷ 0.6
    assert (
        size(Fleet(2_000_000, 10), costs(refine__message_us=12), PRICES).part("refine").count == 4
    )
    # Half a core a vCPU takes twice as many.
    slow = size(Fleet(2_000_000, 10), costs(refine__message_us=12), prices(vcpu_ratio=0.5))
    assert slow.part("refine").count == 8


def test_broker_nodes_carry_the_load_the_storm_and_the_connections_without_one_of_them() -> None:
    many = size(Fleet(1_000_000, 1000), costs(broker__most_connections=100_000), PRICES)
    assert many.part("broker").count == 11
    assert many.part("broker").bound == "connections"
    heavy = size(
        Fleet(1_000_000, 10, reconnect_s=1e9),
        costs(broker__message_local_us=300, broker__message_cross_us=300),
        prices(vcpu_ratio=1.0),
    )
    # 100,000 × 300 µs = 30 cores; 8 × 0.6 = 4.8 a node: 7 and one more.
    assert (heavy.part("broker").count, heavy.part("broker").bound) == (ceil(30 / 4.8) + 1, "CPU")
    calm = size(Fleet(1_000_000, 10, reconnect_s=600), COSTS, PRICES).part("broker").count
    storm = size(Fleet(1_000_000, 10, reconnect_s=5), COSTS, PRICES).part("broker").count
    assert storm > calm
    assert size(Fleet(10), COSTS, PRICES).part("broker").count == 3


def test_kafka_stores_what_is_appended_for_as_long_as_it_is_kept_in_every_copy() -> None:
    by_hand = costs(bytes__raw_json=100, bytes__telemetry=80, bytes__predictions=20)
    found = size(Fleet(100_000, 10, retention_days=1), by_hand, PRICES)
    assert found.kafka_in_mb_s == pytest.approx(2.0)  # 10,000 × 200 B
    assert found.storage_tb == pytest.approx(2e6 * 86_400 * 3 / 0.7 / 1e12)
    single = size(Fleet(100_000, 10, retention_days=1, replication=1), by_hand, PRICES)
    assert single.storage_tb == pytest.approx(found.storage_tb / 3)
    assert single.part("kafka").cores < found.part("kafka").cores


def test_bandwidth_counts_payloads_headers_and_acknowledgements() -> None:
    by_hand = costs(bytes__mqtt_json=700, bytes__json_sample=600, bytes__puback=50, bytes__tls=30)
    one = size(Fleet(100_000, 10), by_hand, PRICES)
    assert one.in_mbit_s == pytest.approx(10_000 * 730 * 8 / 1e6)
    assert one.out_mbit_s == pytest.approx(10_000 * 80 * 8 / 1e6)
    assert size(Fleet(100_000, 10, qos=0), by_hand, PRICES).out_mbit_s == 0
    plain = size(Fleet(100_000, 10, tls=False), by_hand, PRICES)
    assert plain.in_mbit_s == pytest.approx(10_000 * 700 * 8 / 1e6)
    batched = size(Fleet(100_000, 10, batch=5), by_hand, PRICES)
    assert batched.in_mbit_s == pytest.approx(2_000 * (700 + 4 * 600 + 30) * 8 / 1e6)
    assert batched.fleet.publishes_s == 2_000


def test_money_is_nodes_disks_traffic_and_the_rest_by_the_hour() -> None:
    found = size(Fleet(1_000_000, 10), COSTS, PRICES)
    for machine in found.machines:
        line = found.money[f"{machine.role} nodes"]
        assert line == pytest.approx(machine.count * machine.node.per_hour * 730)
    assert found.month == pytest.approx(sum(found.money.values()))
    assert found.car_month == pytest.approx(found.month / 1_000_000)
    free = prices(
        disk_gb_month=0,
        cluster_hour=0,
        balancer_hour=0,
        balancer_unit_hour=0,
        between_zones_gb=0,
        egress_gb=0,
    )
    nodes = sum(m.count * m.node.per_hour * 730 for m in found.machines)
    assert size(Fleet(1_000_000, 10), COSTS, free).month == pytest.approx(nodes)


@settings(max_examples=60)
@given(
    st.integers(1, 20_000_000),
    st.floats(0.5, 600),
    st.sampled_from(["json", "avro"]),
    st.integers(1, 60),
)
def test_more_cars_never_take_less_and_every_part_has_room(
    cars: int, interval_s: float, payload: str, batch: int
) -> None:
    fleet = Fleet(cars, interval_s, payload, batch)  # type: ignore[arg-type]
    small, large = size(fleet, COSTS, PRICES), size(replace(fleet, cars=2 * cars), COSTS, PRICES)
    for part in small.parts:
        assert 0 < part.count <= large.part(part.name).count, part.name
        assert part.cores <= large.part(part.name).cores
    assert small.month <= large.month
    assert small.partitions % 12 == 0
    for name in ("refine", "twin", "score", "alerts"):
        assert small.partitions >= small.part(name).count
        part = small.part(name)
        assert part.cores <= part.count * PRICES.vcpu_ratio * fleet.busy + 1e-9
    nodes = next(m for m in small.machines if m.role == "broker")
    room = (nodes.count - 1) * nodes.node.vcpu * PRICES.vcpu_ratio * fleet.busy
    assert small.part("broker").cores <= room


def test_the_page_is_fresh() -> None:
    written = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert written == page(COSTS, PRICES), "write it anew: motorcade size --markdown >docs/scale.md"


def test_the_page_names_every_figure_and_how_it_is_known() -> None:
    text = page(COSTS, PRICES)
    measured, assumed = text.split("## Assumed")
    for name, figure in COSTS.figures():
        assert f"| `{name}` |" in (assumed if figure.assumed else measured)
    assert PRICES.date in text
    assert all(source in text for source in PRICES.sources)


def test_the_command_prints_fleets_side_by_side_and_every_figure_as_json() -> None:
    table = CliRunner().invoke(app, ["size", "--cars", "1000000,10000000"])
    assert table.exit_code == 0, table.output
    assert "1,000,000 cars | 10,000,000 cars" in table.output
    found = CliRunner().invoke(app, ["size", "--cars", "1000000", "--json"])
    (document,) = yaml.safe_load(found.output)
    assert document["month"] == pytest.approx(size(Fleet(1_000_000), COSTS, PRICES).month)
    assert {m["role"] for m in document["machines"]} == {"broker", "kafka", "workers", "database"}


def test_files_that_do_not_fit_say_where(tmp_path: Path) -> None:
    mine = tmp_path / "costs.yaml"
    document = COSTS.model_dump()
    document["broker"]["connect_us"]["value"] = -1
    mine.write_text(yaml.safe_dump(document))
    with pytest.raises(SizingError, match=r"costs\.yaml: broker\.connect_us\.value: .*greater"):
        load_costs(mine)
    with pytest.raises(SizingError, match="cannot be read"):
        load_prices(tmp_path / "none.yaml")
    with pytest.raises(SizingError, match="above 0"):
        Fleet(0)
    with pytest.raises(SizingError, match="within 0 and 1"):
        Fleet(1, busy=1.5)
