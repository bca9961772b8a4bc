//! Tables of statements and what the classifier must say about them.

mod changes;
mod effects;
mod places;
mod properties;
mod shows;

use std::rc::Rc;

use super::{Catalog, CatalogBuilder, Classifier, Settings, Verdict};

/// Facts as a small database would give them: (kind, schema, names, class).
const FACTS: &[(&str, &str, &str, &str)] = &[
    (
        "f",
        "pg_catalog",
        "count sum max min avg abs length lower upper now version format_type pg_get_expr array_agg unnest generate_series \
         to_char date_trunc json_build_object jsonb_agg string_agg pg_table_is_visible random clock_timestamp \
         gen_random_uuid current_setting current_schema row_number rank round substring jsonb_array_elements exp \
         array_length has_table_privilege current_database pg_typeof",
        "s",
    ),
    (
        "f",
        "pg_catalog",
        "nextval currval lastval setval set_config setseed pg_notify lo_create txid_status",
        "v",
    ),
    (
        "f",
        "pg_catalog",
        "pg_advisory_lock pg_try_advisory_lock pg_advisory_xact_lock pg_advisory_unlock",
        "v",
    ),
    ("f", "pg_catalog", "pg_advisory_unlock_all pg_advisory_lock_shared pg_advisory_unlock_shared", "v"),
    (
        "f",
        "pg_catalog",
        "pg_is_in_recovery inet_server_addr pg_backend_pid pg_stat_get_numscans txid_current",
        "n",
    ),
    ("f", "pg_catalog", "pg_current_xact_id pg_last_wal_replay_lsn pg_current_wal_lsn", "n"),
    ("f", "app", "total stable_one", "s"),
    ("f", "app", "log_visit", "v"),
    ("f", "app", "make_temp", "vt"),
    ("f", "app", "tenant", "vc"),
    ("r", "pg_catalog", "pg_class pg_namespace pg_attribute pg_type pg_database pg_index pg_tables", "s"),
    ("r", "pg_catalog", "pg_stat_activity pg_locks pg_settings pg_sequences", "n"),
    ("r", "information_schema", "tables columns", "s"),
    ("r", "app", "users orders items accounts t u order_view insert", "s"),
    ("r", "app", "scratch scratch_view remote", "u"),
    ("r", "app", "users_id_seq", "n"),
    ("r", "app", "noisy_view", "v"),
    ("r", "other", "both", "u"),
    ("r", "app", "both", "s"),
    ("o", "", "<~~>", "v"),
    ("a", "", "computed", "v"),
    ("t", "", "checked_text", "v"),
];

fn catalog(generation: u64) -> Catalog {
    facts(CatalogBuilder::new(1, generation)).finish()
}

fn builder() -> CatalogBuilder {
    facts(CatalogBuilder::new(1, 1))
}

fn facts(mut builder: CatalogBuilder) -> CatalogBuilder {
    for (kind, schema, names, class) in FACTS {
        for name in names.split_whitespace() {
            builder.add([kind, schema, name, "0", "255", class]).unwrap();
        }
    }
    // Overloads: the two-argument one is the application's own and volatile.
    builder.add(["f", "app", "round", "2", "2", "v"]).unwrap();
    builder
}

fn judge(text: &str) -> Rc<Verdict> {
    judge_with(text, &catalog(1))
}

fn judge_with(text: &str, facts: &Catalog) -> Rc<Verdict> {
    Classifier::new(&Settings { cache_entries_max: 8, ..Settings::default() })
        .classify(text.as_bytes(), facts)
}
