//! Simple queries, pipelines, portals, prepared statements, COPY.

use super::{Script, pinning, script};

pub(super) const QUERIES: &[Script] = &[
    script(
        "writes outside of a transaction block",
        "Q INSERT INTO t VALUES (101, 'a')
         Q INSERT INTO t VALUES (102, 'b') RETURNING id, v
         Q INSERT INTO t VALUES (101, 'again')
         Q INSERT INTO t VALUES (103, nothing)
         Q INSERT INTO t VALUES (103, $1)
         Q INSERT INTO t VALUES (103, 'c
         Q INSERT INTO t VALUES (103, '$1 c');
         Q INSERT INTO t VALUES (104, 'd'); INSERT INTO t VALUES (105, 'e')
         Q INSERT INTO t VALUES (106, 'd'); INSERT INTO t VALUES (105, 'e')
         Q INSERT INTO child VALUES (1)
         Q INSERT INTO child VALUES (1) RETURNING id
         Q SELECT notices(7)
         Q UPDATE t SET v = notices(id)::text WHERE id IN (101, 102) RETURNING v
         Q UPDATE t SET v = v WHERE id IN (101, 102) RETURNING 1 / (id - 102)
         Q WITH gone AS (DELETE FROM t WHERE id > 1000 RETURNING id) SELECT count(*), 'x' FROM gone
         Q SELECT id FROM t WHERE id = 101 FOR UPDATE
         Q INSERT INTO nowhere VALUES (1)
         Q INSRT INTO t VALUES (1)
         Q SELECT count(*) FROM t WHERE id > 100
         Q DELETE FROM t WHERE id > 100",
    ),
    script(
        "writes in pipelines outside of a transaction block",
        "P:w INSERT INTO t VALUES ($1, $2)
         D:S:w
         B:p:w 201 x
         D:P:p
         E:p
         S
         B::w 202 y
         E:
         B::w 203 z
         E:
         S
         B::w 204 y
         E:
         B::w 202 z
         E:
         S
         Q DEALLOCATE ALL
         P:w INSERT INTO t VALUES ($1, $2) RETURNING v
         B::w 206 y
         D:P:
         E:
         S
         P: UPDATE t SET v = 'u' WHERE id > 200 RETURNING id
         B::
         E: 1
         S
         P: INSERT INTO child VALUES (1)
         B::
         E:
         S
         P: INSERT INTO child VALUES (1)
         B::
         E:
         P: SELECT notices(8)
         B::
         E:
         S
         C:S:w
         S
         P: DELETE FROM t WHERE id > 200
         B::
         E:
         S
         P: SELECT count(*) FROM t WHERE id > 200
         B::
         E:
         S",
    ),
    script(
        "what a session has prepared and opened",
        "Q INSERT INTO t VALUES (301, 'a')
         Q SELECT name, statement FROM pg_prepared_statements
         Q INSERT INTO t SELECT 302, count(*)::text FROM pg_cursors RETURNING v
         Q INSERT INTO t SELECT 303, opened()::text RETURNING v
         P: INSERT INTO t VALUES (304, 'b')
         B::
         E:
         P: SELECT count(*) FROM pg_prepared_statements
         B::
         E:
         S
         Q SELECT * FROM opened
         Q UPDATE t SET v = 'c' WHERE id > 300
         Q DO $$ BEGIN IF EXISTS (SELECT FROM pg_prepared_statements) THEN RAISE 'seen'; END IF; END $$
         Q UPDATE t SET v = forgets() WHERE id = 301 RETURNING v
         Q UPDATE t SET v = 'd' WHERE id > 300
         Q SELECT forgets()
         Q UPDATE t SET v = 'e' WHERE id > 300
         Q DO $$ BEGIN DEALLOCATE ALL; END $$
         Q UPDATE t SET v = 'f' WHERE id > 300
         Q BEGIN
         Q SELECT name FROM pg_prepared_statements
         Q SELECT nothing
         Q COMMIT
         Q DELETE FROM t WHERE id > 300",
    ),
    script(
        "nothing stays of a pipeline that fails at a name",
        "P: INSERT INTO t VALUES (401, 'a')
         B::
         E:
         B::nosuch
         E:
         S
         Q SELECT count(*) FROM t WHERE id > 400
         P:s1 SELECT 1
         S
         P: INSERT INTO t VALUES (402, 'a')
         B::
         E:
         P:s1 SELECT 2
         S
         Q SELECT count(*) FROM t WHERE id > 400
         P: INSERT INTO t VALUES (403, 'a')
         B::
         E:
         H 3
         D:S:nosuch
         P: SELECT 1
         S
         Q SELECT count(*) FROM t WHERE id > 400
         P: INSERT INTO t VALUES (404, 'a')
         B::
         E:
         B::nosuch
         H 4
         P: INSERT INTO t VALUES (405, 'a')
         B::
         E:
         S
         Q SELECT count(*) FROM t WHERE id > 400
         Q BEGIN
         Q INSERT INTO t VALUES (406, 'a')
         D:S:nosuch
         S
         Q SELECT 1
         Q COMMIT
         Q SELECT count(*) FROM t WHERE id > 400
         C:S:s1
         P: INSERT INTO t VALUES (407, 1 / 0)
         B::
         E:
         B::nosuch
         S
         B::nosuch
         S
         Q SELECT 'fine'",
    ),
    script(
        "there is no unnamed statement after one that could not be parsed",
        "P: SELECT 1
         S
         P: SELEC 1
         S
         B::
         E:
         S
         P: SELECT 1/0
         B::
         E:
         S
         B::
         E:
         S",
    ),
    script(
        "settings of which a statement changes a part",
        "Q SET datestyle TO 'SQL'
         Q SELECT date '1999-01-08'
         Q SET datestyle TO ymd
         Q SELECT date '99-01-08'
         Q SET datestyle TO German
         Q SELECT date '1999-01-08'
         Q BEGIN
         Q SET datestyle TO dmy
         Q ROLLBACK
         Q SELECT date '1999-01-08'
         Q RESET datestyle
         Q SELECT date '1999-01-08'",
    ),
    script(
        "settings that nobody has defined",
        "Q SHOW nobodys.own
         Q SET nobodys.own TO 'x'
         Q SHOW nobodys.own
         Q RESET nobodys.own
         Q SHOW nobodys.own
         Q SET nobodys.own TO 'y'
         Q RESET ALL
         Q SHOW nobodys.own",
    ),
    script(
        "who the session acts as",
        "Q SET ROLE other
         Q SELECT current_user, session_user, current_setting('role')
         Q SET SESSION AUTHORIZATION app
         Q SELECT current_user, session_user, current_setting('role')
         Q SET ROLE other
         Q RESET ALL
         Q SELECT current_user
         Q RESET SESSION AUTHORIZATION
         Q SELECT current_user, session_user, current_setting('role')
         Q BEGIN
         Q SET SESSION AUTHORIZATION app
         Q ROLLBACK
         Q SELECT current_user, session_user, current_setting('role')",
    ),
    script(
        "simple queries",
        "Q SELECT 1
         Q
         Q ;
         Q SELECT 1; SELECT 2
         Q SELECT
         Q SELEC
         Q SELECT 1/0
         Q SELECT 1; SELECT 1/0; SELECT 2
         Q TRUNCATE t; INSERT INTO t VALUES (1, 'a'), (2, NULL)
         Q TABLE t ORDER BY id
         Q INSERT INTO t VALUES (1, 'again')
         Q SELECT count(*) FROM t
         Q SELECT notices(3)
         Q UPDATE t SET v = 'b' WHERE id = 1 RETURNING v",
    ),
    script(
        "an implicit transaction of several statements is undone as a whole",
        "Q TRUNCATE t
         Q INSERT INTO t VALUES (1, 'a'); SELECT 1/0
         Q SELECT count(*) FROM t
         Q INSERT INTO t VALUES (1, 'a'); COMMIT; SELECT 1/0
         Q SELECT count(*) FROM t
         Q BEGIN; INSERT INTO t VALUES (2, 'b')
         Q SELECT count(*) FROM t
         Q ROLLBACK
         Q SELECT count(*) FROM t",
    ),
    script(
        "the unnamed statement, described, executed, bound again in a later batch",
        "P: SELECT $1::text
         D:S:
         B:: x
         D:P:
         E:
         S
         B:: y
         E:
         S
         P: SELECT 'second'
         S
         B::
         E:
         S
         D:S:
         S
         Q SELECT 3
         B::
         E:
         S",
    ),
    script(
        "the unnamed statement is gone after it was closed",
        "P: SELECT 1
         C:S:
         S
         B::
         S
         P: SELECT 1
         S
         C:S:
         P: SELECT 2
         S
         B::
         E:
         S
         P:s1 SELECT 'named'
         B::s1
         E:
         S
         B::
         E:
         S",
    ),
    script(
        "named statements",
        "P:s1 SELECT $1::int + 1
         S
         B::s1 4
         E:
         S
         D:S:s1
         S
         P:s1 SELECT 'other'
         S
         C:S:s1
         S
         B::s1 4
         E:
         S
         P:s1 SELECT 'other'
         B::s1
         E:
         S
         C:S:s1
         P:s1 SELECT 'third'
         B::s1
         E:
         S
         D:S:s2
         S
         C:S:nosuch
         S",
    ),
    script(
        "a named statement that fails to parse does not exist",
        "P:s1 SELEC
         S
         B::s1
         S
         P:s1 SELECT * FROM nosuch
         S
         P:s1 SELECT 5
         B::s1
         E:
         S",
    ),
    script(
        "an error in the middle: what follows up to Sync is not done",
        "P:s1 SELECT 1/$1::int
         B::s1 1
         E:
         B::s1 0
         E:
         P:s2 SELECT 2
         B::s2
         E:
         S
         B::s2
         E:
         S
         B::s1 1
         E:
         S",
    ),
    script(
        "DEALLOCATE of what the protocol prepared",
        "P:s1 SELECT 1
         P:s2 SELECT 2
         S
         Q DEALLOCATE s1
         B::s1
         E:
         S
         B::s2
         E:
         S
         Q BEGIN
         Q SELECT 1
         Q DEALLOCATE s2
         Q COMMIT
         B::s2
         E:
         S
         P:s1 SELECT 1
         P:s3 SELECT 3
         S
         Q DEALLOCATE ALL
         B::s3
         E:
         S
         Q DEALLOCATE nosuch",
    ),
    script(
        "EXECUTE of what the protocol prepared",
        "P:s1 SELECT $1::int + 1
         P:w INSERT INTO t VALUES ($1, 'executed') RETURNING id
         S
         Q EXECUTE s1(1)
         Q EXECUTE s1(2); EXECUTE S1(3); SELECT 4
         Q EXPLAIN (COSTS off) EXECUTE s1(1)
         Q EXECUTE w(501)
         Q EXECUTE w(501)
         Q SELECT count(*) FROM t WHERE id > 500
         Q BEGIN
         Q EXECUTE w(502)
         Q EXECUTE nosuch
         Q EXECUTE w(503)
         Q ROLLBACK
         B::s1 5
         E:
         S
         Q DEALLOCATE s1
         Q EXECUTE s1(6)
         Q SELECT count(*) FROM t WHERE id > 500
         Q DELETE FROM t WHERE id > 500",
    ),
    script(
        "DISCARD ALL",
        "P:s1 SELECT 1
         S
         Q SET extra_float_digits TO 1
         Q DISCARD ALL
         B::s1
         E:
         S
         Q SHOW extra_float_digits
         Q SHOW application_name
         P:s1 SELECT 2
         B::s1
         E:
         S",
    ),
    pinning(
        "SQL-level PREPARE",
        "Q PREPARE q AS SELECT $1::int + 1
         Q EXECUTE q(1)
         Q BEGIN
         Q EXECUTE q(2)
         Q COMMIT
         Q PREPARE q AS SELECT 1
         Q DEALLOCATE q
         Q EXECUTE q(1)",
    ),
    script(
        "portals and their limits",
        "Q BEGIN
         P: SELECT generate_series(1, 5)
         B:p:
         D:P:p
         E:p 2
         S
         E:p 2
         S
         E:p 2
         S
         E:p 2
         S
         C:P:p
         S
         E:p 2
         S
         Q ROLLBACK
         P: SELECT generate_series(1, 5)
         B:p:
         E:p 2
         E:p 2
         S
         E:p 2
         S",
    ),
    script(
        "Flush without Sync",
        "P:s1 SELECT $1::text
         D:S:s1
         H 3
         B::s1 a
         E:
         H 3
         B::s1 b
         E:
         S
         P: SELECT 1/0
         B::
         E:
         H 3
         P: SELECT 1
         S
         P: SELECT 'fine'
         B::
         E:
         H 4
         S",
    ),
    script(
        "prepared with Flush, then something else",
        "P:s1 SELECT $1::text
         D:S:s1
         H 3
         Q UPDATE t SET v = 'x' WHERE id = 1
         P:s2 SELECT no_such_column
         D:S:s2
         H 1
         S
         B::s1 a
         E:
         S",
    ),
    script(
        "a pipeline that reads, waits with Flush, and writes",
        "P: SELECT 1
         B::
         E:
         H 4
         P: UPDATE t SET v = 'y' WHERE id = 1
         B::
         E:
         S
         P: SELECT 2
         B::
         E:
         H 4
         Q UPDATE t SET v = 'z' WHERE id = 1",
    ),
    script(
        "an implicit transaction of a pipeline is undone as a whole",
        "Q TRUNCATE t
         P: INSERT INTO t VALUES (1, 'a')
         B::
         E:
         P: SELECT 1/0
         B::
         E:
         S
         Q SELECT count(*) FROM t
         P: INSERT INTO t VALUES (1, 'a')
         B::
         E:
         S
         Q SELECT count(*) FROM t",
    ),
    script(
        "COPY",
        "Q TRUNCATE t
         Q COPY t FROM STDIN
         d 1\ta
         d 2\tb
         c
         W
         Q COPY (SELECT * FROM t ORDER BY id) TO STDOUT
         Q COPY t FROM STDIN
         d 3\tc
         f given up
         W
         Q COPY t FROM STDIN
         d 1\tdouble
         d 4\td
         c
         W
         Q COPY t FROM STDIN
         d x\ty
         c
         W
         Q SELECT count(*) FROM t
         Q COPY nosuch FROM STDIN
         Q COPY t TO STDOUT; SELECT 1
         Q SELECT 'still there'",
    ),
    script(
        "COPY in the extended protocol",
        "Q TRUNCATE t
         P: COPY t FROM STDIN
         B::
         E:
         S
         d 1\ta
         c
         S
         P: COPY (SELECT * FROM t) TO STDOUT
         B::
         E:
         S
         P: COPY t FROM STDIN
         B::
         E:
         S
         f given up
         S
         Q SELECT count(*) FROM t",
    ),
    script(
        "large values",
        "Q SELECT length(repeat('x', 100000))
         Q SELECT repeat('x', 40000)
         P: SELECT repeat($1, 40000)
         B:: y
         E:
         S
         Q SELECT repeat('a', 20000) FROM generate_series(1, 30)",
    ),
    script(
        "cursors in a transaction",
        "Q BEGIN
         Q DECLARE c CURSOR FOR SELECT generate_series(1, 5)
         Q FETCH 2 FROM c
         Q MOVE 1 FROM c
         Q FETCH ALL FROM c
         Q COMMIT
         Q FETCH 1 FROM c",
    ),
    script(
        "only Sync, only Flush, and stray COPY messages",
        "S
         S
         H 0
         S
         d stray
         c
         S
         Q SELECT 1",
    ),
];
