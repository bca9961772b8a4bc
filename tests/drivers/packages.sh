#!/usr/bin/env bash
# Where the drivers come from: Debian's packages and PyPI. Read by `tests/drivers/run`, and run by itself by
# `tests/sign_in/run`:
#
#     tests/drivers/packages.sh DIR yes|no NAME...     NAME: psycopg asyncpg pgjdbc node
#
# makes them available (with `no`: only finds them), what has no place of its own under DIR, and prints `NAME=PLACE` for
# each that there is: the Python that has it, the jar, the path for node's modules.

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -u
    work=${1:?a directory} install=${2:?yes or no}
    mkdir -p "$work" || exit 1
    shift 2
    say() { echo "drivers: $*" >&2; }
fi

updated=no
apt_install() { # PACKAGE...
    [ "$install" = yes ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    if [ $updated = no ]; then
        say "apt-get update"
        apt-get update -qq >"$work/apt.log" 2>&1 || return 1
        updated=yes
    fi
    say "apt-get install $*"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$work/apt.log" 2>&1
}

python=python3
venv_tried=no
# A module of Python's: there already, or put into a virtual environment that goes away with this run.
python_has() { # MODULE PIP-PACKAGE
    "$python" -c "import $1" 2>/dev/null && return 0
    [ "$install" = yes ] || return 1
    if [ $venv_tried = no ]; then
        venv_tried=yes
        say "making a virtual environment in $work/venv"
        python3 -m venv --system-site-packages "$work/venv" >"$work/venv.log" 2>&1 ||
            { apt_install python3-venv && python3 -m venv --system-site-packages "$work/venv" >"$work/venv.log" 2>&1; } ||
            return 1
        python=$work/venv/bin/python
    fi
    [ "$python" != python3 ] || return 1
    "$python" -c "import $1" 2>/dev/null && return 0
    say "pip install $2"
    "$python" -m pip install -q --disable-pip-version-check "$2" >"$work/pip.log" 2>&1 ||
        apt_install "python3-${1}" >/dev/null
    "$python" -c "import $1" 2>/dev/null
}

jdbc_jar=/usr/share/java/postgresql.jar
node_path=${NODE_PATH:-}
node_has() {
    command -v node >/dev/null || apt_install nodejs || return 1
    node -e 'require("pg")' 2>/dev/null && return 0
    node_path=/usr/share/nodejs
    NODE_PATH=$node_path node -e 'require("pg")' 2>/dev/null && return 0
    # From an earlier run in the same directory.
    node_path=$work/node/usr/share/nodejs
    NODE_PATH=$node_path node -e 'require("pg")' 2>/dev/null && return 0
    [ "$install" = yes ] || return 1
    node_path=/usr/share/nodejs
    apt_install node-pg && return 0
    # A Node.js of another origin satisfies no package: its files alone do.
    say "apt-get download node-pg and what it needs"
    mkdir -p "$work/node" && (
        cd "$work/node" || exit 1
        for package in node-pg node-async node-split2 node-xtend node-readable-stream; do
            apt-get download -q "$package" >/dev/null 2>&1 || exit 1
        done
        for file in *.deb; do dpkg -x "$file" . || exit 1; done
    ) || return 1
    node_path=$work/node/usr/share/nodejs
    NODE_PATH=$node_path node -e 'require("pg")' 2>/dev/null
}

jdbc_has() {
    command -v java >/dev/null || apt_install default-jdk-headless || return 1
    [ -e $jdbc_jar ] || apt_install libpostgresql-jdbc-java
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    for name in "$@"; do
        case $name in
        psycopg) python_has psycopg 'psycopg[binary]' && echo "psycopg=$python" ;;
        asyncpg) python_has asyncpg asyncpg && echo "asyncpg=$python" ;;
        pgjdbc) jdbc_has && echo "pgjdbc=$jdbc_jar" ;;
        node) node_has && echo "node=$node_path" ;;
        esac
    done
    exit 0
fi
