"""The database: connections, transactions and their hooks, raw rows, failures."""

import enum
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading

import peewee
import pytest

from pacifica.common import orm, postgres
from pacifica.common.config import Database
from pacifica.common.errors import BadConfiguration, DatabaseAway, Overloaded


class Thing(orm.Model):
    """A table to try things on."""

    name = peewee.TextField(unique=True)
    size = peewee.BigIntegerField(default=0, column_name="bytes")


class State(enum.StrEnum):
    """A state as rows have it."""

    ON = "on"


class Each(orm.Model):
    """A table with a column of each kind that the suite has."""

    key = peewee.BigIntegerField(primary_key=True)
    short = peewee.SmallIntegerField(null=True)
    plain = peewee.IntegerField(null=True)
    time = peewee.DoubleField(null=True)
    flag = peewee.BooleanField(null=True)
    word = peewee.CharField(20, null=True)
    text = peewee.TextField(null=True)


@pytest.fixture
def things(database):
    Thing.create_table()
    return Thing


def settings(url, **more):
    return Database(**{"peewee_url": url, "connect_attempts": 1, "connect_wait": 0.0, **more})


def names():
    return [name for (name,) in orm.rows("SELECT name FROM thing ORDER BY id")]


# ---- transactions ------------------------------------------------------------------------------------------------


def test_a_hook_runs_after_the_outermost_commit_and_sees_it(things):
    seen = []
    with orm.transaction():
        with orm.transaction():
            orm.after_commit(lambda: seen.append((orm.database.in_transaction(), names())))
            Thing.create(name="a")
        assert seen == []
    assert seen == [(False, ["a"])]


def test_a_hook_without_a_transaction_runs_at_once(things):
    seen = []
    orm.after_commit(lambda: seen.append(1))
    assert seen == [1]


def test_hooks_of_a_rolled_back_savepoint_are_dropped_and_the_others_run(things):
    seen = []
    with orm.transaction():
        orm.after_commit(lambda: seen.append("outer"))
        with pytest.raises(ZeroDivisionError), orm.savepoint():
            Thing.create(name="lost")
            orm.after_commit(lambda: seen.append("inner"))
            raise ZeroDivisionError
        Thing.create(name="kept")
    assert seen == ["outer"]
    assert names() == ["kept"]


def test_hooks_of_a_rolled_back_transaction_are_dropped(things):
    seen = []
    with pytest.raises(ZeroDivisionError), orm.transaction():
        orm.after_commit(lambda: seen.append(1))
        raise ZeroDivisionError
    with orm.transaction():
        Thing.create(name="a")
    assert seen == []


def test_of_hooks_with_one_key_the_first_runs_once(things):
    seen = []
    with orm.transaction():
        first = orm.after_commit(lambda: seen.append("first"), key="k")
        assert orm.after_commit(lambda: seen.append("second"), key="k") is first
    assert seen == ["first"]


def test_a_hook_that_fails_is_logged_and_the_next_one_runs(things, caplog):
    seen = []
    with orm.transaction():
        orm.after_commit(lambda: 1 / 0)
        orm.after_commit(lambda: seen.append(1))
    assert seen == [1]
    assert "ZeroDivisionError" in caplog.text


def test_a_hook_may_open_a_transaction_with_hooks_of_its_own(things):
    seen = []

    def hook():
        with orm.transaction():
            Thing.create(name="from the hook")
            orm.after_commit(lambda: seen.append(names()))

    with orm.transaction():
        orm.after_commit(hook)
    assert seen == [["from the hook"]]


def test_a_hook_inside_a_bare_atomic_block_waits_for_its_commit(things):
    seen = []
    with orm.database.atomic():
        with orm.transaction():
            Thing.create(name="a")
            orm.after_commit(lambda: seen.append(1))
        assert seen == []
    assert seen == [1]


def test_rollback_hooks_run_for_the_block_that_failed_last_first(things):
    undone = []
    with orm.transaction():
        orm.on_rollback(lambda: undone.append("outer"))
        with pytest.raises(ZeroDivisionError), orm.savepoint():
            orm.on_rollback(lambda: undone.append("one"))
            orm.on_rollback(lambda: undone.append("two"))
            raise ZeroDivisionError
    assert undone == ["two", "one"]


def test_a_block_that_failed_takes_the_whole_transaction_with_it_whoever_catches_its_error(things):
    seen = []
    with pytest.raises(RuntimeError, match="a block of this transaction failed"), orm.transaction():
        orm.after_commit(lambda: seen.append("committed"))
        orm.on_rollback(lambda: seen.append("undone"))
        with pytest.raises(ZeroDivisionError), orm.transaction():
            Thing.create(name="half")
            raise ZeroDivisionError
        Thing.create(name="other half")
    assert seen == ["undone"]
    assert names() == []
    with orm.transaction():
        Thing.create(name="next")
    assert names() == ["next"]


def test_a_savepoint_takes_the_failed_blocks_in_it_along_and_nothing_else(things):
    with orm.transaction():
        Thing.create(name="before")
        with pytest.raises(RuntimeError), orm.savepoint(), pytest.raises(ZeroDivisionError), orm.transaction():
            Thing.create(name="half")
            raise ZeroDivisionError
        with orm.savepoint():
            Thing.create(name="after")
    with pytest.raises(ZeroDivisionError), orm.savepoint():
        Thing.create(name="alone")
        raise ZeroDivisionError
    assert names() == ["before", "after"]


def test_a_failed_statement_never_commits_half_a_transaction(things):
    """PostgreSQL turns such a COMMIT into a rollback without an error; a hook must not run then."""
    seen = []
    Thing.create(name="taken")
    try:
        with orm.transaction():
            orm.after_commit(lambda: seen.append(1))
            orm.execute("INSERT INTO thing (name, bytes) VALUES (?, 0)", "first")
            with pytest.raises(peewee.IntegrityError):
                orm.execute("INSERT INTO thing (name, bytes) VALUES (?, 0)", "taken")
    except peewee.InternalError:
        assert names() == ["taken"]
        assert seen == []
    else:
        assert names() == ["taken", "first"]
        assert seen == [1]


def test_increments_from_many_threads_are_all_there(things):
    Thing.create(name="counter")

    def count():
        for _ in range(25):
            with orm.transaction():
                before = orm.rows("SELECT bytes FROM thing" + (" FOR UPDATE" if orm.is_postgres() else ""))[0][0]
                orm.execute("UPDATE thing SET bytes = ?", before + 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert orm.rows("SELECT bytes FROM thing") == [(100,)]


def test_a_thread_whose_block_was_interrupted_leaves_the_write_lock_free(things):
    def interrupted():
        with pytest.raises(KeyboardInterrupt), orm.transaction():
            raise KeyboardInterrupt

    thread = threading.Thread(target=interrupted)
    thread.start()
    thread.join(10)
    with orm.transaction():
        Thing.create(name="a")
    assert names() == ["a"]


# ---- rows --------------------------------------------------------------------------------------------------------


def test_rows_translates_placeholders_and_leaves_quoted_text_alone(things):
    assert orm.rows("""SELECT '100%?', ?, 7 % 4 AS "a?b" """, "x") == [("100%?", "x", 3)]


def test_insert_rows_names_fields_and_counts(things):
    assert orm.insert_rows(Thing, ["name", "size"], ((f"n{number}", number) for number in range(1000))) == 1000
    assert orm.rows("SELECT count(*), sum(bytes) FROM thing") == [(1000, 499500)]
    assert orm.insert_rows(Thing, ["name", "size"], []) == 0


def test_insert_rows_whose_source_fails_inserts_nothing(things):
    def source():
        yield "a", 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        orm.insert_rows(Thing, ["name", "size"], source())
    with pytest.raises(peewee.IntegrityError):
        orm.insert_rows(Thing, ["name", "size"], [("a", 1), ("a", 2)])
    assert names() == []


def test_insert_rows_takes_every_kind_of_column_as_it_is(database):
    Each.create_table()
    wanted = [
        (0, *(None,) * 6),
        (1, -(1 << 15), -(1 << 31), -0.1, False, "", ""),
        (
            (1 << 63) - 1,
            (1 << 15) - 1,
            (1 << 31) - 1,
            1.7976931348623157e308,
            True,
            "x" * 20,
            "a\tb\n\\.\\N \u00e4\U0001f642",
        ),
        (2, 3, 4, 5, True, State.ON, State.ON),  # a whole number of seconds, and a name of an enumeration
    ]
    names = ["key", "short", "plain", "time", "flag", "word", "text"]
    assert orm.insert_rows(Each, names, wanted) == len(wanted)
    found = [tuple(row) for row in Each.select(*map(Each._meta.combined.get, names)).tuples()]
    assert sorted(found) == sorted(wanted)


def test_insert_rows_refuses_what_does_not_fit_and_inserts_nothing(database):
    Each.create_table()
    for wrong in ({"key": "one"}, {"text": "a\0b"} if orm.is_postgres() else {"key": "two"}):
        row = {"key": 2, "text": "", **wrong}
        with pytest.raises((peewee.PeeweeException, TypeError, ValueError)):
            orm.insert_rows(Each, ["key", "text"], [(1, ""), (row["key"], row["text"])])
    assert not Each.select().exists()


def test_insert_rows_belongs_to_the_callers_transaction(things):
    with pytest.raises(ZeroDivisionError), orm.transaction():
        orm.insert_rows(Thing, ["name", "size"], [("a", 0)])
        raise ZeroDivisionError
    assert names() == []


def test_a_serial_number_is_never_given_twice(things):
    first = Thing.create(name="a")
    Thing.delete_by_id(first.id)
    assert Thing.create(name="b").id > first.id


def test_the_clock_is_the_databases_and_goes_on(database):
    first = orm.clock()
    assert 1.7e9 < first <= orm.clock() < first + 10


# ---- failures ----------------------------------------------------------------------------------------------------


def test_mistakes_in_statements_keep_their_own_names(things):
    for wrong in ("SELECT nothing FROM nowhere", "SELEKT"):
        with pytest.raises((peewee.OperationalError, peewee.ProgrammingError)), orm.session():
            orm.rows(wrong)
    Thing.create(name="a")
    with pytest.raises(peewee.IntegrityError), orm.transaction():
        Thing.create(name="a")
    assert names() == ["a"]


def test_another_database_in_one_process_is_refused(database, tmp_path):
    with pytest.raises(BadConfiguration):
        orm.connect(settings(f"sqlite:///{tmp_path}/other.db"))


@pytest.mark.parametrize(
    "url", ["mysql://localhost/x", "sqlite:///:memory:", "sqlite:////no/such/folder/x.db", "nonsense"]
)
def test_urls_that_cannot_work_are_refused_at_once(url):
    orm.disconnect()
    with pytest.raises(BadConfiguration):
        orm.connect(settings(url, connect_attempts=10, connect_wait=60.0))


def test_pacificas_url_schemes_are_understood(tmp_path):
    for scheme in ("sqliteext", "sqliteext+pool", "sqlite"):
        orm.disconnect()
        orm.connect(settings(f"{scheme}:///{tmp_path}/{scheme}.db"))
        assert not orm.is_postgres()
    orm.disconnect()


# ---- SQLite ------------------------------------------------------------------------------------------------------


def test_sqlite_is_durable_and_checks_foreign_keys(sqlite):
    pragmas = [orm.rows(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert pragmas == ["wal", 2, 1]


def test_processes_that_start_together_on_a_new_file_all_connect(tmp_path):
    code = (
        "import sys; from pacifica.common import orm; from pacifica.common.config import Database\n"
        "sys.stdin.readline()\n"
        "orm.connect(Database(peewee_url=sys.argv[1], connect_attempts=1))\n"
        "orm.execute('CREATE TABLE IF NOT EXISTS t (a)'); orm.execute('INSERT INTO t VALUES (1)')\n"
    )
    url = f"sqlite:///{tmp_path}/new.db"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    starters = [
        subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE, env=environment) for _ in range(4)
    ]
    for starter in starters:
        starter.stdin.write(b"\n")
        starter.stdin.flush()
    for starter in starters:
        starter.communicate(timeout=30)
    assert [starter.returncode for starter in starters] == [0] * 4
    connection = sqlite3.connect(tmp_path / "new.db")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (4,)
    connection.close()


def test_a_transaction_has_the_write_lock_before_its_first_statement(sqlite, tmp_path):
    """A snapshot that turns into a writer later fails at once, whatever the busy timeout."""
    other = sqlite3.connect(tmp_path / "pacifica.db", isolation_level=None, timeout=0)
    with orm.transaction(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    with orm.database.atomic(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.close()


def test_a_file_locked_for_too_long_means_that_the_database_is_away(sqlite, tmp_path, monkeypatch):
    Thing.create_table()
    sqlite.timeout = 0.1
    other = sqlite3.connect(tmp_path / "pacifica.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseAway), orm.transaction():
        Thing.create(name="a")
    with pytest.raises(DatabaseAway):
        Thing.create(name="a")  # outside a transaction as well
    other.execute("ROLLBACK")
    other.close()
    Thing.create(name="a")


def test_the_write_lock_within_the_process_is_waited_for_a_bounded_time(sqlite, monkeypatch):
    monkeypatch.setattr("pacifica.common.sqlite.BUSY_SECONDS", 0.1)
    failures = []

    def other():
        try:
            with orm.transaction():
                pass
        except DatabaseAway as error:
            failures.append(error)

    with orm.transaction():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(10)
    assert len(failures) == 1


# ---- PostgreSQL --------------------------------------------------------------------------------------------------


@pytest.fixture
def postgres_url(postgres):
    url = postgres.create_database()
    yield url
    orm.disconnect()
    postgres.drop_database(url)


def test_a_restarted_server_costs_one_error_at_most(postgres, postgres_url):
    orm.disconnect()
    orm.connect(settings(postgres_url))
    Thing.create_table()
    with orm.session():
        Thing.create(name="before")
        postgres.stop("immediate")
        with pytest.raises(DatabaseAway):
            Thing.create(name="while it is down")
    with pytest.raises(DatabaseAway), orm.transaction():
        Thing.create(name="while it is down")
    postgres.start()
    with orm.session():
        Thing.create(name="after")
    assert names() == ["before", "after"]


def test_idle_connections_that_a_restart_broke_are_not_handed_out(postgres, postgres_url):
    orm.disconnect()
    orm.connect(settings(postgres_url))
    Thing.create_table()
    postgres.stop("fast")
    postgres.start()
    Thing.create(name="after")
    assert names() == ["after"]


def test_a_connection_that_dies_inside_an_outer_session_is_replaced_in_the_next_transaction(postgres_url):
    orm.disconnect()
    orm.connect(settings(postgres_url))
    Thing.create_table()
    with orm.session():
        with pytest.raises(DatabaseAway), orm.transaction():
            orm.rows("SELECT pg_terminate_backend(pg_backend_pid())")
        with orm.transaction():
            Thing.create(name="a")
    assert names() == ["a"]


def test_a_full_pool_is_overload_and_what_was_borrowed_comes_back(postgres_url):
    orm.disconnect()
    orm.connect(settings(f"{postgres_url}?timeout=1", pool_size=1))
    caught = []

    def other():
        try:
            orm.rows("SELECT 1")
        except Overloaded as error:
            caught.append(error)

    with orm.session():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(20)
    assert len(caught) == 1
    for _ in range(3):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(20)
    assert len(caught) == 1


def test_hooks_run_with_the_connection_given_back(postgres_url):
    orm.disconnect()
    orm.connect(settings(postgres_url, pool_size=1))
    seen = []
    with orm.transaction():
        orm.after_commit(lambda: seen.append(orm.database.is_closed()))
    assert seen == [True]


def test_what_may_be_forgotten_does_not_wait_for_the_disk_and_a_transaction_always_does(postgresql):
    asked = "SELECT current_setting('synchronous_commit') WHERE"
    with orm.session():
        assert orm.rows(f"{asked} {orm.forgettable()}") == [("off",)]
        assert orm.rows(f"{asked} TRUE") == [("on",)]
        with orm.transaction():
            assert orm.rows(f"{asked} {orm.forgettable()}") == [("on",)]


def test_question_marks_and_percents_are_spelt_for_psycopg():
    assert postgres.translated("a = ? AND b LIKE '%?' AND \"c?\" % 2") == "a = %s AND b LIKE '%%?' AND \"c?\" %% 2"


# ---- forks -------------------------------------------------------------------------------------------------------


def test_a_forked_child_has_connections_of_its_own_and_leaves_the_parents_alone(things):
    Thing.create(name="parent")

    def child(pipe):
        Thing.create(name="child")
        pipe.send(names())
        os._exit(0)

    with orm.transaction():
        orm.rows("SELECT 1")
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(there,))
    with orm.session():
        process.start()
        assert here.poll(20)
        assert here.recv() == ["parent", "child"]
        process.join(20)
        assert names() == ["parent", "child"]
    with orm.transaction():
        Thing.create(name="parent again")
