"""MQTT brokers behind one interface: each adapter configures, starts, probes and judges one kind.

In: how many nodes, which ports, how much to queue. Out: programs to run, endpoints, whether a
message crosses, how many messages the broker dropped, and what it promises to keep. Adapters never
carry the fleet's messages themselves.
"""
