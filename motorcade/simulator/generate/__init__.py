"""Training sets: the same cars' messages, written straight to `telemetry.raw` at full speed.

In: a fleet, a stretch of event time. Out: telemetry, trouble codes and statuses in Kafka, each
marked as generated; the truth about failures. Never: a sample that the live fleet would not send.
"""
