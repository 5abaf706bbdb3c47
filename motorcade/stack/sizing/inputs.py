"""The figures that sizing computes from: measured costs and list prices, as files."""

from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from motorcade.fleet.errors import MotorcadeError

_ASSUMED = "assumed:"


class SizingError(MotorcadeError):
    """A fleet cannot be sized: a file or a number does not fit."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Model):
    """One figure and how it is known: a command that measured it, or an assumption."""

    value: float = Field(gt=0)
    by: str = Field(min_length=1)

    @property
    def assumed(self) -> bool:
        return self.by.startswith(_ASSUMED)


class BrokerCosts(_Model):
    message_local_us: Figure
    message_cross_us: Figure
    connect_us: Figure
    connection_kb: Figure
    tls_connect_us: Figure
    tls_connection_kb: Figure
    most_connections: Figure


class ProcessCosts(_Model):
    """A process of ours: CPU a message, MiB at rest, KB a car."""

    message_us: Figure
    process_mib: Figure
    car_kb: Figure | None = None


class DatabaseCosts(_Model):
    row_us: Figure
    row_kb: Figure
    flush_s: Figure


class KafkaCosts(_Model):
    message_us: Figure
    replication_share: Figure
    partition_mb_s: Figure


class ByteCosts(_Model):
    mqtt_json: Figure
    mqtt_avro: Figure
    avro_sample: Figure
    json_sample: Figure
    puback: Figure
    tls: Figure
    raw_json: Figure
    raw_avro: Figure
    telemetry: Figure
    predictions: Figure


class Costs(_Model):
    """costs.yaml."""

    machine: str
    broker: BrokerCosts
    bridge: ProcessCosts
    refine: ProcessCosts
    score: ProcessCosts
    alerts: ProcessCosts
    twin: ProcessCosts
    database: DatabaseCosts
    kafka: KafkaCosts
    bytes: ByteCosts

    def figures(self) -> list[tuple[str, Figure]]:
        """Every figure with its place in the file."""
        found = []
        for part in type(self).model_fields:
            group = getattr(self, part)
            if isinstance(group, BaseModel):
                for name in type(group).model_fields:
                    figure = getattr(group, name)
                    if figure is not None:
                        found.append((f"{part}.{name}", figure))
        return found


class Node(_Model):
    """A kind of machine that can be rented."""

    type: str
    vcpu: int = Field(gt=0)
    memory_gib: float = Field(gt=0)
    network_gbit: float = Field(gt=0)
    per_hour: float = Field(ge=0)


class NodeKinds(_Model):
    general: Node
    compute: Node
    memory: Node


class Prices(_Model):
    """prices.yaml, US dollars."""

    cloud: str
    date: str
    sources: tuple[str, ...]
    hours_per_month: float = Field(gt=0)
    nodes: NodeKinds
    vcpu_ratio: float = Field(gt=0)
    disk_gb_month: float = Field(ge=0)
    cluster_hour: float = Field(ge=0)
    balancer_hour: float = Field(ge=0)
    balancer_unit_hour: float = Field(ge=0)
    balancer_unit_connections: float = Field(gt=0)
    balancer_unit_gb_hour: float = Field(gt=0)
    between_zones_gb: float = Field(ge=0)
    egress_gb: float = Field(ge=0)


_File = TypeVar("_File", Costs, Prices)


def load_costs(path: Path | None = None) -> Costs:
    """Measured costs: a file, or the one that comes along.

    Raises:
        SizingError: the file cannot be read or breaks a rule; the message names the place.
    """
    return _load(Costs, path, "costs.yaml")


def load_prices(path: Path | None = None) -> Prices:
    """List prices: a file, or the one that comes along.

    Raises:
        SizingError: as `load_costs`.
    """
    return _load(Prices, path, "prices.yaml")


def _load(kind: type[_File], path: Path | None, shipped: str) -> _File:
    source = files("motorcade.stack.sizing") / shipped if path is None else path
    try:
        return kind.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SizingError(f"{source} cannot be read: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SizingError(
            f"{source}: {where}: {first['msg']}.",
            f"Compare it with the {shipped} that comes along.",
        ) from error
