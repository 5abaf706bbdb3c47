"""Public benchmarks through the project's own pipeline: sent, learnt from the topic, judged."""
