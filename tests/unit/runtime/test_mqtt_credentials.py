"""Credentials and TLS files: what a client shows, and what is said when a file cannot be used."""

import ssl
from pathlib import Path

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from motorcade.fleet.errors import SettingsError
from motorcade.runtime.mqtt_credentials import Credentials, Token
from motorcade.runtime.tls import Tls

SECRET = "open sesame, a long secret of 32 bytes"


def yaml_file(folder: Path, text: str) -> Path:
    path = folder / "credentials.yaml"
    path.write_text(text)
    return path


def test_a_password_is_the_same_for_every_client_and_is_not_printed(tmp_path: Path) -> None:
    found = Credentials.load(yaml_file(tmp_path, f"username: fleet\npassword: {SECRET}\n"))
    assert found is not None
    assert found.for_client("a") == found.for_client("b") == ("fleet", SECRET)
    assert SECRET not in repr(found)
    assert Credentials.load(None) is None


@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
def test_a_token_speaks_for_one_client_and_for_a_while(tmp_path: Path, algorithm: str) -> None:
    verify: object = SECRET
    (tmp_path / "key").write_text(SECRET + "\n")
    if algorithm == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
        verify = key.public_key()
        (tmp_path / "key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    found = Credentials.load(
        yaml_file(
            tmp_path,
            f"jwt: {{key_file: key, algorithm: {algorithm}, audience: mqtt, lifetime_s: 60}}",
        )
    )
    assert isinstance(found, Token)
    username, token = found.for_client("MC9ABT5E7T0000000")
    claims = jwt.decode(token, verify, algorithms=[algorithm], audience="mqtt")  # type: ignore[arg-type]
    assert username == claims["sub"] == "MC9ABT5E7T0000000"
    assert claims["exp"] - claims["iat"] == 60
    assert SECRET not in repr(found)
    later = Token(found.form, found.key, now_s=lambda: claims["iat"] + 1000)
    assert jwt.decode(later.for_client("x")[1], options={"verify_signature": False})["exp"] == (
        claims["iat"] + 1060
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"password: {SECRET}", "give username and password, or jwt alone"),
        (f"username: a\npassword: {SECRET}\njwt: {{key_file: k, algorithm: HS256}}", "alone"),
        (f"username: a\npasword: {SECRET}", "pasword: Extra inputs are not permitted"),
        (f"username: a\npassword: [{SECRET}", "line 2 is not YAML"),
        (f"password: {SECRET}: {SECRET}", "line 1 is not YAML"),
        (SECRET, "cannot be used"),
        ("jwt: {key_file: nowhere, algorithm: ES256}", "nowhere cannot be read: No such file"),
        ("jwt: {key_file: credentials.yaml, algorithm: ES999}", "does not know the algorithm"),
        (f"jwt: {{key_file: credentials.yaml, algorithm: ES256}} # {SECRET}", "no key for ES256"),
        ("jwt: {key_file: k, algorithm: HS256, lifetime_s: 0}", "jwt.lifetime_s"),
    ],
)
def test_a_credentials_file_that_cannot_be_used_is_explained_without_being_quoted(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SettingsError) as error:
        Credentials.load(yaml_file(tmp_path, text))
    assert said in str(error.value)
    assert SECRET not in str(error.value) + (error.value.remedy or "")


def test_a_public_key_is_not_taken_for_a_private_one(tmp_path: Path) -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "key").write_bytes(
        public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    with pytest.raises(SettingsError, match="cannot sign with ES256"):
        Credentials.load(yaml_file(tmp_path, "jwt: {key_file: key, algorithm: ES256}"))


def test_one_context_serves_all_clients_unless_each_has_its_own_certificate(
    tmp_path: Path,
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    for vin in ("a", "b"):
        ca.issue_cert(common_name=vin).private_key_and_cert_chain_pem.write_to_path(
            tmp_path / f"{vin}.pem"
        )
    shared = Tls.load(tmp_path / "ca.pem", tmp_path / "a.pem", None)
    assert shared is not None
    assert shared.context("a") is shared.context("b")
    assert shared.context("a").verify_mode is ssl.CERT_REQUIRED
    assert shared.context("a").check_hostname
    personal = Tls.load(tmp_path / "ca.pem", tmp_path / "{vin}.pem", None)
    assert personal is not None
    assert personal.context("a") is not personal.context("b")
    with pytest.raises(SettingsError, match=r"c\.pem does not exist"):
        personal.context("c")
    assert Tls.load(None, None, None) is None


def test_a_tls_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    one, other = ca.issue_cert("one.example"), ca.issue_cert("other.example")
    one.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    other.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "junk.pem").write_text("junk")
    good = tmp_path / "ca.pem"
    for ca_file, cert, key, said in (
        (tmp_path / "none.pem", None, None, r"CA file .*none\.pem cannot be used: No such file"),
        (tmp_path / "junk.pem", None, None, r"CA file .*junk\.pem cannot be used"),
        (good, tmp_path / "none.pem", None, r"none\.pem does not exist"),
        (good, tmp_path / "junk.pem", None, r"certificate .*junk\.pem or its key"),
        (good, tmp_path / "cert.pem", tmp_path / "key.pem", "KEY_VALUES_MISMATCH"),
        (good, None, tmp_path / "key.pem", "but no certificate"),
        (None, tmp_path / "cert.pem", None, "but no CA"),
    ):
        with pytest.raises(SettingsError, match=said):
            Tls.load(ca_file, cert, key)
