"""Vehicle ids: VINs of ISO 3779 form with a check digit, derived ids, and the shard of an id."""

import re

from motorcade.fleet.errors import IdentityError

#: ISO 3779: 17 characters, without I, O and Q.
ALPHABET = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"
LENGTH = 17
SHARDS = 100

#: Transliteration and weights of the check digit: 49 CFR 565.15(c), tables III and IV.
_VALUE = {digit: int(digit) for digit in "0123456789"} | dict(
    zip("ABCDEFGHJKLMNPRSTUVWXYZ", map(int, "12345678123457923456789"), strict=True)
)
_WEIGHT = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_FORM = re.compile(rf"^[{ALPHABET}]{{{LENGTH}}}$")
#: Ids that are not VINs (derived from other fleets) may hold every capital letter.
_FORM17 = re.compile(r"^[0-9A-Z]{17}$")
#: Letters of an id's last two characters stand for a digit: A=0 … J=9, K=0 … T=9, U=0 … Z=5.
_SHARD_DIGIT = {str(d): d for d in range(10)} | {chr(65 + i): i % 10 for i in range(26)}

#: Generated cars: a third character 9 marks a maker of few vehicles (ISO 3780), T is the model
#: year 2026 (49 CFR 565.15, table VII).
_WMI = "MC9"
_DESCRIPTOR = "T5E"
_MODEL_YEAR = "T"
_SEQUENCE_DIGITS = 7
#: Cars of one fleet.
MOST_CARS = 10**_SEQUENCE_DIGITS
_SEED_CAPACITY = 23 * 23


def check_digit(vin: str) -> str:
    """The ninth character that a VIN of these 17 characters must have (0–9 or X)."""
    total = sum(_VALUE[c] * w for c, w in zip(vin, _WEIGHT, strict=True))
    return "0123456789X"[total % 11]


def is_vin(text: str, *, verify_check_digit: bool = True) -> bool:
    """Whether `text` has the form of a VIN and, where asked, a valid check digit."""
    return bool(_FORM.match(text)) and (not verify_check_digit or check_digit(text) == text[8])


def is_vehicle_id(text: str) -> bool:
    """Whether `text` may stand as a vehicle id: 17 characters of digits and capital letters."""
    return bool(_FORM17.match(text))


def generate_vin(seed: int, index: int) -> str:
    """The VIN of car `index` (0 ≤ index < 10,000,000) in the fleet of `seed`; always the same.

    The fleet's seed is folded into two letters, the index is the serial number, so that the last
    two characters, and with them the shards, are spread evenly.

    Raises:
        IdentityError: the index is out of range.
    """
    if not 0 <= index < MOST_CARS:
        raise IdentityError(f"Car index {index} is not within 0 and {MOST_CARS - 1}.")
    letters = "ABCDEFGHJKLMNPRSTUVWXYZ"
    high, low = divmod(seed % _SEED_CAPACITY, 23)
    serial = f"{index:0{_SEQUENCE_DIGITS}d}"
    vin = f"{_WMI}{letters[high]}{letters[low]}{_DESCRIPTOR}0{_MODEL_YEAR}{serial}"
    return vin[:8] + check_digit(vin) + vin[9:]


def shard_of(vehicle_id: str) -> str:
    """The shard of an id, "00" to "99": its last two characters, letters by a fixed table."""
    return f"{_SHARD_DIGIT[vehicle_id[-2]]}{_SHARD_DIGIT[vehicle_id[-1]]}"
