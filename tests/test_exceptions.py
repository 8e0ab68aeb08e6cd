"""The errors: what they say, what they never say, and that they survive a process boundary."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog import exceptions
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogAuthenticationError,
    PostHogErasureError,
    PostHogError,
    PostHogIncompleteError,
    PostHogJobError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogLoadError,
    PostHogNotFoundError,
    PostHogPermissionError,
    PostHogQuotaError,
    PostHogRateLimitError,
    PostHogServerError,
    PostHogSettingsError,
    PostHogTransportError,
    PostHogValidationError,
    clean,
    error_for_status,
)

KEY_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
KEYS = st.builds(
    lambda prefix, rest: prefix + rest,
    st.sampled_from(["phx_", "phc_", "phs_", "pha_", "phr_"]),
    st.text(KEY_LETTERS, min_size=32, max_size=60),
)
EMAILS = st.builds(
    lambda name, domain: f"{name}@{domain}",
    st.from_regex(r"[A-Za-z0-9._+-]{1,20}", fullmatch=True),
    st.sampled_from(["example.com", "mail.example.co.uk", "ex-ample.museum"]),
)
AROUND = st.text(max_size=30) | st.sampled_from(["%22", "\\n", "=", "_", '"', "key:", "Authorization: Bearer "])

API_KINDS = [
    PostHogAPIError,
    PostHogAuthenticationError,
    PostHogPermissionError,
    PostHogNotFoundError,
    PostHogValidationError,
    PostHogRateLimitError,
    PostHogQuotaError,
    PostHogServerError,
]
API_VALUES: dict[str, Any] = {
    "status": 403,
    "method": "POST",
    "path": "/api/projects/7/exports/",
    "code": "permission_denied",
    "detail": "API key missing required scope 'export:write'",
    "attr": "export_format",
    "request_id": "req-1",
    "retry_after": 1.5,
}
EXAMPLES: list[PostHogError] = [
    *(kind(**API_VALUES) for kind in API_KINDS),
    PostHogServerError(status=500, method="GET", path="/x/"),
    PostHogValidationError(status=400, method="GET", path="/x/", detail="y" * 5000),
    PostHogSettingsError("host", "is wrong.", "Write another."),
    PostHogTransportError("cut", sent=False),
    PostHogTransportError("cut"),
    PostHogJobError("ended", job_id="5"),
    PostHogJobFailed("failed", job_id="5"),
    PostHogJobTimeout("late"),
    PostHogErasureError("left", job_id="5", states={"SURVIVORS": 1}),
    PostHogIncompleteError("3 of 4 rows"),
    PostHogLoadError("refused", sqlstate="23505"),
    PostHogError("x"),
]


@given(AROUND, KEYS, AROUND)
def test_no_key_survives(before: str, key: str, after: str) -> None:
    assert key not in clean(before + key + after)
    assert not re.search(r"ph[xcsar]_[A-Za-z0-9]{6}", clean(f"{before} {key} {after}"))


@given(st.lists(AROUND | KEYS, max_size=200).map("".join), KEYS)
def test_no_key_survives_a_long_text(text: str, key: str) -> None:
    shown = clean(f"{text} {key} {text}")
    assert not re.search(r"(?<![A-Za-z])ph[xcsar]_[A-Za-z0-9]{20}", shown)
    assert len(shown) < 560


@given(
    st.sampled_from(["", " ", "<", "(", "'", "/", "user=", "%22"]), EMAILS, st.sampled_from(["", " x", ">", "'", "/"])
)
def test_no_address_survives(before: str, address: str, after: str) -> None:
    assert address not in clean(f"see {before}{address}{after}")
    assert address.replace("@", "%40") not in clean(f"see {before}{address.replace('@', '%40')}{after}")


@pytest.mark.parametrize(
    "address", ["ann@пример.рф", "ann@xn--e1afmkfd.xn--p1ai", "用户@例子.广告", '"ann"@example.org']
)
def test_addresses_of_every_script_are_hidden(address: str) -> None:
    assert clean(f"No {address}: asked for {address}.") == "No <e-mail>: asked for <e-mail>."


@pytest.mark.parametrize("size", [3000, 3950, 3990, 3999, 4001, 10_000])
def test_the_edge_of_what_is_read(size: int) -> None:
    """A key and an address that lie across the edge, after a text that cleaning makes short."""
    long_key = "phx_" + "k" * size
    for secret in ("jane.doe.the.third@example.com", "phx_secretsecretsecret"):
        for offset in range(0, 30, 3):
            shown = clean(long_key + " " * offset + secret)
            assert "jane" not in shown
            assert "phx_" not in shown


@pytest.mark.parametrize(
    "text",
    ["", "x", "Unable to resolve field: alpha_release", "graph_something", "at 10:00 @ noon", "a@b", "/api/users/@me/"],
)
def test_harmless_text_is_left_alone(text: str) -> None:
    assert clean(text) == text


def test_a_bearer_of_any_kind() -> None:
    assert clean("Bearer abcdef, ok") == "<key> ok"
    assert "abcdef" not in clean("authorization: bearer\tabcdef")


@given(st.text(st.characters()))
def test_clean_text_can_be_written(text: str) -> None:
    shown = clean(text)
    shown.encode()
    assert clean(shown) == shown or len(text) > 500


@pytest.mark.parametrize("part", ["x", "x@", "ph", "phx_", "bearer ", "@a.", "%40", "x.", "\\n"])
def test_megabytes_take_no_time(part: str) -> None:
    began = time.thread_time()
    shown = clean(part * 2_000_000)
    assert time.thread_time() - began < 2
    assert len(shown) < 560
    assert f"{len(part) * 2_000_000} characters" in shown


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_round_trips(error: PostHogError, protocol: int) -> None:
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert again.__dict__ == error.__dict__
        assert (str(again), repr(again), again.args) == (str(error), repr(error), error.args)


def test_every_attribute_is_kept() -> None:
    error = PostHogPermissionError(**API_VALUES)
    again = pickle.loads(pickle.dumps(error))
    assert {name: getattr(again, name) for name in API_VALUES} == API_VALUES
    assert again.scope == "export:write"
    assert pickle.loads(pickle.dumps(PostHogTransportError("x", sent=False))).sent is False
    assert pickle.loads(pickle.dumps(PostHogJobFailed("x", job_id="5"))).job_id == "5"


def test_every_class_is_an_example_here() -> None:
    kinds = {kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if issubclass(kind, PostHogError)}
    assert kinds == {type(error) for error in EXAMPLES}


def test_none_is_airflow_s() -> None:
    """A deferred sensor with soft_fail would turn an AirflowException into "skipped"."""
    for error in EXAMPLES:
        assert all(not base.__module__.startswith("airflow.") for base in type(error).__mro__)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, PostHogAPIError),
        (400, PostHogValidationError),
        (401, PostHogAuthenticationError),
        (402, PostHogQuotaError),
        (403, PostHogPermissionError),
        (404, PostHogNotFoundError),
        (405, PostHogAPIError),
        (408, PostHogAPIError),
        (429, PostHogRateLimitError),
        (499, PostHogAPIError),
        (500, PostHogServerError),
        (504, PostHogServerError),
        (513, PostHogServerError),
        (599, PostHogServerError),
    ],
)
def test_class_of_a_status(status: int, kind: type[PostHogAPIError]) -> None:
    assert error_for_status(status) is kind


def test_what_an_error_says() -> None:
    assert str(PostHogValidationError(**API_VALUES | {"status": 400})) == (
        "POST /api/projects/7/exports/ answered 403 (permission_denied) for 'export_format': "
        "API key missing required scope 'export:write' [request req-1]"
    ).replace("403", "400")
    assert str(PostHogServerError(status=500, method="GET", path="/x/")) == "GET /x/ answered 500"
    assert str(PostHogSettingsError("host", "is wrong.", "Write another.")) == "host: is wrong. Write another."
    assert "personal API key" in str(PostHogAuthenticationError(status=401, method="GET", path="/x/"))
    assert "check its scopes" in str(PostHogPermissionError(status=403, method="GET", path="/x/"))
    assert "billing limit" in str(PostHogQuotaError(status=402, method="GET", path="/x/"))


@pytest.mark.parametrize(
    ("path", "detail", "says"),
    [
        ("/api/projects/999/", "Project not found.", "project_id, and that its host is the region"),
        ("/api/environments/7/", None, "project_id, and that its host is the region"),
        ("/api/projects/999/query/", "Project not found.", "project_id, and that its host is the region"),
        ("/api/projects/1/query/", "API route not found", "host: it may be no PostHog"),
        ("/api/environments/1/query/", "API endpoint not found.", "host: it may be no PostHog"),
    ],
)
def test_a_404_of_the_project_or_of_no_posthog_says_what_to_look_at(path: str, detail: str | None, says: str) -> None:
    assert says in str(PostHogNotFoundError(status=404, method="GET", path=path, detail=detail))


def test_a_404_of_a_thing_blames_no_connection() -> None:
    error = PostHogNotFoundError(status=404, method="GET", path="/api/projects/1/exports/9/", detail="Not found.")
    assert "Check" not in str(error)


def test_a_settings_error_is_a_value_error() -> None:
    assert isinstance(PostHogSettingsError("a", "b", "c"), ValueError)


SECRET = "phx_" + "s" * 43


@pytest.mark.parametrize("field", ["path", "code", "detail", "attr", "request_id"])
def test_no_attribute_holds_a_secret(field: str) -> None:
    error = PostHogAPIError(**API_VALUES | {field: f"/a/{SECRET}/jane@example.com/"})
    assert SECRET not in repr(error.__dict__)
    assert "jane" not in repr(error.__dict__)


# Presigned addresses.

SIGNATURES = [
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Goog-Signature",
    "Signature",
    "sig",
    "AWSAccessKeyId",
    "GoogleAccessId",
]


@given(
    st.sampled_from(SIGNATURES),
    st.text(KEY_LETTERS + "%/+-_", min_size=12, max_size=90),
    st.sampled_from(["https://b.s3.amazonaws.com/x.csv?", "/media/x?a=b&", "(", "'", "\\u0026", "&amp;", "see "]),
    st.sampled_from(["", " failed", "&b=c", "'", '"}', ">"]),
    st.sampled_from(["=", "%3D", "%3d"]),
)
def test_no_signature_of_a_presigned_address_survives(
    name: str, secret: str, before: str, after: str, equals: str
) -> None:
    for text in (f"{before}{name}{equals}{secret}{after}", f"{before}{name.lower()}{equals}{secret}{after}"):
        assert secret not in clean(text)


@given(st.from_regex(r"[A-Za-z0-9_.=&%+-]{1,60}", fullmatch=True))
def test_no_query_string_of_an_address_survives(query: str) -> None:
    for host in ("https://us.posthog.com/api/x/", "http://127.0.0.1:8000/", "s3://bucket/key"):
        shown = clean(f"The request to {host}?{query} failed")
        assert shown == f"The request to {host}?<hidden> failed"


def test_no_password_of_an_address_survives() -> None:
    assert clean("no way to http://joe:secret@proxy:3128/ there") == "no way to http://proxy:3128/ there"


def test_plain_sentences_stay() -> None:
    for text in (
        "Is a=b? Or c=d?",
        "the signature of sig(x) = y",
        "policy: none; tokens=3",
        "See https://posthog.com/docs.",
    ):
        assert clean(text) == text


# How long PostHog asked to wait.


@pytest.mark.parametrize(("status", "kind"), [(429, PostHogRateLimitError), (503, PostHogServerError)])
def test_an_error_says_how_long_posthog_asked_to_wait_and_what_a_retry_does(
    status: int, kind: type[PostHogAPIError]
) -> None:
    text = str(kind(status=status, method="GET", path="/x/", retry_after=1234.6))
    assert "PostHog asked to wait 1,235 s" in text
    assert "a retry before that is likely to be refused again" in text
    assert "max_rate_limit_wait" in text
    assert "asked to wait" not in str(kind(status=status, method="GET", path="/x/"))
    assert "asked to wait" not in str(kind(status=status, method="GET", path="/x/", code="own_budget")) or status != 429
