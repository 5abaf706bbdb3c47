"""The shared language of every part: signals, identities, topics, messages, codecs, settings.

In: the signal catalogue and plain values. Out: names, schemas, bytes and columns.
Never: a socket, a clock read, or an import from any other part of Motorcade.
"""
