"""The clients: each signs in once, as a case says, and tells what came of it.

A case has host, port, user, password, sslmode; perhaps database, cert (shown), binding, negotiation, protocol, options.
"""
import collections
import os
import re
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SSLMODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
NAMES = ["psql", "psycopg", "asyncpg", "node", "pgjdbc"]

# `tls` and `code` are None where the client cannot tell.
Result = collections.namedtuple("Result", "signed_in tls code complaint")


def packages(names, work, install):
    """Where the drivers are, as `tests/drivers/packages.sh` says: {name: place}."""
    command = ["bash", f"{ROOT}/tests/drivers/packages.sh", work, "yes" if install else "no", *names]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return dict(line.split("=", 1) for line in run.stdout.splitlines() if "=" in line)


class Clients:
    def __init__(self, psql, certs, work, places):
        self.psql_path, self.certs, self.places = psql, certs, places
        if "pgjdbc" in places:
            subprocess.run(["javac", "-cp", places["pgjdbc"], "-d", work, f"{HERE}/JdbcClient.java"], check=True)
            self.java = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{places['pgjdbc']}:{work}", "JdbcClient"]

    def sign_in(self, driver, case):
        return getattr(self, f"_{driver}")(case)

    def libpq(self):
        asked = [self.places["psycopg"], "-c", "import psycopg; print(psycopg.pq.version())"]
        return int(subprocess.run(asked, stdout=subprocess.PIPE, check=True).stdout)

    def _psql(self, case):
        words = {"host": case["host"], "port": case["port"], "user": case["user"], "password": case["password"],
                 "dbname": case.get("database", "postgres"), "sslmode": case["sslmode"], "connect_timeout": 10,
                 "sslrootcert": f"{self.certs}/ca.crt", "channel_binding": case.get("binding", "")}
        if case.get("options"):
            words["options"] = "'" + case["options"] + "'"
        if case.get("cert"):
            words.update(sslcert=f"{self.certs}/client.crt", sslkey=f"{self.certs}/client.key")
        conninfo = " ".join(f"{name}={value}" for name, value in words.items() if value != "")
        environment = dict(os.environ, HOME="/nonexistent", PGSSLCERT=words.get("sslcert", "/nonexistent"))
        run = subprocess.run([self.psql_path, "-X", "-w", "-c", r"\conninfo", conninfo], env=environment,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        tls = "SSL connection" in run.stdout or "TLS" in run.stdout
        return Result(run.returncode == 0, tls if run.returncode == 0 else None, None, run.stderr.strip())

    def _script(self, command, case, **more):
        keys = ["host", "port", "user", "password", "sslmode"]
        arguments = [str(case[key]) for key in keys] + [self.certs, "cert" if case.get("cert") else "-"]
        environment = dict(os.environ, HOME="/nonexistent", DATABASE=case.get("database", "postgres"),
                           OPTIONS=case.get("options", ""), BINDING=case.get("binding", ""), **more)
        run = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=environment, check=False, timeout=60)
        told = run.stdout.strip().splitlines()[-1] if run.stdout.strip() else ""
        code = re.fullmatch(r"refused ([0-9A-Z]{5})", told)
        return Result(told.startswith("in"), {"in tls": True, "in plain": False}.get(told), code and code.group(1),
                      run.stderr.strip())

    def _psycopg(self, case):
        more = {"NEGOTIATION": case.get("negotiation", ""), "PROTOCOL": case.get("protocol", "")}
        return self._script([self.places["psycopg"], f"{HERE}/psycopg_client.py"], case, **more)

    def _asyncpg(self, case):
        return self._script([self.places["asyncpg"], f"{HERE}/asyncpg_client.py"], case)

    def _node(self, case):
        return self._script(["node", f"{HERE}/node_client.js"], case, NODE_PATH=self.places["node"])

    def _pgjdbc(self, case):
        return self._script(self.java, case)
