"""A value that is made when it is first asked for, and kept with its object.

``functools.cached_property`` does the same behind a lock that all objects of the class share (until Python 3.12): a
child that is forked while another thread makes one, waits for that lock for ever.  Here two threads may both make a
value, and the later one stays.
"""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class kept(Generic[T]):  # a decorator, as ``property`` is
    """Make a method of no arguments an attribute that is made once."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make, self._name, self.__doc__ = make, make.__name__, make.__doc__

    @overload
    def __get__(self, holder: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self, holder: object, owner: type | None = None) -> T: ...

    def __get__(self, holder: object | None, owner: type | None = None) -> "Self | T":
        if holder is None:
            return self
        value = holder.__dict__[self._name] = self._make(holder)  # what is found there first from now on
        return value
