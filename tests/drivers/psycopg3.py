"""psycopg 3, synchronous: server-side prepare, pipeline mode, COPY, cursors on the server, cancel, LISTEN."""

import threading
import time
import uuid

import psycopg
from psycopg import sql
from steps import Inserts, arguments, raises, run, same, step

TABLE = "t_psycopg3"


@step
def connect(c):
    same(c.execute("SELECT 1").fetchone(), (1,))
    same(c.info.server_version // 10000 >= 13, True, "server version told")
    same(c.info.parameter_status("client_encoding"), "UTF8")


@step
def parameterised_write(c):
    c.execute(f"DROP TABLE IF EXISTS {TABLE}")
    c.execute(f"CREATE TABLE {TABLE} (id int PRIMARY KEY, name text, j jsonb, b bytea)")
    for n in range(20):
        done = c.execute(f"INSERT INTO {TABLE} VALUES (%s, %s, %s, %s)", (n, f"näme {n}", None, bytes([n])))
        same(done.rowcount, 1)


@step
def parameterised_read(c):
    row = c.execute(f"SELECT id, name, b FROM {TABLE} WHERE id = %s", (7,), binary=True).fetchone()
    same(row, (7, "näme 7", b"\x07"))
    same(c.execute(f"SELECT count(*) FROM {TABLE} WHERE id = ANY(%s)", ([1, 2, 99],)).fetchone(), (2,))


@step
def own_writes_are_read(c):
    for n in range(100):
        c.execute(f"UPDATE {TABLE} SET name = %s WHERE id = 0", (str(n),))
        same(c.execute(f"SELECT name FROM {TABLE} WHERE id = 0").fetchone(), (str(n),))


@step
def server_side_prepare(c):
    for n in range(30):
        same(c.execute("SELECT %s::int + 1", (n,), prepare=True).fetchone(), (n + 1,))
        c.execute(f"UPDATE {TABLE} SET name = %s WHERE id = %s", (f"p{n}", n % 20), prepare=True)
    # More statements than the driver keeps: it closes the oldest.
    for n in range(150):
        same(c.execute(f"SELECT {n} + %s::int", (n,), prepare=True).fetchone(), (2 * n,))


@step
def pipeline(c):
    with c.pipeline() as pipe:
        cursors = [c.execute("SELECT %s::int", (n,)) for n in range(50)]
        cursors += [c.execute(f"UPDATE {TABLE} SET name = 'pipe' WHERE id = %s", (n,)) for n in range(5)]
        pipe.sync()
        same([cursor.fetchone()[0] for cursor in cursors[:50]], list(range(50)))
        # Fetching in the middle sends Flush; a write follows in the same pipeline.
        same(c.execute(f"SELECT name FROM {TABLE} WHERE id = 1").fetchone(), ("pipe",))
        c.execute(f"INSERT INTO {TABLE} VALUES (1000, 'after a flush')")
        same(c.execute(f"SELECT name FROM {TABLE} WHERE id = 1000").fetchone(), ("after a flush",))
    same(c.execute(f"DELETE FROM {TABLE} WHERE id = 1000").rowcount, 1)


@step
def pipeline_flush_then_write(c):
    same(c.execute("SELECT 1").fetchone(), (1,))
    with c.pipeline():
        same(c.execute(f"SELECT count(*) FROM {TABLE}").fetchone(), (20,))
        c.execute(f"INSERT INTO {TABLE} VALUES (1001, 'after a flush')")
    same(c.execute(f"DELETE FROM {TABLE} WHERE id = 1001").rowcount, 1)


@step
def pipeline_error(c):
    def broken():
        with c.pipeline():
            c.execute("SELECT 1")
            c.execute("SELECT no_such_column")
            c.execute("SELECT 2")

    raises(psycopg.errors.UndefinedColumn, broken)
    same(c.execute("SELECT 3").fetchone(), (3,))


@step
def executemany(c):
    with c.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {TABLE} VALUES (%s, %s)", [(n, "many") for n in range(100, 200)])
        same(cursor.rowcount, 100)
        cursor.executemany(
            f"DELETE FROM {TABLE} WHERE id = %s RETURNING id", [(n,) for n in range(100, 200)], returning=True
        )
        found = []
        while True:
            found += cursor.fetchall()
            if not cursor.nextset():
                break
        same(len(found), 100)


@step
def transaction_commit(c):
    with c.transaction():
        c.execute(f"INSERT INTO {TABLE} VALUES (300, 'tx')")
        same(c.execute(f"SELECT count(*) FROM {TABLE} WHERE id = 300").fetchone(), (1,))
    same(c.execute(f"SELECT count(*) FROM {TABLE} WHERE id = 300").fetchone(), (1,))


@step
def transaction_rollback(c):
    with c.transaction(force_rollback=True):
        c.execute(f"DELETE FROM {TABLE} WHERE id = 300")
    same(c.execute(f"SELECT count(*) FROM {TABLE} WHERE id = 300").fetchone(), (1,))


@step
def transaction_error(c):
    def broken():
        with c.transaction():
            c.execute(f"INSERT INTO {TABLE} VALUES (301, 'gone')")
            c.execute(f"INSERT INTO {TABLE} VALUES (300, 'twice')")

    raises(psycopg.errors.UniqueViolation, broken)
    same(c.info.transaction_status, psycopg.pq.TransactionStatus.IDLE)
    same(c.execute(f"SELECT count(*) FROM {TABLE} WHERE id = 301").fetchone(), (0,))


@step
def savepoints(c):
    with c.transaction():
        c.execute(f"INSERT INTO {TABLE} VALUES (302, 'kept')")

        def inner():
            with c.transaction():
                c.execute("SELECT 1 / 0")

        raises(psycopg.errors.DivisionByZero, inner)
        c.execute(f"UPDATE {TABLE} SET name = 'kept too' WHERE id = 302")
    same(c.execute(f"SELECT name FROM {TABLE} WHERE id = 302").fetchone(), ("kept too",))


@step
def not_autocommit(c):
    with psycopg.connect(c.url) as other:
        same(other.execute(f"SELECT count(*) FROM {TABLE} WHERE id = 302").fetchone(), (1,))
        other.execute(f"DELETE FROM {TABLE} WHERE id = 302")
        other.commit()
        other.execute(f"DELETE FROM {TABLE}")
        other.rollback()
        same(other.execute(f"SELECT count(*) FROM {TABLE} WHERE id < 20").fetchone(), (20,))


@step
def read_only_and_isolation(c):
    with psycopg.connect(c.url) as other:
        other.read_only = True
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        same(other.execute("SHOW transaction_isolation").fetchone(), ("repeatable read",))
        raises(psycopg.errors.ReadOnlySqlTransaction, lambda: other.execute(f"DELETE FROM {TABLE}"))
        other.rollback()
        other.read_only = False
        other.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        other.execute(f"UPDATE {TABLE} SET name = 'serializable' WHERE id = 3")
        other.commit()
    same(c.execute(f"SELECT name FROM {TABLE} WHERE id = 3").fetchone(), ("serializable",))


@step
def copy_in(c):
    with c.cursor().copy(f"COPY {TABLE} (id, name) FROM STDIN") as copy:
        for n in range(10000, 60000):
            copy.write_row((n, f"copied {n}"))
    same(c.execute(f"SELECT count(*) FROM {TABLE} WHERE id >= 10000").fetchone(), (50000,))


@step
def copy_in_error(c):
    def broken():
        with c.cursor().copy(f"COPY {TABLE} (id, name) FROM STDIN") as copy:
            copy.write("70000\tx\nnot a number\ty\n")

    raises(psycopg.errors.InvalidTextRepresentation, broken)

    def given_up():
        with c.cursor().copy(f"COPY {TABLE} (id, name) FROM STDIN") as copy:
            copy.write("70000\tx\n")
            raise ZeroDivisionError

    raises(ZeroDivisionError, given_up)
    same(c.execute(f"SELECT count(*) FROM {TABLE} WHERE id = 70000").fetchone(), (0,))


@step
def copy_out(c):
    size = 0
    with c.cursor().copy(f"COPY (SELECT * FROM {TABLE} WHERE id >= 10000) TO STDOUT") as copy:
        size = sum(bytes(data).count(b"\n") for data in copy)
    same(size, 50000)
    c.execute(f"DELETE FROM {TABLE} WHERE id >= 10000")


@step
def server_side_cursor(c):
    with c.transaction(), c.cursor(name="walk") as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT generate_series(1, 100)")
        same(sum(row[0] for row in cursor), 5050)
    with c.cursor(name="held", withhold=True) as cursor:
        cursor.execute("SELECT generate_series(1, 100)")
        same(len(cursor.fetchmany(10)), 10)
        same(len(cursor.fetchall()), 90)


@step
def large_values(c):
    blob = uuid.uuid4().bytes * 500_000
    c.execute(f"INSERT INTO {TABLE} (id, b) VALUES (400, %b)", (blob,))
    same(c.execute(f"SELECT b = %b FROM {TABLE} WHERE id = 400", (blob,)).fetchone(), (True,))
    same(c.execute(f"SELECT b FROM {TABLE} WHERE id = 400", binary=True).fetchone()[0], blob, "8 MB back")
    c.execute(f"DELETE FROM {TABLE} WHERE id = 400")


@step
def settings_follow(c):
    c.execute("SET timezone TO 'Asia/Tokyo'")
    for _ in range(20):
        same(c.execute("SHOW timezone").fetchone(), ("Asia/Tokyo",))
        same(c.execute("SELECT current_setting('timezone')").fetchone(), ("Asia/Tokyo",))
    same(c.info.parameter_status("TimeZone"), "Asia/Tokyo")
    c.execute("RESET timezone")
    with psycopg.connect(c.url, options="-c search_path=pg_catalog -c statement_timeout=4321") as other:
        same(other.execute("SHOW search_path").fetchone(), ("pg_catalog",))
        same(other.execute("SHOW statement_timeout").fetchone(), ("4321ms",))


@step
def temporary_table(c):
    with psycopg.connect(c.url, autocommit=True) as other:
        other.execute("CREATE TEMPORARY TABLE mine (n int)")
        other.execute("INSERT INTO mine SELECT generate_series(1, 5)")
        for _ in range(10):
            same(other.execute("SELECT count(*) FROM mine").fetchone(), (5,))


@step
def listen_notify(c):
    with psycopg.connect(c.url, autocommit=True) as other:
        other.execute("LISTEN news")
        c.execute("SELECT pg_notify('news', 'hello')")
        heard = [note.payload for note in other.notifies(timeout=5, stop_after=1)]
        same(heard, ["hello"])


@step
def notices(c):
    heard = []
    c.add_notice_handler(lambda diag: heard.append(diag.message_primary))
    c.execute("DO $$ BEGIN RAISE NOTICE 'psst'; END $$")
    same(heard, ["psst"])


@step
def several_statements(c):
    cursor = c.execute("SELECT 1; SELECT 2; SELECT 3")
    found = [cursor.fetchone()[0]]
    while cursor.nextset():
        found.append(cursor.fetchone()[0])
    same(found, [1, 2, 3])


@step
def error_fields(c):
    error = raises(psycopg.Error, lambda: c.execute(f"INSERT INTO {TABLE} VALUES (1)"), "23505")
    same(error.diag.table_name, TABLE)
    same(error.diag.constraint_name, f"{TABLE}_pkey")
    raises(psycopg.Error, lambda: c.execute("SELEC 1"), "42601")
    raises(psycopg.Error, lambda: c.execute("SELECT %s::int", ("x",)), "22P02")


@step
def cancel(c):
    for statement in ("SELECT pg_sleep(30)", f"SELECT count(pg_sleep(30)) FROM {TABLE}"):
        started = time.monotonic()
        timer = threading.Timer(0.3, c.cancel_safe)
        timer.start()
        raises(psycopg.errors.QueryCanceled, lambda: c.execute(statement), "57014")
        timer.join()
        same(time.monotonic() - started < 5, True, "cancelled in time")
    same(c.execute("SELECT 1").fetchone(), (1,))


@step
def protocol_3_2(c):
    if psycopg.pq.version() < 180000:  # libpq learnt it in PostgreSQL 18.
        return
    with psycopg.connect(c.url, autocommit=True, min_protocol_version="3.2", max_protocol_version="latest") as other:
        same(other.pgconn.full_protocol_version, 30002)
        # Its cancel keys are longer.
        timer = threading.Timer(0.3, other.cancel_safe)
        timer.start()
        raises(psycopg.errors.QueryCanceled, lambda: other.execute("SELECT pg_sleep(30)"), "57014")
        timer.join()
        same(other.execute("SELECT 1").fetchone(), (1,))


@step
def composed_sql(c):
    found = c.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(TABLE))).fetchone()
    same(found[0] >= 20, True)


@step
def two_phase(c):
    with psycopg.connect(c.url) as other:
        if other.execute("SHOW max_prepared_transactions").fetchone() == ("0",):
            return
        other.rollback()
        other.tpc_begin("psycopg3")
        other.execute(f"INSERT INTO {TABLE} VALUES (500, 'prepared')")
        other.tpc_prepare()
        other.tpc_commit()
    same(c.execute(f"DELETE FROM {TABLE} WHERE id = 500").rowcount, 1)


def inserts(url, seconds):
    """Autocommitted inserts over one connection."""
    with psycopg.connect(url, autocommit=True) as c:
        c.execute(f"DROP TABLE IF EXISTS {TABLE}_loop")
        c.execute(f"CREATE TABLE {TABLE}_loop (n int)")
        loop = Inserts(seconds)
        while (n := loop.again()) is not None:
            try:
                c.execute(f"INSERT INTO {TABLE}_loop VALUES (%s)", (n,))
                loop.done()
            except psycopg.Error as error:
                loop.failed(error)
        loop.judge(row[0] for row in c.execute(f"SELECT n FROM {TABLE}_loop"))


def main():
    url, seconds = arguments()
    print(f"version {psycopg.__version__}")
    if seconds:
        inserts(url, seconds)
    with psycopg.connect(url, autocommit=True) as c:
        c.url = url
        if not hasattr(c, "cancel_safe"):  # Before 3.2.
            c.cancel_safe = c.cancel
        run(c)


main()
