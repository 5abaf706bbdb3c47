"""Files that let a client into Kafka: what each client is told, and what is said of a bad one."""

import ssl
from pathlib import Path

import pytest
import trustme

from motorcade.fleet.errors import MotorcadeError, SettingsError
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.reading.tensorflow_io import require_readable
from motorcade.runtime.kafka_access import OPEN, KafkaAccess

SECRET = "open sesame"


@pytest.fixture
def login(tmp_path: Path) -> Path:
    path = tmp_path / "kafka.yaml"
    path.write_text(f"username: fleet\npassword: {SECRET}\n")
    return path


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, and one.pem: a client's certificate with its key."""
    folder = tmp_path_factory.mktemp("pems")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    one = authority.issue_cert("client.example")
    one.private_key_and_cert_chain_pem.write_to_path(str(folder / "one.pem"))
    return folder


def test_without_files_clients_ask_for_plain_text() -> None:
    assert KafkaAccess.load() == OPEN
    assert not OPEN.asked
    assert OPEN.aiokafka() == {"security_protocol": "PLAINTEXT"}
    assert OPEN.librdkafka() == {"security.protocol": "PLAINTEXT"}


def test_a_login_is_by_scram_unless_the_file_says_otherwise(login: Path) -> None:
    found = KafkaAccess.load(login)
    assert found.aiokafka() == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "fleet",
        "sasl_plain_password": SECRET,
    }
    login.write_text(login.read_text() + "mechanism: PLAIN\n")
    assert KafkaAccess.load(login).librdkafka()["sasl.mechanism"] == "PLAIN"


def test_both_clients_are_told_of_tls_and_the_certificate_to_show(login: Path, pems: Path) -> None:
    settings = ProcessSettings(
        kafka_credentials=login, kafka_ca=pems / "ca.pem", kafka_cert=pems / "one.pem"
    )
    found = KafkaAccess.of(settings)
    context = found.aiokafka()["ssl_context"]
    assert found.aiokafka()["security_protocol"] == "SASL_SSL"
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert found.librdkafka() == {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(pems / "ca.pem"),
        "ssl.certificate.location": str(pems / "one.pem"),
        "ssl.key.location": str(pems / "one.pem"),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "fleet",
        "sasl.password": SECRET,
    }


def test_a_password_is_not_printed(login: Path) -> None:
    assert SECRET not in repr(KafkaAccess.load(login))
    assert SECRET not in repr(ProcessSettings(kafka_credentials=login))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"password: {SECRET}", "username: Field required"),
        (f"username: fleet\npassword: {SECRET}\nmechanism: GSSAPI", "mechanism: Input should be"),
        (f"username: fleet\npassword: [{SECRET}]", "password: Input should be a valid string"),
        (f"username: ''\npassword: {SECRET}", "username: String should have at least 1 character"),
        (f"username: [\n{SECRET}", "line 2 is not YAML"),
        (None, "No such file or directory"),
    ],
)
def test_a_bad_login_file_is_named_with_its_fault_and_never_quoted(
    login: Path, text: str | None, words: str
) -> None:
    login.unlink()
    if text is not None:
        login.write_text(text)
    with pytest.raises(SettingsError) as refused:
        KafkaAccess.load(login)
    said = str(refused.value)
    assert f"The credentials file {login} cannot be used: " in said
    assert words in said
    assert "mechanism: SCRAM-SHA-512 (the default), SCRAM-SHA-256 or PLAIN" in said
    assert SECRET not in said


def test_a_bad_tls_file_is_named_with_what_to_do(pems: Path) -> None:
    with pytest.raises(SettingsError, match=r"no CA: TLS is off.*MOTORCADE_KAFKA_CA"):
        KafkaAccess.load(cert=pems / "one.pem")
    with pytest.raises(SettingsError, match=r"but no certificate.*MOTORCADE_KAFKA_CERT"):
        KafkaAccess.load(ca=pems / "ca.pem", key=pems / "one.pem")
    gone = pems / "gone.pem"
    with pytest.raises(SettingsError, match=f"The Kafka CA file {gone} cannot be used"):
        KafkaAccess.load(ca=gone)
    with pytest.raises(SettingsError, match=f"The Kafka client file {gone} does not exist"):
        KafkaAccess.load(ca=pems / "ca.pem", cert=gone)


def test_tensorflow_io_that_logs_its_settings_is_given_no_password(login: Path) -> None:
    settings = ProcessSettings(kafka="127.0.0.1:1", kafka_credentials=login)
    with pytest.raises(MotorcadeError, match=r"the password with them.*--reader columnar"):
        require_readable(settings)
