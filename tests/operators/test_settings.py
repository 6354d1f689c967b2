"""Settings: read from the environment, checked one by one, shown with secrets masked."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from actors.secret_keys import weakness
from actors.settings import VARIABLES, ConfigError, load, mask_url, show, signing_secret
from api.http.cors import Cors
from api.security.tokens import Keyring
from api.sockets.user_socket import check_origin
from runtime.phoenix.check_origin import OriginPolicy

STRONG = "kJ8s0vQ2mZ4xW6yB1nC3dF5gH7jL9pR0tU2w"


def test_settings_are_read_and_shown_with_secrets_masked() -> None:
    url = "postgresql://ada:secret@db:5432/bank"
    settings = load(
        {
            "PORT": "4001",
            "DATABASE_URL": url,
            "SECRET_KEY_BASE": STRONG,
            "GO_API_URL": "http://go:8080",
            "SERVICES": "a=http://a:1,b=http://b:2",
        }
    )
    assert settings.port == 4001 and settings.go_services() == {
        "a": "http://a:1",
        "b": "http://b:2",
        "go": "http://go:8080",
    }
    shown = {line.name: line for line in show(settings)}
    assert list(shown) == [variable.name for variable in VARIABLES]
    assert shown["PORT"].source == "environment" and shown["HOST"].source == "default"
    text = "".join(line.value for line in shown.values())
    assert "secret" not in text and STRONG not in text and "ada:********@db" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "x"),
        ("PORT", "70000"),
        ("BITNEXUS_ENV", "live"),
        ("DATABASE_URL", "mysql://x"),
        ("DATABASE_URL", "postgresql://h:port/x"),
        *(("PORT", text) for text in ("\u0663", "+5", "1_000", "0x10", "1e3", "5.0", "9" * 5000)),
        *(
            ("HOST", text)
            for text in ("[::1]", "127.0.0.1:80", "http://x", "a b", "*", "256.1.1.1", "224.0.0.1", "ff02::1")
        ),
        ("HOST", "255.255.255.255"),
        ("CORS_ORIGINS", "example.com"),
        *(
            ("CORS_ORIGINS", f"https://{text}")
            for text in ("a.com/x", "a.com?x", "a.com#x", "u:p@a.com", "a.com:99999", "a b", "")
        ),
        ("CORS_ORIGINS", "https://a.com https://b.com"),
        *(
            ("TRUSTED_PROXIES", text)
            for text in ("x", "10.0.0.0/99", "[::1]", "10.0.0.1:80", "10.0.0.1 10.0.0.2", "localhost")
        ),
        *(
            ("GO_API_URL", text)
            for text in ("http:// h", "http://:80", "http://h h", "http://h\n/", "http://u:p@h", "http://h?x")
        ),
        *(
            ("SERVICES", text)
            for text in ("a=", "=http://h", "a=http://h,a=http://g", "\u00e9=http://h", "a=ftp://h")
        ),
        *(("METRICS_TOKEN", text) for text in (" a", " ", "a\n", "\u00e9")),
        ("CLUSTER_CA", "/"),
        *((name, "~nobody-of-this-name/x") for name in ("DATA_DIR", "CLUSTER_CA", "CLUSTER_CREDENTIALS")),
        ("CLUSTER_KEY", "x" * 5000),
        ("DATA_DIR", "a\nb"),
        *(
            (name, "a\udcff")
            for name in ("SECRET_KEY_BASE", "JWT_ISSUER", "DATA_DIR", "JWT_PREVIOUS_KEYS", "PORT")
        ),
        ("GO_API_URL", "go:8080"),
        ("SERVICES", "http://a"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({name: value})
    assert str(caught.value).startswith(name) and "\n" not in str(caught.value)
    assert "u:p@" not in str(caught.value)


@pytest.mark.parametrize("damaged", [b"", b"\n", b"short", b"\xff" * 64])
def test_a_damaged_development_key_signs_nothing(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret_key_base").write_bytes(damaged)
    with pytest.raises(ConfigError, match=r"DATA_DIR: .*development key"):
        signing_secret(load({"DATA_DIR": str(tmp_path)}))


def test_servers_that_start_together_make_one_development_key(tmp_path: Path) -> None:
    settings = load({"DATA_DIR": str(tmp_path / "new")})
    with ThreadPoolExecutor(8) as threads:
        made = {one.result()[0] for one in [threads.submit(signing_secret, settings) for _ in range(8)]}
    assert len(made) == 1 and not weakness(made.pop())
    assert os.listdir(tmp_path / "new") == ["secret_key_base"]
    assert (tmp_path / "new" / "secret_key_base").stat().st_mode & 0o777 == 0o600


def test_a_data_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="DATA_DIR"):
        signing_secret(load({"DATA_DIR": str(tmp_path / "file")}))


@pytest.mark.parametrize("key", ["~nobody-of-this-name/x.pem", "MC4CAQAwBQYDK2VwBCIEIOj", "sm2.pem"])
def test_a_private_key_that_is_none(key: str, tmp_path: Path) -> None:
    (tmp_path / "sm2.pem").write_text(SM2)
    named = str(tmp_path / key) if key == "sm2.pem" else key
    with pytest.raises(ConfigError, match=r"^JWT_PRIVATE_KEY: ") as refused:
        Keyring(load({"JWT_PRIVATE_KEY": named, "SECRET_KEY_BASE": STRONG}))
    assert "MC4C" not in str(refused.value), "it may be a key without its PEM lines"


# A key on a curve that the library does not know: UnsupportedAlgorithm, which is no ValueError.
SM2 = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoEcz1UBgi0DQgAE+362fGiiTD3gF0K2fNi51P+GONmk
DI4h5/HIE8a3187IgOCDxp/FYC5r7mFNN+nkTMAZFBnlkFrMjhorQ0uiYQ==
-----END PUBLIC KEY-----
"""


def test_origins_are_compared_as_browsers_write_them() -> None:
    given = load({"CORS_ORIGINS": "HTTPS://App.example.com:443/, http://[::1]:3000,https://*.example.org"})
    assert given.cors_origins == ("https://app.example.com", "http://[::1]:3000", "https://*.example.org")
    allowed = [
        origin
        for origin in (
            "https://app.example.com",
            "https://a.example.org",
            "https://evil.test",
            "https://a.example.org.evil.test",
        )
        if Cors(given).allows(origin.encode())
        and OriginPolicy(check_origin(given)).allows(origin, "http", "x", 1)
    ]
    assert allowed == ["https://app.example.com", "https://a.example.org"]


@pytest.mark.parametrize(
    "secret", ["", "short", "a" * 64, "your_secret_key_your_secret_key_1234567890", "changeme" * 8]
)
def test_prod_refuses_weak_secrets(secret: str) -> None:
    with pytest.raises(ConfigError, match="SECRET_KEY_BASE"):
        load({"BITNEXUS_ENV": "prod", "SECRET_KEY_BASE": secret})


def test_prod_takes_a_strong_secret() -> None:
    assert load({"BITNEXUS_ENV": "prod", "SECRET_KEY_BASE": STRONG}).production and not weakness(STRONG)


def test_passwords_in_urls_are_masked() -> None:
    assert mask_url("postgresql://u:p%40ss@h/d") == "postgresql://u:********@h/d"
    assert "topsecret" not in mask_url("postgresql://h/d?user=u&password=topsecret")
