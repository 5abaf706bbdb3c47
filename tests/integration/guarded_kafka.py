"""A Kafka as somebody else runs it: TLS, a login or a certificate, and rights for each login."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from motorcade.stack import archives
from motorcade.stack import kafka as kafka_server
from motorcade.stack.brokers.security import BRIDGE, Security
from motorcade.stack.ports import LOOPBACK, free_ports
from motorcade.stack.settings import StackSettings

from .servers import launch, run_async, wait_ready

PASSWORD = "open sesame = 1, 2"
_ROUNDS = 4096
#: Who may do anything, and who is known but may do nothing.
OWNER, GUEST = "fleet", "guest"

#: Beside the plain listener of the node itself: one with a login, over TLS; one with a login alone;
#: one that asks for a certificate.
_GUARDS = """\
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_SSL,\
BARE:SASL_PLAINTEXT,MUTUAL:SSL
listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.login.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{owner}="{password}";
listener.name.login.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.login.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.bare.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.bare.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.mutual.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={server}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{owner};User:CN={bridge}
"""


@dataclass(frozen=True)
class GuardedKafka:
    """A running Kafka.

    Args:
        folder: where credentials files are made.
        security: whose CA signed its certificate, and certificates of clients.
        plain: the address that asks for nothing.
        login, bare, mutual: those with a login over TLS, with a login alone, with a certificate.
    """

    folder: Path
    security: Security
    plain: str
    login: str
    bare: str
    mutual: str

    def credentials(self, mechanism: str = "", user: str = OWNER, password: str = PASSWORD) -> Path:
        """A credentials file for its owner's eyes; without a mechanism it names none."""
        found = {"username": user, "password": password}
        if mechanism:
            found["mechanism"] = mechanism
        path = self.folder / f"{user}-{mechanism}-{password == PASSWORD}.yaml"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(found))
        return path

    @property
    def certificate(self) -> Path:
        """A client's certificate and key."""
        return self.security.certificate(BRIDGE)


@contextmanager
def guarded(settings: StackSettings, folder: Path) -> Iterator[GuardedKafka]:
    """Starts one, with its users; stops it at the end."""
    security = Security(folder / "theirs", tls=True, mutual_tls=True)
    folder.mkdir(parents=True, exist_ok=True)
    security.prepare()
    port, controller, login, bare, mutual = free_ports(5)
    jars = archives.ensure([archives.KAFKA], settings)[archives.KAFKA.name]
    server = kafka_server.Kafka(jars, folder / "kafka", port, controller)
    run_async(server.prepare())
    _guard(server.folder / "server.properties", security, LOGIN=login, BARE=bare, MUTUAL=mutual)
    running = launch(server.program(), server.folder)
    try:
        wait_ready(lambda: kafka_server.ready(server.bootstrap), running)
        _make_users(server.bootstrap)
        addresses = (f"{LOOPBACK}:{one}" for one in (login, bare, mutual))
        yield GuardedKafka(folder, security, server.bootstrap, *addresses)
    finally:
        running.stop()


def _guard(properties: Path, security: Security, **ports: int) -> None:
    more = "".join(f",{name}://{LOOPBACK}:{port}" for name, port in ports.items())
    lines = [
        line + more if line.startswith(("listeners=", "advertised.listeners=")) else line
        for line in properties.read_text().splitlines()
        if not line.startswith("listener.security.protocol.map=")
    ]
    guards = _GUARDS.format(
        server=security.server, ca=security.ca, owner=OWNER, password=PASSWORD, bridge=BRIDGE
    )
    properties.write_text("\n".join([*lines, guards]))


def _make_users(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        secret = ScramCredentialInfo(mechanism, _ROUNDS)
        wanted = [
            UserScramCredentialUpsertion(user, secret, PASSWORD.encode()) for user in (OWNER, GUEST)
        ]
        # Kafka takes one of a user in a request.
        for future in admin.alter_user_scram_credentials(wanted).values():
            future.result(30)
