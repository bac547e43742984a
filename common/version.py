"""The suite's version, in this one place: setup.py, error bodies and ``--version`` read it here."""

VERSION = "0.1.0"
