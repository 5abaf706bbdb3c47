"""What a fleet takes: nodes, workers, storage, bandwidth and money, from measured costs. Pure."""
