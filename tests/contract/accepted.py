"""The differences between the emulator at the age of the recordings and the recorded server that are meant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accepted:
    """A difference that is not to be mended.

    :param case: a pattern of the names of recordings.
    :param difference: a pattern of what :meth:`tests.contract.replay.Replay.differences` says.
    :param reason: why it is right as it is.
    """

    case: str
    difference: str
    reason: str


ACCEPTED: tuple[Accepted, ...] = ()
