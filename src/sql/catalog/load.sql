-- Facts about the functions, relations, operators and types of one database, as text:
--   kind  schema  name  arguments_min  arguments_max  class
-- kind f: a function. class: s safe on a replica, v volatile, n node-local; and what its body seems to leave in the
--         session: t a temporary table, c a setting, a an advisory lock, l LISTEN; q it asks for currval or lastval;
--         p it looks at prepared statements or cursors, or drops statements.
-- kind r: a relation. class: s readable on a replica, u unlogged or foreign, n node-local, v calls volatile functions.
-- kind o: an operator that calls an unsafe function. kind a: an unsafe function that can be called like a column.
-- kind w, x: an operator, a type that runs functions that are not built in. Letter o behind a class of kind f or r: it is
--         not built in, or runs what is not; or it is a relation of the database's own that shows, or looks up, names that may
--         mean something else in a session with temporary relations.
-- kind t: a type whose values call unsafe functions when they are cast or checked.
-- kind m: a relation that may show the time at which a transaction began. Functions that may have the letter m.
-- kind u: one row, where there are rules on statements that write.
-- kind n: a relation or type that is not temporary, with the relation's number (0 for a type) in place of arguments_min.
-- kind i: one row. class: s transactions are READ COMMITTED unless they say otherwise, v some are not.
WITH RECURSIVE
-- Volatile, and yet nothing but a value comes of them. Extensions' functions are believed when they are written in C,
-- because only a superuser can make those.
harmless (name) AS (VALUES
    ('random'), ('random_normal'), ('gen_random_uuid'), ('uuidv4'), ('uuidv7'), ('clock_timestamp'), ('timeofday'),
    ('current_query'), ('pg_sleep'), ('pg_sleep_for'), ('pg_sleep_until'), ('array_sample'), ('array_shuffle'),
    ('amvalidate'), ('pg_partition_tree'), ('pg_partition_ancestors'), ('uuid_generate_v1'), ('uuid_generate_v1mc'),
    ('uuid_generate_v4'), ('gen_random_bytes'), ('gen_salt')),
-- Volatile functions of the database's own for which configuration vouches: the loader says which when it connects.
vouched (name) AS (
    SELECT name FROM unnest(string_to_array(current_setting('primacy.read_functions', true), ',')) AS given (name)),
-- Not volatile, and yet a replica refuses them or answers for itself.
node_local (name) AS (VALUES
    ('inet_client_addr'), ('inet_client_port'), ('inet_server_addr'), ('inet_server_port'), ('pg_backend_pid'),
    ('pg_blocking_pids'), ('pg_conf_load_time'), ('pg_config'), ('pg_current_snapshot'), ('pg_current_xact_id'),
    ('pg_current_xact_id_if_assigned'), ('pg_cursor'), ('pg_get_replication_slots'), ('pg_is_in_recovery'),
    ('pg_listening_channels'), ('pg_postmaster_start_time'), ('pg_prepared_statement'), ('pg_show_all_settings'),
    ('txid_current'), ('txid_current_if_assigned'), ('txid_current_snapshot'), ('pg_last_wal_receive_lsn'),
    ('pg_last_wal_replay_lsn'), ('pg_last_xact_replay_timestamp'), ('pg_current_wal_lsn'), ('pg_lock_status'),
    ('pg_current_wal_insert_lsn'), ('pg_current_wal_flush_lsn'), ('pg_jit_available'), ('pg_sequence_last_value'),
    ('pg_current_logfile'), ('pg_notification_queue_usage'), ('pg_hba_file_rules'), ('pg_show_all_file_settings'),
    ('pg_prepared_xact'), ('pg_get_shmem_allocations'), ('pg_get_backend_memory_contexts'), ('pg_walfile_name'),
    ('pg_walfile_name_offset'), ('pg_replication_origin_oid')),
-- Not volatile, and yet they read whichever relation they are given, or all: views that write, unlogged tables.
read_anything (name) AS (VALUES
    ('table_to_xml'), ('table_to_xml_and_xmlschema'), ('schema_to_xml'), ('schema_to_xml_and_xmlschema'),
    ('database_to_xml'), ('database_to_xml_and_xmlschema')),
-- Regular expressions are E'' strings: those do not depend on standard_conforming_strings.
-- What a body must not call to be the same everywhere, as one regular expression.
suspect (calls) AS (SELECT E'\\m(' || string_agg(name, '|') || E'|pg_stat_get_\\w+)\\s*\\(' FROM node_local),
functions AS (
    SELECT p.oid, n.nspname, p.proname, p.prokind,
           CASE WHEN p.prokind IN ('a', 'p') THEN 0
                ELSE greatest(p.pronargs - p.pronargdefaults - (p.provariadic <> 0)::int, 0) END AS arguments_min,
           CASE WHEN p.prokind IN ('a', 'p') OR p.provariadic <> 0 THEN 255 ELSE p.pronargs END AS arguments_max,
           p.proargtypes[0] AS first_type,
           CASE WHEN n.nspname = 'pg_catalog' AND (p.proname ~ '^pg_stat_' OR p.proname IN (SELECT name FROM node_local))
                     THEN 'n'
                WHEN n.nspname = 'pg_catalog' AND p.proname IN (SELECT name FROM read_anything)
                     THEN 'v'
                WHEN p.provolatile = 'v'
                     AND NOT (l.lanname IN ('internal', 'c', 'sql') AND (n.nspname = 'pg_catalog' OR l.lanname = 'c')
                              AND p.proname IN (SELECT name FROM harmless))
                     AND NOT (p.oid >= 16384 AND (p.proname::text IN (SELECT name FROM vouched)
                                                  OR n.nspname || '.' || p.proname IN (SELECT name FROM vouched)))
                     THEN 'v'
                WHEN p.oid >= 16384 AND l.lanname NOT IN ('internal', 'c')
                     AND p.prosrc ~* (SELECT calls FROM suspect)
                     THEN 'n'
                ELSE 's' END
           || CASE WHEN p.oid < 16384 OR l.lanname IN ('internal', 'c') THEN '' ELSE
               CASE WHEN p.prosrc ~* E'\\mcreate\\s+((local|global)\\s+)?temp|\\mpg_temp\\M' THEN 't' ELSE '' END
            || CASE WHEN p.prosrc ~* E'(^|;|\\mbegin|\\mthen|\\melse|\\mloop)\\s*set\\s+(?!(local|constraints|transaction)\\s)'
                      OR regexp_replace(p.prosrc, E'set_config\\s*\\([^()]*(\\([^()]*\\)[^()]*)*,\\s*true\\s*\\)', '', 'gi')
                         ~* E'\\m(set_config|setseed)\\M'
                    THEN 'c' ELSE '' END
            || CASE WHEN p.prosrc ~* E'\\mpg_(try_)?advisory_lock(_shared)?\\s*\\(' THEN 'a' ELSE '' END
            || CASE WHEN p.prosrc ~* E'(^|;|\\mbegin|\\mthen|\\melse|\\mloop)\\s*listen\\s' THEN 'l' ELSE '' END
            || CASE WHEN p.prosrc ~* E'\\m(currval|lastval)\\s*\\(' THEN 'q' ELSE '' END
            || CASE WHEN p.prosrc ~* E'\\m(pg_prepared_statements?|pg_cursors?|deallocate)\\M' THEN 'p' ELSE '' END
               END
           || CASE WHEN p.oid >= 16384 AND l.lanname <> 'internal' THEN 'o' ELSE '' END
           -- What is not immutable may call now(), and an aggregate is marked so whatever its parts are.
           || CASE WHEN p.oid < 16384 AND p.proname IN ('now', 'transaction_timestamp', 'age') THEN 'm'
                   WHEN p.oid >= 16384 AND (p.provolatile <> 'i' OR p.prokind = 'a') THEN 'm' ELSE '' END AS class
      FROM pg_catalog.pg_proc p
      JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      JOIN pg_catalog.pg_language l ON l.oid = p.prolang
     -- What takes or gives an internal value, and trigger functions, cannot be called in SQL.
     WHERE p.prorettype NOT IN (2279, 2281, 3838) AND NOT (2281 = ANY (p.proargtypes::oid[]))),
-- An aggregate is marked immutable whatever its parts are.
aggregates AS (
    SELECT a.aggfnoid::oid AS oid
      FROM pg_catalog.pg_aggregate a
     WHERE a.aggfnoid::oid >= 16384
       AND EXISTS (SELECT FROM pg_catalog.pg_proc p
                    WHERE p.provolatile = 'v'
                      AND p.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
                                    a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn))),
classed AS (
    SELECT f.*, a.oid IS NOT NULL OR f.class ~ '[vn]' AS unsafe,
           CASE WHEN a.oid IS NULL THEN f.class ELSE 'v' || f.class END AS letters
      FROM functions f LEFT JOIN aggregates a ON a.oid = f.oid),
unsafe (oid, class) AS MATERIALIZED (
    SELECT oid, CASE WHEN letters ~ 'n' THEN 'n' ELSE 'v' END FROM classed WHERE unsafe),
-- What expressions that run by themselves are made of: views, row security policies, checks of domains.
-- The stored trees name functions and relations by number behind fixed words; cutting there is far cheaper than a
-- regular expression. A column may have such a name, but no number follows it.
trees (relation, type, tree) AS MATERIALIZED (
    SELECT r.ev_class, 0::oid, r.ev_action::text
      FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
     WHERE r.ev_type = '1' AND c.relkind = 'v'
    UNION ALL
    SELECT polrelid, 0::oid, polqual::text FROM pg_catalog.pg_policy WHERE polcmd IN ('r', '*') AND polqual IS NOT NULL
    UNION ALL
    SELECT 0::oid, contypid, conbin::text FROM pg_catalog.pg_constraint WHERE contypid <> 0 AND conbin IS NOT NULL),
tree_calls AS (
    SELECT DISTINCT t.relation, t.type, substring(piece FROM '^[0-9]+')::oid AS callee
      FROM trees t,
           unnest(string_to_array(replace(replace(t.tree, 'aggfnoid ', 'funcid '), 'winfnoid ', 'funcid '), 'funcid '))
               WITH ORDINALITY AS cut (piece, n)
     WHERE n > 1 AND piece ~ '^[0-9]'),
reads (parent, child) AS MATERIALIZED (
    SELECT DISTINCT t.relation, substring(piece FROM '^[0-9]+')::oid
      FROM trees t, unnest(string_to_array(t.tree, ':relid ')) WITH ORDINALITY AS cut (piece, n)
     WHERE n > 1 AND piece ~ '^[0-9]' AND t.relation <> 0
    UNION
    SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits),
own (oid) AS MATERIALIZED (SELECT oid FROM functions WHERE class ~ 'o'),
-- Types that show a relation or a type by its name, and what is made of them.
naming_types (oid) AS (
    SELECT t.oid FROM pg_catalog.pg_type t
     WHERE t.typnamespace = 11 AND t.typname IN ('regclass', 'regtype', 'regprocedure', 'regoperator')
    UNION
    SELECT t.oid FROM pg_catalog.pg_type t JOIN naming_types n ON n.oid IN (t.typelem, t.typbasetype)),
-- Views and tables that look names up when they are read; the system's views, of which a view of the database's own may be
-- made, all count as such.
naming_relations (oid) AS (
    SELECT oid FROM pg_catalog.pg_class WHERE relkind = 'v' AND oid < 16384
    UNION
    SELECT c.relation FROM tree_calls c JOIN pg_catalog.pg_proc p ON p.oid = c.callee
     WHERE c.relation >= 16384 AND p.oid < 16384
       AND (p.proname ~ '^(pg_|to_reg|has_|currtid|current_schema|reg)|_to_xml' OR p.proname IN ('format_type', 'row_security_active'))
    UNION
    SELECT t.relation FROM trees t, pg_catalog.pg_type n
     WHERE t.relation >= 16384 AND n.oid IN (SELECT oid FROM naming_types) AND n.oid < 16384
       AND position('type ' || n.oid || ' ' IN t.tree) > 0
    UNION
    SELECT a.attrelid FROM pg_catalog.pg_attribute a
     WHERE a.atttypid = ANY (ARRAY(SELECT oid FROM naming_types)) AND a.attnum > 0 AND NOT a.attisdropped),
own_relations (oid) AS (
    SELECT c.relation FROM tree_calls c JOIN own o ON o.oid = c.callee WHERE c.relation <> 0
    UNION
    SELECT n.oid FROM naming_relations n
    UNION
    SELECT r.parent FROM own_relations o JOIN reads r ON r.child = o.oid),
-- Types whose values call unsafe functions wherever they are used: by casts, input and output, and by the operators
-- that the grammar uses without naming them.
handled_types (oid) AS (
    SELECT t.oid FROM pg_catalog.pg_type t
      JOIN unsafe u ON u.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend)
     WHERE t.oid >= 16384
    UNION
    SELECT side.oid FROM pg_catalog.pg_cast c JOIN unsafe u ON u.oid = c.castfunc,
           LATERAL (VALUES (c.castsource), (c.casttarget)) AS side (oid)
     WHERE side.oid >= 16384 OR greatest(c.castsource, c.casttarget) < 16384
    UNION
    SELECT side.oid FROM pg_catalog.pg_operator o JOIN unsafe u ON u.oid = o.oprcode,
           LATERAL (VALUES (o.oprleft), (o.oprright)) AS side (oid)
     WHERE side.oid >= 16384 AND o.oprname IN ('=', '<>', '<', '>', '<=', '>=', '~~', '!~~', '~~*', '!~~*')
    UNION
    SELECT t.oid FROM pg_catalog.pg_type t
      JOIN handled_types h ON h.oid IN (t.typelem, t.typbasetype) WHERE t.oid >= 16384 AND h.oid >= 16384),
checked_types (oid) AS (
    SELECT c.type FROM tree_calls c JOIN unsafe u ON u.oid = c.callee WHERE c.type <> 0),
-- Relations that a replica cannot read, or reads differently, and everything that reads them.
bad_relations (oid, class) AS (
    SELECT c.oid, CASE WHEN c.relkind = 'S' THEN 'n' ELSE 'u' END
      FROM pg_catalog.pg_class c
     WHERE c.relkind IN ('f', 'S') OR (c.relpersistence = 'u' AND c.relkind IN ('r', 'p', 'm'))
    UNION
    SELECT c.relation, u.class FROM tree_calls c JOIN unsafe u ON u.oid = c.callee WHERE c.relation <> 0
    UNION
    -- An array and not a join: the planner thinks little of it, and leaves the query below the price where it would
    -- compile it, which takes five times as long as running it.
    SELECT a.attrelid, 'v' FROM pg_catalog.pg_attribute a
     WHERE a.atttypid = ANY (ARRAY(SELECT h.oid FROM handled_types h WHERE h.oid >= 16384))
       AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT r.parent, b.class FROM bad_relations b JOIN reads r ON r.child = b.oid)
-- Names all of whose functions are safe need one row.
SELECT 'f' AS kind, nspname::text AS schema, proname::text AS name,
       CASE WHEN bool_or(unsafe_or_leaves) OVER names THEN arguments_min ELSE 0 END::text AS arguments_min,
       CASE WHEN bool_or(unsafe_or_leaves) OVER names THEN arguments_max ELSE 255 END::text AS arguments_max,
       letters AS class
  FROM (SELECT DISTINCT nspname, proname, letters, letters <> 's' AS unsafe_or_leaves,
               CASE WHEN letters = 's' THEN 0 ELSE arguments_min END AS arguments_min,
               CASE WHEN letters = 's' THEN 255 ELSE arguments_max END AS arguments_max
          FROM classed) AS named
WINDOW names AS (PARTITION BY nspname, proname)
UNION ALL
-- A type's name before a bracket is a cast, as if there were a function of that name.
SELECT DISTINCT 'f', 'pg_catalog', t.typname::text, '1', '1', 's'
  FROM pg_catalog.pg_type t
 WHERE t.typnamespace = 11 AND t.typtype IN ('b', 'r', 'm') AND t.typname !~ '^_'
   AND NOT EXISTS (SELECT FROM classed f WHERE f.nspname = 'pg_catalog' AND f.proname = t.typname)
UNION ALL
SELECT 'r', n.nspname::text, c.relname::text, '0', '0', coalesce(b.class, 's') || CASE WHEN o.oid IS NULL OR c.oid < 16384 THEN '' ELSE 'o' END
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN (SELECT oid, max(class) AS class FROM bad_relations GROUP BY oid) b ON b.oid = c.oid
  LEFT JOIN own_relations o ON o.oid = c.oid
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND n.nspname <> 'pg_toast'
UNION ALL
SELECT 'n', '', c.relname::text, c.oid::text, '0', ''
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relpersistence <> 't' AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)'
UNION ALL
-- The type of a relation, and that of its arrays, have its name.
SELECT DISTINCT 'n', '', t.typname::text, '0', '0', ''
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE t.typrelid = 0 AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid) AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)'
UNION ALL
SELECT DISTINCT 'm', '', c.relname::text, '0', '0', 'm'
  FROM pg_catalog.pg_class c
 WHERE c.oid >= 16384 AND c.relpersistence <> 't' AND (c.relkind = 'v' OR c.relrowsecurity)
UNION ALL
SELECT 'i', '', '', '0', '0',
       CASE WHEN current_setting('default_transaction_isolation') = 'read committed'
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting d, unnest(d.setconfig) AS given (setting)
                              WHERE given.setting ~* '^default_transaction_isolation=(?!read committed$)')
            THEN 's' ELSE 'v' END
UNION ALL
-- Rules of users on what writes; the one of pg_settings is the system's.
SELECT 'u', '', '', '0', '0', 'v'
 WHERE EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_type <> '1' AND r.oid >= 16384)
UNION ALL
SELECT DISTINCT 'o', '', o.oprname::text, '0', '0', 'v'
  FROM pg_catalog.pg_operator o JOIN unsafe u ON u.oid = o.oprcode
UNION ALL
SELECT DISTINCT 'w', '', p.oprname::text, '0', '0', 'o'
  FROM pg_catalog.pg_operator p JOIN own o ON o.oid = p.oprcode
UNION ALL
SELECT DISTINCT 'x', '', t.typname::text, '0', '0', 'o'
  FROM pg_catalog.pg_type t
 WHERE t.oid IN (SELECT c.type FROM tree_calls c JOIN own o ON o.oid = c.callee
                 UNION SELECT c.castsource FROM pg_catalog.pg_cast c JOIN own o ON o.oid = c.castfunc
                 UNION SELECT c.casttarget FROM pg_catalog.pg_cast c JOIN own o ON o.oid = c.castfunc)
UNION ALL
SELECT DISTINCT 'a', '', f.proname::text, '0', '0', 'v'
  FROM classed f JOIN pg_catalog.pg_type t ON t.oid = f.first_type
 WHERE f.unsafe AND f.arguments_min <= 1 AND f.arguments_max >= 1
   AND (t.typtype IN ('c', 'p') OR EXISTS (SELECT FROM pg_catalog.pg_type b WHERE b.oid = t.typbasetype AND b.typtype = 'c'))
UNION ALL
SELECT DISTINCT 't', '', t.typname::text, '0', '0', 'v'
  FROM pg_catalog.pg_type t
 WHERE t.oid IN (SELECT oid FROM handled_types UNION SELECT oid FROM checked_types)
