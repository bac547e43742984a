"""The floor that all services stand on: state, configuration, bytes, messages, HTTP."""
