"""The commands ``pacifica-cartd`` and ``pacifica-cartd-cmd``."""

import sys
from collections.abc import Sequence

from ..common.commands import administer, serve
from .administration import extend
from .service import SERVICE


def main(argv: Sequence[str] | None = None) -> int:
    """Serve."""
    return serve(SERVICE, argv)


def cmd(argv: Sequence[str] | None = None) -> int:
    """Administer."""
    return administer(SERVICE, argv, extend=extend)


if __name__ == "__main__":
    sys.exit(main())
