"""The button beside a task that opens what it works on in PostHog."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.compat import BaseOperatorLink, XCom, begins_anew

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

    from airflow_provider_posthog.compat import BaseOperator, Context

log = logging.getLogger(__name__)


class PostHogLink(BaseOperatorLink):
    """Opens the insight, dashboard or list of exports in PostHog.

    Tasks push the address the moment it is known, so that the button is there while they run and after they failed.
    """

    name = "PostHog"
    key = "_link_PostHogLink"
    #: What this process has pushed, by the ids of the task instances: one, in a worker.
    _pushed: ClassVar[dict[str, str]] = {}

    @property
    def xcom_key(self) -> str:
        """The XCom that holds the address; Airflow 3's interface reads it without asking this class."""
        return self.key

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address that the task pushed, or an empty text. Sends nothing and never raises.

        :param operator: the task.
        :param ti_key: its instance.
        """
        try:
            if begins_anew(ti_key):  # what is not pushed by now, nobody has pushed
                return self._pushed.get(str(getattr(ti_key, "id", None)), "")
            return str(XCom.get_value(ti_key=ti_key, key=self.key) or "")
        except Exception:
            # Airflow asks for links while it ends a task: an unreadable one must not fail a task that succeeded.
            log.debug("No PostHog link", exc_info=True)
            return ""

    @classmethod
    def push(cls, context: Context | dict[str, Any], url: str) -> None:
        """Push the address, if there is a task instance to push it for.

        :param url: the address; holds no secrets and no personal data.
        """
        ti = context.get("ti")
        if ti is not None:
            ti.xcom_push(key=cls.key, value=url)
            cls._pushed[str(getattr(ti, "id", None))] = url
