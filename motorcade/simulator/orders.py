"""What a car answers to a command: pure, with its clock as an argument."""

from collections import OrderedDict

from motorcade.fleet.messages import CommandRequest, CommandResponse, CommandState

DRIVER_WARNING = "driver_warning"
#: Commands that a car can carry out.
KNOWN = frozenset({DRIVER_WARNING})
#: Answers that a car remembers, so that a repeated command is not carried out twice.
_REMEMBERED = 32


class Orders:
    """Commands of one car: carries each out once and gives a repeated one the same answer."""

    __slots__ = ("_answers", "_vin", "warnings")

    def __init__(self, vin: str) -> None:
        self._vin = vin
        self._answers: OrderedDict[str, CommandResponse] = OrderedDict()
        #: Driver warnings that are on the dashboard.
        self.warnings = 0

    def answer(self, request: CommandRequest, now_ms: int) -> CommandResponse:
        """The car's final answer at wall-clock `now_ms`."""
        if (known := self._answers.get(request.id)) is not None:
            return known
        reason = self._objection(request, now_ms)
        if not reason:
            self.warnings += 1
        status = CommandState.REJECTED if reason else CommandState.SUCCEEDED
        response = CommandResponse(request.id, self._vin, status, now_ms, reason)
        self._answers[request.id] = response
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        return response

    def _objection(self, request: CommandRequest, now_ms: int) -> str:
        if request.vin != self._vin:
            return f"The command is for {request.vin}, this car is {self._vin}."
        if request.name not in KNOWN:
            known = ", ".join(sorted(KNOWN))
            return f"This car does not know the command {request.name!r}; it knows {known}."
        if now_ms > request.expires:
            return f"The command expired {now_ms - request.expires} ms ago."
        return ""
