"""The fleet: cars with physics and wear on MQTT under Locust, what they sent, and the verdict.

In: the settings of a run, recorded drives. Out: messages as real cars send them, a ledger of every
message, the truth about faults, a verdict. Never: a look inside the pipeline that it loads.
"""
