from __future__ import annotations

from collections.abc import Iterator

from quanthost.testing.session import Check, Session


def checks(session: Session) -> Iterator[Check]:
    yield from ()
