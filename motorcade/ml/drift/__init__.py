"""Drift: whether what cars send now, and how it scores, is still what a model was trained on.

In: what training kept of its range, the recent stream as columns. Out: an index per signal with the
limit that chance explains. Never: labels, or a judgement of how good a model is.
"""
