"""Settings of the local stack, read from MOTORCADE_* variables at the entry points only."""

from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class StackSettings(BaseSettings):
    """Where the stack keeps things, and where it fetches server archives from."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    cache: Path | None = Field(default=None, validation_alias="MOTORCADE_CACHE")
    state: Path | None = Field(default=None, validation_alias="MOTORCADE_STATE")
    maven_url: str | None = Field(default=None, validation_alias="MOTORCADE_MAVEN_URL")
    #: The rmqttd program, where it is not in the PATH.
    rmqtt: Path | None = Field(default=None, validation_alias="MOTORCADE_RMQTT")
    xdg_cache_home: Path | None = Field(default=None, validation_alias="XDG_CACHE_HOME")
    xdg_state_home: Path | None = Field(default=None, validation_alias="XDG_STATE_HOME")
    #: Certificates for a TLS-intercepting proxy: the first of these that is set.
    ca_bundle: Path | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT"
        ),
    )

    @property
    def cache_folder(self) -> Path:
        """Verified server archives, shared by every checkout of this user."""
        home = self.xdg_cache_home or Path.home() / ".cache"
        return (self.cache or home / "motorcade").absolute()

    @property
    def state_folder(self) -> Path:
        """The one folder of a running stack."""
        home = self.xdg_state_home or Path.home() / ".local" / "state"
        return (self.state or home / "motorcade").absolute()
