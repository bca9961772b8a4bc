"""asyncpg signs in once and says `in tls` or `in plain`."""

import asyncio
import ssl
import sys

import asyncpg


def context(sslmode, certs, cert):
    if sslmode in ("disable", "allow", "prefer"):
        made = sslmode
        if not cert or sslmode == "disable":
            return made
    checks = ssl.create_default_context(cafile=f"{certs}/ca.crt")
    checks.check_hostname = sslmode == "verify-full"
    checks.verify_mode = ssl.CERT_REQUIRED if sslmode.startswith("verify") else ssl.CERT_NONE
    if cert:
        checks.load_cert_chain(f"{certs}/client.crt", f"{certs}/client.key")
    return checks


async def main():
    host, port, user, password, sslmode, certs, cert = sys.argv[1:]
    words = dict(host=host, port=int(port), user=user, password=password, database="postgres", timeout=20)
    if sslmode in ("allow", "prefer"):
        # asyncpg reads these words from a DSN, with the certificate's files in it.
        more = f"&sslcert={certs}/client.crt&sslkey={certs}/client.key" if cert == "cert" else ""
        dsn = f"postgres://{user}:{password}@{host}:{port}/postgres?sslmode={sslmode}{more}"
        connection = await asyncpg.connect(dsn, timeout=20)
    else:
        ssl_words = False if sslmode == "disable" else context(sslmode, certs, cert == "cert")
        connection = await asyncpg.connect(**words, ssl=ssl_words)
    assert await connection.fetchval("SELECT 1") == 1
    tls = connection._transport.get_extra_info("ssl_object") is not None
    print("in tls" if tls else "in plain")
    await connection.close()


asyncio.run(main())
