"""``.../slug_exists?name=``: whether a slug is taken, asked before somebody tries to use it."""

import peewee

from .orm import Data, Process


class SlugExists:
    """``/api/data/slug_exists`` and ``/api/process/slug_exists``: anybody's slug, for it is free for nobody else."""

    exposed = True

    def __init__(self, model: type[Data] | type[Process]) -> None:
        self._slug: peewee.Field = model.slug
        self._model = model

    def GET(self, *, name: str) -> bool:
        """Answer true or false; letters are compared as they stand, as where a slug is given."""
        return "\0" not in name and bool(self._model.select().where(self._slug == name).exists())
