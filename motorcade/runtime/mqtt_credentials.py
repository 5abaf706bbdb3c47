"""How an MQTT client says who it is: user name and password, or a token minted for it.

The file is YAML, either

    username: NAME
    password: WORD

or, for brokers that take a JSON Web Token (RFC 7519) as the password,

    jwt: {key_file: key.pem, algorithm: ES256, audience: fleet, lifetime_s: 3600}

where `key_file` is relative to the YAML file, and audience and lifetime may be left out.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from motorcade.fleet.errors import SettingsError
from motorcade.runtime import secret_file

_EXAMPLE = "It must be YAML with username and password, or with jwt: {key_file: …, algorithm: …}."


class Credentials(ABC):
    """What a client shows at CONNECT. Never printed, never logged."""

    #: Whether each connection shows something new, so that a rejected one may come back.
    renewed: bool

    @abstractmethod
    def for_client(self, client_id: str) -> tuple[str, str]:
        """User name and password of a client, for one connection."""

    @staticmethod
    def load(path: Path | None) -> "Credentials | None":
        """Read a credentials file; None without one.

        Raises:
            SettingsError: the file, or the key that it names, cannot be used.
        """
        if path is None:
            return None
        found = secret_file.read(path, _File, _EXAMPLE)
        if found.jwt is None:
            assert found.username is not None
            assert found.password is not None
            return Password(found.username, found.password)
        return Token.sign_with(path.parent / found.jwt.key_file, found.jwt)


@dataclass(frozen=True)
class Password(Credentials):
    """One user name and password for every client."""

    username: str
    password: str = field(repr=False)

    renewed = False

    def for_client(self, client_id: str) -> tuple[str, str]:  # noqa: ARG002 - the same for all
        return self.username, self.password


class TokenForm(BaseModel):
    """What a credentials file says of tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key_file: Path
    algorithm: str
    audience: str | None = None
    lifetime_s: int = Field(default=3600, ge=1)


@dataclass(frozen=True)
class Token(Credentials):
    """A token for each connection, of which the client id is the subject and the user name."""

    form: TokenForm
    key: Any = field(repr=False)
    now_s: Callable[[], float] = time.time

    renewed = True

    @classmethod
    def sign_with(cls, key_file: Path, form: TokenForm) -> "Token":
        """Read the key once, so that a token costs its signature only.

        Raises:
            SettingsError: the key cannot be read or does not fit the algorithm.
        """
        import jwt  # only here: its cryptography takes 15 MB

        try:
            key = jwt.get_algorithm_by_name(form.algorithm).prepare_key(
                key_file.read_bytes().strip()
            )
        except NotImplementedError as error:
            raise SettingsError(
                f"PyJWT does not know the algorithm {form.algorithm!r}.", "Take one such as ES256."
            ) from error
        except OSError as error:
            raise SettingsError(
                f"The token key {key_file} cannot be read: {error.strerror}.",
                "key_file is relative to the credentials file.",
            ) from error
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            # The library's text is left out: it could quote the key.
            raise SettingsError(
                f"The token key {key_file} is no key for {form.algorithm}.",
                "Give a private key in PEM form, or the secret itself for HS256.",
            ) from error
        token = cls(form, key)
        try:
            token.for_client("motorcade")
        except Exception as error:
            raise SettingsError(
                f"The token key {key_file} cannot sign with {form.algorithm}.",
                "Give the private key, not the public one.",
            ) from error
        return token

    def for_client(self, client_id: str) -> tuple[str, str]:
        import jwt

        now = int(self.now_s())
        claims = {"sub": client_id, "iat": now, "exp": now + self.form.lifetime_s}
        if self.form.audience is not None:
            claims["aud"] = self.form.audience
        return client_id, jwt.encode(claims, self.key, algorithm=self.form.algorithm)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    username: str | None = None
    password: str | None = None
    jwt: TokenForm | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "_File":
        both = self.username is not None and self.password is not None
        neither = self.username is None and self.password is None
        if not (neither if self.jwt else both):
            raise ValueError("give username and password, or jwt alone")
        return self
