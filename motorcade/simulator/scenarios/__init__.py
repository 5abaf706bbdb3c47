"""Scenarios: what a load run is, as YAML; its model, its reader, and the files that come along.

In: a scenario's name or file, and values that replace some of its own. Out: a `Scenario` that is
whole and possible. Never: a process, a socket.
"""
