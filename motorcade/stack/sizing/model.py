"""The arithmetic: from a fleet, measured costs and prices to what it takes. Pure."""

from dataclasses import dataclass, field
from math import ceil
from typing import Literal

from motorcade.stack.sizing.inputs import Costs, Node, Prices, ProcessCosts, SizingError

_ZONES = 3
_MIB = 1024.0
_GB = 1e9
_DAY_S = 86_400.0
#: Partition counts are multiples of this, so that shards and partitions divide evenly.
_PARTITION_STEP = 12
#: Partitions for each process of the largest step: room to grow without a new count.
_PARTITION_SPARE = 2.0


@dataclass(frozen=True)
class Fleet:
    """What is asked for.

    Args:
        cars: connected cars. interval_s: seconds between two samples of a car.
        payload: form of the samples; batch: samples in one publish.
        qos: of telemetry. tls: whether cars speak TLS.
        replication: copies of each Kafka partition.
        retention_days: of raw, refined and scored records.
        busy: share of a core or disk that is planned for: what remains is for peaks.
        reconnect_s: within which the cars of a lost broker node must be back on the others.
    """

    cars: int
    interval_s: float = 10.0
    payload: Literal["json", "avro"] = "json"
    batch: int = 1
    qos: int = 1
    tls: bool = True
    replication: int = 3
    retention_days: float = 7.0
    busy: float = 0.6
    reconnect_s: float = 120.0

    def __post_init__(self) -> None:
        if self.cars < 1 or not self.interval_s > 0 or self.batch < 1 or self.replication < 1:
            raise SizingError("Cars, interval, batch and replication must be above 0.")
        if not 0 < self.busy <= 1:
            raise SizingError(
                f"The planned share of a core, {self.busy:g}, must be within 0 and 1."
            )
        if not (self.retention_days > 0 and self.reconnect_s > 0):
            raise SizingError("Retention and the time to reconnect must be above 0.")

    @property
    def samples_s(self) -> float:
        """Samples a second."""
        return self.cars / self.interval_s

    @property
    def publishes_s(self) -> float:
        """MQTT messages a second."""
        return self.samples_s / self.batch


@dataclass(frozen=True)
class Part:
    """One part of the system: `count` processes or nodes of a kind.

    cores: CPU that it uses, in measured cores. memory_gib: that it holds, all together.
    bound: what decided the count.
    """

    name: str
    count: int
    cores: float
    memory_gib: float
    bound: str


@dataclass(frozen=True)
class Machines:
    """Rented machines of one role."""

    role: str
    node: Node
    count: int


@dataclass(frozen=True)
class Size:
    """What a fleet takes; money in US dollars a month by line."""

    fleet: Fleet
    parts: tuple[Part, ...]
    machines: tuple[Machines, ...]
    partitions: int
    in_mbit_s: float
    out_mbit_s: float
    kafka_in_mb_s: float
    storage_tb: float
    money: dict[str, float] = field(default_factory=dict)

    def part(self, name: str) -> Part:
        """A part by its name."""
        return next(part for part in self.parts if part.name == name)

    @property
    def month(self) -> float:
        """Dollars a month."""
        return sum(self.money.values())

    @property
    def car_month(self) -> float:
        """Dollars for a car and month."""
        return self.month / self.fleet.cars


def size(fleet: Fleet, costs: Costs, prices: Prices) -> Size:
    """Size a fleet."""
    broker = _broker(fleet, costs, prices)
    workers = tuple(
        _workers(name, fleet, rate, cost, prices)
        for name, rate, cost in (
            ("bridge", fleet.publishes_s, costs.bridge),
            ("refine", fleet.samples_s, costs.refine),
            ("twin", fleet.samples_s, costs.twin),
            ("score", fleet.samples_s, costs.score),
            ("alerts", fleet.samples_s, costs.alerts),
        )
    )
    stored = _stored_bytes_s(fleet, costs)
    storage_gb = stored * fleet.retention_days * _DAY_S * fleet.replication / _GB / 0.7
    partitions = _partitions(workers, stored / 1e6, costs)
    kafka = _kafka(fleet, costs, prices, stored)
    database = _database(fleet, costs, prices)
    machines = (
        Machines("broker", prices.nodes.general, broker.count),
        Machines("kafka", prices.nodes.memory, kafka.count),
        Machines("workers", prices.nodes.compute, _pack(workers, fleet, prices)),
        Machines("database", prices.nodes.memory, database.count),
    )
    in_bytes, out_bytes = _mqtt_bytes_s(fleet, costs)
    money = _money(fleet, prices, machines, storage_gb, in_bytes, out_bytes, stored)
    return Size(
        fleet=fleet,
        parts=(broker, *workers[:1], kafka, *workers[1:], database),
        machines=machines,
        partitions=partitions,
        in_mbit_s=in_bytes * 8 / 1e6,
        out_mbit_s=out_bytes * 8 / 1e6,
        kafka_in_mb_s=stored / 1e6,
        storage_tb=storage_gb / 1000,
        money=money,
    )


def _cores_of(node: Node, fleet: Fleet, prices: Prices) -> float:
    """Measured cores of a node that are planned for."""
    return node.vcpu * prices.vcpu_ratio * fleet.busy


def _broker(fleet: Fleet, costs: Costs, prices: Prices) -> Part:
    """Nodes of the MQTT cluster, one of which may be lost: the others carry all."""
    node, cost = prices.nodes.general, costs.broker
    local, cross = cost.message_local_us.value, cost.message_cross_us.value
    connect_us = cost.connect_us.value + (cost.tls_connect_us.value if fleet.tls else 0)
    connection_kb = cost.connection_kb.value + (cost.tls_connection_kb.value if fleet.tls else 0)
    planned = _cores_of(node, fleet, prices)
    memory_gib = fleet.cars * connection_kb / _MIB / _MIB
    left = max(1, _ZONES - 1)
    while True:
        count = left + 1
        message_us = local / count + cross * (count - 1) / count
        cores = fleet.publishes_s * message_us / 1e6
        # A node is lost: its cars come back within `reconnect_s`, on the nodes that are left.
        storm = fleet.cars / count / fleet.reconnect_s * connect_us / 1e6
        needs = {
            "CPU": (cores + storm) / planned,
            "memory": memory_gib / (node.memory_gib * fleet.busy),
            "connections": fleet.cars / cost.most_connections.value,
            "three zones": _ZONES - 1,
        }
        bound = max(needs, key=lambda name: needs[name])
        if needs[bound] <= left:
            return Part("broker", count, cores, memory_gib, bound)
        left += 1


def _workers(name: str, fleet: Fleet, per_s: float, cost: ProcessCosts, prices: Prices) -> Part:
    """Processes of ours: each is one core's work; two at least, so that one may be lost."""
    cores = per_s * cost.message_us.value / 1e6
    count = max(2, ceil(cores / (prices.vcpu_ratio * fleet.busy)))
    of_cars = fleet.cars * cost.car_kb.value / _MIB if cost.car_kb else 0.0
    memory_gib = (count * cost.process_mib.value + of_cars) / _MIB
    return Part(name, count, cores, memory_gib, "CPU" if count > 2 else "two at least")


def _pack(workers: tuple[Part, ...], fleet: Fleet, prices: Prices) -> int:
    """Nodes for our processes, and one more so that one may be lost."""
    node = prices.nodes.compute
    cores = sum(part.cores for part in workers)
    memory = sum(part.memory_gib for part in workers)
    by_cores = cores / _cores_of(node, fleet, prices)
    by_memory = memory / (node.memory_gib * 0.8)
    return max(_ZONES, ceil(max(by_cores, by_memory)) + 1)


def _stored_bytes_s(fleet: Fleet, costs: Costs) -> float:
    """Bytes a second that Kafka appends, one copy: raw, refined and scored."""
    raw = costs.bytes.raw_json if fleet.payload == "json" else costs.bytes.raw_avro
    each = raw.value + costs.bytes.telemetry.value + costs.bytes.predictions.value
    return fleet.samples_s * each


def _mqtt_bytes_s(fleet: Fleet, costs: Costs) -> tuple[float, float]:
    """Bytes a second on the wire from the cars, and to them."""
    each = costs.bytes
    json = fleet.payload == "json"
    first = each.mqtt_json.value if json else each.mqtt_avro.value
    more = each.json_sample.value if json else each.avro_sample.value
    tls = each.tls.value if fleet.tls else 0.0
    inward = fleet.publishes_s * (first + (fleet.batch - 1) * more + tls)
    outward = fleet.publishes_s * (each.puback.value + tls) if fleet.qos else 0.0
    return inward, outward


def _partitions(workers: tuple[Part, ...], stored_mb_s: float, costs: Costs) -> int:
    """Enough that every worker has one, twice over, and none carries more than is comfortable."""
    derived = max(part.count for part in workers if part.name != "bridge") * _PARTITION_SPARE
    by_bytes = stored_mb_s / costs.kafka.partition_mb_s.value
    return _PARTITION_STEP * ceil(max(derived, by_bytes, 1) / _PARTITION_STEP)


def _kafka(fleet: Fleet, costs: Costs, prices: Prices, stored: float) -> Part:
    """Brokers, one of which may be lost."""
    node, cost = prices.nodes.memory, costs.kafka
    copies = 1 + (fleet.replication - 1) * cost.replication_share.value
    cores = fleet.samples_s * cost.message_us.value * copies / 1e6
    # In from producers, to followers, and out to some two readers of each record.
    network_gbit = stored * 8 / 1e9 * (1 + (fleet.replication - 1) + 2)
    needs = {
        "CPU": cores / _cores_of(node, fleet, prices),
        "network": network_gbit / (node.network_gbit * fleet.busy),
        "copies": fleet.replication - 1,
    }
    bound = max(needs, key=lambda name: needs[name])
    count = max(fleet.replication, ceil(needs[bound]) + 1)
    return Part("kafka", count, cores, count * node.memory_gib, bound)


def _database(fleet: Fleet, costs: Costs, prices: Prices) -> Part:
    """PostgreSQL servers with the twin, each with a standby."""
    node, cost = prices.nodes.memory, costs.database
    rows_s = fleet.cars / max(fleet.interval_s, cost.flush_s.value)
    cores = rows_s * cost.row_us.value / 1e6
    memory = fleet.cars * cost.row_kb.value / _MIB / _MIB
    needs = {
        "CPU": cores / _cores_of(node, fleet, prices),
        "memory": memory / (node.memory_gib * fleet.busy),
    }
    bound = max(needs, key=lambda name: needs[name])
    return Part("database", 2 * max(1, ceil(needs[bound])), cores, memory, bound)


def _money(
    fleet: Fleet,
    prices: Prices,
    machines: tuple[Machines, ...],
    storage_gb: float,
    in_bytes: float,
    out_bytes: float,
    stored: float,
) -> dict[str, float]:
    hours = prices.hours_per_month
    month_s = hours * 3600

    def gb(bytes_s: float) -> float:
        return bytes_s * month_s / _GB

    money = {f"{one.role} nodes": one.count * one.node.per_hour * hours for one in machines}
    disk_gb = storage_gb + 50 * sum(one.count for one in machines)
    units = max(
        fleet.cars / prices.balancer_unit_connections,
        (in_bytes + out_bytes) * 3600 / _GB / prices.balancer_unit_gb_hour,
    )
    # Two thirds of what goes to a random place leaves its zone; each further copy does; readers
    # fetch from the copy of their own zone. Broker to bridge crosses as it came, bridge to Kafka
    # and the steps' own producing as it is stored.
    zones = (_ZONES - 1) / _ZONES
    crossing = zones * in_bytes + zones * stored + (fleet.replication - 1) * stored
    money["disks"] = disk_gb * prices.disk_gb_month
    money["load balancer"] = hours * (prices.balancer_hour + units * prices.balancer_unit_hour)
    money["between zones"] = gb(crossing) * prices.between_zones_gb
    money["to the cars"] = gb(out_bytes) * prices.egress_gb
    money["cluster"] = prices.cluster_hour * hours
    return money
