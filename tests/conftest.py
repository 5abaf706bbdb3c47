"""What the suite shares: properties, which files go first, how many moments chaos tests kill at."""

from pathlib import Path

import pytest
from hypothesis import settings

# Other tests keep the cores busy meanwhile: how long an example takes says nothing about the code.
settings.register_profile("motorcade", deadline=None)
settings.load_profile("motorcade")

#: The files that take longest; whatever is not named comes after them. Where several workers share
#: the files, none may be left alone with one of these at the end. Those that fill the cores and
#: those that mostly wait take turns.
FIRST = (
    "integration/test_scenarios.py",
    "integration/test_dispatch.py",
    "integration/test_load_external.py",
    "e2e/test_demo.py",
    "integration/test_stack_lifecycle.py",
    "integration/test_chaos.py",
    "integration/test_notebooks.py",
    "e2e/test_load.py",
    "integration/test_score.py",
    "e2e/test_readme.py",
    "integration/test_score_windows.py",
    "e2e/test_clusters.py",
    "integration/test_retraining.py",
    "integration/test_refine.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--moments",
        type=int,
        default=2,
        help="seeded moments at which each chaos test kills a process (2; in full: 20)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the workers of a shared run take the longest files first."""
    if not hasattr(config, "workerinput"):
        return
    places = {Path(__file__).parent / name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> int:
    """How many times a chaos test kills its process."""
    return int(request.config.getoption("--moments"))
