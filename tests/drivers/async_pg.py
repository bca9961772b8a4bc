"""asyncpg: binary format, statements prepared with Flush, cursors, COPY, cancel by timeout, pool."""

import asyncio
import io
import sys
import traceback

import asyncpg
from steps import Inserts, arguments, same

TABLE = "t_asyncpg"


async def wants(errors, awaitable):
    """Fails the step where the call does not raise one of these errors."""
    try:
        await awaitable
    except errors as error:
        return error
    raise AssertionError(f"no error, wanted {errors}")


async def parameterised_write(c):
    await c.execute(f"DROP TABLE IF EXISTS {TABLE}")
    await c.execute(f"CREATE TABLE {TABLE} (id int PRIMARY KEY, name text, b bytea)")
    for n in range(20):
        done = await c.execute(f"INSERT INTO {TABLE} VALUES ($1, $2, $3)", n, f"näme {n}", bytes([n]))
        same(done, "INSERT 0 1")


async def parameterised_read(c):
    for n in range(20):
        row = await c.fetchrow(f"SELECT * FROM {TABLE} WHERE id = $1", n)
        same(tuple(row), (n, f"näme {n}", bytes([n])))
    same(await c.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id = ANY($1::int[])", [1, 2, 99]), 2)


async def own_writes_are_read(c):
    for n in range(100):
        await c.execute(f"UPDATE {TABLE} SET name = $1 WHERE id = 0", str(n))
        same(await c.fetchval(f"SELECT name FROM {TABLE} WHERE id = 0"), str(n))


async def prepared(c):
    # Prepared with Flush and no Sync: what follows is another statement.
    select = await c.prepare(f"SELECT name FROM {TABLE} WHERE id = $1")
    await c.execute(f"UPDATE {TABLE} SET name = 'simple' WHERE id = 1")
    same(await select.fetchval(1), "simple")
    again = await c.prepare(f"SELECT id FROM {TABLE} WHERE name = $1")
    same(await c.execute(f"UPDATE {TABLE} SET name = $1 WHERE id = $2", "extended", 1), "UPDATE 1")
    same(await again.fetchval("extended"), 1)
    for n in range(200):
        same(await c.fetchval(f"SELECT {n} + $1::int", n), 2 * n)


async def prepare_error(c):
    await wants(asyncpg.UndefinedColumnError, c.prepare("SELECT no_such_column"))
    await wants(asyncpg.PostgresSyntaxError, c.fetch("SELEC $1", 1))
    await wants(asyncpg.DataError, c.fetch("SELECT $1::int", "x"))
    same(await c.fetchval("SELECT 1"), 1)


async def transaction_commit(c):
    async with c.transaction():
        await c.execute(f"INSERT INTO {TABLE} VALUES (300, 'tx')")
        same(await c.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id = $1", 300), 1)
    same(await c.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id = $1", 300), 1)


async def transaction_rollback(c):
    tx = c.transaction()
    await tx.start()
    await c.execute(f"DELETE FROM {TABLE}")
    await tx.rollback()
    same(await c.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id = $1", 300), 1)


async def transaction_error(c):
    async def broken():
        async with c.transaction():
            await c.execute(f"INSERT INTO {TABLE} VALUES (301, 'gone')")
            await c.execute(f"INSERT INTO {TABLE} VALUES ($1, 'twice')", 300)

    await wants(asyncpg.UniqueViolationError, broken())
    same(c.is_in_transaction(), False)

    async def prepared_in_failed():
        async with c.transaction():
            await wants(asyncpg.DivisionByZeroError, c.fetchval("SELECT 1 / 0"))
            await c.fetchval("SELECT $1::int", 1)

    await wants(asyncpg.InFailedSQLTransactionError, prepared_in_failed())
    same(await c.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id = 301"), 0)


async def savepoints(c):
    async with c.transaction():
        await c.execute(f"INSERT INTO {TABLE} VALUES (302, 'kept')")
        inner = c.transaction()
        await inner.start()
        await wants(asyncpg.DivisionByZeroError, c.fetchval("SELECT 1 / 0"))
        await inner.rollback()
    same(await c.fetchval(f"DELETE FROM {TABLE} WHERE id = 302 RETURNING name"), "kept")


async def read_only_and_serializable(c):
    async with c.transaction(readonly=True, isolation="repeatable_read"):
        same(await c.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id < $1", 20), 20)
        await wants(asyncpg.ReadOnlySQLTransactionError, c.execute(f"DELETE FROM {TABLE}"))
    async with c.transaction(isolation="serializable"):
        await c.execute(f"UPDATE {TABLE} SET name = 'serializable' WHERE id = 3")
    same(await c.fetchval(f"SELECT name FROM {TABLE} WHERE id = 3"), "serializable")


async def cursor(c):
    for read_only in (False, True):
        async with c.transaction(readonly=read_only):
            found = [row[0] async for row in c.cursor("SELECT generate_series(1, $1::int)", 100, prefetch=7)]
            same(found, list(range(1, 101)))


async def executemany(c):
    await c.executemany(f"INSERT INTO {TABLE} VALUES ($1, $2)", [(n, "many") for n in range(5000, 9000)])
    same(await c.execute(f"DELETE FROM {TABLE} WHERE id >= 5000"), "DELETE 4000")
    rows = [(5000, "a"), (5000, "b")]
    await wants(asyncpg.UniqueViolationError, c.executemany(f"INSERT INTO {TABLE} VALUES ($1, $2)", rows))
    same(await c.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id >= 5000"), 0)


async def copy(c):
    records = [(n, f"copied {n}", None) for n in range(10000, 60000)]
    same(await c.copy_records_to_table(TABLE, records=records), "COPY 50000")
    out = io.BytesIO()
    same(await c.copy_from_query(f"SELECT id FROM {TABLE} WHERE id >= $1", 10000, output=out), "COPY 50000")
    same(out.getvalue().count(b"\n"), 50000)
    await wants(asyncpg.UniqueViolationError, c.copy_records_to_table(TABLE, records=records[:1]))
    same(await c.execute(f"DELETE FROM {TABLE} WHERE id >= 10000"), "DELETE 50000")


async def large_values(c):
    blob = bytes(range(256)) * 32768
    await c.execute(f"INSERT INTO {TABLE} (id, b) VALUES (400, $1)", blob)
    same(await c.fetchval(f"SELECT b = $1 FROM {TABLE} WHERE id = 400", blob), True)
    same(await c.fetchval(f"DELETE FROM {TABLE} WHERE id = 400 RETURNING b"), blob)


async def cancel_by_timeout(c):
    await wants(asyncio.TimeoutError, c.fetch("SELECT pg_sleep(30)", timeout=0.3))
    same(await c.fetchval("SELECT 1"), 1)
    task = asyncio.ensure_future(c.fetch("SELECT pg_sleep(30)"))
    await asyncio.sleep(0.3)
    task.cancel()
    await wants(asyncio.CancelledError, task)
    same(await c.fetchval("SELECT 2"), 2)


async def listen_notify(c):
    heard = asyncio.get_running_loop().create_future()
    other = await asyncpg.connect(c.url)
    await other.add_listener("asyncpg_news", lambda _c, _pid, _channel, payload: heard.set_result(payload))
    await c.execute("SELECT pg_notify('asyncpg_news', 'hello')")
    same(await asyncio.wait_for(heard, 5), "hello")
    await other.close()


async def types_and_settings(c):
    await c.execute("DROP TYPE IF EXISTS mood_asyncpg")
    await c.execute("CREATE TYPE mood_asyncpg AS ENUM ('sad', 'glad')")
    # The driver asks the catalog about a type that it does not know, then goes on with its statement.
    same(await c.fetchval("SELECT $1::mood_asyncpg", "glad"), "glad")
    await c.execute("DROP TYPE mood_asyncpg")
    other = await asyncpg.connect(c.url, server_settings={"search_path": "pg_catalog", "jit": "off"})
    same(await other.fetchval("SHOW search_path"), "pg_catalog")
    await other.execute("SET timezone TO 'Asia/Tokyo'")
    for _ in range(20):
        same(await other.fetchval("SELECT current_setting('timezone')"), "Asia/Tokyo")
    await other.close()


async def pool(c):
    async with asyncpg.create_pool(c.url, min_size=2, max_size=5) as connections:
        found = await asyncio.gather(*(connections.fetchval("SELECT $1::int", n) for n in range(100)))
        same(found, list(range(100)))
        async with connections.acquire() as one:
            await one.execute("SET search_path TO pg_catalog")
            await one.execute("CREATE TEMPORARY TABLE mine (n int)")
        async with connections.acquire() as one:
            same("pg_catalog" in await one.fetchval("SHOW search_path"), False)


STEPS = [
    parameterised_write, parameterised_read, own_writes_are_read, prepared, prepare_error, transaction_commit,
    transaction_rollback, transaction_error, savepoints, read_only_and_serializable, cursor, executemany, copy,
    large_values, cancel_by_timeout, listen_notify, types_and_settings, pool,
]


async def inserts(url, seconds):
    """Autocommitted inserts over one connection."""
    c = await asyncpg.connect(url)
    await c.execute(f"DROP TABLE IF EXISTS {TABLE}_loop")
    await c.execute(f"CREATE TABLE {TABLE}_loop (n int)")
    loop = Inserts(seconds)
    while (n := loop.again()) is not None:
        try:
            await c.execute(f"INSERT INTO {TABLE}_loop VALUES ($1)", n)
            loop.done()
        except asyncpg.PostgresError as error:
            loop.failed(error)
    loop.judge([row[0] for row in await c.fetch(f"SELECT n FROM {TABLE}_loop")])


async def main():
    url, seconds = arguments()
    print(f"version {asyncpg.__version__}")
    if seconds:
        await inserts(url, seconds)
    c = await asyncpg.connect(url)
    failed = False
    for step in STEPS:
        try:
            c_url = type("C", (), {"url": url, "__getattr__": lambda _self, name: getattr(c, name)})()
            await asyncio.wait_for(step(c_url), 60)
            print(f"ok {step.__name__}", flush=True)
        except Exception:
            failed = True
            print(f"FAILED {step.__name__}", flush=True)
            traceback.print_exc()
    await c.close()
    sys.exit(1 if failed else 0)


asyncio.run(main())
