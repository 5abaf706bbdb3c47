"""The audit of a run: reads the topics after the drain and accounts for every message.

In: what the cars sent and had acknowledged (the ledger), the topics, the truth about faults.
Out: a verdict with its figures. Never: a counter of a running process.
"""
