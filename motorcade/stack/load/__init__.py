"""`motorcade load SCENARIO`: plays a scenario against a target and ends in a verdict.

In: a scenario. Out: live progress, a verdict, a run document. Never: a decision about a message;
what the cars do is decided by the simulator, what it came to by the audit.
"""
