"""What a sensor's log says: what it waits for, each change, and at last that it is so, or that it took too long."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.compat import state_store
from airflow_provider_posthog.exceptions import PostHogJobFailed
from airflow_provider_posthog.tasks.guidance import GuidedTask

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import Context

#: The key of Airflow 3.3's task state store for what was said of the last look.
SAID_KEY = "posthog_said"


class SayingSensor(GuidedTask):
    """What all sensors say, in words of their own."""

    log: Any
    reschedule: bool
    #: What is said of the subject while it is not so yet, as in "Export 7 has no file".
    unmet: ClassVar[str] = "is not so yet"
    #: What is said of it when it is so.
    met: ClassVar[str] = "is so"
    #: What was said of the last look.
    _said: str = ""

    @abstractmethod
    def subject(self) -> str:
        """Name what is waited for, for logs and errors, such as ``export 7``."""

    def _say(self, context: Context, reason: str) -> None:
        """Log what a look saw, unless the one before saw the same; a sensor may look for weeks."""
        store = state_store(context) if self.reschedule else None
        before = store.get(SAID_KEY) if store is not None else self._said
        self._said = _sentence(reason or "it is not so yet")
        if before == self._said:
            return
        if store is not None:
            store.set(SAID_KEY, self._said)
        self.log.info("%s. %s", self._unmet(), self._said)

    def _is_met(self, facts: Mapping[str, Any]) -> str:
        """Say that it is so, for the end of the log; ``facts`` are what the last look saw."""
        name = self.subject()
        return f"{name[:1].upper()}{name[1:]} {self.met}"

    def _unmet(self) -> str:
        name = self.subject()
        return f"{name[:1].upper()}{name[1:]} {self.unmet}"

    def _too_long(self) -> str:
        return f"{self._unmet()} in time. {self._said}".rstrip()

    @property
    def job_id(self) -> str | None:
        """The id of the job that is waited for, for errors; ``None`` if it is none."""
        return None

    def _failed(self, how: str, reason: str, *, lasting: bool = False) -> PostHogJobFailed:
        what = self.subject()
        again = f"{what.split()[0]}: "  # a wrong argument is told with its name, which is that of the subject
        text = f"{what}: {reason.removeprefix(again)}" if reason.startswith(again) else f"{what} {how}: {reason}"
        error = PostHogJobFailed(f"PostHog: {text}", job_id=self.job_id)
        error.lasting = lasting
        return error


def _sentence(text: str) -> str:
    """Return it as a sentence, to stand between others."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"
