"""The tables that all services share, and their version."""

from . import catalog, ledger
from .inbox import Inbox, Subscription
from .outbox import Outbox
from .schema import Schema, System
from .state import StateChange
from .sweeper import SweeperLease


class CommonSystem(System):
    """The version of the common tables."""


COMMON = Schema(
    system=CommonSystem,
    models=(StateChange, Outbox, Inbox, Subscription, SweeperLease, *ledger.MODELS, *catalog.MODELS),
    version=(1, 0),
)
