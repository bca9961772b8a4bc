// node-postgres: parameters, named statements, transactions, cursor, cancel, LISTEN, and an insert loop.
"use strict";
const assert = require("node:assert");
const pg = require("pg");

const [url, mode, seconds] = process.argv.slice(2);
const TABLE = "t_node";
let failed = false;

async function step(name, run) {
  try {
    await run();
    console.log(`ok ${name}`);
  } catch (error) {
    failed = true;
    console.log(`FAILED ${name}`);
    console.error(error);
  }
}

async function wants(code, promise) {
  await assert.rejects(promise, (error) => {
    assert.strictEqual(error.code, code);
    return true;
  });
}

async function steps(c) {
  const count = async (filter) => Number((await c.query(`SELECT count(*) AS n FROM ${TABLE} WHERE ${filter}`)).rows[0].n);
  await step("parameterised_write", async () => {
    await c.query(`DROP TABLE IF EXISTS ${TABLE}`);
    await c.query(`CREATE TABLE ${TABLE} (id int PRIMARY KEY, name text)`);
    for (let n = 0; n < 20; n++) {
      const done = await c.query(`INSERT INTO ${TABLE} VALUES ($1, $2)`, [n, `näme ${n}`]);
      assert.strictEqual(done.rowCount, 1);
    }
  });
  await step("parameterised_read", async () => {
    for (let n = 0; n < 20; n++) {
      const found = await c.query(`SELECT name FROM ${TABLE} WHERE id = $1`, [n]);
      assert.deepStrictEqual(found.rows, [{ name: `näme ${n}` }]);
    }
  });
  await step("named_statements", async () => {
    for (let n = 0; n < 50; n++) {
      const found = await c.query({ name: "one-more", text: "SELECT $1::int + 1 AS n", values: [n] });
      assert.strictEqual(found.rows[0].n, n + 1);
      await c.query({ name: "write", text: `UPDATE ${TABLE} SET name = $1 WHERE id = 1`, values: [`w${n}`] });
    }
    assert.strictEqual(await count("name = 'w49'"), 1);
  });
  await step("own_writes_are_read", async () => {
    for (let n = 0; n < 50; n++) {
      await c.query(`UPDATE ${TABLE} SET name = $1 WHERE id = 0`, [String(n)]);
      assert.strictEqual((await c.query(`SELECT name FROM ${TABLE} WHERE id = 0`)).rows[0].name, String(n));
    }
  });
  await step("transactions", async () => {
    await c.query("BEGIN");
    await c.query(`INSERT INTO ${TABLE} VALUES ($1, $2)`, [300, "tx"]);
    await c.query("COMMIT");
    await c.query("BEGIN");
    await c.query(`DELETE FROM ${TABLE}`);
    await c.query("ROLLBACK");
    assert.strictEqual(await count("id = 300"), 1);
    await c.query("BEGIN");
    await c.query(`INSERT INTO ${TABLE} VALUES (301, 'gone')`);
    await wants("23505", c.query(`INSERT INTO ${TABLE} VALUES ($1)`, [300]));
    await wants("25P02", c.query("SELECT $1::int", [1]));
    assert.strictEqual((await c.query("COMMIT")).command, "ROLLBACK");
    assert.strictEqual(await count("id = 301"), 0);
  });
  await step("queued_queries", async () => {
    const asked = Array.from({ length: 100 }, (_, n) => c.query("SELECT $1::int AS n", [n]));
    const found = (await Promise.all(asked)).map((result) => result.rows[0].n);
    assert.deepStrictEqual(found, Array.from({ length: 100 }, (_, n) => n));
  });
  await step("several_statements", async () => {
    const results = await c.query("SELECT 1 AS n; SELECT 2 AS n");
    assert.deepStrictEqual(results.map((result) => result.rows[0].n), [1, 2]);
  });
  await step("large_values", async () => {
    const blob = Buffer.alloc(5_000_000, 7);
    const found = await c.query("SELECT $1::bytea AS b", [blob]);
    assert.ok(found.rows[0].b.equals(blob));
  });
  await step("listen_notify", async () => {
    const other = new pg.Client(url);
    await other.connect();
    const heard = new Promise((resolve) => other.on("notification", (note) => resolve(note.payload)));
    await other.query("LISTEN node_news");
    await c.query("SELECT pg_notify('node_news', 'hello')");
    assert.strictEqual(await heard, "hello");
    await other.end();
  });
  await step("pool", async () => {
    const pool = new pg.Pool({ connectionString: url, max: 5 });
    const found = await Promise.all(Array.from({ length: 100 }, (_, n) => pool.query("SELECT $1::int AS n", [n])));
    assert.strictEqual(found.length, 100);
    await pool.end();
  });
  await step("cancel", async () => {
    const other = new pg.Client(url);
    await other.connect();
    const sleeping = other.query(new pg.Query("SELECT pg_sleep(30)"));
    sleeping.on("row", () => {});
    const ended = new Promise((resolve) => {
      sleeping.on("error", (error) => resolve(error.code));
      sleeping.on("end", () => resolve("no error"));
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    const canceller = new pg.Client(url);
    canceller.cancel(other, sleeping);
    assert.strictEqual(await ended, "57014");
    assert.strictEqual((await other.query("SELECT 1 AS n")).rows[0].n, 1);
    await other.end();
    await c.query("SET statement_timeout TO 200");
    await wants("57014", c.query("SELECT pg_sleep(30)"));
    await c.query("RESET statement_timeout");
  });
}

async function inserts(c) {
  await c.query(`DROP TABLE IF EXISTS ${TABLE}_loop`);
  await c.query(`CREATE TABLE ${TABLE}_loop (n int)`);
  const end = Date.now() + Number(seconds) * 1000;
  const [acknowledged, errors] = [[], []];
  let longest = 0;
  for (let n = 1; Date.now() < end && errors.length < 20; n++) {
    const asked = Date.now();
    try {
      await c.query(`INSERT INTO ${TABLE}_loop VALUES ($1)`, [n]);
      acknowledged.push(n);
    } catch (error) {
      errors.push(`${error.code} ${error.message}`);
    }
    longest = Math.max(longest, Date.now() - asked);
  }
  const found = new Set((await c.query(`SELECT n FROM ${TABLE}_loop`)).rows.map((row) => row.n));
  const missing = acknowledged.filter((n) => !found.has(n)).length;
  failed = missing > 0 || acknowledged.length === 0 || errors.length >= 20;
  const counts = `acknowledged=${acknowledged.length} missing=${missing} errors=${errors.length}`;
  console.log(`${failed ? "FAILED" : "ok"} inserts ${counts} longest_ms=${longest}`);
  for (const error of errors) console.log(`   error: ${error}`);
}

(async () => {
  console.log(`version ${require("pg/package.json").version}`);
  const c = new pg.Client(url);
  await c.connect();
  await (mode === "inserts" ? inserts(c) : steps(c));
  await c.end();
  process.exit(failed ? 1 : 0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
