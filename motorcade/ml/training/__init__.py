"""From a data set in Kafka to a stored, compared and announced model."""
