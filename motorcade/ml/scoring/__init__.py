"""Scoring the stream: `telemetry` in, one prediction for each record out.

What comes in: records of `telemetry`, and announcements of models on `models`. What goes out: a
prediction for each record, scored or with the reason why not. It never trains, never decides which
model is live, and never loses or doubles a prediction when it is killed.
"""
