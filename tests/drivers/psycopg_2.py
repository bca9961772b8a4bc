"""psycopg2: simple queries with parameters put into the text, transactions by default, COPY, cursors, cancel."""

import io
import select
import threading
import time

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from steps import Inserts, arguments, raises, run, same, step

TABLE = "t_psycopg2"


def one(c, text, values=None):
    """The only row."""
    with c.cursor() as cursor:
        cursor.execute(text, values)
        return cursor.fetchone()


def do(c, text, values=None):
    """Runs a statement; how many rows it touched."""
    with c.cursor() as cursor:
        cursor.execute(text, values)
        return cursor.rowcount


@step
def parameterised_write(c):
    do(c, f"DROP TABLE IF EXISTS {TABLE}")
    do(c, f"CREATE TABLE {TABLE} (id int PRIMARY KEY, name text)")
    for n in range(20):
        same(do(c, f"INSERT INTO {TABLE} VALUES (%s, %s)", (n, f"näme '{n}'")), 1)


@step
def parameterised_read(c):
    for n in range(20):
        same(one(c, f"SELECT name FROM {TABLE} WHERE id = %s", (n,)), (f"näme '{n}'",))


@step
def own_writes_are_read(c):
    for n in range(100):
        do(c, f"UPDATE {TABLE} SET name = %s WHERE id = 0", (str(n),))
        same(one(c, f"SELECT name FROM {TABLE} WHERE id = 0"), (str(n),))


@step
def sql_prepare(c):
    with psycopg2.connect(c.url) as other:
        other.autocommit = True
        do(other, f"PREPARE get (int) AS SELECT name FROM {TABLE} WHERE id = $1")
        for n in range(1, 20):
            same(one(other, "EXECUTE get (%s)", (n,)), (f"näme '{n}'",))
        do(other, "DEALLOCATE get")


@step
def transactions(c):
    other = psycopg2.connect(c.url)
    do(other, f"INSERT INTO {TABLE} VALUES (300, 'tx')")
    other.commit()
    do(other, f"DELETE FROM {TABLE}")
    other.rollback()
    same(one(other, f"SELECT count(*) FROM {TABLE} WHERE id = 300"), (1,))
    raises(psycopg2.errors.UniqueViolation, lambda: do(other, f"INSERT INTO {TABLE} VALUES (300)"), "23505")
    raises(psycopg2.errors.InFailedSqlTransaction, lambda: one(other, "SELECT 1"), "25P02")
    other.rollback()
    same(one(other, f"SELECT count(*) FROM {TABLE}"), (21,))
    other.close()


@step
def isolation_and_read_only(c):
    other = psycopg2.connect(c.url)
    other.set_session(isolation_level="SERIALIZABLE")
    do(other, f"UPDATE {TABLE} SET name = 'serializable' WHERE id = 3")
    other.commit()
    other.set_session(isolation_level="REPEATABLE READ", readonly=True)
    same(one(other, f"SELECT name FROM {TABLE} WHERE id = 3"), ("serializable",))
    raises(psycopg2.errors.ReadOnlySqlTransaction, lambda: do(other, f"DELETE FROM {TABLE}"), "25006")
    other.rollback()
    other.set_session(autocommit=True, readonly=False)
    same(do(other, f"UPDATE {TABLE} SET name = 'x' WHERE id = 3"), 1)
    other.close()


@step
def named_cursor(c):
    other = psycopg2.connect(c.url)
    with other.cursor("walk") as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT generate_series(1, 100)")
        same(sum(row[0] for row in cursor), 5050)
    other.close()


@step
def copy(c):
    rows = "".join(f"{n}\tcopied\n" for n in range(10000, 60000))
    with c.cursor() as cursor:
        cursor.copy_expert(f"COPY {TABLE} FROM STDIN", io.StringIO(rows))
        same(cursor.rowcount, 50000)
        out = io.StringIO()
        cursor.copy_expert(f"COPY (SELECT * FROM {TABLE} WHERE id >= 10000) TO STDOUT", out)
        same(out.getvalue().count("\n"), 50000)
        raises(
            psycopg2.errors.BadCopyFileFormat,
            lambda: cursor.copy_expert(f"COPY {TABLE} FROM STDIN", io.StringIO("1\t2\t3\t4\n")),
            "22P04",
        )
    same(do(c, f"DELETE FROM {TABLE} WHERE id >= 10000"), 50000)


@step
def execute_values(c):
    with c.cursor() as cursor:
        rows = [(n, "v") for n in range(5000, 7000)]
        psycopg2.extras.execute_values(cursor, f"INSERT INTO {TABLE} VALUES %s", rows)
    same(do(c, f"DELETE FROM {TABLE} WHERE id >= 5000"), 2000)


@step
def large_values(c):
    text = "x" * 5_000_000
    do(c, f"INSERT INTO {TABLE} VALUES (400, %s)", (text,))
    same(one(c, f"SELECT name FROM {TABLE} WHERE id = 400"), (text,))
    do(c, f"DELETE FROM {TABLE} WHERE id = 400")


@step
def listen_notify(c):
    other = psycopg2.connect(c.url)
    other.autocommit = True
    do(other, "LISTEN news2")
    do(c, "NOTIFY news2, 'hello'")
    select.select([other], [], [], 5)
    other.poll()
    same([note.payload for note in other.notifies], ["hello"])
    other.close()


@step
def reset_and_discard(c):
    other = psycopg2.connect(c.url)
    other.autocommit = True
    do(other, "SET application_name TO 'renamed'")
    same(one(other, "SHOW application_name"), ("renamed",))
    other.reset()
    other.autocommit = True
    do(other, "DISCARD ALL")
    same(one(other, "SELECT 1"), (1,))
    other.close()


@step
def cancel(c):
    started = time.monotonic()
    timer = threading.Timer(0.3, c.cancel)
    timer.start()
    raises(psycopg2.errors.QueryCanceled, lambda: one(c, "SELECT pg_sleep(30)"), "57014")
    timer.join()
    same(time.monotonic() - started < 5, True)
    same(one(c, "SELECT 1"), (1,))


@step
def many_connections(c):
    connections = [psycopg2.connect(c.url) for _ in range(50)]
    for n, other in enumerate(connections):
        same(one(other, "SELECT %s", (n,)), (n,))
        other.commit()
    for other in connections:
        other.close()


def inserts(url, seconds):
    """Autocommitted inserts over one connection."""
    c = psycopg2.connect(url)
    c.autocommit = True
    do(c, f"DROP TABLE IF EXISTS {TABLE}_loop")
    do(c, f"CREATE TABLE {TABLE}_loop (n int)")
    loop = Inserts(seconds)
    while (n := loop.again()) is not None:
        try:
            do(c, f"INSERT INTO {TABLE}_loop VALUES (%s)", (n,))
            loop.done()
        except psycopg2.Error as error:
            loop.failed(error)
    with c.cursor() as cursor:
        cursor.execute(f"SELECT n FROM {TABLE}_loop")
        loop.judge(row[0] for row in cursor)


class Connection(psycopg2.extensions.connection):
    """Knows the URL that it was made from."""

    url = None


def main():
    url, seconds = arguments()
    print(f"version {psycopg2.__version__.split()[0]}")
    if seconds:
        inserts(url, seconds)
    c = psycopg2.connect(url, connection_factory=Connection)
    c.autocommit = True
    c.url = url
    run(c)


main()
