"""TLS to a server: whom a client trusts, and the certificate that it shows."""

import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from motorcade.fleet.errors import SettingsError

_VIN = "{vin}"


@dataclass(frozen=True)
class Tls:
    """Verifies the server's certificate and host name; with `cert` it is mutual.

    Args:
        ca: certificates that are trusted, PEM.
        cert: the client's certificate chain; "{vin}" stands for the client id.
        key: its private key, if it is not in the same file; "{vin}" as well.
        server: what it leads to, as messages and the settings' names call it.
    """

    ca: Path
    cert: Path | None = None
    key: Path | None = None
    server: str = "MQTT"

    @classmethod
    def load(
        cls, ca: Path | None, cert: Path | None, key: Path | None, server: str = "MQTT"
    ) -> "Tls | None":
        """Check what can be checked before any client connects; None without a CA.

        Raises:
            SettingsError: a file is missing, unreadable or does not fit the others.
        """
        if ca is None:
            if cert is not None or key is not None:
                raise SettingsError(
                    f"{server} has a client certificate or key, but no CA: TLS is off.",
                    f"Set MOTORCADE_{server.upper()}_CA to the CA file; the system's own for a "
                    "public CA.",
                )
            return None
        if cert is None and key is not None:
            raise SettingsError(
                f"{server} has the client key {key}, but no certificate.",
                f"Set MOTORCADE_{server.upper()}_CERT.",
            )
        tls = cls(ca, cert, key, server)
        _ = tls._shared if not tls.personal else tls._trusting()
        return tls

    @property
    def personal(self) -> bool:
        """Whether each client has a certificate of its own."""
        return any(_VIN in str(path) for path in (self.cert, self.key))

    def context(self, client_id: str) -> ssl.SSLContext:
        """The context of a client: one for all, unless each has its own certificate.

        Raises:
            SettingsError: the client's certificate or key cannot be used.
        """
        return self._with_certificate(client_id) if self.personal else self._shared

    @cached_property
    def _shared(self) -> ssl.SSLContext:
        return self._with_certificate("")

    def _trusting(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(self.ca))
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The {self.server} CA file {self.ca} cannot be used: {_why(error)}.",
                "It must hold the trusted certificates in PEM form.",
            ) from error

    def _with_certificate(self, client_id: str) -> ssl.SSLContext:
        context = self._trusting()
        if self.cert is None:
            return context
        cert = Path(str(self.cert).replace(_VIN, client_id))
        key = self.key and Path(str(self.key).replace(_VIN, client_id))
        for path in filter(None, (cert, key)):
            if not path.is_file():
                raise SettingsError(f"The {self.server} client file {path} does not exist.")
        try:
            # A key that asks for a pass phrase fails instead of waiting at a terminal.
            context.load_cert_chain(cert, key, password="")
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The {self.server} client certificate {cert} or its key {key or cert} cannot be "
                f"used: {_why(error)}.",
                "Both in PEM form, the key without a pass phrase and matching the certificate.",
            ) from error
        return context


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return getattr(error, "strerror", None) or str(error)
