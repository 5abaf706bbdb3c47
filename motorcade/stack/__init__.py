"""One machine: fetches, starts, watches and stops the real servers and our own processes.

In: a person's command. Out: running Kafka, schema registry, MQTT broker and Motorcade processes on
loopback ports, and one state folder that says where they are. It never touches a message: what
flows between the servers is the other folders' business.
"""
