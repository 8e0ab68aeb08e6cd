from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.api.settings import ClientSettings, Shares, ingestion_url
from airflow_provider_posthog.connection import form
from airflow_provider_posthog.exceptions import PostHogSettingsError

KEY = "phx_Qm7vT2kLr9XwZc4Nd8Bf6Hj1"
PROXY_PASSWORD = "pWd0fThePr0xy"
HAS_FAB = importlib.util.find_spec("flask_appbuilder") is not None
SALT = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
SECRETS = ["proxy", "project_token", "audit_secret"]
DEFAULTS = ClientSettings(api_key=KEY)


def conn(**fields: object) -> form.ConnectionLike:
    extra = fields.pop("extra", {})
    return SimpleNamespace(  # type: ignore[return-value]
        **{"host": None, "password": KEY, "port": None, "schema": None, "login": None, "extra_dejson": extra, **fields}
    )


def refusal(*, project_id: object = None, **fields: object) -> PostHogSettingsError:
    with pytest.raises(PostHogSettingsError) as caught:
        form.parse(conn(**fields), project_id=project_id)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert (str(fields.get("password") or "").strip() or KEY) not in shown
    assert KEY not in shown
    assert caught.value.__context__ is None, "the chained error would show the value"
    assert caught.value.remedy.startswith(("Write ", "Leave "))
    return caught.value


def test_an_empty_connection_with_a_key_is_posthogs_us_cloud() -> None:
    assert form.parse(conn()) == DEFAULTS
    assert DEFAULTS.base_url == "https://us.posthog.com"


@pytest.mark.parametrize(
    ("host", "port", "schema", "base_url"),
    [
        ("", 0, "", "https://us.posthog.com"),
        ("https://us.posthog.com/", None, None, "https://us.posthog.com"),
        (" EU.posthog.com ", None, None, "https://eu.posthog.com"),
        ("app.posthog.com", None, None, "https://app.posthog.com"),
        ("us.posthog.com", 443, None, "https://us.posthog.com"),
        ("us.posthog.com.", 443, None, "https://us.posthog.com"),
        ("https://us.posthog.com:443", 0, "https", "https://us.posthog.com"),
        ("https://posthog.example:8443", 8443, None, "https://posthog.example:8443"),
        ("posthog.example", "8443", None, "https://posthog.example:8443"),
        ("posthog.example:", 0, None, "https://posthog.example"),
        ("https://posthog.example:0", None, None, "https://posthog.example"),
        ("localhost:8000", None, None, "http://localhost:8000"),
        ("localhost", 8000, "https", "https://localhost:8000"),
        ("127.0.0.1", 80, None, "http://127.0.0.1"),
        ("[::1]:8000", None, None, "http://[::1]:8000"),
        ("posthog_web", 8000, "http", "http://posthog_web:8000"),
        ("graphs_internal_server.example", None, None, "https://graphs_internal_server.example"),
        ("http://localhost:443", None, None, "http://localhost:443"),
    ],
)
def test_hosts(host: str, port: object, schema: str | None, base_url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert form.parse(conn(host=host, port=port, schema=schema)).base_url == base_url
    assert not caplog.records


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("us.i.posthog.com", "https://us.posthog.com,"),
        ("https://eu.i.posthog.com/batch", "https://eu.posthog.com,"),
        ("https://us-assets.i.posthog.com", "https://us.posthog.com,"),
        ("i.posthog.com", "https://us.posthog.com,"),
        ("https://posthog.com", "https://eu.posthog.com"),
        ("EU", "Write https://eu.posthog.com."),
        ("https://us/", "Write https://us.posthog.com."),
        ("https://https://us.posthog.com", "has two schemes"),
        ("http://http:/localhost:8000", "has two schemes"),
        ("https://us.posthog.com/project/123", "Write https://us.posthog.com as host and 123 as project_id."),
        ("us.posthog.com/project/123/insights/ab?x=1#y", "Write https://us.posthog.com as host and 123 as project_id."),
        ("https://p.example:8443/api/projects/7/", "Write https://p.example:8443 as host and 7 as project_id."),
        ("https://us.posthog.com/login", "Write https://us.posthog.com as host, and the project's number"),
        ("https://us.posthog.com?project=1", "Write https://us.posthog.com as host"),
        ("https://me:secret@us.posthog.com", "Write the host alone"),
        ("ftp://us.posthog.com", "Write https://us.posthog.com."),
        ("postgres://us.posthog.com", "Write https://us.posthog.com."),
        ("https://us.posthog.com:65536", "a port up to 65535"),
        ("https://us.posthog.com:1000000", "a port up to 65535"),
        ("https://us.posthog.com:https", "not a host's name"),
        ("https//us.posthog.com", "as host, and the project's number"),
        ("https:/us.posthog.com", "as host, and the project's number"),
        ("https://", "not a host's name"),
        ("us..posthog.com", "not a host's name"),
        ("us posthog com", "not a host's name"),
        ("us.posthog.com\x00", "not a host's name"),
        ("m\u00fcnchen.example", "not a host's name"),
        ("loc\u212a.example", "not a host's name"),
        ("-us.posthog.com", "not a host's name"),
        ("a" * 64 + ".example", "not a host's name"),
        ("::1", "not a host's name"),
        ("[::1", "not a host's name"),
        ("[1.2.3.4]", "not a host's name"),
        ("[:::1]", "not a host's name"),
        (KEY, "password, nowhere else"),
        (KEY.lower() + ".example", "password, nowhere else"),
        ("phx_AnotherKeyOfOurs12345", "password, nowhere else"),
        ("0phx_AnotherKeyOfOurs12345", "password, nowhere else"),
    ],
)
def test_refused_hosts(host: str, says: str) -> None:
    error = refusal(host=host)
    assert error.field == "host"
    assert says in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"port": 65_536}, "port", "Write 443"),
        ({"port": -1}, "port", "Write 443"),
        ({"port": "https"}, "port", "Write 443"),
        ({"port": True}, "port", "Write 443"),
        ({"host": "posthog.example:8443", "port": 443}, "port", "is 443, but the host says 8443"),
        ({"schema": "project/123"}, "schema", "project_id"),
        ({"schema": "http"}, "schema", "the host starts with https://"),
        ({"host": "http://posthog.example", "schema": "https"}, "schema", "Write one of the two"),
        ({"schema": KEY}, "schema", "password, nowhere else"),
    ],
)
def test_refused_ports_and_schemas(fields: dict[str, Any], field: str, says: str) -> None:
    error = refusal(**fields)
    assert error.field == field
    assert says in str(error)


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("http://posthog.example", True),
        ("http://8.8.8.8:8000", True),
        ("http://us.posthog.com", True),
        ("https://posthog.example", False),
        ("http://localhost:8000", False),
        ("http://web.localhost", False),
        ("http://10.1.2.3", False),
        ("http://192.168.0.7:8000", False),
        ("http://[fd00::1]", False),
        ("http://[2606:4700::1]", True),
        ("http://web:8000", False),
        ("http://posthog.internal", False),
        ("http://posthog.svc.cluster.local", False),
    ],
)
def test_http_to_a_public_host_is_allowed_and_warned_about(
    host: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert form.parse(conn(host=host)).base_url == host
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == warned
    assert all("in clear" in text and KEY not in text for text in warnings)


@pytest.mark.parametrize("key", [KEY, "phs_abcDEF123456", "pha_abcDEF123456", "0123abcdef" * 4, "phx_a-b.c~d+e/f=="])
def test_keys(key: str) -> None:
    assert form.parse(conn(password=f" {key}\n")).api_key == key


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (None, "is empty."),
        ("", "is empty."),
        (" \t\n", "is empty."),
        ("phc_Qm7vT2kLr9XwZc4Nd8Bf6Hj1", "project token"),
        ("PHC_Qm7vT2kLr9XwZc4Nd8Bf6Hj1", "project token"),
        ("***", "mask"),
        (f"Bearer {KEY}", "the word Bearer"),
        (f'"{KEY}"', "quote"),
        (f"'{KEY}'", "quote"),
        (f"{KEY}\n{KEY}", "control"),
        (f"{KEY}\x00", "control"),
        (f"{KEY}\x7f", "control"),
        (f"\u200b{KEY}", "non-ASCII"),
        ("phx_Qm7vT2kLr9\u0425wZc4Nd8Bf6Hj1", "non-ASCII"),
    ],
)
def test_refused_keys(key: str | None, says: str) -> None:
    error = refusal(password=key)
    assert error.field == "password"
    assert says in error.problem
    assert "personal API key (phx_..." in error.remedy


def test_a_key_in_the_login_is_found_and_not_shown() -> None:
    error = refusal(password="", login=KEY)
    assert (error.field, "posthog://:KEY@HOST" in error.problem) == ("password", True)
    assert form.parse(conn(login="somebody")) == DEFAULTS


READ = [
    ("project_id", 12345, 12345),
    ("project_id", "12345", 12345),
    ("project_id", " 7 ", 7),
    ("path_prefix", "environments", "environments"),
    ("path_prefix", "/projects/", "projects"),
    ("connect_timeout", 0.5, 0.5),
    ("connect_timeout", "30", 30.0),
    ("connect_timeout", 86_400, 86_400.0),
    ("read_timeout", " 2.5 ", 2.5),
    ("max_rate_limit_wait", 0, 0.0),
    ("max_rate_limit_wait", "0", 0.0),
    ("verify", True, True),
    ("verify", "TRUE", True),
    ("verify", False, False),
    ("verify", "false", False),
    ("verify", "0", False),
    ("verify", 0, False),
    ("verify", 1, True),
    ("verify", " /etc/ssl/our ca.pem ", "/etc/ssl/our ca.pem"),
    ("verify", "ca.pem", "ca.pem"),
    ("proxy", " http://proxy.example:3128 ", "http://proxy.example:3128"),
    ("proxy", "HTTPS://u:p%40q:r@Proxy:3128/", "HTTPS://u:p%40q:r@Proxy:3128/"),
    ("proxy", "socks5://[fd00::1]:1080", "socks5://[fd00::1]:1080"),
    ("max_in_flight", 1, 1),
    ("max_in_flight", 4.0, 4),
    ("max_in_flight", "12", 12),
    ("rate_limit_share", 0.25, 0.25),
    ("rate_limit_share", " 0.5 ", 0.5),
    ("rate_limit_share", 1, 1.0),
    ("rate_limit_share", "0", 0.0),
    ("rate_limit_share", {"worker": 0.1, "triggerer": 1}, Shares(0.1, 1.0)),
    ("rate_limit_share", ' {"triggerer": "0.5", "worker": 0}', Shares(0.0, 0.5)),
]


@pytest.mark.parametrize(("name", "value", "read"), READ)
@pytest.mark.parametrize("prefix", ["", "extra__posthog__"])
def test_extras(name: str, value: object, read: object, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    result = form.parse(conn(extra={prefix + name: value}))
    assert getattr(result, name) == read
    assert type(getattr(result, name)) is type(read)
    assert not caplog.records


@pytest.mark.parametrize("name", [field.name for field in form.FIELDS])
@pytest.mark.parametrize("unset", [None, "", "  ", "null"])
def test_unset_extras_mean_the_default(name: str, unset: str | None) -> None:
    assert form.parse(conn(extra={name: unset})) == DEFAULTS


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("project_id", "@current", "last looked at"),
        ("project_id", "my project", "is 'my project', not"),
        ("project_id", 0, "not a project's number"),
        ("project_id", -3, "not a project's number"),
        ("project_id", 1.5, "not a project's number"),
        ("project_id", True, "not a project's number"),
        ("project_id", [1], "not a project's number"),
        ("project_id", "phc_abc", "project token"),
        ("project_id", "\u0661\u0662", "not a project's number"),
        ("project_id", KEY, "password, nowhere else"),
        ("project_id", [KEY], "password, nowhere else"),
        ("path_prefix", "project", "projects or environments"),
        ("path_prefix", ["projects"], "projects or environments"),
        ("path_prefix", KEY, "password, nowhere else"),
        *(
            (name, value, "at most 86400")
            for name in ("connect_timeout", "read_timeout", "max_rate_limit_wait")
            for value in (
                -1,
                "-1",
                "30s",
                "inf",
                "nan",
                float("inf"),
                float("nan"),
                86_401,
                10**400,
                True,
                [30],
                "\u0663",
            )
        ),
        ("connect_timeout", 0, "above 0"),
        ("read_timeout", "0.0", "above 0"),
        ("read_timeout", KEY, "password, nowhere else"),
        ("verify", "ture", "Write true, false, or the path"),
        ("verify", "None", "Write true, false, or the path"),
        ("verify", "/etc/\x00", "Write true, false, or the path"),
        ("verify", "/etc/\ud800", "Write true, false, or the path"),
        ("verify", 2, "Write true, false, or the path"),
        ("verify", 1.0, "Write true, false, or the path"),
        ("verify", {"ca": "x"}, "Write true, false, or the path"),
        ("verify", f"/etc/{KEY}.pem", "password, nowhere else"),
        ("max_in_flight", 0, "from 1"),
        ("max_in_flight", 2.5, "from 1"),
        ("max_in_flight", "three", "from 1"),
        ("max_in_flight", True, "from 1"),
        ("max_in_flight", -(10**400), "from 1"),
        *(
            ("rate_limit_share", value, "up to 1")
            for value in (1.01, "2", -0.5, "50%", "half", True, float("nan"), float("inf"), [0.5])
        ),
        *(("rate_limit_share", value, "worker and triggerer") for value in ({}, {"worker": 1}, {"scheduler": 1}, "{}")),
        *(
            ("rate_limit_share", {"worker": 0.5, "triggerer": value}, "the triggerer is not")
            for value in (2, None, "x")
        ),
        ("rate_limit_share", "{worker: 1}", "up to 1"),
        ("rate_limit_share", KEY, "password, nowhere else"),
        ("rate_limit_share", {"worker": KEY, "triggerer": 1}, "password, nowhere else"),
    ],
)
def test_refused_extras(name: str, value: object, says: str) -> None:
    error = refusal(extra={name: value})
    assert error.field == name
    assert says in str(error)


@pytest.mark.parametrize(
    "proxy",
    [
        f"proxy.example:{PROXY_PASSWORD}",
        f"u:{PROXY_PASSWORD}@proxy.example:3128",
        f"ftp://u:{PROXY_PASSWORD}@proxy.example",
        f"http://u:{PROXY_PASSWORD}@",
        f"http://u:{PROXY_PASSWORD}@proxy.example:65536",
        f"http://u:{PROXY_PASSWORD}@proxy.example:0",
        f"http://u:{PROXY_PASSWORD}@proxy.example:port",
        f"http://u:{PROXY_PASSWORD}@pro xy.example",
        f"http://u:{PROXY_PASSWORD}@proxy.example/path",
        f"http://u:{PROXY_PASSWORD}@x@proxy.example",
        f"http://u:{PROXY_PASSWORD}/x@proxy.example",
        f"http://u:{PROXY_PASSWORD}@[::zz]",
        f"http://u:{PROXY_PASSWORD}\u00fc@proxy.example",
        {"https": f"http://u:{PROXY_PASSWORD}@proxy.example"},
        3128,
    ],
)
def test_refused_proxies_are_not_shown(proxy: object) -> None:
    error = refusal(extra={"proxy": proxy})
    assert error.field == "proxy"
    assert "Write http://proxy.example:3128" in str(error)
    assert PROXY_PASSWORD not in str(error) + repr(error)


def test_the_settings_show_neither_the_key_nor_the_proxy() -> None:
    result = form.parse(conn(extra={"proxy": f"http://u:{PROXY_PASSWORD}@proxy.example:3128"}))
    assert result.proxy is not None
    assert PROXY_PASSWORD in result.proxy
    assert PROXY_PASSWORD not in repr(result)
    assert KEY not in repr(result)


@pytest.mark.parametrize("name", ["audit_secret", "extra__posthog__audit_secret"])
def test_the_salt_is_no_setting_of_the_client(name: str, caplog: pytest.LogCaptureFixture) -> None:
    connection = conn(extra={name: f" {SALT}\n"})
    assert form.parse(connection) == DEFAULTS
    assert SALT not in repr(form.parse(connection))
    assert form.read_audit_secret(form.find_audit_secret(connection), KEY) == SALT
    assert not caplog.records


@pytest.mark.parametrize("extra", [None, {}, [1], "text", {"audit_secret": None}, {"audit_secret": " "}])
def test_a_missing_salt_is_told_with_how_to_make_one(extra: object) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        form.read_audit_secret(form.find_audit_secret(conn(extra=extra)), KEY)
    assert caught.value.field == "audit_secret"
    assert "is not set" in caught.value.problem
    assert 'python -c "import secrets; print(secrets.token_hex(32))"' in caught.value.remedy


@pytest.mark.parametrize(
    ("salt", "says"),
    [
        ("***", "not set"),
        ("short-salt", "guessed"),
        ("ab" * 40, "guessed"),
        (SALT[:31], "guessed"),
        (f"{SALT} {SALT}", "blank"),
        (f"{SALT}\u00fc", "non-ASCII"),
        (KEY + SALT, "looks like a PostHog key"),
        (["a list of a dozen different letters, long enough"], "blank"),
    ],
)
def test_refused_salts_are_not_shown(salt: object, says: str) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        form.read_audit_secret(form.find_audit_secret(conn(extra={"audit_secret": salt})), KEY)
    assert (caught.value.field, says in caught.value.problem) == ("audit_secret", True)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert salt == "***" or str(salt) not in shown
    assert SALT[:10] not in shown
    assert KEY not in shown


@pytest.mark.parametrize("extra", [[1], "text", 3, [["project_id", 1]]])
def test_an_extra_that_is_no_object_is_refused(extra: object) -> None:
    assert refusal(extra=extra).field == "extra"


def test_no_extra_at_all() -> None:
    assert form.parse(conn(extra=None)) == DEFAULTS


def test_the_plain_name_wins_over_the_old_one_unless_it_is_empty() -> None:
    old = {"extra__posthog__project_id": "1", "extra__posthog__verify": "false"}
    assert form.parse(conn(extra={**old, "project_id": "2", "verify": ""})) == ClientSettings(
        api_key=KEY, project_id=2, verify=False
    )


def test_unknown_extras_are_named_once_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    reads = 0

    class Connection:
        host = port = schema = login = None
        password = KEY

        @property
        def extra_dejson(self) -> dict[str, object]:
            nonlocal reads
            reads += 1
            return {"project_id": 5, "region": "value-1", "extra__http__timeout": "value-2", KEY: "value-3"}

    assert form.parse(Connection()).project_id == 5
    assert reads == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert "'region'" in text
    assert "'extra__http__timeout'" in text
    assert "project_id" not in text
    assert "value-" not in text
    assert KEY not in text


@pytest.mark.parametrize(
    ("of_task", "of_connection", "used"),
    [(None, 1, 1), ("", 1, 1), (2, 1, 2), ("2", "1", 2), (2, "@current", 2), (2, None, 2), (None, None, None)],
)
def test_a_tasks_project_wins(of_task: object, of_connection: object, used: int | None) -> None:
    assert form.parse(conn(extra={"project_id": of_connection}), project_id=of_task).project_id == used


@pytest.mark.parametrize("project_id", ["None", "null", " ", "@current", 0, False, KEY])
def test_a_tasks_bad_project_never_falls_back_to_the_connections(project_id: object) -> None:
    assert refusal(extra={"project_id": 1}, project_id=project_id).field == "project_id"


texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["https://", "http://x", "us.i.posthog.com", "@", ":", "[", "//", "%", "\x00", "null", "1e5", "@current", "-1"]
    ),
)
# every place may hold the key, alone or with something around it
holders = st.builds(lambda before, key, after: before + key + after, texts, st.sampled_from(["", KEY]), texts)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), holders),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(texts, inner, max_size=2)),
    max_leaves=3,
)
names = st.sampled_from([field.name for field in form.FIELDS if field.name not in SECRETS])


@settings(max_examples=400)
@given(
    host=st.one_of(st.none(), holders),
    password=st.one_of(st.just(KEY), st.builds(lambda a, b: a + KEY + b, texts, texts)),
    port=st.one_of(st.none(), st.integers(), holders),
    schema=st.one_of(st.none(), st.just("https"), holders),
    login=st.one_of(st.none(), holders),
    extra=st.one_of(st.dictionaries(st.one_of(names, holders), values, max_size=4), values),
    proxy=st.builds(lambda a, b: f"http://{a}{PROXY_PASSWORD}{b}", texts, texts),
    project_id=st.one_of(st.none(), values),
)
def test_nothing_crashes_and_nothing_shows_a_secret(
    host: object,
    password: str,
    port: object,
    schema: object,
    login: object,
    extra: object,
    proxy: str,
    project_id: object,
) -> None:
    if isinstance(extra, dict):
        extra["proxy"] = proxy
        extra["audit_secret"] = SALT
    given_conn = conn(host=host, password=password, port=port, schema=schema, login=login, extra=extra)
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    loggers = [logging.getLogger(f"airflow_provider_posthog.connection_{part}") for part in ("form", "address")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        seen.append(repr(form.parse(given_conn, project_id=project_id)))
    except PostHogSettingsError as error:
        seen += [str(error), repr(error), "".join(traceback.format_exception(error))]
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    shown = "\n".join(seen)
    assert shown
    assert KEY.lower() not in shown.lower()
    assert PROXY_PASSWORD not in shown
    assert SALT not in shown


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (f"posthog://:{KEY}@eu.posthog.com?project_id=1", ("https://eu.posthog.com", 1, True, 10.0)),
        (f"posthog://:{KEY}@posthog.example/https", ("https://posthog.example", None, True, 10.0)),
        (f"posthog://:{KEY}@localhost:8000/http?verify=false", ("http://localhost:8000", None, False, 10.0)),
        (
            f"posthog://https://:{KEY}@us.posthog.com:443?connect_timeout=2.5",
            ("https://us.posthog.com", None, True, 2.5),
        ),
        (f"posthog://:{KEY}@https%3A%2F%2Fp.example%3A8443?project_id=", ("https://p.example:8443", None, True, 10.0)),
        (f"posthog://:{KEY}@/?verify=true&project_id=9", ("https://us.posthog.com", 9, True, 10.0)),
    ],
)
def test_airflows_own_connections_from_uris(uri: str, expected: tuple[object, ...]) -> None:
    from airflow.models import Connection

    connections: list[Any] = [Connection(conn_id="c", uri=uri)]
    with suppress(ImportError):  # 2.11 has no other kind of connection
        from airflow.sdk import Connection as TasksConnection

        if hasattr(TasksConnection, "from_uri"):
            connections.append(TasksConnection.from_uri(uri, conn_id="c"))
        else:  # 3.0: tasks get the parts of what the API server has read
            parts = ("conn_type", "host", "schema", "login", "password", "port", "extra")
            values = {part: getattr(connections[0], part) for part in parts}
            connections.append(TasksConnection(conn_id="c", **values))
    assert len(connections) == (2 if importlib.util.find_spec("airflow.sdk") else 1)
    for connection in connections:
        result = form.parse(connection)
        assert (result.base_url, result.project_id, result.verify, result.connect_timeout) == expected
        assert result.api_key == KEY


# --- the form -------------------------------------------------------------------------------------------------------


def defaults() -> dict[str, object]:
    return {name: field["schema"].get("default") for name, field in form.conn_fields().items()}


def test_what_the_form_writes_by_itself_is_what_an_empty_connection_means() -> None:
    assert form.parse(conn(extra=defaults())) == DEFAULTS
    as_texts = {name: "" if value is None else str(value) for name, value in defaults().items()}
    assert form.parse(conn(extra=as_texts)) == DEFAULTS
    assert form.parse(conn(extra=json.loads(json.dumps(defaults())))) == DEFAULTS


def test_every_setting_of_the_client_has_a_field_and_none_is_required() -> None:
    fields = form.conn_fields()
    assert set(fields) - {"audit_secret"} == {name for name in vars(DEFAULTS)} - {"base_url", "api_key", "read_again"}
    assert all("null" in field["schema"]["type"] for field in fields.values())
    assert [name for name, field in fields.items() if field["schema"].get("format") == "password"] == SECRETS


def test_the_two_spellings_of_the_behaviour_agree_and_the_port_stays() -> None:
    metadata, method = form.ui_field_behaviour(), form.python_ui_field_behaviour()
    assert set(metadata) == {"hidden-fields", "relabeling", "placeholders"}
    assert {name.replace("-", "_"): value for name, value in metadata.items()} == method
    assert method["hidden_fields"] == ["schema", "login"]
    assert method["placeholders"]["port"] == "443"
    assert "Extra Fields" in method["relabeling"]["password"], "Airflow 3 hides the project there"


def test_callers_can_not_change_the_table() -> None:
    form.conn_fields()["verify"]["label"] = "changed"
    form.python_ui_field_behaviour()["relabeling"]["password"] = "changed"
    assert form.conn_fields()["verify"]["label"] != "changed"
    assert form.ui_field_behaviour()["relabeling"]["password"] != "changed"


def described(widgets: dict[str, Any]) -> dict[str, tuple[object, ...]]:
    """Name -> label, help, default and kind, of real WTForms fields or of the stand-ins of Airflow 3.1."""
    if HAS_FAB:
        kinds = {"StringField": "string", "IntegerField": "integer", "PasswordField": "string"}
        return {
            name: (
                str(field.args[0]),
                field.kwargs["description"],
                field.kwargs["default"],
                kinds[field.field_class.__name__],
                field.field_class.__name__ == "PasswordField",
            )
            for name, field in widgets.items()
        }
    return {
        name: (
            field.param.schema["title"],
            field.param.description,
            field.param.value,
            field.param.schema["type"][0],
            field.param.schema.get("format") == "password",
        )
        for name, field in widgets.items()
    }


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Airflow 3.1's API server puts in the place of Flask-AppBuilder before it asks the hook's methods."""
    if HAS_FAB:
        return
    from unittest.mock import MagicMock

    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService as Service

    wtforms, validators, widgets = MagicMock(), MagicMock(), MagicMock()
    wtforms.StringField, wtforms.IntegerField = Service.MockStringField, Service.MockIntegerField
    wtforms.PasswordField, wtforms.BooleanField = Service.MockPasswordField, Service.MockBooleanField
    validators.Optional, validators.any_of = Service.MockOptional, Service.MockEnum
    widgets.BS3TextFieldWidget = widgets.BS3PasswordFieldWidget = Service.MockAnyWidget
    babel = MagicMock()
    babel.lazy_gettext = str
    for name, module in {
        "wtforms": wtforms,
        "wtforms.validators": validators,
        "flask_babel": babel,
        "flask_appbuilder": MagicMock(),
        "flask_appbuilder.fieldwidgets": widgets,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_metadata_and_widgets_say_the_same(stand_ins: None) -> None:
    assert described(form.connection_form_widgets()) == {
        name: (
            field["label"],
            field["description"],
            field["schema"].get("default"),
            field["schema"]["type"][0],
            field["schema"].get("format") == "password",
        )
        for name, field in form.conn_fields().items()
    }


def test_the_widgets_make_a_form_that_can_be_left_empty_filled_in_and_shown() -> None:
    if not HAS_FAB:
        with pytest.raises(ImportError, match="flask_appbuilder"):
            form.connection_form_widgets()
        return
    from flask import Flask
    from flask_babel import Babel

    app = Flask("test")
    app.config.update(SECRET_KEY="x", WTF_CSRF_ENABLED=False)
    Babel(app)
    with app.test_request_context():
        fill_in_the_form_of_2()


def fill_in_the_form_of_2() -> None:
    from flask_appbuilder.forms import DynamicForm
    from werkzeug.datastructures import MultiDict

    page_class = type("Page", (DynamicForm,), form.connection_form_widgets())
    empty = page_class(MultiDict())
    assert (empty.validate(), empty.data) == (True, defaults()), "the page of another connection type"

    proxy = f"http://u:{PROXY_PASSWORD}@proxy.example:3128"
    filled = {"project_id": "12", "connect_timeout": "5", "max_rate_limit_wait": "0", "verify": "false", "proxy": proxy}
    filled["audit_secret"] = SALT
    page = page_class(MultiDict({name: "" for name in defaults()} | filled))
    assert page.validate(), page.errors
    assert form.parse(conn(extra=page.data)) == ClientSettings(
        api_key=KEY, project_id=12, connect_timeout=5.0, max_rate_limit_wait=0.0, verify=False, proxy=proxy
    )
    shown = page.proxy()
    assert 'type="password"' in shown
    assert proxy in shown, "saving the page unchanged would erase the proxy"
    assert form.find_audit_secret(conn(extra=page.data)) == SALT
    assert 'type="password"' in page.audit_secret()
    assert SALT in page.audit_secret(), "saving the page unchanged would erase the salt"

    wrong = page_class(MultiDict({"path_prefix": "teams", "connect_timeout": "0", "max_in_flight": "0"}))
    assert not wrong.validate()
    assert set(wrong.errors) == {"path_prefix", "connect_timeout", "max_in_flight"}


def test_the_docs_list_every_extra_with_its_default() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "connection.md").read_text()
    for name, default in defaults().items():
        cell = " " if default is None else f" `{default}` "
        assert f"| `{name}` |{cell}|" in docs


def test_importing_the_form_imports_neither_airflow_nor_an_http_library() -> None:
    code = (
        "import sys, airflow_provider_posthog.connection.form, airflow_provider_posthog.provider_info as p;"
        "p.get_provider_info();"
        "bad = {'airflow','requests','httpx','aiohttp','pandas','flask','wtforms','sqlalchemy'} & set(sys.modules);"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


TOKEN = "phc_Qm7vT2kLr9XwZc4Nd8Bf6Hj1Qm7vT2kLr9XwZc4"


def test_a_project_s_token_is_read_and_never_shown() -> None:
    found = form.parse(conn(extra={"project_token": f" {TOKEN} "}))
    assert found.project_token == TOKEN
    assert TOKEN not in repr(found)


@pytest.mark.parametrize(
    "token", ["phx_Qm7vT2kLr9XwZc4Nd8Bf6Hj1", "phs_abc", 7, "***", '"phc_abc"', "phc_a b", "phc_ä"]
)
def test_what_is_no_project_s_token_is_refused_and_not_shown(token: object) -> None:
    error = refusal(extra={"project_token": token})
    assert error.field == "project_token"
    assert str(token) not in str(error).replace("phc_...", "")


@pytest.mark.parametrize(
    ("host", "extra", "expected"),
    [
        (None, {}, "https://us.i.posthog.com"),
        ("https://app.posthog.com", {}, "https://us.i.posthog.com"),
        ("eu.posthog.com", {}, "https://eu.i.posthog.com"),
        ("https://posthog.example:8443", {}, "https://posthog.example:8443"),
        ("http://localhost:8000", {}, "http://localhost:8000"),
        (None, {"ingestion_host": "https://eu.i.posthog.com/"}, "https://eu.i.posthog.com"),
        (None, {"ingestion_host": "events.example:443"}, "https://events.example"),
        (None, {"ingestion_host": "127.0.0.1:8001"}, "http://127.0.0.1:8001"),
    ],
)
def test_events_go_where_the_connection_says_or_where_its_host_takes_them(
    host: str | None, extra: dict[str, object], expected: str
) -> None:
    assert ingestion_url(form.parse(conn(host=host, extra=extra))) == expected


@pytest.mark.parametrize(
    "host",
    ["ftp://us.i.posthog.com", "https://us.i.posthog.com/batch/", "a b", "https://u:p@host", "host:99999", "ä.de"],
)
def test_what_is_no_ingestion_host_is_refused(host: str) -> None:
    assert refusal(extra={"ingestion_host": host}).field == "ingestion_host"


def test_a_project_s_token_as_password_still_says_that_it_cannot_read() -> None:
    assert "can only send events" in refusal(password=TOKEN).problem
