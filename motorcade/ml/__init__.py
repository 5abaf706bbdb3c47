"""Learning what healthy cars look like from recorded telemetry, and scoring every message by it.

In: recorded offset ranges of `telemetry`, announcements on `models`. Out: model files in the store,
announcements, one prediction per telemetry record. Never: the truth about wear, files between
Kafka and training, or code loaded from a model file.
"""
