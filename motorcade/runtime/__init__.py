"""What every long-running process shares at its edges.

In: settings. Out: a process shell (logs, metrics, health, graceful stop), Kafka and MQTT clients,
the one loop that consumes, derives, produces and only then commits, and pages with plots. Never: a
decision about cars, messages or models.
"""
