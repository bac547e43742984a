"""The configuration files as shipped, ``<service>.ini``: every key stands there, commented, at its default."""
