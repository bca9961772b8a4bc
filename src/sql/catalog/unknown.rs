//! What is believed of functions while there are no facts. That a call leaves nothing in its session must not be believed of
//! what nobody has looked at: so what was known before still counts for what calls leave, and where nothing ever was known,
//! only what PostgreSQL's own grammar and its commonest functions are called leaves nothing.

use super::{Catalog, FunctionClass};

/// Words that stand before a bracket and call nothing, and functions of the system's that leave nothing. In order.
const LEAVE_NOTHING: &[&str] = &[
    "abs",
    "age",
    "all",
    "and",
    "any",
    "array",
    "array_agg",
    "array_length",
    "array_to_string",
    "as",
    "ascii",
    "avg",
    "between",
    "bit",
    "bool_and",
    "bool_or",
    "btrim",
    "by",
    "cardinality",
    "case",
    "cast",
    "ceil",
    "ceiling",
    "char",
    "char_length",
    "character",
    "clock_timestamp",
    "coalesce",
    "concat",
    "concat_ws",
    "conflict",
    "count",
    "cube",
    "cume_dist",
    "current_database",
    "current_schema",
    "current_schemas",
    "current_setting",
    "current_time",
    "current_timestamp",
    "currval",
    "date_part",
    "date_trunc",
    "decimal",
    "dense_rank",
    "distinct",
    "else",
    "every",
    "except",
    "exists",
    "exp",
    "extract",
    "filter",
    "first_value",
    "float",
    "floor",
    "format",
    "format_type",
    "from",
    "gen_random_uuid",
    "generate_series",
    "greatest",
    "grouping",
    "having",
    "if",
    "in",
    "inet_server_addr",
    "initcap",
    "intersect",
    "interval",
    "into",
    "is",
    "join",
    "json",
    "json_agg",
    "json_build_array",
    "json_build_object",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_set",
    "lag",
    "last_value",
    "lastval",
    "lateral",
    "lead",
    "least",
    "left",
    "length",
    "like",
    "ln",
    "localtime",
    "localtimestamp",
    "log",
    "lower",
    "lpad",
    "ltrim",
    "materialized",
    "max",
    "md5",
    "min",
    "mod",
    "nextval",
    "not",
    "now",
    "ntile",
    "nullif",
    "numeric",
    "obj_description",
    "octet_length",
    "on",
    "only",
    "or",
    "over",
    "overlay",
    "pg_advisory_xact_lock",
    "pg_backend_pid",
    "pg_current_wal_lsn",
    "pg_get_constraintdef",
    "pg_get_expr",
    "pg_get_indexdef",
    "pg_get_userbyid",
    "pg_get_viewdef",
    "pg_is_in_recovery",
    "pg_notify",
    "pg_sleep",
    "pg_table_is_visible",
    "pg_total_relation_size",
    "pg_type_is_visible",
    "position",
    "power",
    "precision",
    "quote_ident",
    "quote_literal",
    "random",
    "rank",
    "regexp_matches",
    "regexp_replace",
    "repeat",
    "replace",
    "returning",
    "reverse",
    "right",
    "rollup",
    "round",
    "row",
    "row_number",
    "row_to_json",
    "rpad",
    "rtrim",
    "select",
    "set",
    "set_config",
    "sets",
    "setval",
    "similar",
    "some",
    "split_part",
    "sqrt",
    "starts_with",
    "string_agg",
    "string_to_array",
    "strpos",
    "substr",
    "substring",
    "sum",
    "then",
    "time",
    "timestamp",
    "timestamptz",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_regclass",
    "to_timestamp",
    "translate",
    "trim",
    "trunc",
    "txid_current",
    "union",
    "unnest",
    "upper",
    "using",
    "values",
    "varbit",
    "varchar",
    "version",
    "when",
    "where",
    "window",
    "with",
    "within",
];

impl Catalog {
    /// No facts any more. What calls leave in a session is still judged by what they were.
    #[must_use]
    pub fn unknown(&self, generation: u64) -> Self {
        let (base, recent) = (self.base.clone(), self.recent.clone());
        Self { id: self.id, generation, empty: true, base, recent }
    }

    /// Whether it is known what calls of functions leave in a session, from now or from before.
    pub fn knows_what_calls_leave(&self) -> bool {
        !self.base.functions.is_empty()
    }

    /// What a call of this name is believed to leave where nothing ever was known.
    pub(super) fn believed(&self, schema: Option<&str>, name: &str) -> FunctionClass {
        let system = schema.is_none_or(|schema| schema == "pg_catalog");
        if self.knows_what_calls_leave()
            || !self.empty
            || (system && LEAVE_NOTHING.binary_search(&name).is_ok())
        {
            return FunctionClass::default();
        }
        FunctionClass(FunctionClass::SETTING | FunctionClass::STATEMENTS | FunctionClass::OWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found() {
        assert!(LEAVE_NOTHING.is_sorted());
        let never = Catalog::empty_for(1);
        assert_eq!(never.believed(None, "count"), FunctionClass::default());
        assert!(never.believed(Some("app"), "count").touches_statements());
        assert!(never.believed(None, "forgets").runs_own());
    }
}
