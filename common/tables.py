"""The tables that all services share, and their version."""

from . import catalog, entry, ledger
from .counter import Counter
from .fulltext import FullText
from .inbox import Inbox, Subscription
from .outbox import Outbox
from .repetition import SameContent
from .schema import Schema, System
from .state import StateChange
from .sweeper import SweeperLease


class CommonSystem(System):
    """The version of the common tables."""


COMMON = Schema(
    system=CommonSystem,
    models=(
        *(StateChange, Outbox, Inbox, Subscription, SweeperLease, Counter, FullText, SameContent),
        *(*ledger.MODELS, *catalog.MODELS, *entry.MODELS),
    ),
    version=(2, 0),
    steps={(1, 0): entry.queue_all},
)
