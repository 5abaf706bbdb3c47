"""Motorcade: connected-car fleet load testing and analytics on real MQTT, Kafka and TensorFlow."""

__version__ = "0.1.0"
