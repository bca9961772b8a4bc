// node-postgres signs in once and says `in tls`, `in plain` or `refused CODE`.
"use strict";
const fs = require("node:fs");
const tls = require("node:tls");
const pg = require("pg");

const [host, port, user, password, sslmode, certs, cert] = process.argv.slice(2);

function ssl() {
  if (sslmode === "disable") return false;
  const words = { rejectUnauthorized: sslmode.startsWith("verify"), ca: fs.readFileSync(`${certs}/ca.crt`) };
  if (sslmode === "verify-ca") words.checkServerIdentity = () => undefined;
  if (sslmode === "verify-full") words.checkServerIdentity = (_, shown) => tls.checkServerIdentity(host, shown);
  if (cert === "cert") {
    words.cert = fs.readFileSync(`${certs}/client.crt`);
    words.key = fs.readFileSync(`${certs}/client.key`);
  }
  return words;
}

async function main() {
  const words = { host, port: Number(port), user, password, database: process.env.DATABASE, ssl: ssl() };
  if (process.env.OPTIONS) words.options = process.env.OPTIONS;
  const client = new pg.Client({ ...words, connectionTimeoutMillis: 20000 });
  client.on("error", () => {});
  await client.connect();
  const found = await client.query("SELECT 1 AS one");
  if (found.rows[0].one !== 1) throw new Error("no row");
  console.log(client.connection.stream.encrypted ? "in tls" : "in plain");
  await client.end();
}

main().catch((error) => {
  // An error of the network or of TLS has a code too, a longer one.
  if (/^[0-9A-Z]{5}$/.test(error.code || "")) console.log(`refused ${error.code}`);
  console.error(String(error));
  process.exit(1);
});
