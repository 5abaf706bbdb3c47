"""What Motorcade adds to Locust's web UI: the fleet's tabs, and control over HTTP.

In: the master's state. Out: JSON under /motorcade, tabs in the UI. Never: a decision of its own.
"""
