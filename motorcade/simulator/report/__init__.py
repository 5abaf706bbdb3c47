"""What a run leaves behind: its document (JSON) and its report (one HTML file).

In: a verdict, the run's manifest and its series. Out: files. Never: a judgement of its own.
"""
