"""dbsync and dbchk: from nothing, step by step, twice at once, and after a kill."""

import os
import subprocess
import sys

import peewee
import pytest

from pacifica.common import orm, schema
from pacifica.common.errors import SchemaMismatch


class ShelfSystem(schema.System):
    """The version of the shelf."""


class Shelf(orm.Model):
    """Version 3.0: has a colour."""

    name = peewee.TextField()
    colour = peewee.TextField(default="")


class Label(orm.Model):
    """New in 3.1."""

    text = peewee.TextField()


def old_database(version):
    """Leave what an older release left."""
    serial = "BIGSERIAL PRIMARY KEY" if orm.is_postgres() else "INTEGER PRIMARY KEY"
    orm.execute(f"CREATE TABLE shelf (id {serial}, name TEXT NOT NULL)")
    orm.execute("INSERT INTO shelf (name) VALUES ('old')")
    if version != schema.NONE:
        ShelfSystem.set_version(version)


def add_colour():
    orm.execute("ALTER TABLE shelf ADD COLUMN colour TEXT NOT NULL DEFAULT ''")


def paint():
    orm.execute("UPDATE shelf SET colour = 'red'")


def make(**changes):
    usual = {"system": ShelfSystem, "models": [Shelf], "version": (3, 0)}
    return schema.Schema(**usual | {"steps": {(1, 0): add_colour, (2, 0): paint}} | changes)


def test_a_new_database_gets_everything_at_once(database):
    shelf = make()
    assert ShelfSystem.get_version() == (0, 0)
    assert not shelf.check()
    shelf.sync()
    assert ShelfSystem.get_version() == (3, 0)
    assert shelf.check(equal=True)
    Shelf.create(name="a")
    shelf.sync()
    assert Shelf.select().count() == 1


def test_an_old_database_goes_step_by_step_and_keeps_its_rows(database):
    old_database((1, 0))
    make().sync()
    assert ShelfSystem.get_version() == (3, 0)
    assert [(shelf.name, shelf.colour) for shelf in Shelf.select()] == [("old", "red")]


def test_tables_without_a_version_are_version_zero(database):
    old_database(schema.NONE)
    with pytest.raises(SchemaMismatch):
        make().sync()
    make(steps={(0, 0): add_colour, (1, 0): paint}).sync()
    assert [(shelf.name, shelf.colour) for shelf in Shelf.select()] == [("old", "red")]


def test_a_step_that_fails_leaves_the_version_before_it_and_can_be_repeated(database):
    old_database((1, 0))

    def broken():
        paint()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make(steps={(1, 0): add_colour, (2, 0): broken}).sync()
    assert ShelfSystem.get_version() == (2, 0)
    assert [shelf.colour for shelf in Shelf.select()] == [""]
    make().sync()
    assert [shelf.colour for shelf in Shelf.select()] == ["red"]


def test_new_tables_of_a_minor_version_need_no_step(database):
    make().sync()
    newer = make(models=[Shelf, Label], version=(3, 1))
    assert newer.check()
    assert not newer.check(equal=True)
    newer.sync()
    Label.create(text="a")
    assert newer.check(equal=True)


def test_a_newer_minor_version_is_left_alone_and_a_newer_major_one_refused(database):
    make(version=(3, 1)).sync()
    make(version=(3, 0)).sync()
    assert ShelfSystem.get_version() == (3, 1)
    assert make(version=(3, 0)).check()
    with pytest.raises(SchemaMismatch):
        make(version=(2, 0)).sync()
    assert not make(version=(2, 0)).check()


def test_what_a_schema_requires_is_brought_there_first(database):
    order = []

    class BaseSystem(schema.System):
        pass

    class Base(orm.Model):
        @classmethod
        def create_table(cls, safe=True, **options):
            order.append("base")
            super().create_table(safe, **options)

    class Top(orm.Model):
        @classmethod
        def create_table(cls, safe=True, **options):
            order.append("top")
            super().create_table(safe, **options)

    base = schema.Schema(system=BaseSystem, models=[Base], version=(1, 0))
    top = make(models=[Top], requires=(base,))
    top.sync()
    assert order == ["base", "top"]
    BaseSystem.set_version((2, 0))
    assert not top.check()


def test_processes_that_sync_at_once_all_succeed(database_url):
    code = (
        "import sys; sys.stdin.readline()\n"
        "from pacifica.common import orm; from pacifica.common.config import Database\n"
        "from pacifica.common.tables import COMMON, CommonSystem\n"
        "orm.connect(Database(peewee_url=sys.argv[1], connect_attempts=1))\n"
        "COMMON.sync(); assert COMMON.check(equal=True); orm.disconnect()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    runs = [
        subprocess.Popen([sys.executable, "-c", code, database_url], stdin=subprocess.PIPE, env=environment)
        for _ in range(3)
    ]
    for run in runs:
        run.stdin.write(b"\n")
        run.stdin.flush()
    for run in runs:
        run.communicate(timeout=40)
    assert [run.returncode for run in runs] == [0, 0, 0]
