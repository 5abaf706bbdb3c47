"""`motorcade demo`: a thousand cars, a model learnt from their stream, a failure told in time.

In: options. Out: a running stack, live progress on one screen, and a verdict. Never: a decision
about a message or a car; everything it shows is done by the processes that it starts.
"""
