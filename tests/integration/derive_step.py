"""A process for test_derive: copies a topic, and marks every third record twice in another."""

import sys

from motorcade.fleet.settings import ProcessSettings
from motorcade.runtime.derive import Output, derive
from motorcade.runtime.kafka import Record
from motorcade.runtime.service import run

#: A Kafka batch holds three of them, so that the two of one record may lie in two batches.
MARK = bytes(80_000)


class CopyStep:
    """value → value in {base}.copy, and value → two marks in {base}.marks where value % 3 == 0."""

    name = "copy"
    history = 5

    def __init__(self, base: str) -> None:
        self.group = base
        self.source = base
        self.outputs: tuple[str, ...] = (f"{base}.copy", f"{base}.marks")
        #: Values seen in each partition: state that only `history` can bring back.
        self.seen: dict[int, list[int]] = {}

    async def assigned(self, partition: int) -> None:
        self.seen[partition] = []

    def revoked(self, partition: int) -> None:
        self.seen.pop(partition, None)

    def process(self, records: list[Record]) -> list[Output]:
        outputs = []
        for record in records:
            key, value = record.key or b"", record.value or b""
            seen = self.seen[record.partition]
            # The copy holds the sum of the last five values: wrong if history were not re-read.
            text = b"%s %d" % (value, sum(seen[-4:]) + int(value))
            seen.append(int(value))
            outputs.append(Output(self.outputs[0], record.partition, key, text, record.offset))
            if int(value) % 3 == 0:
                outputs += [
                    Output(self.outputs[1], record.partition, key, MARK, record.offset, index=index)
                    for index in range(2)
                ]
        return outputs


if __name__ == "__main__":
    step = CopyStep(sys.argv[1])
    run("copy", ProcessSettings(), lambda service: derive(service, step, max_records=40))
