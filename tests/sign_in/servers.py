"""What the clients sign in on: PostgreSQL servers whose TLS and rules are as asked, certificates, and primacy before one."""
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROLES = """
CREATE ROLE primacy SUPERUSER LOGIN PASSWORD 'primacy';
CREATE ROLE scram LOGIN PASSWORD 'secret';
CREATE ROLE clear LOGIN PASSWORD 'secret';
CREATE ROLE app LOGIN PASSWORD 'secret';
CREATE ROLE trusted LOGIN PASSWORD 'secret';
CREATE ROLE nologin NOLOGIN PASSWORD 'secret';
CREATE ROLE expired LOGIN PASSWORD 'secret' VALID UNTIL '2020-01-01';
CREATE ROLE bare LOGIN;
CREATE ROLE full LOGIN PASSWORD 'secret' CONNECTION LIMIT 0;
SET password_encryption = md5;
CREATE ROLE old LOGIN PASSWORD 'secret';
"""
DATABASES = ["CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
             "CREATE DATABASE barred ALLOW_CONNECTIONS false", "CREATE DATABASE crowded CONNECTION LIMIT 0"]

# The default, which a users file would switch off.
QUERY = ("SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_catalog.pg_authid "
         "WHERE rolname = $1")

# As rules of primacy and as lines of pg_hba.conf: type, role(s), method.
RULES = [
    ("hostssl", ["app"], "cert"),
    ("host", ["trusted"], "reject"),
    ("hostssl", ["clear"], "password"),
    ("host", ["scram", "nobody", "nologin", "expired", "bare", "full"], "scram-sha-256"),
    ("host", ["old"], "md5"),
]


def rules_of_primacy():
    return "".join(f'[[hba]]\ntype = "{kind}"\ndatabase = "all"\nuser = {roles}\naddress = "127.0.0.1"\n'
                   f'method = "{method}"\n' for kind, roles, method in RULES).replace("'", '"')


def rules_of_postgres():
    return "".join(f"{kind} all {','.join(roles)} 127.0.0.1/32 {method}\n" for kind, roles, method in RULES)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait(ready, what, limit=30):
    until = time.monotonic() + limit
    while not ready():
        if time.monotonic() > until:
            raise SystemExit(f"{what} does not come up")
        time.sleep(0.05)


def make_certificates(place):
    """An authority, a server's certificate for `localhost` and a client's for the role `app`."""
    script = """
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt
    for n in server:localhost client:app; do f=${n%%:*}; c=${n##*:}
        openssl req -newkey rsa:2048 -nodes -subj /CN=$c -keyout $f.key -out $f.csr
        printf 'subjectAltName=DNS:'$c > san
        openssl x509 -req -in $f.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out $f.crt
    done
    openssl pkcs8 -topk8 -nocrypt -outform DER -in client.key -out client.pk8
    chmod 600 *.key *.pk8
    """
    subprocess.run(["sh", "-ec", script], cwd=place, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Server:
    """A PostgreSQL server. It takes SCRAM and md5; `takes` gives it another mode of TLS, or rules."""

    def __init__(self, work, name, certs):
        bins = sorted(glob.glob("/usr/lib/postgresql/*/bin")) + [os.path.dirname(shutil.which("initdb") or "")]
        self.bin = os.environ.get("PG_BIN") or bins[0]
        self.port, self.socket = free_port(), work
        self.dir = os.path.join(work, name)
        self.prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        self.psql = f"{self.bin}/psql"
        self._run(f"{self.bin}/initdb", "-D", self.dir, "-U", "postgres", "-A", "trust", "-N")
        for file in ["server.crt", "server.key", "ca.crt"]:
            shutil.copy(f"{certs}/{file}", f"{self.dir}/{file}")
            if os.getuid() == 0:
                shutil.chown(f"{self.dir}/{file}", "postgres", "postgres")
        self._write(self.rules("disable"))
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={work} -c fsync=off"
        self.process = subprocess.Popen(
            [*self.prefix, f"{self.bin}/postgres", "-D", self.dir, *options.split()],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait(lambda: self.sql("SELECT 1") is not None, "the server")
            self.version = int(self.sql("SHOW server_version_num"))
            for text in [ROLES, *DATABASES]:
                assert self.sql(text) is not None, text
        except BaseException:
            self.process.terminate()
            raise

    def _run(self, *args):
        subprocess.run([*self.prefix, *args], check=True, stdout=subprocess.DEVNULL)

    def _write(self, rules):
        with open(f"{self.dir}/pg_hba.conf", "w", encoding="ascii") as file:
            file.write(f"local all postgres trust\n{rules}")

    def rules(self, mode):
        """What primacy's `tls.sslmode` is in a server's words."""
        kind = "host" if mode in ("disable", "prefer") else "hostssl"
        more = " clientcert=verify-ca" if mode == "verify-ca" else ""
        return (f"{kind} all old 127.0.0.1/32 md5{more}\n"
                f"{kind} all all 127.0.0.1/32 scram-sha-256{more}\n")

    def takes(self, mode, rules=None):
        """From now on this mode, and these rules in place of the mode's own."""
        self._write(self.rules(mode) if rules is None else rules)
        on = "off" if mode == "disable" else "on"
        self.sql(f"ALTER SYSTEM SET ssl = {on}")
        self.sql("ALTER SYSTEM SET ssl_ca_file = 'ca.crt'")
        before = self.sql("SELECT pg_conf_load_time()")
        self.sql("SELECT pg_reload_conf()")
        # A session that begins now has what the postmaster has read, which is what counts for the next sign-in too.
        wait(lambda: self.sql("SELECT pg_conf_load_time()") != before and self.sql("SHOW ssl") == on, "the server's reload")

    def sql(self, text):
        command = [self.psql, "-XAtq", "-h", self.socket, "-p", str(self.port), "-U", "postgres", "-c", text, "postgres"]
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        return run.stdout.strip() if run.returncode == 0 else None

    def stop(self):
        with open(os.path.join(self.dir, "postmaster.pid"), encoding="ascii") as file:
            os.kill(int(file.readline()), signal.SIGINT)
        self.process.wait()


class Proxy:
    """primacy before a server."""

    def __init__(self, binary, work, server, mode, hba=""):
        self.port, admin = free_port(), free_port()
        self.dir = tempfile.mkdtemp(dir=work)
        certs = os.path.join(work, "certs")
        users = os.path.join(self.dir, "users")
        with open(users, "w", encoding="ascii") as file:
            file.write('"app" "secret"\n')
        config = f"""
listen = "127.0.0.1:{self.port}"
state_dir = "{self.dir}/state"
[[nodes]]
url = "postgres://primacy:primacy@127.0.0.1:{server.port}/postgres"
[auth]
users_file = "{users}"
query = "{QUERY}"
[admin]
listen = "127.0.0.1:{admin}"
[limits]
auth_delay = 0
[log]
level = "info"
"""
        if mode != "disable":
            config += (f'[tls]\nsslmode = "{mode}"\ncert_file = "{certs}/server.crt"\n'
                       f'key_file = "{certs}/server.key"\nca_file = "{certs}/ca.crt"\n')
        config += hba
        with open(f"{self.dir}/primacy.toml", "w", encoding="ascii") as file:
            file.write(config)
        self.log = open(f"{self.dir}/log", "wb")
        self.process = subprocess.Popen([binary, "serve", "--config", f"{self.dir}/primacy.toml"],
                                        stdout=self.log, stderr=self.log)
        serves = lambda: b"listening" in open(f"{self.dir}/log", "rb").read() and self._ready(admin)
        try:
            wait(serves, "primacy")
        except SystemExit:
            print(open(f"{self.dir}/log", encoding="utf-8").read()[-2000:], file=sys.stderr)
            raise

    def _ready(self, admin):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/ready", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
