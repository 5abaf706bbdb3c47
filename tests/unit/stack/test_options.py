"""Options that cannot be are refused before anything starts, with what to do instead."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from motorcade.fleet.errors import SettingsError
from motorcade.fleet.settings import ProcessSettings
from motorcade.runtime.mqtt_options import Tls
from motorcade.simulator import sources
from motorcade.stack import checks, plan
from motorcade.stack.brokers.base import Endpoint, QueueBound
from motorcade.stack.brokers.external import External, parse_endpoints
from motorcade.stack.brokers.security import BRIDGE, Security
from motorcade.stack.commands import app
from motorcade.stack.errors import PreflightError
from motorcade.stack.options import StackOptions
from motorcade.stack.shared_options import require_writable
from motorcade.stack.state import StackState, StateFolder


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"broker": "kafka"}, "--broker kafka is not known.*mosquitto"),
        ({"broker": "external"}, "--broker external and --broker-url belong together"),
        ({"broker_url": "mqtt://a:1"}, "belong together"),
        ({"broker_nodes": 0}, "--broker-nodes must be at least 1"),
        (
            {"broker": "external", "broker_url": "mqtt://a:1", "broker_nodes": 2},
            "--broker-nodes 2 asks for brokers to be started",
        ),
        ({"broker_ca": Path("ca.pem")}, "of an external broker"),
        (
            {"broker": "external", "broker_url": "mqtts://a", "broker_cert": Path("{vin}.pem")},
            "no vehicle id",
        ),
        ({"kafka_ca": Path("ca.pem")}, "--kafka-ca.*are of your own Kafka"),
        ({"speedup": 0.0}, "--speedup 0 must be above 0"),
        ({"processes": ("brigde",)}, "no process of ours is called brigde.*bridge"),
    ],
)
def test_an_impossible_option_is_named(chosen: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        StackOptions(state=Path("unused"), **chosen)  # type: ignore[arg-type]


def test_broker_addresses_are_read_with_and_without_scheme_and_port() -> None:
    assert parse_endpoints("mqtt://a.example:2883, b.example") == (
        Endpoint("a.example", 2883),
        Endpoint("b.example", 1883),
    )


@pytest.mark.parametrize("address", ["", "http://a", "a:b", "mqtt://a:1:2", ":1883"])
def test_a_malformed_broker_address_is_named(address: str) -> None:
    with pytest.raises(SettingsError, match="is not of the form mqtt://HOST:PORT"):
        parse_endpoints(address)


def test_an_address_may_be_of_ipv6_and_one_with_tls_needs_a_ca() -> None:
    ca = Path("ca.pem")
    found = parse_endpoints("mqtts://a.example, mqtts://[::1]:8884,[::1]:1884", ca)
    assert found == (Endpoint("a.example", 8883), Endpoint("::1", 8884), Endpoint("::1", 1884))
    assert str(found[1]) == "[::1]:8884"
    assert ProcessSettings(brokers=tuple(map(str, found))).brokers[1] == "[::1]:8884"
    with pytest.raises(SettingsError, match=r"asks for TLS.*--set target\.ca=FILE"):
        parse_endpoints("mqtts://a.example")


def test_our_processes_and_cars_speak_tls_to_an_external_broker(tmp_path: Path) -> None:
    security = Security(tmp_path / "theirs", mutual_tls=True, tls=True)
    security.prepare()
    mine = security.certificate(BRIDGE)
    options = StackOptions(
        state=tmp_path / "state",
        broker="external",
        broker_url="mqtts://127.0.0.1",
        broker_ca=security.ca,
        broker_cert=mine,
    )
    folder = StateFolder(options.state)
    homes = {archive.name: tmp_path for archive in plan.needed_archives(options)}
    made = plan.make(options, folder, homes)
    assert made.state.brokers == ("127.0.0.1:8883",)
    for process in ("bridge", "dispatch", None):
        found = plan.environment(made.state, folder, process)
        assert found["MOTORCADE_MQTT_CA"] == str(security.ca)
        assert found["MOTORCADE_MQTT_CERT"] == str(mine)
    for broker in (made.broker, plan.broker_of(made.state, folder)):
        assert isinstance(broker, External)
        assert broker.tls == Tls(security.ca, mine)


def test_every_process_is_told_how_a_kafka_of_ones_own_lets_it_in_but_no_password(
    tmp_path: Path,
) -> None:
    security = Security(tmp_path / "theirs", mutual_tls=True, tls=True)
    security.prepare()
    login = tmp_path / "kafka.yaml"
    login.write_text("username: fleet\npassword: s3cret\n")
    options = StackOptions(
        state=tmp_path / "state",
        broker="external",
        broker_url="mqtt://127.0.0.1",
        kafka="kafka.example:9093",
        kafka_credentials=login,
        kafka_ca=security.ca,
        kafka_cert=security.certificate(BRIDGE),
    )
    folder = StateFolder(options.state)
    homes = {archive.name: tmp_path for archive in plan.needed_archives(options)}
    made = plan.make(options, folder, homes)
    for process in (*options.processes, None):
        found = plan.environment(made.state, folder, process)
        assert found["MOTORCADE_KAFKA_CREDENTIALS"] == str(login)
        assert found["MOTORCADE_KAFKA_CA"] == str(security.ca)
        assert found["MOTORCADE_KAFKA_CERT"] == str(security.certificate(BRIDGE))
        assert "s3cret" not in str(found)
    assert made.kafka_access.login is not None
    assert "s3cret" not in f"{made!r} {made.state.model_dump_json()}"


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match=r"a\.example:1883.*target\.credentials") as refused:
        parse_endpoints("mqtt://fleet:s3cr@et@a.example:1883")
    assert "s3cr" not in str(refused.value)
    assert "et@" not in str(refused.value)


@pytest.mark.parametrize("path", ["", "file/run.json"], ids=["a folder", "below a file"])
def test_a_result_that_cannot_be_written_is_refused_before_the_run(
    tmp_path: Path, path: str
) -> None:
    (tmp_path / "file").touch()
    for command in (
        ["load", "steady", "--json", str(tmp_path / path)],
        ["load", "steady", "--report", str(tmp_path / path)],
        ["generate", "--kafka", "127.0.0.1:1", "--hours", "1", "--truth", str(tmp_path / path)],
    ):
        found = CliRunner().invoke(app, [*command, "--state", str(tmp_path / "none")])
        assert isinstance(found.exception, SettingsError), found.output
        assert f"{command[-2]} {tmp_path / path} cannot be written" in str(found.exception)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_result_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    there = tmp_path / "run.json"
    there.write_text("old")
    require_writable("--json", there)
    require_writable("--json", tmp_path / "new.json")
    assert there.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]


def test_a_queue_holds_the_rate_times_the_outage() -> None:
    assert QueueBound(rate_per_s=2_000, outage_s=300).messages == 600_000
    assert QueueBound(rate_per_s=1, outage_s=1).messages == 10_000


def test_descriptors_follow_the_fullest_process() -> None:
    assert checks.descriptors_needed(100_000, broker_nodes=10, load_workers=4) == 26_000


def test_a_failed_check_names_what_was_found_and_the_remedy() -> None:
    found = [
        checks.Check("memory", False, "0.1 GB available, 2.5 needed", "Stop other programs."),
        checks.Check("disk", True, "plenty", ""),
    ]
    with pytest.raises(PreflightError, match=r"^memory: 0.1 GB .* Stop other programs.$"):
        checks.require(found)


def test_too_many_cars_for_the_descriptor_limit_are_refused(tmp_path: Path) -> None:
    limits = [one for one in checks.check(tmp_path, cars=10**9) if one.name == "file descriptors"]
    assert not limits[0].ok
    assert "--broker-nodes" in limits[0].remedy


def test_processes_find_the_stack_by_their_environment(tmp_path: Path) -> None:
    state = StackState(
        started="now",
        kafka="127.0.0.1:1",
        registry_url="http://127.0.0.1:2",
        broker="mosquitto",
        brokers=("127.0.0.1:3", "127.0.0.1:4"),
        durability="",
        clock="0/0/60",
        http={"bridge": 5},
    )
    found = plan.environment(state, StateFolder(tmp_path), "bridge")
    assert found["MOTORCADE_BROKERS"] == "127.0.0.1:3,127.0.0.1:4"
    assert found["MOTORCADE_HTTP_PORT"] == "5"
    assert found["MOTORCADE_CLOCK"] == "0/0/60"
    assert "MOTORCADE_SIGNALS" not in found


def test_what_a_fleet_takes_is_said_with_the_number_needed(tmp_path: Path) -> None:
    found = {one.name: one for one in checks.check(tmp_path, cars=10**9, messages=10**13)}
    assert not found["memory"].ok
    assert "81002.5 needed for 1,000,000,000 cars" in found["memory"].found
    assert not found["disk"].ok
    assert checks.check(tmp_path, cars=10, servers=False)[1].found.endswith(
        "0.0 needed for 10 cars"
    )


def test_the_check_of_source_ports_is_that_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_RANGE", Path("/nowhere"))
    for cars in (25_000, 25_001):
        try:
            sources.source_addresses(cars, ["192.0.2.1:1883"])
            fits = True
        except SettingsError:
            fits = False
        assert checks.check_ports(cars, ["192.0.2.1"], 0).ok == fits == (cars == 25_000)


def test_a_remedy_names_the_options_that_the_command_has(tmp_path: Path) -> None:
    found = checks.check(tmp_path, cars=10**9, spread="--set fleet.workers=…")
    [limit] = [one for one in found if one.name == "file descriptors"]
    assert limit.remedy.endswith("over more --set fleet.workers=….")


def test_source_ports_are_a_matter_of_far_endpoints_only() -> None:
    assert checks.check_ports(100_000, ["127.0.0.1", "localhost"], 0).ok
    far = checks.check_ports(100_000, ["10.0.0.5"], 0)
    assert not far.ok
    assert "addresses of this machine with MOTORCADE_SOURCE_ADDRESSES" in far.remedy
    assert checks.check_ports(100_000, ["10.0.0.5"], 10).ok
    assert checks.check_ports(5_000, ["10.0.0.5"], 0).ok
