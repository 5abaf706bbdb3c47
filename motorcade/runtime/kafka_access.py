"""How a client gets into Kafka: its login (SASL) and TLS, and why a Kafka that is there refuses it.

The credentials file is YAML:

    username: NAME
    password: WORD
    mechanism: SCRAM-SHA-512     # or SCRAM-SHA-256, or PLAIN; this one if left out

Both clients that we use are told from here: aiokafka, and librdkafka (confluent-kafka).
"""

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest
from pydantic import BaseModel, ConfigDict, Field

from motorcade.fleet.errors import MotorcadeError, UnreachableError
from motorcade.fleet.settings import ProcessSettings
from motorcade.runtime import secret_file
from motorcade.runtime.tls import Tls

_EXAMPLE = (
    "It must be YAML with username and password, and perhaps mechanism: SCRAM-SHA-512 (the "
    "default), SCRAM-SHA-256 or PLAIN."
)
#: Seconds that one look at why a client was refused may take.
_PATIENCE_S = 5.0


class KafkaRefused(MotorcadeError):  # noqa: N818 - reads as what happened
    """Kafka is there and does not let us in, or not do what we asked; trying again is no use."""


class Login(BaseModel):
    """Who a client says it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    username: str = Field(min_length=1)
    password: str = Field(min_length=1, repr=False)
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"


@dataclass(frozen=True)
class KafkaAccess:
    """What a client shows, and whom it trusts; nothing of both for a Kafka that asks for nothing.

    Args:
        login: user name and password.
        tls: whom it trusts, and its certificate.
        credentials: where the login comes from, for messages.
    """

    login: Login | None = None
    tls: Tls | None = None
    credentials: Path | None = None

    @classmethod
    def load(
        cls,
        credentials: Path | None = None,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
    ) -> "KafkaAccess":
        """Read the files, each of which may be missing.

        Raises:
            SettingsError: one cannot be used; names it, and never quotes it.
        """
        login = secret_file.read(credentials, Login, _EXAMPLE) if credentials else None
        return cls(login, Tls.load(ca, cert, key, "Kafka"), credentials)

    @classmethod
    def of(cls, settings: ProcessSettings) -> "KafkaAccess":
        """As `load`, with what the settings name."""
        return cls.load(
            settings.kafka_credentials, settings.kafka_ca, settings.kafka_cert, settings.kafka_key
        )

    @property
    def asked(self) -> bool:
        """Whether there is anything to show or to verify."""
        return self.login is not None or self.tls is not None

    @property
    def _protocol(self) -> str:
        secure = "SSL" if self.tls else "PLAINTEXT"
        return f"SASL_{secure}" if self.login else secure

    def aiokafka(self) -> dict[str, Any]:
        """Arguments of any client of aiokafka."""
        found: dict[str, Any] = {"security_protocol": self._protocol}
        if self.tls is not None:
            found["ssl_context"] = self.tls.context("")
        if self.login is not None:
            found["sasl_mechanism"] = self.login.mechanism
            found["sasl_plain_username"] = self.login.username
            found["sasl_plain_password"] = self.login.password
        return found

    def librdkafka(self) -> dict[str, str]:
        """Settings of any client of confluent-kafka."""
        found = {"security.protocol": self._protocol}
        if self.tls is not None:
            found["ssl.ca.location"] = str(self.tls.ca)
            if self.tls.cert is not None:
                found["ssl.certificate.location"] = str(self.tls.cert)
                found["ssl.key.location"] = str(self.tls.key or self.tls.cert)
        if self.login is not None:
            found["sasl.mechanism"] = self.login.mechanism
            found["sasl.username"] = self.login.username
            found["sasl.password"] = self.login.password
        return found


#: The way into a Kafka that asks for nothing.
OPEN = KafkaAccess()


async def refusal(bootstrap: str, access: KafkaAccess) -> MotorcadeError | None:
    """Why Kafka does not let a client in; None where it does, or does not answer at all.

    Clients keep the reason to themselves: they say that they cannot connect, or try for ever. So
    this connects once more, by hand.
    """
    for host, port, _ in collect_hosts(bootstrap):
        try:
            async with asyncio.timeout(_PATIENCE_S):
                connection = await create_conn(host, port, **access.aiokafka())
                try:
                    await connection.send(MetadataRequest([]))
                finally:
                    connection.close()
        except (KafkaError, ssl.SSLError, ConnectionResetError) as error:
            return _explained(f"{host}:{port}", access, error)
        except (OSError, TimeoutError):
            continue
        return None
    return None


def require_admission(bootstrap: str, access: KafkaAccess) -> None:
    """Verify that a client is let in, before one that would try again until its time is over.

    Raises:
        MotorcadeError: Kafka refuses it.
    """
    if not access.asked:
        return
    with ThreadPoolExecutor(1) as thread:
        # A thread of its own: an event loop may run in this one.
        refused = thread.submit(lambda: asyncio.run(refusal(bootstrap, access))).result()
    if refused is not None:
        raise refused


def _explained(address: str, access: KafkaAccess, error: Exception) -> MotorcadeError:
    login = access.login
    # TLS 1.3 tells of a missing client certificate only when something is read.
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLError):
        why = getattr(cause, "verify_message", "") or cause.reason or str(cause)
        return KafkaRefused(
            f"No TLS with Kafka at {address}: {why}.",
            "Check the CA file (kafka_ca), the client's certificate and key (kafka_cert, "
            "kafka_key), the host's name, and that the port speaks TLS.",
        )
    if isinstance(error, SaslAuthenticationFailed) and login is not None:
        return KafkaRefused(
            f"Kafka at {address} refuses the login of {login.username!r} by {login.mechanism}.",
            f"Check username, password and mechanism in {access.credentials}.",
        )
    if isinstance(error, UnsupportedSaslMechanismError) and login is not None:
        return KafkaRefused(
            f"Kafka at {address} takes no login by {login.mechanism}.",
            f"Set mechanism in {access.credentials} to what it takes: SCRAM-SHA-512, "
            "SCRAM-SHA-256 or PLAIN.",
        )
    if isinstance(error, IllegalSaslStateError):
        return KafkaRefused(
            f"Kafka at {address} asks for no login at this port.",
            "Leave the credentials (kafka_credentials) out, or name its port with a login.",
        )
    return UnreachableError(
        f"Kafka at {address} closes the connection.",
        "Its port may ask for TLS (kafka_ca), a certificate (kafka_cert) or a login "
        "(kafka_credentials), or for none of them.",
    )
