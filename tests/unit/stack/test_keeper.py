"""What supervisord's log says about crashes; programs' commands survive its configuration."""

from motorcade.stack.keeper import Crash, crashes

LOG = """\
2026-11-22 06:18:06,101 INFO spawned: 'bridge' with pid 7
2026-11-22 06:18:12,102 INFO success: bridge entered RUNNING state, process has stayed up for 5 s
2026-11-22 06:18:16,551 WARN exited: bridge (terminated by SIGKILL; not expected)
2026-11-22 06:18:17,600 INFO spawned: 'bridge' with pid 9
2026-11-22 06:18:18,000 INFO exited: score (exit status 0; expected)
2026-11-22 06:18:19,000 WARN exited: score (exit status 1; not expected)
2026-11-22 06:18:20,000 WARN stopped: bridge (terminated by SIGTERM)
"""


def test_crashes_tell_who_when_and_how_and_leave_out_what_was_asked_for() -> None:
    assert crashes(LOG) == [
        Crash("bridge", "2026-11-22 06:18:16", "terminated by SIGKILL"),
        Crash("score", "2026-11-22 06:18:18", "exit status 0"),
        Crash("score", "2026-11-22 06:18:19", "exit status 1"),
    ]
