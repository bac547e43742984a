"""Answers 'when this arrives, run that': typed processes chained through AMQP."""
