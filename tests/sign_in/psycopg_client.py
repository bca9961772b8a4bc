"""psycopg, with the libpq that comes with it, signs in once and says `in tls` or `in plain`."""

import os
import sys

import psycopg

host, port, user, password, sslmode, certs, cert = sys.argv[1:]
words = {"host": host, "port": port, "user": user, "password": password, "sslmode": sslmode,
         "dbname": os.environ["DATABASE"], "sslrootcert": f"{certs}/ca.crt", "sslcert": "/nonexistent",
         "connect_timeout": 20}
if cert == "cert":
    words.update(sslcert=f"{certs}/client.crt", sslkey=f"{certs}/client.key")
for name, variable in [("sslnegotiation", "NEGOTIATION"), ("channel_binding", "BINDING"),
                       ("max_protocol_version", "PROTOCOL"), ("options", "OPTIONS")]:
    if os.environ.get(variable):
        words[name] = os.environ[variable]
try:
    connection = psycopg.connect(**words)
except psycopg.OperationalError as error:
    # libpq has no code for what happens before it is connected.
    sys.exit(str(error))
with connection:
    assert connection.execute("SELECT 1").fetchone() == (1,)
    print("in tls" if connection.pgconn.ssl_in_use else "in plain")
