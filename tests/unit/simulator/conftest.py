"""Locust without gevent's patches: they would change threads and sockets of every other test."""

import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("LOCUST_SKIP_MONKEY_PATCH", "1")
    import locust  # noqa: F401 - the first import decides
