//! Transactions: what begins and ends them, and what fails in them.

use super::{Script, script};

pub(super) const TRANSACTIONS: &[Script] = &[
    script(
        "READ ONLY transactions that are prepared",
        "Q BEGIN READ ONLY
         Q SELECT count(*) FROM t
         Q PREPARE TRANSACTION 'reads'
         Q SELECT gid FROM pg_prepared_xacts
         Q COMMIT PREPARED 'reads'
         Q BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY
         Q SELECT count(*) FROM t
         Q SELECT nothing
         Q PREPARE TRANSACTION 'fails'
         Q SELECT gid FROM pg_prepared_xacts
         Q BEGIN READ ONLY
         Q SELECT count(*) FROM t
         Q PREPARE TRANSACTION 'undone'
         Q ROLLBACK PREPARED 'undone'
         Q SELECT 'fine'",
    ),
    script(
        "BEGIN and what ends it",
        "Q BEGIN
         Q COMMIT
         Q BEGIN
         Q ROLLBACK
         Q COMMIT
         Q ROLLBACK
         Q BEGIN
         Q BEGIN
         Q COMMIT
         Q START TRANSACTION ISOLATION LEVEL REPEATABLE READ
         Q SHOW transaction_isolation
         Q END
         Q BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE
         Q SHOW transaction_isolation
         Q COMMIT
         Q BEGIN READ ONLY
         Q SHOW transaction_read_only
         Q DELETE FROM t
         Q SELECT 1
         Q COMMIT
         Q BEGIN; SELECT 1; COMMIT
         Q BEGIN; COMMIT
         Q BEGIN ISOLATION LEVEL nonsense
         Q SELECT 1",
    ),
    script(
        "a transaction that fails",
        "Q TRUNCATE t
         Q BEGIN
         Q SELECT 1/0
         Q SELECT 1
         Q COMMIT
         Q BEGIN
         Q INSERT INTO t VALUES (1, 'a')
         Q SELEC
         Q ROLLBACK
         Q SELECT count(*) FROM t
         Q BEGIN
         Q SELECT 1/0
         Q BEGIN
         Q ROLLBACK
         Q SELECT count(*) FROM t",
    ),
    script(
        "BEGIN in the extended protocol",
        "P: BEGIN
         B::
         D:P:
         E:
         S
         P: INSERT INTO t VALUES (77, 'x') ON CONFLICT DO NOTHING
         B::
         E:
         S
         P: ROLLBACK
         B::
         E:
         S
         P:begin BEGIN
         D:S:begin
         S
         B::begin
         E:
         S
         P:commit COMMIT
         B::commit
         E:
         S
         B::begin
         E:
         P: SELECT 1
         B::
         E:
         B::commit
         E:
         S
         P: BEGIN
         B::
         E:
         P:bad SELEC
         S
         Q ROLLBACK
         P: BEGIN
         B::
         E:
         P:good SELECT $1::int
         D:S:good
         S
         Q COMMIT
         B::good 4
         E:
         S",
    ),
    script(
        "SET TRANSACTION ahead of the first statement",
        "Q BEGIN
         Q SET TRANSACTION ISOLATION LEVEL REPEATABLE READ
         Q SET TRANSACTION READ ONLY
         Q SHOW transaction_isolation
         Q SHOW transaction_read_only
         Q COMMIT
         Q SET TRANSACTION READ ONLY
         Q SHOW transaction_read_only",
    ),
    script(
        "savepoints",
        "Q TRUNCATE t
         Q BEGIN
         Q SAVEPOINT a
         Q INSERT INTO t VALUES (1, 'a')
         Q SAVEPOINT b
         Q INSERT INTO t VALUES (1, 'again')
         Q SELECT 1
         Q ROLLBACK TO b
         Q SELECT count(*) FROM t
         Q RELEASE a
         Q ROLLBACK TO a
         Q ROLLBACK
         Q SELECT count(*) FROM t
         Q SAVEPOINT a",
    ),
    script(
        "AND CHAIN",
        "Q BEGIN ISOLATION LEVEL REPEATABLE READ
         Q SELECT 1
         Q COMMIT AND CHAIN
         Q SHOW transaction_isolation
         Q ROLLBACK AND CHAIN
         Q COMMIT
         Q BEGIN
         Q COMMIT AND CHAIN
         Q SELECT 1
         Q ROLLBACK
         Q COMMIT AND CHAIN",
    ),
    script(
        "a constraint that fails at COMMIT",
        "Q BEGIN
         Q SET extra_float_digits TO 1
         Q INSERT INTO child VALUES (5)
         Q COMMIT
         Q SELECT count(*) FROM child
         Q SHOW extra_float_digits
         P: INSERT INTO child VALUES (5)
         B::
         E:
         S
         Q SELECT count(*) FROM child",
    ),
];
