"""What the cars' own trouble codes say about their telemetry, and which cars teach or judge.

In: records of `vehicle.dtc`, vehicle ids and event times. Out: times to failure, healthy rows, what
was observed to its end, splits by vehicle and by time. Never: the simulator's truth about wear.
"""
