"""Users, personal API keys and what a key may do."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, envelope, forbidden, missing_scope

# how project secret keys begin, and all that they may do
SECRET = "phs_"  # noqa: S105 - the beginning of all of them
SECRET_SCOPES = frozenset({"endpoint:read", "query:read", "experiment:read"})
INVALID_KEY = "Personal API key found in request {where} is invalid."


@dataclass(frozen=True)
class User:
    """A person with an account. Exports belong to the user whose key made them."""

    id: int
    uuid: str
    distinct_id: str

    @property
    def email(self) -> str:
        """Return the address, in a domain that cannot exist."""
        return f"user{self.id}@example.invalid"

    def brief(self) -> Json:
        """Return the short form in which objects name their ``created_by``."""
        return {
            "id": self.id,
            "uuid": self.uuid,
            "distinct_id": self.distinct_id,
            "first_name": f"User {self.id}",
            "last_name": "",
            "email": self.email,
            "is_email_verified": None,
            "hedgehog_config": None,
        }


@dataclass
class ApiKey:
    """A personal API key, or a project's secret key, which has no user.

    :param value: the secret text, ``phx_...`` or ``phs_...``.
    :param user: its owner.
    :param scopes: such as ``export:read``; ``*`` allows everything.
    :param projects: ids of the projects that it is limited to; None for all.
    :param revoked: deleted by its owner; running exports notice.
    """

    value: str
    user: User
    scopes: tuple[str, ...]
    projects: tuple[int, ...] | None = None
    revoked: bool = False

    @property
    def is_secret(self) -> bool:
        """Return whether it is a project's secret key."""
        return self.value.startswith(SECRET)

    def allows(self, scope: str) -> bool:
        """Return whether the key has a scope; writing includes reading.

        :param scope: such as ``export:read``.
        """
        noun, _, verb = scope.partition(":")
        return any(held in self.scopes for held in ("*", scope, *([f"{noun}:write"] if verb == "read" else [])))

    def require(self, scopes: Iterable[str]) -> None:
        """Refuse a call that needs a scope which the key lacks.

        :param scopes: all of them are needed.
        :raises ApiError: 403 that names the first missing one.
        """
        for scope in scopes:
            if not self.allows(scope):
                raise missing_scope(scope)

    def require_project(self, project_id: int) -> None:
        """Refuse a call about a project that the key is not made for.

        :param project_id: the project of the path.
        :raises ApiError: 403.
        """
        if self.projects is not None and project_id not in self.projects:
            raise forbidden(f"API key does not have access to the requested project: ID {project_id}.")


class Keyring:
    """All users and keys of the server.

    :param seed: equal seeds make equal users and equal default keys.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"keys {seed}")  # noqa: S311 - made-up keys of a made-up server
        self._keys: dict[str, ApiKey] = {}
        self._users: dict[int, User] = {}
        self.default = self.create(scopes=("*",), user_id=1)

    def user(self, user_id: int) -> User:
        """Return a user; a new number makes a new user.

        :param user_id: 1 is the owner of the default key.
        """
        if user_id not in self._users:
            made = uuid.UUID(int=self._random.getrandbits(128), version=4)
            self._users[user_id] = User(user_id, str(made), self._token(43))
        return self._users[user_id]

    def with_uuid(self, wanted: str) -> User | None:
        """Return the user who has a uuid, or None.

        :param wanted: the uuid.
        """
        return next((user for user in self._users.values() if user.uuid == wanted), None)

    def create(self, *, scopes: tuple[str, ...], user_id: int, projects: tuple[int, ...] | None = None) -> ApiKey:
        """Make a key.

        :param scopes: what it allows.
        :param user_id: whose it is.
        :param projects: what it is limited to, or None.
        """
        key = ApiKey("phx_" + self._token(43), self.user(user_id), scopes, projects)
        self._keys[key.value] = key
        return key

    def create_secret(self, *, scopes: tuple[str, ...], project_id: int) -> ApiKey:
        """Make a project's secret key.

        :param scopes: some of :data:`SECRET_SCOPES`.
        :param project_id: whose it is.
        """
        nobody = User(0, str(uuid.UUID(int=0)), "")
        key = ApiKey(SECRET + self._token(43), nobody, scopes, (project_id,))
        self._keys[key.value] = key
        return key

    def revoke(self, value: str) -> bool:
        """Delete a key, and return whether there was one.

        :param value: its secret text.
        """
        key = self._keys.pop(value, None)
        if key is not None:
            key.revoked = True
        return key is not None

    def _token(self, length: int) -> str:
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        return "".join(self._random.choice(letters) for _ in range(length))

    def find(self, headers: Mapping[str, str], query_key: str | None, body_key: object, status: int) -> ApiKey:
        """Return the key that a request carries, in the order in which PostHog looks for it.

        :param headers: with names in lower case.
        :param query_key: ``personal_api_key`` of the query, or None.
        :param body_key: ``personal_api_key`` of the JSON body, or None.
        :param status: 401, or 403 as PostHog answered in 2024.
        :raises ApiError: without a key, or with one that is not valid.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        if bearer.startswith(SECRET):
            if bearer in self._keys:
                return self._keys[bearer]
            # nothing takes it for a personal key, so it counts as none at all
            bearer = ""
        places = (("Authorization header", bearer), ("body", body_key), ("query string", query_key))
        for where, value in places:
            if not value or not isinstance(value, str):
                continue
            if value in self._keys:
                return self._keys[value]
            # a project token (phc_) is looked up as a personal key, too, and not found
            raise unauthenticated("authentication_failed", INVALID_KEY.format(where=where), status, headers)
        raise unauthenticated("not_authenticated", "Authentication credentials were not provided.", status, headers)


def unauthenticated(code: str, detail: str, status: int, headers: Mapping[str, str]) -> ApiError:
    """Return the answer to an unauthenticated caller.

    :param code: ``not_authenticated`` or ``authentication_failed``.
    :param detail: the sentence for people.
    :param status: 401, or 403 for the missing key of an older server, which names no way to log in.
    :param headers: of the request.
    """
    body = envelope("authentication_error", code, detail)
    if code == "not_authenticated" and status == 403:
        return ApiError(403, body)
    site = f"http://{headers.get('host', 'localhost')}"
    challenge = f'Bearer resource_metadata="{site}/.well-known/oauth-protected-resource"'
    return ApiError(401, body, {"WWW-Authenticate": challenge})
