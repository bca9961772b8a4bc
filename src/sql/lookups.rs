//! Words of a statement whose meaning hangs on the session's search path: they look up a name that stands in a value, or
//! say what a name means.
//!
//! It matters where a session has temporary relations: these and their types come first on its search path, and on no
//! other's. Nothing else is ever found there by a plain name: for functions, operators, collations and text search PostgreSQL
//! passes the temporary schema over. So a word is taken for one that looks relations or types up unless a table here says
//! why it does not.

use super::scan::{Scanner, TokenKind, is_word_byte};
use super::verdict::Shows;
use super::words::{all_words, string_value};

/// Tables of the catalog, and the schema they are in: rows that are the same on every node, those of temporary relations too.
/// None of their columns shows a relation by its name. `pg_statistic` and its like are left out: they hold values of the tables'.
const CATALOG_TABLES: [&[u8]; 65] = [
    b"pg_aggregate",
    b"pg_am",
    b"pg_amop",
    b"pg_amproc",
    b"pg_attrdef",
    b"pg_attribute",
    b"pg_auth_members",
    b"pg_authid",
    b"pg_cast",
    b"pg_catalog",
    b"pg_class",
    b"pg_collation",
    b"pg_constraint",
    b"pg_conversion",
    b"pg_database",
    b"pg_db_role_setting",
    b"pg_default_acl",
    b"pg_depend",
    b"pg_description",
    b"pg_enum",
    b"pg_event_trigger",
    b"pg_extension",
    b"pg_foreign_data_wrapper",
    b"pg_foreign_server",
    b"pg_foreign_table",
    b"pg_index",
    b"pg_inherits",
    b"pg_init_privs",
    b"pg_language",
    b"pg_largeobject",
    b"pg_largeobject_metadata",
    b"pg_namespace",
    b"pg_opclass",
    b"pg_operator",
    b"pg_opfamily",
    b"pg_parameter_acl",
    b"pg_partitioned_table",
    b"pg_policy",
    b"pg_proc",
    b"pg_publication",
    b"pg_publication_namespace",
    b"pg_publication_rel",
    b"pg_range",
    b"pg_replication_origin",
    b"pg_rewrite",
    b"pg_roles",
    b"pg_seclabel",
    b"pg_sequence",
    b"pg_shdepend",
    b"pg_shdescription",
    b"pg_shseclabel",
    b"pg_statistic_ext",
    b"pg_subscription",
    b"pg_subscription_rel",
    b"pg_tablespace",
    b"pg_toast",
    b"pg_transform",
    b"pg_trigger",
    b"pg_ts_config",
    b"pg_ts_config_map",
    b"pg_ts_dict",
    b"pg_ts_parser",
    b"pg_ts_template",
    b"pg_type",
    b"pg_user_mapping",
];

/// Functions and types that look up, or show, what is never looked for among temporary relations: roles, databases,
/// languages, servers, settings.
const OF_OTHER_OBJECTS: [&[u8]; 10] = [
    b"has_database_privilege",
    b"has_foreign_data_wrapper_privilege",
    b"has_language_privilege",
    b"has_parameter_privilege",
    b"has_server_privilege",
    b"has_tablespace_privilege",
    b"pg_get_userbyid",
    b"pg_has_role",
    b"to_regnamespace",
    b"to_regrole",
];

/// The same of functions, operators, collations and text search: the temporary schema is passed over for them. Where one is
/// looked up with the types of its arguments (`regprocedure`, `regoperator`), those are types.
const NEVER_TEMPORARY: [&[u8]; 14] = [
    b"pg_collation_is_visible",
    b"pg_conversion_is_visible",
    b"pg_function_is_visible",
    b"pg_opclass_is_visible",
    b"pg_operator_is_visible",
    b"pg_opfamily_is_visible",
    b"pg_statistics_obj_is_visible",
    b"pg_ts_config_is_visible",
    b"pg_ts_dict_is_visible",
    b"pg_ts_parser_is_visible",
    b"pg_ts_template_is_visible",
    b"to_regcollation",
    b"to_regoper",
    b"to_regproc",
];

/// They compute with values, or wait, and look nothing up.
const OF_VALUES: [&[u8]; 13] = [
    b"pg_char_to_encoding",
    b"pg_client_encoding",
    b"pg_column_compression",
    b"pg_column_size",
    b"pg_encoding_max_length",
    b"pg_encoding_to_char",
    b"pg_get_keywords",
    b"pg_lsn",
    b"pg_size_bytes",
    b"pg_size_pretty",
    b"pg_sleep",
    b"pg_sleep_for",
    b"pg_sleep_until",
];

/// The first schema of the search path that is not there of itself, as temporary ones are.
const FIRST_SCHEMA: &[u8] = b"current_schema";

/// What PostgreSQL's own functions, types and relations of this kind are called.
const BEGINNINGS: [&[u8]; 5] = [b"pg_", b"to_reg", b"has_", b"currtid", b"current_schema"];
const WORDS: [&[u8]; 7] = [
    b"regclass",
    b"regtype",
    b"regprocedure",
    b"regoperator",
    b"information_schema",
    b"row_security_active",
    b"format_type",
];

/// Whether a word, in lower case, may look up a relation or a type by a name that stands in a value, or say what such a name
/// means here.
pub fn looks_names_up(word: &[u8]) -> bool {
    let harmless = || {
        word == FIRST_SCHEMA
            || CATALOG_TABLES.contains(&word)
            || OF_OTHER_OBJECTS.contains(&word)
            || NEVER_TEMPORARY.contains(&word)
            || OF_VALUES.contains(&word)
    };
    (BEGINNINGS.iter().any(|beginning| word.starts_with(beginning)) && !harmless())
        || WORDS.contains(&word)
        || word.windows(7).any(|part| part == b"_to_xml")
}

pub(super) fn is_catalog_table(name: &str) -> bool {
    CATALOG_TABLES.contains(&name.as_bytes())
}

/// Whether the literals of a text that shows what they give, give permanent relations only: numbers are those of permanent
/// ones, patterns fit one name, and no name is one that `may_be_own`: one that a temporary object of the session may have.
pub fn gives_only(
    text: &[u8],
    shows: Shows,
    permanent: impl Fn(u32) -> bool,
    may_be_own: impl Fn(&[u8]) -> bool,
) -> bool {
    let Shows::Given { pattern, .. } = shows else { return false };
    let is_number = |digits: &[u8]| {
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u32>().ok());
        // Those below are PostgreSQL's own.
        number.is_some_and(|number| number < FIRST_OWN_NUMBER || permanent(number))
    };
    let mut before = TokenKind::Semicolon;
    for token in Scanner::new(text) {
        let fits = match token.kind {
            TokenKind::Number => is_number(token.bytes(text)),
            // Two of them may be one.
            TokenKind::String if before == TokenKind::String => false,
            TokenKind::String => string_value(token, text).is_some_and(|value| match value.as_bytes() {
                digits @ [b'0'..=b'9', ..] => is_number(digits),
                value @ [b'+' | b'-' | b' ' | b'\t'..=b'\r', ..] if has_digits(value) => false,
                value => !pattern || fits_one_name(value),
            }),
            TokenKind::OtherString | TokenKind::Parameter | TokenKind::EscapedWord | TokenKind::Broken => {
                false
            }
            _ => true,
        };
        if !fits {
            return false;
        }
        before = token.kind;
    }
    !all_words(text).any(|word| {
        let word = word.to_ascii_lowercase();
        word.len() > NAME_BYTES_MAX
            || TEMPORARY_SCHEMAS.iter().any(|schema| word.starts_with(schema))
            || may_be_own(&word)
    })
}

/// What is longer is cut.
const NAME_BYTES_MAX: usize = 63;

/// The first number of an object that does not come with PostgreSQL.
const FIRST_OWN_NUMBER: u32 = 16_384;

const TEMPORARY_SCHEMAS: [&[u8]; 2] = [b"pg_temp", b"pg_toast_temp"];

fn has_digits(value: &[u8]) -> bool {
    value.iter().any(u8::is_ascii_digit)
}

/// Whether a string is `^(name)$`, as psql writes it, or has nothing in it that a pattern could mean.
fn fits_one_name(value: &[u8]) -> bool {
    let name = value.strip_prefix(b"^(").and_then(|rest| rest.strip_suffix(b")$"));
    let is_plain =
        |name: &[u8]| !name.is_empty() && name.iter().all(|byte| is_word_byte(*byte) && *byte != b'$');
    name.is_some_and(is_plain)
}

#[cfg(test)]
mod tests {
    use super::looks_names_up;

    #[test]
    fn words_that_depend_on_temporary_relations_are_told_from_others() {
        for word in [
            "regclass",
            "regprocedure",
            "to_regclass",
            "to_regtype",
            "to_regprocedure",
            "to_regoperator",
            "pg_table_is_visible",
            "pg_type_is_visible",
            "pg_get_viewdef",
            "pg_typeof",
            "pg_views",
            "pg_statistic",
            "pg_temp",
            "pg_temp_3",
            "current_schemas",
            "has_table_privilege",
            "has_function_privilege",
            // Whose temporary schema is one's own may use it.
            "has_schema_privilege",
            "query_to_xml_and_xmlschema",
            "pg_anything_new",
        ] {
            assert!(looks_names_up(word.as_bytes()), "{word}");
        }
        for word in [
            "regproc",
            "regnamespace",
            "pg_class",
            "pg_sleep",
            "current_schema",
            "to_regproc",
            "pg_function_is_visible",
            "has_database_privilege",
            "kept",
        ] {
            assert!(!looks_names_up(word.as_bytes()), "{word}");
        }
    }
}
