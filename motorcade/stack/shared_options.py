"""Options that several commands take, with their words."""

from pathlib import Path
from typing import Annotated

import typer

from motorcade.fleet.errors import SettingsError
from motorcade.stack.options import BROKERS
from motorcade.stack.settings import StackSettings
from motorcade.stack.state import StateFolder

Broker = Annotated[
    str, typer.Option(help=f"MQTT broker: {', '.join(BROKERS)}. auto: mosquitto if installed.")
]
BrokerNodes = Annotated[
    int, typer.Option(help="Nodes: of mosquitto a farm, of the others a cluster.")
]
BrokerUrl = Annotated[
    str | None, typer.Option(help="External broker: mqtt://host:port, several with commas.")
]
BrokerCredentials = Annotated[
    Path | None, typer.Option(help="YAML file with its `username` and `password`.")
]
BrokerCa = Annotated[
    Path | None, typer.Option(help="CA (PEM) of an external broker; given, TLS is spoken.")
]
BrokerCert = Annotated[
    Path | None, typer.Option(help="Certificate (PEM) that an external broker asks for.")
]
BrokerKey = Annotated[
    Path | None, typer.Option(help="Its private key, if it is not in the same file.")
]
BrokerTls = Annotated[
    bool, typer.Option("--broker-tls", help="TLS to the local broker, with a CA made for it.")
]
BrokerMutualTls = Annotated[
    bool,
    typer.Option("--broker-mutual-tls", help="TLS, and a certificate of each car and process."),
]
BrokerLogin = Annotated[
    bool, typer.Option("--broker-login", help="The local broker asks for generated passwords.")
]
KafkaCredentials = Annotated[
    Path | None,
    typer.Option(help="YAML file with its `username`, `password` and `mechanism` (SASL)."),
]
KafkaCa = Annotated[
    Path | None, typer.Option(help="CA (PEM) of your own Kafka; given, TLS is spoken.")
]
KafkaCert = Annotated[
    Path | None, typer.Option(help="Certificate (PEM) that your own Kafka asks for.")
]
KafkaKey = Annotated[
    Path | None, typer.Option(help="Its private key, if it is not in the same file.")
]
State = Annotated[
    Path | None,
    typer.Option("--state", help="State folder of the stack.", envvar="MOTORCADE_STATE"),
]


def require_writable(option: str, path: Path | None) -> None:
    """That a file can be written, before the work whose result it is to hold.

    Raises:
        SettingsError: it cannot, or would not be a file.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        path.open("ab").close()
        if not there:
            path.unlink()
    except OSError as error:
        raise SettingsError(
            f"{option} {path} cannot be written: {error.strerror}.", "Name another file."
        ) from error


def folder_of(state: Path | None) -> StateFolder:
    """The state folder that `--state` names, or the default one."""
    return StateFolder(state.absolute() if state else StackSettings().state_folder)
