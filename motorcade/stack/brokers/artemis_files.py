"""The configuration files of an Artemis node, alone or in a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from motorcade.stack.brokers.base import MAX_PACKET_BYTES
from motorcade.stack.brokers.security import ROLES, STACK, Security
from motorcade.stack.ports import LOOPBACK

#: Expired and undeliverable messages go here and are counted as drops.
DROPPED = "motorcade.dropped"

# max-delivery-attempts -1: a session that is resumed again and again must not lose its messages to
# the dead-letter queue after ten tries, which is the default.
_BROKER = """\
<?xml version="1.0" encoding="UTF-8"?>
<configuration xmlns="urn:activemq"><core xmlns="urn:activemq:core">
  <name>{name}</name>
  <security-enabled>{secured}</security-enabled>
  <persistence-enabled>true</persistence-enabled>
  <journal-type>NIO</journal-type>
  <journal-datasync>false</journal-datasync>
  <journal-pool-files>4</journal-pool-files>
  <journal-directory>{data}/journal</journal-directory>
  <bindings-directory>{data}/bindings</bindings-directory>
  <paging-directory>{data}/paging</paging-directory>
  <large-messages-directory>{data}/large</large-messages-directory>
  <critical-analyzer>false</critical-analyzer>
  <max-disk-usage>98</max-disk-usage>
  <global-max-size>{memory_mb}M</global-max-size>
  <acceptors>
    <acceptor name="core">tcp://{host}:{core_port}?protocols=CORE,STOMP</acceptor>
    <acceptor name="mqtt">tcp://{host}:{port}?protocols=MQTT;maximumPacketSize={max_packet};\
receiveMaximum=1000;tcpSendBufferSize=16384;tcpReceiveBufferSize=16384;backlog=2048;autoStart={opens}{tls}</acceptor>
  </acceptors>
{cluster}
{rights}
  <addresses>
    <address name="{dropped}"><anycast><queue name="{dropped}"/></anycast></address>
  </addresses>
  <address-settings>
    <address-setting match="#">
      <expiry-address>{dropped}</expiry-address>
      <dead-letter-address>{dropped}</dead-letter-address>
      <max-delivery-attempts>-1</max-delivery-attempts>
      <max-size-bytes>64M</max-size-bytes>
      <address-full-policy>PAGE</address-full-policy>
      <redistribution-delay>0</redistribution-delay>
    </address-setting>
  </address-settings>
</core></configuration>
"""

# Neighbours are found by address, not by multicast. A bridge never gives a neighbour up: what is
# stored for it waits on disk until it comes back. One hop: every node has a bridge to every other.
_CLUSTER = """\
  <connectors>
{connectors}
  </connectors>
  <cluster-user>motorcade-cluster</cluster-user>
  <cluster-password>{secret}</cluster-password>
  <cluster-connections><cluster-connection name="motorcade">
    <connector-ref>{own}</connector-ref>
    <check-period>1000</check-period>
    <connection-ttl>5000</connection-ttl>
    <retry-interval>1000</retry-interval>
    <initial-connect-attempts>-1</initial-connect-attempts>
    <reconnect-attempts>-1</reconnect-attempts>
    <use-duplicate-detection>true</use-duplicate-detection>
    <message-load-balancing>ON_DEMAND</message-load-balancing>
    <max-hops>1</max-hops>
    <static-connectors>{others}</static-connectors>
  </cluster-connection></cluster-connections>
"""

_BOOTSTRAP = """\
<broker xmlns="http://activemq.apache.org/schema">
  <jaas-security domain="activemq"/>
  <server configuration="file:{etc}/broker.xml"/>
</broker>
"""

_MANAGEMENT = '<management-context xmlns="http://activemq.apache.org/schema"/>'

# A role may make and drop the queues of its own subscriptions. There are no rights by client id.
_RIGHTS = """\
  <security-settings>
    <security-setting match="#">
{rights}
    </security-setting>
  </security-settings>
"""
_EVERY_RIGHT = (
    *("createAddress", "deleteAddress", "createDurableQueue", "deleteDurableQueue"),
    *("createNonDurableQueue", "deleteNonDurableQueue", "consume", "browse", "send"),
)

_PASSWORDS = """\
activemq {
  org.apache.activemq.artemis.spi.core.security.jaas.PropertiesLoginModule required
    org.apache.activemq.jaas.properties.user="users.properties"
    org.apache.activemq.jaas.properties.role="roles.properties";
};
"""

_LOGIN = """\
activemq {
  org.apache.activemq.artemis.spi.core.security.jaas.GuestLoginModule required
    org.apache.activemq.jaas.guest.user="motorcade"
    org.apache.activemq.jaas.guest.role="motorcade";
};
"""

_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
# The audit logger is on by default and would write several lines a message.
logger.audit.name = org.apache.activemq.audit
logger.audit.level = OFF
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %-5level [%logger] %msg%n
"""


@dataclass(frozen=True)
class Neighbourhood:
    """What a node must know to find the others.

    Args:
        core_ports: every node's port for the others, this one's included.
        secret: the password that the nodes show each other.
    """

    core_ports: Sequence[int]
    secret: str


def write(
    folder: Path,
    name: str,
    port: int,
    core_port: int,
    memory_mb: int,
    neighbourhood: Neighbourhood | None,
    security: Security | None,
) -> None:
    """Writes one node's files and makes its folders.

    Args:
        folder: the node's own.
        name: of the node.
        port, core_port: loopback ports for MQTT, and for neighbours and management.
        memory_mb: messages held in memory; what is more goes to disk.
        neighbourhood: the cluster; None for a node alone.
        security: what it asks of clients; None for nothing.
    """
    login = security if security and security.login else None
    etc = folder / "etc"
    for needed in (etc, folder / "tmp", folder / "data"):
        needed.mkdir(parents=True, exist_ok=True)
    broker = _BROKER.format(
        name=name,
        data=folder / "data",
        host=LOOPBACK,
        port=port,
        core_port=core_port,
        max_packet=MAX_PACKET_BYTES,
        dropped=DROPPED,
        memory_mb=memory_mb,
        # In a cluster the gate opens it.
        opens="false" if neighbourhood else "true",
        cluster=_cluster(neighbourhood, core_port) if neighbourhood else "",
        secured=str(login is not None).lower(),
        rights=_rights() if login else "",
        tls=_tls(security) if security and security.tls else "",
    )
    files = {
        "broker.xml": broker,
        "bootstrap.xml": _BOOTSTRAP.format(etc=etc),
        "management.xml": _MANAGEMENT,
        "login.config": _PASSWORDS if login else _LOGIN,
        "log4j2.properties": _LOGGING,
    }
    if login:
        logins = [login.login_of(role) for role in ROLES]
        files["users.properties"] = "".join(f"{name} = {word}\n" for name, word in logins)
        files["roles.properties"] = "".join(f"{name} = {name}\n" for name, _ in logins)
    for file, text in files.items():
        path = etc / file
        path.touch(mode=0o600)
        path.write_text(text)


def _cluster(neighbourhood: Neighbourhood, own: int) -> str:
    connectors = "\n".join(
        f'    <connector name="node-{port}">tcp://{LOOPBACK}:{port}</connector>'
        for port in neighbourhood.core_ports
    )
    others = "".join(
        f"<connector-ref>node-{port}</connector-ref>"
        for port in neighbourhood.core_ports
        if port != own
    )
    return _CLUSTER.format(
        connectors=connectors, secret=neighbourhood.secret, own=f"node-{own}", others=others
    )


def _tls(security: Security) -> str:
    """Options of a listener that speaks TLS, and may ask for a certificate."""
    options = {
        "sslEnabled": "true",
        "keyStoreType": "PEM",
        "keyStorePath": security.server,
        "trustStoreType": "PEMCA",
        "trustStorePath": security.ca,
        "needClientAuth": str(security.mutual_tls).lower(),
    }
    return "".join(f";{name}={value}" for name, value in options.items())


def _rights() -> str:
    lines = [
        f'      <permission type="{right}" roles="{",".join(ROLES)}"/>' for right in _EVERY_RIGHT
    ]
    lines.append(f'      <permission type="manage" roles="{STACK}"/>')
    return _RIGHTS.format(rights="\n".join(lines))
