"""Avro schemas of the typed topics, generated from the signal catalogue."""

from typing import Any

from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.topics import PREDICTIONS, TELEMETRY

#: Subjects by Confluent's TopicNameStrategy.
TELEMETRY_SUBJECT = f"{TELEMETRY}-value"
PREDICTIONS_SUBJECT = f"{PREDICTIONS}-value"

Schema = dict[str, Any]

#: Identity fields at the end of a telemetry record: variable width, so after the signals.
IDENTITY_FIELDS = ("boot", "seq", "time", "due")
_IDENTITY_DOC = {
    "boot": "Wall-clock milliseconds since 1970 of the car's start",
    "seq": "Number of the message within its boot, from 1",
    "time": "Event time, milliseconds since 1970",
    "due": "Wall-clock milliseconds since 1970 at which the message should have been sent",
}

PREDICTION_FLOATS = (
    "score",
    "threshold",
    "coverage",
    "probability",
    "life",
    "challenger_score",
    "challenger_threshold",
)
_FORESIGHT_DOC = {
    "probability": "Probability of a failure within the model's horizon; NaN: not told",
    "life": "Remaining life in minutes of event time; NaN: not told",
    "challenger_score": "Score by the challenger; NaN: there is none, or it did not score",
    "challenger_threshold": "Score above which it is anomalous to the challenger",
}
PREDICTION_LONGS = (*IDENTITY_FIELDS, "partition", "offset", "version")


def telemetry_schema(catalogue: Catalogue) -> Schema:
    """Schema of `telemetry`: vin, the signals as float or double, then the identity as longs.

    An absent signal is NaN. Defaults exist so that a reader may add a signal (BACKWARD); a reader
    of ours fills a signal that the writer did not know with NaN, by the writer's schema id.
    """
    return {
        "type": "record",
        "name": "Telemetry",
        "namespace": catalogue.namespace,
        "doc": f"Validated telemetry of catalogue {catalogue.name}",
        "fields": [
            {"name": "vin", "type": "string", "doc": "Vehicle id, 17 characters"},
            *(
                {
                    "name": signal.name,
                    "type": signal.type,
                    "default": 0.0,
                    "doc": f"{signal.description} [{signal.unit}] {signal.vss}",
                }
                for signal in catalogue.signals
            ),
            *_identity(),
        ],
    }


def predictions_schema(catalogue: Catalogue) -> Schema:
    """Schema of `predictions`: one record per refined message, scored or not (score is NaN)."""
    return {
        "type": "record",
        "name": "Prediction",
        "namespace": catalogue.namespace,
        "doc": "A score, or the reason why there is none",
        "fields": [
            {"name": "vin", "type": "string", "doc": "Vehicle id, 17 characters"},
            {"name": "score", "type": "float", "doc": "Anomaly score; NaN when not scored"},
            {"name": "threshold", "type": "float", "doc": "Score above which it is anomalous"},
            {"name": "coverage", "type": "float", "doc": "Share of the features present, 0 to 1"},
            *(
                # Portable defaults, for readers in any language; ours fill NaN.
                {"name": name, "type": "float", "default": 0.0, "doc": doc}
                for name, doc in _FORESIGHT_DOC.items()
            ),
            *_identity(),
            {"name": "partition", "type": "long", "doc": "Partition of the telemetry record"},
            {"name": "offset", "type": "long", "doc": "Offset of the telemetry record"},
            {"name": "version", "type": "long", "doc": "Version of the model; 0 when none is live"},
            {"name": "model", "type": "string", "doc": "Name of the model"},
            {"name": "reason", "type": "string", "doc": "Why it was not scored; empty when it was"},
            {
                "name": "kind",
                "type": "string",
                "default": "",
                "doc": "Trouble code of the most probable failure; empty: not told",
            },
            {
                "name": "contributions",
                "doc": "Signals that contribute most to the score, highest first",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "Contribution",
                        "fields": [
                            {"name": "signal", "type": "string"},
                            {"name": "share", "type": "float", "doc": "Share of the score, 0 to 1"},
                        ],
                    },
                },
            },
        ],
    }


def subjects(catalogue: Catalogue) -> dict[str, Schema]:
    """Every schema to register, by subject."""
    return {
        TELEMETRY_SUBJECT: telemetry_schema(catalogue),
        PREDICTIONS_SUBJECT: predictions_schema(catalogue),
    }


def _identity() -> list[dict[str, str]]:
    return [{"name": name, "type": "long", "doc": _IDENTITY_DOC[name]} for name in IDENTITY_FIELDS]
