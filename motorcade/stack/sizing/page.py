"""A size as a text: tables for the terminal, and the page docs/scale.md."""

from collections.abc import Sequence

from motorcade.stack.sizing.inputs import Costs, Prices
from motorcade.stack.sizing.model import Fleet, Size, size

#: Fleets of docs/scale.md.
_CARS = (100_000, 1_000_000, 10_000_000)
_ROLES = {
    "broker": "MQTT broker nodes",
    "bridge": "bridge processes",
    "kafka": "Kafka brokers",
    "refine": "refine processes",
    "twin": "twin processes",
    "score": "scorer processes",
    "alerts": "alerts processes",
    "database": "PostgreSQL servers (half of them standby)",
}


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first one its head."""
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def comparison(sizes: Sequence[Size]) -> str:
    """Sizes side by side: one column a fleet."""
    first = sizes[0]
    rows = [["", *(f"{one.fleet.cars:,} cars" for one in sizes)]]

    def row(name: str, cells: Sequence[str]) -> None:
        rows.append([name, *cells])

    row("samples/s", [f"{one.fleet.samples_s:,.0f}" for one in sizes])
    row("MQTT messages/s", [f"{one.fleet.publishes_s:,.0f}" for one in sizes])
    for part in first.parts:
        row(
            _ROLES[part.name],
            [f"{p.count:,} ({p.bound})" for p in (one.part(part.name) for one in sizes)],
        )
    row("cores busy", [f"{sum(p.cores for p in one.parts):,.1f}" for one in sizes])
    row("memory in use, GiB", [f"{sum(p.memory_gib for p in one.parts):,.0f}" for one in sizes])
    row("Kafka partitions", [f"{one.partitions:,}" for one in sizes])
    row("from the cars, Mbit/s", [f"{one.in_mbit_s:,.0f}" for one in sizes])
    row("to the cars, Mbit/s", [f"{one.out_mbit_s:,.0f}" for one in sizes])
    row("into Kafka, MB/s, one copy", [f"{one.kafka_in_mb_s:,.1f}" for one in sizes])
    row("Kafka's disks, TB", [f"{one.storage_tb:,.1f}" for one in sizes])
    for machine in first.machines:
        found = [next(m for m in one.machines if m.role == machine.role) for one in sizes]
        row(f"{machine.role}: {machine.node.type}", [f"{m.count:,}" for m in found])
    for line in first.money:
        row(f"{line}, $/month", [f"{one.money[line]:,.0f}" for one in sizes])
    row("**all, $/month**", [f"**{one.month:,.0f}**" for one in sizes])
    row("**a car, $/month**", [f"**{one.car_month:.4f}**" for one in sizes])
    return table(rows)


def page(costs: Costs, prices: Prices) -> str:
    """docs/scale.md."""
    plain = [size(Fleet(cars), costs, prices) for cars in _CARS]
    saving = [size(Fleet(cars, payload="avro", batch=6), costs, prices) for cars in _CARS]
    rare = [size(Fleet(cars, interval_s=60, payload="avro"), costs, prices) for cars in _CARS]
    base = plain[0].fleet
    measured = [
        [f"`{n}`", f"{f.value:g}", f"`{f.by}`"] for n, f in costs.figures() if not f.assumed
    ]
    assumed = [
        [f"`{n}`", f"{f.value:g}", f.by.removeprefix("assumed: ")]
        for n, f in costs.figures()
        if f.assumed
    ]
    sources = "\n".join(f"- <{source}>" for source in prices.sources)
    return f"""# Scale: what a million cars take

Generated from `motorcade/stack/sizing/` by `motorcade size --markdown`; a test fails when this
page differs. The arithmetic is `model.py`, the measured costs are `costs.yaml`, the prices
`prices.yaml`; `motorcade size --cars 1000000 --interval 10` computes any other fleet, `--costs` and
`--prices` take other figures.

Nothing of this size was run: the costs were measured on {costs.machine}, and are taken to grow
linearly with messages and cars; `motorcade bench growth` shows how far that holds on one machine.

## One sample every {base.interval_s:g} s, JSON, QoS {base.qos}, TLS

In brackets: what decides the count. A broker node, a Kafka broker and a worker node may be lost at
any time: the others carry the load, and a lost broker node's cars are back within
{base.reconnect_s:g} s. Cores and disks are planned to be {base.busy:.0%} busy. Kafka keeps
{base.retention_days:g} days in {base.replication} copies.

{comparison(plain)}

## Cheaper: Avro, six samples in one publish

The same samples; a car sends once a minute what it measured every {base.interval_s:g} s.

{comparison(saving)}

## Rarer: one Avro sample a minute

{comparison(rare)}

## How it is computed

- rate = cars ÷ interval; MQTT messages = rate ÷ samples in a publish
- cores of a step = rate × its CPU µs per message ÷ 10⁶; processes = cores ÷ {base.busy:g}, two at
  least
- broker CPU per message = (1/n) × local + ((n−1)/n) × crossing nodes, for n nodes; to it comes the
  storm after a lost node: cars ÷ n ÷ {base.reconnect_s:g} s × CPU per connect; memory and the most
  connections of a node are checked as well; the n−1 nodes that are left must be enough
- Kafka CPU = rate × CPU per message × (1 + (copies − 1) × follower's share)
- partitions: two for each process of the largest step, at most
  {costs.kafka.partition_mb_s.value:g} MB/s each, a multiple of 12
- disks = bytes stored a second × retention × copies ÷ 0.7
- between zones: two thirds of what comes from the cars, two thirds of what is stored, and every
  further copy
- money = nodes × hours × price + disks + load balancer + traffic + control plane

## Measured

On {costs.machine}; CPU in µs of one core.

{table([["figure", "value", "by"], *measured])}

## Assumed

Not measured here; the result is as good as these are.

{table([["figure", "value", "why"], *assumed])}

## Prices

{prices.cloud}, list prices of {prices.date}, in US dollars, without any discount; a vCPU counts as
{prices.vcpu_ratio:g} of a measured core. What a mobile network charges for the cars' data is not
in it.

{sources}
"""
