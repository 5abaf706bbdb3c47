"""What a broker may lose by its own declared durability when a node of it is killed."""

from collections.abc import Iterator, Sequence

from motorcade.simulator.audit.delivery import Excuse
from motorcade.stack.load.course import Recovered
from motorcade.stack.load.target import Target

#: How long before a kill a message may have been due that was lost with the node, milliseconds:
#: mosquitto's autosave interval; RMQTT keeps its queues in memory alone, and mosquitto's bound on
#: what waits for a bridge that keeps up is far shorter.
_BEFORE_MS = {"mosquitto": 60_000, "rmqtt": 60_000}
#: A message on its way to the node at that moment.
_AFTER_MS = 1_000


def excuses(aim: Target, recoveries: Sequence[Recovered]) -> Iterator[Excuse]:
    """One for every kill of a node of a broker that keeps in memory."""
    before_ms = _BEFORE_MS.get(aim.broker.name)
    if before_ms is None:
        return
    for one in recoveries:
        happening = one.happening
        killed = [name for name in happening.programs if name in aim.broker_programs]
        if happening.kind != "kill":
            continue
        for name in killed:
            endpoint = str(aim.broker.endpoints[aim.broker_programs.index(name)])
            yield Excuse(
                happening.time_ms - before_ms,
                happening.time_ms + _AFTER_MS,
                f"held in the memory of {name}, which was killed",
                None if aim.broker.clustered else endpoint,
            )
