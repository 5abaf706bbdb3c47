"""Nothing is lost, invented, reordered, announced twice or forgotten, whatever is killed and when.

Every process of a running stack is killed at seeded moments, from outside and at failpoints between
its acknowledgements, while a fleet drives, cars wear and bad input comes.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from motorcade.stack.keeper import Crash

from . import chaos_account, chaos_moments
from .chaos_account import Account
from .chaos_moments import FAILPOINTS, Moment
from .chaos_stack import CARS, ChaosStack, Rubbish, wearing_fleet

# The fixture runs all moments before the first test; every step of it has a deadline of its own.
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

SEED = 20240917
_KINDS = ("coolant_leak", "bearing_wear", "tire_leak", "cell_degradation")


@dataclass(frozen=True)
class Aftermath:
    """What was done to the stack, and what came of it."""

    moments: list[Moment]
    kills: Counter[str]
    ends: list[Crash]
    account: Account


@pytest.fixture(scope="module")
async def aftermath(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Aftermath]:
    """A stack whose processes were killed at every moment, and then came to rest."""
    folder = tmp_path_factory.mktemp("chaos")
    moments = chaos_moments.draw(random.Random(SEED), request.config.getoption("--moments"))
    kills: Counter[str] = Counter()
    async with wearing_fleet(folder) as stack:
        rubbish = Rubbish(stack.state.brokers[0])
        around = [
            asyncio.create_task(rubbish.run(pace_s=1.0)),
            asyncio.create_task(_wear_on(stack, len(moments))),
        ]
        for moment in moments:
            began = time.monotonic()
            kills[moment.process] += await chaos_moments.strike(stack, moment)
            print(f"{moment}: ready again after {time.monotonic() - began:.1f} s")
            _raise_failures(around)
        for task in around:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*around)
        bad = await rubbish.settled()
        await chaos_account.settle(stack)
        account = await chaos_account.take(stack, bad, folder)
        yield Aftermath(moments, kills, stack.folder.keeper.restarts(), account)


async def _wear_on(stack: ChaosStack, moments: int) -> None:
    """Let wear begin in car after car, so that alerts and commands come all the time.

    Half of the fleet is left to the failpoints that need an alert, and to keep telemetry coming.
    """
    dice = random.Random(SEED)
    for _ in range(CARS // 2):
        await stack.wear(1, dice.uniform(30, 60), dice.choice(_KINDS))
        await asyncio.sleep(max(4.0, moments / 8))


def _raise_failures(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


def test_every_process_died_at_every_moment_and_of_nothing_else(aftermath: Aftermath) -> None:
    assert {crash.how for crash in aftermath.ends} == {"terminated by SIGKILL"}
    assert Counter(crash.name for crash in aftermath.ends) == aftermath.kills
    assert set(aftermath.kills) == set(FAILPOINTS)


def test_every_message_acknowledged_to_a_car_is_in_raw(aftermath: Aftermath) -> None:
    accounts = aftermath.account.accounts
    assert accounts.acknowledged > 50 * CARS
    assert accounts.acknowledged_missing == 0
    # Killed between Kafka and PUBACK, the bridge was given the same messages again.
    assert accounts.raw_repeats > 0
    print(f"{accounts.raw_repeats} exact repeats among {accounts.raw_records} raw records")


def test_every_raw_message_is_refined_or_quarantined_and_none_is_invented(
    aftermath: Aftermath,
) -> None:
    accounts = aftermath.account.accounts
    assert accounts.unaccounted == 0
    assert accounts.refined_and_quarantined == 0
    assert accounts.invented == 0
    assert accounts.refined >= accounts.acknowledged
    # The next life finds at the end of its outputs what the one before it had produced.
    assert accounts.refined_repeats == 0


def test_every_refined_message_is_scored_or_not_scored_with_a_reason(aftermath: Aftermath) -> None:
    accounts = aftermath.account.accounts
    assert accounts.unpredicted == 0
    assert accounts.scored + accounts.not_scored == accounts.refined
    assert accounts.scored > 0
    assert accounts.predicted_repeats == 0


def test_no_car_is_reordered_without_a_flag(aftermath: Aftermath) -> None:
    assert aftermath.account.accounts.reordered == 0


def test_every_bad_message_is_quarantined_with_its_payload_untouched(aftermath: Aftermath) -> None:
    account = aftermath.account
    assert len(account.rubbish) > 6 * len(FAILPOINTS)
    assert account.rubbish - account.refused.keys() == set()


def test_no_alert_is_raised_twice_and_none_is_forgotten(aftermath: Aftermath) -> None:
    account = aftermath.account
    assert Counter(account.raised).most_common(1)[0][1] == 1
    assert Counter(account.announced) == Counter(account.replayed)
    assert len(account.raised) > len(FAILPOINTS)
    assert account.states == account.replayed_states


def test_every_alert_has_one_command_and_every_command_one_end(aftermath: Aftermath) -> None:
    account = aftermath.account
    by_alert = Counter(command.parameters["alert"] for command in account.commands)
    assert by_alert == Counter(account.raised)
    assert account.finals.keys() == {command.id for command in account.commands}
    assert [finals for finals in account.finals.values() if len(finals) > 1] == []


def test_the_twin_is_the_one_that_kafka_would_make_anew(aftermath: Aftermath) -> None:
    assert aftermath.account.twin == []
    assert aftermath.account.twin_cars >= CARS
