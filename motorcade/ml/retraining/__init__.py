"""Retraining without anybody watching: record, train, evaluate, promote; once or again and again.

In: which models, how much of the stream, when. Out: a new champion, or the old one, and why. Never:
a model that goes live without having been compared.
"""
