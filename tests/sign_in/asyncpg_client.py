"""asyncpg signs in once and says `in tls`, `in plain` or `refused CODE`."""

import asyncio
import os
import ssl
import sys

import asyncpg


def context(sslmode, certs, cert):
    checks = ssl.create_default_context(cafile=f"{certs}/ca.crt")
    checks.check_hostname = sslmode == "verify-full"
    checks.verify_mode = ssl.CERT_REQUIRED if sslmode.startswith("verify") else ssl.CERT_NONE
    if cert:
        checks.load_cert_chain(f"{certs}/client.crt", f"{certs}/client.key")
    return checks


async def connect():
    host, port, user, password, sslmode, certs, cert = sys.argv[1:]
    database, options = os.environ["DATABASE"], os.environ.get("OPTIONS")
    more = {"timeout": 20, "server_settings": {"options": options} if options else None}
    if sslmode in ("allow", "prefer"):
        # asyncpg reads these words from a DSN, with the certificate's files in it.
        files = f"&sslcert={certs}/client.crt&sslkey={certs}/client.key" if cert == "cert" else ""
        return await asyncpg.connect(f"postgres://{user}:{password}@{host}:{port}/{database}?sslmode={sslmode}{files}", **more)
    tls = False if sslmode == "disable" else context(sslmode, certs, cert == "cert")
    return await asyncpg.connect(host=host, port=int(port), user=user, password=password, database=database, ssl=tls, **more)


async def main():
    try:
        connection = await connect()
    except asyncpg.PostgresError as error:
        print("refused", error.sqlstate)
        sys.exit(str(error))
    assert await connection.fetchval("SELECT 1") == 1
    tls = connection._transport.get_extra_info("ssl_object") is not None
    print("in tls" if tls else "in plain")
    await connection.close()


asyncio.run(main())
