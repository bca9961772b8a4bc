-- One text that differs when facts of load.sql may have changed. Transaction ids of rows where every change counts;
-- the fields that matter of pg_class, whose rows change with every TRUNCATE, and without temporary tables.
SELECT concat_ws(' ',
    (SELECT concat(count(*), ',', sum(pg_catalog.hashint8(xmin::text::bigint)::bigint)) FROM pg_catalog.pg_proc),
    (SELECT concat(count(*), ',', sum(pg_catalog.hashint8(xmin::text::bigint)::bigint)) FROM pg_catalog.pg_operator),
    (SELECT concat(count(*), ',', sum(pg_catalog.hashint8(xmin::text::bigint)::bigint)) FROM pg_catalog.pg_cast),
    (SELECT concat(count(*), ',', sum(pg_catalog.hashint8(xmin::text::bigint)::bigint)) FROM pg_catalog.pg_policy),
    (SELECT concat(count(*), ',', sum(pg_catalog.hashint8(xmin::text::bigint)::bigint)) FROM pg_catalog.pg_aggregate),
    (SELECT concat(count(*), ',', sum(pg_catalog.hashint8(xmin::text::bigint)::bigint)) FROM pg_catalog.pg_inherits),
    (SELECT concat(count(*), ',', sum(pg_catalog.hashint8(xmin::text::bigint)::bigint))
       FROM pg_catalog.pg_db_role_setting),
    current_setting('default_transaction_isolation'),
    (SELECT concat(count(*), ',', sum(pg_catalog.hashint8(xmin::text::bigint)::bigint)) FROM pg_catalog.pg_namespace
      WHERE nspname !~ '^pg_(toast_)?temp_'),
    (SELECT concat(count(*), ',', sum(pg_catalog.hashint8(r.xmin::text::bigint)::bigint)) FROM pg_catalog.pg_rewrite r
       JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relpersistence <> 't'),
    (SELECT concat(count(*), ',', sum(pg_catalog.hashint8(xmin::text::bigint)::bigint)) FROM pg_catalog.pg_constraint
      WHERE contypid <> 0),
    (SELECT concat(count(*), ',', sum(pg_catalog.hashtext(concat_ws(' ', oid, relname, relnamespace, relkind,
                                                                     relpersistence, reltype, relnatts))::bigint))
       FROM pg_catalog.pg_class
      WHERE relkind <> 't' AND relpersistence <> 't'),
    (SELECT concat(count(*), ',', sum(pg_catalog.hashtext(concat_ws(' ', oid, typname, typnamespace))::bigint))
       FROM pg_catalog.pg_type WHERE typrelid = 0 AND typelem = 0)) AS state
