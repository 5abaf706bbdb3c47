"""What the whole suite shares: how many moments the chaos tests kill at."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--moments",
        type=int,
        default=2,
        help="seeded moments at which each chaos test kills a process (2; in full: 20)",
    )


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> int:
    """How many times a chaos test kills its process."""
    return int(request.config.getoption("--moments"))
