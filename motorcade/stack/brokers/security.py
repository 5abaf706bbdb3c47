"""What a local broker asks of its clients: TLS, a certificate of each, or a user name and password.

Everything is made when the stack starts, in its state folder and for its owner alone, and kept with
the stack's data. Each client has the rights of its role: a car may touch its own topics only.
"""

import datetime
import hashlib
import ipaddress
import secrets
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from motorcade.fleet.vin import generate_vin
from motorcade.runtime.mqtt_options import Access, Credentials, Tls
from motorcade.simulator.settings import SimulatorSettings
from motorcade.stack.ports import LOOPBACK

#: Who connects: our two processes, the stack itself (probes, counts), and every car.
BRIDGE, DISPATCH, STACK, CARS = "bridge", "dispatch", "motorcade", "cars"
ROLES = (BRIDGE, DISPATCH, STACK, CARS)

_VIN = "{vin}"
_LIFETIME = datetime.timedelta(days=365)
#: Rounds of mosquitto's own password tool.
_PBKDF2_ROUNDS = 101


@dataclass(frozen=True)
class Security:
    """How clients show who they are.

    Args:
        folder: where keys, certificates and passwords are.
        tls: the broker shows a certificate, of a CA that is the stack's own.
        mutual_tls: clients show one, too; its common name is the user name.
        login: clients give user name and password.
    """

    folder: Path
    tls: bool = False
    mutual_tls: bool = False
    login: bool = False

    @property
    def named(self) -> bool:
        """Whether the broker knows who a client is, so that it has rights to keep to."""
        return self.mutual_tls or self.login

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def server(self) -> Path:
        """The broker's certificate and key, in one file."""
        return self.folder / "broker.pem"

    def certificate(self, role: str) -> Path:
        """Certificate and key of a role in one file; of cars with {vin} in the name."""
        return self.folder / "cars" / f"{_VIN}.pem" if role == CARS else self._file(role, "pem")

    def credentials(self, role: str) -> Path:
        """User name and password of a role, YAML."""
        return self._file(role, "yaml")

    def _file(self, role: str, kind: str) -> Path:
        return self.folder / f"{role}.{kind}"

    def prepare(self) -> None:
        """Make what is missing."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.tls:
            authority = _Authority(self.folder)
            if not self.server.exists():
                authority.issue(self.server, "broker", server=True)
        for role in ROLES:
            if self.mutual_tls and role != CARS and not self.certificate(role).exists():
                authority.issue(self.certificate(role), role)
            if self.login and not self.credentials(role).exists():
                login = {"username": role, "password": secrets.token_urlsafe()}
                _write(self.credentials(role), yaml.safe_dump(login).encode())

    def environment(self, role: str) -> dict[str, str]:
        """MOTORCADE_* variables, without that prefix, with which a role gets in."""
        found: dict[str, Path] = {}
        if self.tls:
            found["MQTT_CA"] = self.ca
        if self.mutual_tls:
            found["MQTT_CERT"] = self.certificate(role)
        if self.login:
            found["MQTT_CREDENTIALS"] = self.credentials(role)
        return {name: str(path) for name, path in found.items()}

    def access(self) -> Access:
        """How the stack itself gets in."""
        return Access(
            tls=Tls.load(self.ca, self.certificate(STACK) if self.mutual_tls else None, None)
            if self.tls
            else None,
            credentials=Credentials.load(self.credentials(STACK)) if self.login else None,
        )

    def login_of(self, role: str) -> tuple[str, str]:
        """User name and password of a role."""
        found = yaml.safe_load(self.credentials(role).read_text())
        return found["username"], found["password"]

    def mosquitto_passwords(self) -> str:
        """mosquitto's password file: PBKDF2 of each role's password."""
        lines = []
        for role in ROLES:
            username, password = self.login_of(role)
            salt = secrets.token_bytes(12)
            key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _PBKDF2_ROUNDS)
            code = f"{b64encode(salt).decode()}${b64encode(key).decode()}"
            lines.append(f"{username}:$7${_PBKDF2_ROUNDS}${code}\n")
        return "".join(lines)

    def mosquitto_access(self) -> str:
        """mosquitto's access rules: every role what it needs."""
        # A certificate names the car; with one password for all, its client id does.
        own = "%u" if self.mutual_tls else "%c"
        sent = ("telemetry", "dtc", "status", "commands/response")
        return "\n".join(
            [
                f"user {STACK}",
                "topic readwrite motorcade/#",
                "topic read $SYS/#",
                f"user {BRIDGE}",
                "topic read fleet/v1/#",
                f"user {DISPATCH}",
                "topic write fleet/v1/+/+/commands/request",
                *(f"pattern write fleet/v1/+/{own}/{kind}" for kind in sent),
                f"pattern read fleet/v1/+/{own}/commands/request",
                "",
            ]
        )


def issue_cars(settings: SimulatorSettings) -> None:
    """Make the certificates of a simulator's cars that are missing, if the CA is a stack's own.

    About 0.3 ms of CPU a car.
    """
    pattern = settings.mqtt_cert
    if pattern is None or _VIN not in pattern.name:
        return
    folder = pattern.parent.parent
    if pattern != Security(folder).certificate(CARS) or not (folder / "ca.key").exists():
        return
    vins = (generate_vin(settings.seed, index) for index in range(settings.cars))
    _issue_all(folder, vins)


def _issue_all(folder: Path, names: Iterable[str]) -> None:
    authority = _Authority(folder)
    pattern = Security(folder).certificate(CARS)
    pattern.parent.mkdir(exist_ok=True, mode=0o700)
    for name in names:
        path = pattern.with_name(pattern.name.replace(_VIN, name))
        if not path.exists():
            authority.issue(path, name)


class _Authority:
    """The stack's own certificate authority; made where there is none."""

    def __init__(self, folder: Path) -> None:
        self._key_file = folder / "ca.key"
        self._file = folder / "ca.pem"
        if not self._key_file.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Motorcade stack")])
            usage = x509.KeyUsage(
                *(False,) * 5,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            )
            certificate = (
                _begun(name, name, key.public_key())
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(usage, critical=True)
                .sign(key, hashes.SHA256())
            )
            _write(self._key_file, _pem(key))
            _write(self._file, certificate.public_bytes(serialization.Encoding.PEM))

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    @cached_property
    def _certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self._file.read_bytes())

    def issue(self, path: Path, name: str, *, server: bool = False) -> None:
        """Write a key and its certificate, of a common name, into one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _begun(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
                self._certificate.subject,
                key.public_key(),
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        if server:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        _write(path, _pem(key) + certificate.public_bytes(serialization.Encoding.PEM))


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
