"""MQTT topic names: fleet/v1/{shard}/{vin}/{kind}, built, parsed and assigned to bridge slots."""

from typing import NamedTuple

from motorcade.fleet.errors import IdentityError, SettingsError
from motorcade.fleet.vin import SHARDS, is_vehicle_id, shard_of

ROOT = "fleet/v1"
TELEMETRY = "telemetry"
DTC = "dtc"
STATUS = "status"
COMMAND_REQUEST = "commands/request"
COMMAND_RESPONSE = "commands/response"
#: What cars send and the bridge carries.
UPSTREAM = (TELEMETRY, DTC, STATUS, COMMAND_RESPONSE)


class CarTopic(NamedTuple):
    """A parsed topic; `canonical` when the id is well formed and the shard is the id's own."""

    shard: str
    vehicle_id: str
    kind: str
    canonical: bool


def topic(vehicle_id: str, kind: str) -> str:
    """The topic of a car, `kind` being one of this module's constants."""
    return f"{ROOT}/{shard_of(vehicle_id)}/{vehicle_id}/{kind}"


def parse(name: str) -> CarTopic:
    """Split a topic name.

    Raises:
        IdentityError: the name is not of the form fleet/v1/{shard}/{vin}/{kind}.
    """
    parts = name.split("/", 4)
    if len(parts) != 5 or f"{parts[0]}/{parts[1]}" != ROOT:
        raise IdentityError(
            f"The topic {name!r} is not of the form {ROOT}/{{shard}}/{{vin}}/{{kind}}."
        )
    _, _, shard, vehicle_id, kind = parts
    canonical = is_vehicle_id(vehicle_id) and shard_of(vehicle_id) == shard
    return CarTopic(shard, vehicle_id, kind, canonical)


class Slot(NamedTuple):
    """One MQTT session of the bridge: its number, its broker endpoint and its shards."""

    number: int
    endpoint: int
    shards: tuple[int, ...]

    @property
    def client_id(self) -> str:
        return f"bridge-{self.number}"

    def filters(self) -> list[str]:
        """Topic filters of the slot: one per shard and kind; on a full slot one per kind."""
        shards = ["+"] if len(self.shards) == SHARDS else [f"{shard:02d}" for shard in self.shards]
        return [f"{ROOT}/{shard}/+/{kind}" for shard in shards for kind in UPSTREAM]


def slots(count: int, endpoints: int, *, clustered: bool) -> list[Slot]:
    """Divide the shards over `count` slots so that each (endpoint, shard) has exactly one slot.

    In a farm every endpoint holds cars of every shard, so the slots of each endpoint cover all
    shards; in a cluster a slot hears every endpoint's cars, and slots only spread over endpoints.

    Raises:
        SettingsError: the count does not divide over the endpoints, or exceeds the shards.
    """
    groups = count if clustered else count // endpoints
    if count < 1 or (not clustered and count % endpoints) or groups > SHARDS:
        raise SettingsError(
            f"slots={count} cannot be divided over {endpoints} broker endpoint(s).",
            f"Choose a multiple of {endpoints}, at most {SHARDS} per endpoint.",
        )
    if clustered:
        return [Slot(n, n % endpoints, tuple(range(n, SHARDS, count))) for n in range(count)]
    return [
        Slot(n, n % endpoints, tuple(range(n // endpoints, SHARDS, groups))) for n in range(count)
    ]
