//! What lives in a session: settings, roles, temporary tables, locks, notifications, and what crosses transactions.

use super::{Script, pinning, script};

pub(super) const SESSIONS: &[Script] = &[
    script(
        "settings follow the session and are undone with its transactions",
        "Q SHOW application_name
         Q SHOW TimeZone
         Q SET TimeZone TO 'Europe/Berlin'
         Q SHOW TimeZone
         Q SELECT '2024-01-01 12:00:00+00'::timestamptz
         Q BEGIN
         Q SET TimeZone TO 'America/New_York'
         Q SHOW TimeZone
         Q ROLLBACK
         Q SHOW TimeZone
         Q BEGIN
         Q SET work_mem TO '1MB'
         Q SAVEPOINT a
         Q SET work_mem TO '2MB'
         Q SET LOCAL DateStyle TO 'SQL'
         Q SHOW DateStyle
         Q ROLLBACK TO a
         Q SHOW work_mem
         Q SHOW DateStyle
         Q COMMIT
         Q SHOW work_mem
         Q SET SESSION work_mem = '3MB'
         Q SHOW work_mem
         Q RESET work_mem
         Q SHOW work_mem
         Q RESET ALL
         Q SHOW TimeZone
         Q SHOW application_name
         Q SET application_name TO 'mine'
         Q SHOW application_name
         Q RESET application_name
         Q SHOW application_name
         Q SET nosuch TO 1
         Q SET work_mem TO 'much'
         Q SHOW work_mem",
    ),
    script(
        "set_config, custom settings, roles and the search path",
        "Q SELECT set_config('my.thing', 'one', false)
         Q SELECT current_setting('my.thing')
         Q BEGIN
         Q SELECT set_config('my.thing', 'two', true)
         Q SELECT current_setting('my.thing')
         Q COMMIT
         Q SELECT current_setting('my.thing')
         Q SET my.thing TO 'quoted ''text'''
         Q SELECT current_setting('my.thing')
         Q SET search_path TO intruder, public
         Q SELECT v FROM t
         Q SHOW search_path
         Q SET search_path TO DEFAULT
         Q SHOW search_path
         Q SET ROLE other
         Q SELECT current_user
         Q RESET ROLE
         Q SELECT current_user
         Q SET ROLE nosuch
         Q SELECT current_user
         Q SET statement_timeout TO '5s'
         Q SHOW statement_timeout
         Q SET DateStyle TO 'German'; SELECT '2024-12-31'::date
         Q SELECT '2024-12-31'::date
         Q SET TimeZone TO 'Asia/Tokyo'; SELECT 1/0
         Q SHOW TimeZone
         Q SHOW client_encoding
         Q SET NAMES 'LATIN1'
         Q SHOW client_encoding
         Q SET client_encoding TO DEFAULT
         Q SHOW client_encoding",
    ),
    pinning(
        "settings in a text that begins and ends transactions itself",
        "Q BEGIN; SET work_mem TO '9MB'; ROLLBACK
         Q SHOW work_mem
         Q SET work_mem TO '10MB'; BEGIN; SET work_mem TO '11MB'; SELECT 1/0
         Q SHOW work_mem
         Q ROLLBACK
         Q SHOW work_mem",
    ),
    pinning(
        "what an error does not undo",
        "Q SELECT pg_advisory_lock(1), 1/0
         Q SELECT pg_advisory_unlock(1)
         Q SELECT pg_advisory_lock(2); SELECT 1/0
         Q SELECT pg_advisory_unlock(2)
         P: PREPARE kept AS SELECT 'kept'
         B::
         E:
         P: SELECT 1/0
         B::
         E:
         S
         Q EXECUTE kept",
    ),
    script(
        "settings in a pipeline",
        "P: SET work_mem TO '5MB'
         B::
         E:
         P: SHOW work_mem
         B::
         E:
         S
         Q SHOW work_mem
         P: SET work_mem TO '6MB'
         B::
         E:
         P: SELECT 1/0
         B::
         E:
         S
         Q SHOW work_mem
         Q BEGIN
         P: SET work_mem TO '7MB'
         B::
         E:
         S
         Q COMMIT
         Q SHOW work_mem",
    ),
    pinning(
        "temporary tables",
        "Q CREATE TEMP TABLE tt (id int)
         Q INSERT INTO tt VALUES (1)
         Q SELECT count(*) FROM tt
         Q BEGIN
         Q CREATE TEMP TABLE t2 (id int)
         Q ROLLBACK
         Q SELECT count(*) FROM t2
         Q SELECT count(*) FROM tt
         Q DISCARD TEMP
         Q SELECT count(*) FROM tt",
    ),
    pinning(
        "cursors WITH HOLD",
        "Q BEGIN
         Q DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 3)
         Q COMMIT
         Q FETCH 1 FROM c
         Q FETCH ALL FROM c
         Q CLOSE c
         Q FETCH 1 FROM c",
    ),
    pinning(
        "session advisory locks",
        "Q SELECT pg_try_advisory_lock(4711)
         Q SELECT pg_advisory_unlock(4711)
         Q SELECT pg_advisory_unlock(4711)
         Q SELECT pg_advisory_lock(4711)
         Q SELECT pg_advisory_unlock_all()",
    ),
    script(
        "what a role starts with, and RESET returns to",
        "Q SHOW IntervalStyle
         Q SET IntervalStyle TO 'iso_8601'
         Q SELECT interval '1 day 2 hours'
         Q RESET IntervalStyle
         Q SELECT interval '1 day 2 hours'
         Q BEGIN
         Q SET LOCAL IntervalStyle TO 'postgres_verbose'
         Q SELECT interval '1 day 2 hours'
         Q COMMIT
         Q SELECT interval '1 day 2 hours'
         Q SET IntervalStyle TO 'postgres'
         Q DISCARD ALL
         Q SELECT interval '1 day 2 hours'",
    ),
    script(
        "SET SESSION CHARACTERISTICS",
        "Q SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY
         Q SHOW default_transaction_isolation
         Q SHOW default_transaction_read_only
         Q SELECT count(*) >= 0 FROM t
         Q INSERT INTO t VALUES (99, 'no')
         Q BEGIN
         Q SHOW transaction_isolation
         Q SHOW transaction_read_only
         Q COMMIT
         Q BEGIN READ WRITE
         Q SHOW transaction_read_only
         Q ROLLBACK
         Q RESET default_transaction_read_only
         Q SHOW transaction_read_only
         Q SHOW transaction_isolation
         Q RESET ALL
         Q SHOW transaction_isolation",
    ),
    script(
        "SET LOCAL and savepoints",
        "Q BEGIN
         Q SET LOCAL work_mem TO '1MB'
         Q SAVEPOINT a
         Q SET LOCAL work_mem TO '2MB'
         Q SAVEPOINT b
         Q SELECT set_config('work_mem', '3MB', true)
         Q RELEASE b
         Q SHOW work_mem
         Q ROLLBACK TO a
         Q SHOW work_mem
         Q SET work_mem TO '4MB'
         Q SET LOCAL work_mem TO '5MB'
         Q SHOW work_mem
         Q COMMIT
         Q SHOW work_mem
         Q BEGIN
         Q SET work_mem TO '6MB'
         Q SAVEPOINT c
         Q SELECT 1/0
         Q ROLLBACK TO c
         Q SHOW work_mem
         Q ROLLBACK
         Q SHOW work_mem",
    ),
    pinning(
        "notifications to oneself",
        "Q LISTEN here
         Q NOTIFY here, 'one'
         Q SELECT pg_notify('here', 'two')
         Q BEGIN
         Q NOTIFY here, 'three'
         Q NOTIFY here, 'three'
         Q SELECT 1
         Q COMMIT
         Q BEGIN
         Q NOTIFY here, 'four'
         Q ROLLBACK
         Q UNLISTEN here
         Q NOTIFY here, 'five'
         Q SELECT count(*) FROM pg_listening_channels()
         Q BEGIN
         Q LISTEN there
         Q ROLLBACK
         Q SELECT count(*) FROM pg_listening_channels()
         Q UNLISTEN *",
    ),
    script(
        "large objects",
        "Q BEGIN
         Q SELECT lo_create(4711)
         Q SELECT lowrite(lo_open(4711, 131072), 'some bytes')
         Q SELECT lo_lseek(0, 0, 0)
         Q COMMIT
         Q SELECT convert_from(lo_get(4711), 'UTF8')
         Q SELECT loread(0, 1)
         Q SELECT lo_put(4711, 5, 'BYTES')
         Q SELECT convert_from(lo_get(4711), 'UTF8')
         Q SELECT lo_unlink(4711)
         Q SELECT lo_get(4711)",
    ),
    script(
        "snapshots that are exported, and ids of transactions",
        "Q BEGIN ISOLATION LEVEL REPEATABLE READ
         Q SELECT pg_export_snapshot() ~ '^[0-9A-F-]+$'
         Q SELECT pg_current_xact_id_if_assigned() IS NULL
         Q SELECT txid_current() = txid_current()
         Q COMMIT
         Q SELECT txid_status(txid_current()) 
         Q BEGIN ISOLATION LEVEL REPEATABLE READ
         Q SET TRANSACTION SNAPSHOT 'nonsense'
         Q ROLLBACK
         Q SELECT pg_backend_pid() = pg_backend_pid()",
    ),
    script(
        "two-phase commit",
        "Q TRUNCATE t
         Q BEGIN
         Q INSERT INTO t VALUES (1, 'prepared')
         Q PREPARE TRANSACTION 'first'
         Q SELECT count(*) FROM t
         Q SELECT gid FROM pg_prepared_xacts
         Q COMMIT PREPARED 'first'
         Q SELECT count(*) FROM t
         Q BEGIN
         Q DELETE FROM t
         Q PREPARE TRANSACTION 'second'
         Q ROLLBACK PREPARED 'second'
         Q SELECT count(*) FROM t
         Q PREPARE TRANSACTION 'third'
         Q BEGIN
         Q SELECT 1/0
         Q PREPARE TRANSACTION 'fourth'
         Q COMMIT PREPARED 'fifth'
         Q BEGIN
         Q SET work_mem TO '8MB'
         Q INSERT INTO t VALUES (2, 'kept')
         Q PREPARE TRANSACTION 'sixth'
         Q SHOW work_mem
         Q ROLLBACK PREPARED 'sixth'",
    ),
    script(
        "functions called by their number",
        "F:177 2 3
         F:177 2
         F:4294967295 1
         Q BEGIN
         F:177 20 30
         F:154 1 0
         F:177 1 1
         Q ROLLBACK",
    ),
    script(
        "DISCARD of parts",
        "P:kept SELECT 'kept'
         S
         Q DISCARD PLANS
         Q DISCARD SEQUENCES
         B::kept
         E:
         S
         Q SET work_mem TO '7MB'
         Q DISCARD TEMP
         Q SHOW work_mem
         Q BEGIN
         Q DISCARD ALL
         Q ROLLBACK
         Q DISCARD ALL
         Q SHOW work_mem
         B::kept
         E:
         S",
    ),
    script(
        "after sessions with pins, nothing of them is left",
        "Q SELECT count(*) FROM tt
         Q FETCH 1 FROM c
         Q EXECUTE q(1)
         Q SELECT pg_try_advisory_xact_lock(4711)
         Q SHOW extra_float_digits
         Q SELECT count(*) FROM pg_prepared_statements WHERE from_sql
         Q SELECT count(*) FROM pg_cursors WHERE name <> ''",
    ),
];
