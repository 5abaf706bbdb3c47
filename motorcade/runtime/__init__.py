"""What every long-running process shares at its edges.

In: settings. Out: a process shell (logs, metrics, health, graceful stop), Kafka and MQTT clients,
and the one loop that consumes, derives, produces and only then commits. Never: a decision about
cars, messages or models.
"""
