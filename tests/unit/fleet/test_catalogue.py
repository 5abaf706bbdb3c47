"""The catalogue is one file; what is generated from it never drifts, and a bad one is refused."""

from pathlib import Path

import fastavro
import numpy as np
import pytest

from motorcade.fleet.avro import predictions_schema, telemetry_schema
from motorcade.fleet.catalogue import load_catalogue, parse_catalogue
from motorcade.fleet.docs import contract_page
from motorcade.fleet.errors import CatalogueError
from motorcade.fleet.telemetry import TelemetryJson

DEMO_SIGNALS = [
    "coolant_temp",
    "intake_air_temp",
    "intake_air_flow_speed",
    "battery_percentage",
    "battery_voltage",
    "current_draw",
    "speed",
    "engine_vibration_amplitude",
    "throttle_pos",
    "tire_pressure_1_1",
    "tire_pressure_1_2",
    "tire_pressure_2_1",
    "tire_pressure_2_2",
    "accelerometer_1_1_value",
    "accelerometer_1_2_value",
    "accelerometer_2_1_value",
    "accelerometer_2_2_value",
    "control_unit_firmware",
]

SIGNAL = """{name: %s, unit: %s, range: %s, precision: 1, vss: A.B, required: true, type: float,
  feature: true, description: x}"""


def document(*signals: str) -> str:
    head = "name: test\nnamespace: io.test\nidentity: vin\nsignals:\n"
    return head + "".join(f"  - {signal}\n" for signal in signals)


def test_the_default_features_are_the_public_demos_18_signals_in_its_order() -> None:
    assert list(load_catalogue().features) == DEMO_SIGNALS


def test_the_schema_has_every_signal_in_catalogue_order_between_vin_and_identity() -> None:
    catalogue = load_catalogue()
    names = [field["name"] for field in telemetry_schema(catalogue)["fields"]]
    assert names == ["vin", *catalogue.names, "boot", "seq", "time", "due"]
    fastavro.parse_schema(telemetry_schema(catalogue))
    fastavro.parse_schema(predictions_schema(catalogue))


def test_the_validator_knows_exactly_the_catalogues_signals() -> None:
    catalogue = load_catalogue()
    payload = b'{"vin":"%s","boot":1,"seq":1,"time":1,"due":1%s}'
    signals = "".join(f',"{name}":1' for name in catalogue.names).encode()
    columns, rows, bad = TelemetryJson(catalogue).decode([payload % (b"A" * 17, signals)])
    assert not bad
    assert rows.tolist() == [0]
    assert np.array_equal(columns.values, np.ones((1, len(catalogue.names))))


def test_the_contract_page_is_what_the_catalogue_generates() -> None:
    page = Path(__file__).parents[3] / "docs" / "contract.md"
    assert page.read_text(encoding="utf-8") == contract_page(load_catalogue()), (
        "docs/contract.md differs from the catalogue; write it again: motorcade contract"
    )


def test_another_fleet_is_another_file_and_no_new_code(tmp_path: Path) -> None:
    file = tmp_path / "engines.yaml"
    file.write_text(document(SIGNAL % ("t24", "°R", "[0, 1000]")))
    catalogue = load_catalogue(file)
    assert catalogue.names == ("t24",)
    assert telemetry_schema(catalogue)["fields"][1]["name"] == "t24"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (document(*[SIGNAL % ("rpm", "rpm", "[0, 9]")] * 2), ["rpm", "twice", "number 2"]),
        (document((SIGNAL % ("rpm", "x", "[0, 9]")).replace("unit: x,", "")), ["rpm", "unit"]),
        (document(SIGNAL % ("rpm", "rpm", "[9, 0]")), ["rpm", "rise"]),
        (document(SIGNAL % ("vin", "m", "[0, 1]")), ["vin", "reserved"]),
        (document(SIGNAL % ("Rpm", "m", "[0, 1]")), ["name"]),
        (document(), ["signals"]),
        ("signals: [", ["YAML"]),
        ("- a", ["mapping"]),
    ],
)
def test_a_bad_catalogue_is_refused_naming_file_and_signal(text: str, names: list[str]) -> None:
    with pytest.raises(CatalogueError) as caught:
        parse_catalogue(text, "fleet.yaml")
    for part in ["fleet.yaml", *names]:
        assert part in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(CatalogueError, match=r"no\.yaml"):
        load_catalogue(Path("no.yaml"))
