"""Recorded telemetry, read straight from Kafka as columns.

In: offset ranges of topics, by name. Out: batches of columns in (partition, offset) order, the same
at every reading for as long as Kafka keeps the ranges. Never: files of records, or labels.
"""
