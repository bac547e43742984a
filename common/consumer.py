"""What a worker hears of the broker: anybody who may publish there may say anything."""

import logging
from typing import Any

from celery.worker.consumer import Consumer as Celerys

MISSHAPEN = (ValueError, TypeError, LookupError, AttributeError)  # what Celery stumbles over in a body or its headers

logger = logging.getLogger(__name__)


class Consumer(Celerys):
    """Celery's own, which drops a message of another shape instead of ending, and with it the worker, at each start."""

    def create_task_handler(self, *given: Any, **more: Any) -> Any:
        """Return what is called with each message."""
        receive = super().create_task_handler(*given, **more)

        def received(message: Any) -> Any:
            try:
                return receive(message)
            except MISSHAPEN as error:
                logger.exception("a message that is no task was dropped: %r", error)
                if not message.acknowledged:
                    message.reject_log_error(logger, self.connection_errors)
                return None

        return received
