"""What a scenario may be, and what is said of one that may not."""

import math
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from motorcade.simulator.audit.limits import Limits
from motorcade.simulator.descriptors import workers_for
from motorcade.simulator.fleet_events import event_of, values_of
from motorcade.simulator.scenarios.document import ScenarioError
from motorcade.simulator.scenarios.events import Faults, Pace, StackEvent
from motorcade.simulator.scenarios.load import load_scenario, names, parse_scenario, text_of
from motorcade.simulator.scenarios.model import Scenario, Thresholds
from motorcade.simulator.scenarios.reference import scenarios_page
from motorcade.simulator.scenarios.times import moment, seconds
from motorcade.simulator.scenarios.uses import limits, settings
from motorcade.simulator.settings import SimulatorSettings

SHIPPED = [
    "bad-firmware",
    "bridge-loss",
    "broker-node-loss",
    "demo-100k",
    "evaluation",
    "find-the-limit",
    "kafka-pause",
    "reconnect-storm",
    "rush-hour",
    "steady",
    "tunnel",
]

SOUND = """\
name: mine
description: a scenario of one's own
fleet:
  cars: 100
stages:
  - name: hold
    seconds: 2m
  - {name: more, seconds: 30}
"""


def parse(more: str = "", *overrides: str, base: Path | None = None) -> Scenario:
    return parse_scenario(SOUND + more, "mine.yaml", overrides, base)


def refused(more: str = "", *overrides: str) -> str:
    with pytest.raises(ScenarioError) as error:
        parse(more, *overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_declared_scenarios_come_along() -> None:
    assert names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_scenario_that_comes_along_is_sound_and_can_be_made_small(name: str) -> None:
    one = load_scenario(name)
    assert one.name == name
    assert one.description.endswith((".", "?"))
    text, _ = text_of(name)
    assert "#" in text, "it teaches"
    assert load_scenario(name, ["fleet.cars=20", "ramp.per_s=20"]).ramp_cars <= 20
    SimulatorSettings.model_validate(settings(one))
    again = parse_scenario(yaml.safe_dump(one.model_dump(mode="json")), "again.yaml")
    assert again == one, "what the manifest keeps is the whole scenario"


def test_the_well_known_load_is_what_it_says() -> None:
    one = load_scenario("demo-100k")
    assert (one.fleet.cars, one.ramp.per_s, one.publish.interval_s) == (100_000, 5000, 10)
    assert one.most_per_s == 10_000
    assert one.total_s == 600
    assert one.workers == workers_for(100_000)
    assert load_scenario("demo-100k", ["fleet.workers=20"]).workers == 20
    assert limits(one).lost == 0
    assert limits(one).qos0_lost_share is None
    unacknowledged = load_scenario("demo-100k", ["publish.qos=0"])
    assert limits(unacknowledged).lost is None
    assert limits(unacknowledged).qos0_lost_share == 0.001


def test_nobody_can_announce_what_fails_by_the_demos_chance() -> None:
    one = load_scenario("steady", ["fleet.car=demo"])
    assert limits(one).announced_share is limits(one).median_lead_minutes is None
    assert limits(one).false_alerts_per_day is None
    assert limits(load_scenario("steady")).announced_share == 0.9


def test_what_happens_to_cars_is_what_workers_understand() -> None:
    seen = set()
    for name in SHIPPED:
        for event in load_scenario(name).events:
            if not isinstance(event, StackEvent | Faults):
                assert values_of(event_of(event.body())) == event.body()
                seen.add(event.kind)
    assert seen >= {"drop", "offline", "garbage"}
    pace = parse("events: [{at: hold, kind: pace, interval_s: 5}]").events[0]
    assert isinstance(pace, Pace)
    assert values_of(event_of(pace.body())) == {"kind": "pace", "interval_s": 5.0}


def test_every_threshold_is_a_limit_of_the_audit() -> None:
    assert set(Thresholds.model_fields) == {field.name for field in fields(Limits)}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_scenario_keeps_its_thresholds_without_a_kafka(name: str) -> None:
    nowhere = "target={stack: external, broker_url: mqtt://b:1883, kafka: none}"
    one = load_scenario(name, [nowhere, "events=[]"])
    assert limits(one) == limits(load_scenario(name))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (90, 90.0),
        ("90", 90.0),
        ("90s", 90.0),
        ("2m", 120.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        (" 1.5m ", 90.0),
    ],
)
def test_spans_are_seconds_or_have_units(text: object, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "10 s", "s", "-5s", "5x", None, True, [1], "1m30"])
def test_what_is_no_span_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match='"2m"'):
        seconds(text)


@given(st.text(max_size=12))
def test_any_text_is_a_span_or_refused(text: str) -> None:
    try:
        value = seconds(text)
    except ValueError:
        return
    assert math.isfinite(value)
    assert value >= 0


def test_moments_count_from_the_ramp_or_from_a_stage() -> None:
    events = """
events:
  - {at: 90, kind: drop}
  - {at: 2m, kind: drop}
  - {at: more, kind: drop}
  - {at: more+10s, kind: drop}
"""
    one = parse(events)
    assert [one.event_s(event) for event in one.events] == [90, 120, 120, 130]
    assert [str(event.at) for event in one.events] == ["90s", "120s", "more+0s", "more+10s"]
    assert moment("more+1m").offset_s == 60


def test_a_fleet_of_another_size_keeps_its_shape() -> None:
    one = load_scenario("rush-hour", ["fleet.cars=40"])
    assert one.ramp_cars == 10
    assert [stage.cars for stage in one.stages] == [None, 40, 16]


def test_the_page_is_what_the_model_generates() -> None:
    page = Path(__file__).parents[3] / "docs" / "scenarios.md"
    assert page.read_text(encoding="utf-8") == scenarios_page(), (
        "run `motorcade scenarios page --output docs/scenarios.md`"
    )


# -- messages -------------------------------------------------------------------------------------


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() -> None:
    said = refused("publish:\n  intervall_s: 3\n")
    assert said.startswith(
        "mine.yaml:10: publish.intervall_s is not known. Did you mean interval_s?"
    )
    assert "qos" in said


def test_a_wrong_value_is_named_with_what_was_found_and_what_is_allowed() -> None:
    said = refused("publish:\n  qos: 2\n  interval_s: soon\nmqtt: {tls: 1}\n")
    assert "mine.yaml:10: publish.qos is 2; it must be 0 or 1" in said
    assert "mine.yaml:11: publish.interval_s is 'soon'; it must be seconds" in said
    assert "mine.yaml:12: mqtt.tls is 1; it must be true or false" in said


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("ramp: {per_s: 0}", "ramp.per_s is 0; it must be greater than 0"),
        ("fleet: 3", "fleet stands twice"),
        ("wear: [1]", "wear is [1]; it must have keys of its own"),
        ("wear: {cars: 1, kinds: [rust]}", "'coolant_leak'"),
        ("wear: {cars: 101}", "wear.cars 101 must be at most fleet.cars, which is 100"),
        ("wear: {kinds: []}", "wear.kinds is []; it must not be empty"),
        ("events: {at: 1}", "it must be a list"),
        ("events: [{at: hold, kind: dorp}]", "Did you mean drop?"),
        ("events: [{at: hold}]", "events.0.kind is missing; it is one of drop, offline"),
        ("events: [{at: hold, kind: drop, shar: 1}]", "Did you mean share?"),
        ("events: [{at: hold, kind: drop, share: 2}]", "less than or equal to 1"),
        ("events: [{at: halt, kind: drop}]", "names no stage; there are: hold, more"),
        ("events: [{at: hold+3m, kind: drop}]", "the stage, which is 120 s long"),
        ("events: [{at: 3m, kind: drop}]", "after the end of the run, 150 s after the ramp"),
        ("events: [{at: 1, kind: kill, what: brige}]", "'broker-node'"),
        ("events: [{at: 1, kind: kill, what: broker-node, node: 2}]", "must be at most 1"),
        ("limit: {}", "takes no stages"),
        ("target: {stack: external}", "target.broker_url is missing"),
        ("target: {broker_url: mqtt://b:1}", "is only for stack: external"),
        (
            "target: {stack: external, broker_url: mqtt://b:1, topic: a/b}",
            "target.topic 'a/b' is nothing that a pipeline of ours reads",
        ),
        (
            "target: {stack: external, broker_url: mqtt://b:1, cert: '{vin}.pem', key: k}",
            "is to be one for all",
        ),
        ("target: {kafka: nowhere}", "must be none, or host:port"),
        (
            "target: {stack: external, broker_url: mqtt://b:1, credentials: gone.yaml}",
            "mine.yaml:9: target.credentials: ",
        ),
        ("target: {credentials: mine.yaml}", "is only for stack: external"),
        ("target: {kafka_ca: mine.yaml}", "is only for stack: external"),
        (
            "target: {stack: external, broker_url: mqtt://b:1, kafka: none, kafka_ca: ca.pem}",
            "is of an external Kafka; name it with target.kafka",
        ),
        (
            "target: {stack: external, broker_url: mqtt://b:1, kafka: 'k:1', kafka_key: k.pem}",
            "target.kafka_cert is missing; kafka_cert and kafka_key belong together",
        ),
        (
            "target: {stack: external, broker_url: mqtt://b:1, kafka: 'k:1', kafka_key: k.pem, "
            "kafka_cert: c.pem}",
            "target.kafka_ca is missing; a certificate is shown over TLS only",
        ),
        (
            "target: {stack: external, broker_url: mqtt://b:1, kafka: 'k:1', "
            "kafka_credentials: gone.yaml}",
            "mine.yaml:9: target.kafka_credentials: ",
        ),
        (
            "target: {stack: external, broker_url: mqtt://b:1, kafka: none}\n"
            "publish: {payload: avro}",
            "publish.payload 'avro' must be json without a pipeline of ours",
        ),
        (
            "target: {stack: external, broker_url: mqtt://b:1, kafka: 'k:9092'}\n"
            "publish: {batch: 5}",
            "publish.batch 5 must be 1 where target.kafka is given",
        ),
        ("fleet2: {}", "fleet2 is not known. Did you mean fleet?"),
        ("? [1, 2]\n: 3", "is not known"),
        ("publish: {batch: 5000}", "less than or equal to 4096"),
        ("publish: {interval_s: 0}", "greater than 0"),
        (
            "publish: {batch: 2}\nevents: [{at: 1, kind: garbage}]",
            "needs publish.batch: 1; garbage is made of single samples",
        ),
        ("thresholds: {lost: 0.5}", "it must be a whole number"),
        ("limit: {service_levels: {lags: 3}}", "Did you mean lag_s?"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(more: str, words: str) -> None:
    said = refused(more)
    assert said.startswith(("mine.yaml:9:", "mine.yaml:10:"))
    assert words in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found nothing"),
        ("[1]", "found seq"),
        ("name: [", "mine.yaml:1: this is not YAML"),
        ("name: x\ndescription: y\n", "neither stages nor limit"),
        ("name: X\ndescription: y\nstages: [{name: a, seconds: 1}]", "small letters"),
        ("name: x\nstages: [{name: a, seconds: 1}]", "description is missing"),
        (
            "name: x\ndescription: y\nstages: [{name: a, seconds: 1}, {name: a, seconds: 1}]",
            "twice",
        ),
        ("name: &a x\ndescription: *b\n", "undefined alias"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused(text: str, words: str) -> None:
    with pytest.raises(ScenarioError) as error:
        parse_scenario(text, "mine.yaml")
    assert words in str(error.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "kind", "at", "cars", "seconds", "drop", "x"]), inner
            )
        ),
        max_leaves=6,
    ),
    st.sampled_from(["stages", "events", "wear", "limit", "fleet", "target", "publish"]),
)
def test_whatever_stands_in_a_scenario_ends_in_a_scenario_or_one_message(
    value: object, key: str
) -> None:
    document = {"name": "x", "description": "y", "stages": [{"name": "a", "seconds": 1}]}
    said = ""
    try:
        parse_scenario(yaml.safe_dump({**document, key: value}), "x.yaml")
    except ScenarioError as error:
        said = str(error)
    assert not said or said.startswith("x.yaml:")


# -- overrides ------------------------------------------------------------------------------------


def test_overrides_replace_any_value() -> None:
    one = parse(
        "",
        "fleet.cars=200",
        "stages.1.seconds=5s",
        "publish.qos=0",
        "wear.kinds=[misfire]",
        "thresholds.lost=null",
        "events=[{at: hold, kind: drop}]",
    )
    assert one.fleet.cars == 200
    assert one.stages[1].seconds == 5
    assert one.publish.qos == 0
    assert one.wear.kinds == ("misfire",)
    assert one.thresholds.lost is None
    assert len(one.events) == 1


@pytest.mark.parametrize("topic", ["62717281", "0123", "1_0", "2026-11-23", "true"])
def test_text_is_taken_as_it_is_spelled_whatever_yaml_makes_of_it(topic: str) -> None:
    target = "target: {stack: external, broker_url: mqtt://b:1, kafka: k:1}\n"
    assert parse(target, f"target.kafka_topic={topic}").target.kafka_topic == topic
    said = refused("target: {stack: external, broker_url: mqtt://b:1, kafka: k:1, kafka_topic: 7}")
    assert "target.kafka_topic is 7; it must be text, a number in quotes" in said


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("fleet.cars", "was not understood"),
        ("=3", "was not understood"),
        (
            "fleet.cars=many",
            "--set fleet.cars=many: fleet.cars is 'many'; it must be a whole number",
        ),
        ("fleet.carrs=1", "Did you mean cars?"),
        ("stages.2.seconds=1", "They are 0 to 1"),
        ("stages.0.cars=101", "must be at most fleet.cars"),
        ("name.x=1", "has no keys of its own"),
        ("fleet.cars=[", "no YAML value"),
        ("fleet.drives=gone", "is not there"),
    ],
)
def test_an_override_that_cannot_be_is_named_itself(override: str, words: str) -> None:
    said = refused("", override)
    assert f"--set {override}" in said
    assert words in said


def test_files_are_looked_for_beside_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("username: u\npassword: p\n")
    target = "target: {stack: external, broker_url: mqtt://b:1, credentials: secret.yaml}\n"
    one = parse(target, base=tmp_path)
    assert one.target.credentials == tmp_path / "secret.yaml"
    written = tmp_path / "own.yaml"
    written.write_text(SOUND + target)
    assert load_scenario(str(written)).target.credentials == tmp_path / "secret.yaml"


def test_a_name_that_is_none_suggests_the_nearest() -> None:
    with pytest.raises(ScenarioError, match=r"Did you mean tunnel\?"):
        load_scenario("tunel")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario("no/such.yaml")
