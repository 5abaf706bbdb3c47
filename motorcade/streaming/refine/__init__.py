"""Raw telemetry judged and typed.

In: `telemetry.raw`, payloads as the cars sent them. Out: `telemetry` in Avro, `telemetry.dlq` with
the reason. Never: a message lost, or one let through twice.
"""

from motorcade.streaming.refine.step import RefineStep, Settings, main

__all__ = ["RefineStep", "Settings", "main"]
