"""`motorcade size`: what a fleet of any size takes, in nodes, storage, bandwidth and money."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from motorcade.fleet.errors import SettingsError
from motorcade.stack.sizing.inputs import load_costs, load_prices
from motorcade.stack.sizing.model import Fleet
from motorcade.stack.sizing.model import size as size_of
from motorcade.stack.sizing.page import comparison, page


def size(
    cars: Annotated[str, typer.Option(help="Cars; several fleets with commas.")] = "1000000",
    interval: Annotated[float, typer.Option(help="Seconds between two samples of a car.")] = 10.0,
    payload: Annotated[str, typer.Option(help="json or avro.")] = "json",
    batch: Annotated[int, typer.Option(min=1, help="Samples in one publish.")] = 1,
    qos: Annotated[int, typer.Option(min=0, max=1, help="Of telemetry.")] = 1,
    tls: Annotated[bool, typer.Option(help="Whether cars speak TLS.")] = True,
    replication: Annotated[int, typer.Option(min=1, help="Copies of a partition.")] = 3,
    retention_days: Annotated[float, typer.Option(help="Days that Kafka keeps.")] = 7.0,
    busy: Annotated[float, typer.Option(help="Planned share of a core, 0 to 1.")] = 0.6,
    reconnect: Annotated[
        float, typer.Option(help="Seconds for a lost broker node's cars to be back.")
    ] = 120.0,
    costs: Annotated[Path | None, typer.Option(help="Measured costs (YAML).")] = None,
    prices: Annotated[Path | None, typer.Option(help="List prices (YAML).")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/scale.md instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
) -> None:
    """What a fleet takes: broker nodes, Kafka, workers, partitions, storage, bandwidth, money.

    Computed from costs that were measured on one machine and from public list prices; both are
    files that come along and that `--costs` and `--prices` replace.

    **Examples**

    - `motorcade size --cars 1000000,10000000 --interval 10`

    - `motorcade size --cars 1000000 --payload avro --batch 6 --json`
    """
    measured, listed = load_costs(costs), load_prices(prices)
    if markdown:
        sys.stdout.write(page(measured, listed))
        return
    if payload not in {"json", "avro"}:
        raise SettingsError(f"--payload {payload} is not known.", "Take json or avro.")
    form: Any = payload
    sizes = [
        size_of(
            Fleet(
                cars=count,
                interval_s=interval,
                payload=form,
                batch=batch,
                qos=qos,
                tls=tls,
                replication=replication,
                retention_days=retention_days,
                busy=busy,
                reconnect_s=reconnect,
            ),
            measured,
            listed,
        )
        for count in _counts(cars)
    ]
    if as_json:
        found = [
            {**dataclasses.asdict(one), "month": one.month, "car_month": one.car_month}
            | {"machines": [m | {"node": m["node"].model_dump()} for m in _machines(one)]}
            for one in sizes
        ]
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        sys.stdout.write(comparison(sizes) + "\n")


def _machines(one: Any) -> list[dict[str, Any]]:
    return [{"role": m.role, "count": m.count, "node": m.node} for m in one.machines]


def _counts(text: str) -> list[int]:
    try:
        return [int(part.replace("_", "")) for part in text.split(",")]
    except ValueError:
        raise SettingsError(
            f"--cars {text} is not a number.", "Write 1000000, or 1000000,10000000."
        ) from None
