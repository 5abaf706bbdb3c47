"""Recorded lives of machines, sent once from their first message to their failure."""
