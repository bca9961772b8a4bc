//! SHOW HELP: a notice, as PgBouncer gives it.

/// The text of the notice's detail.
pub(super) const TEXT: &str = "
\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
\tSHOW PEERS|PEER_POOLS
\tSHOW SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
\tSHOW DNS_HOSTS|DNS_ZONES
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
\tSHOW NODES            every server, its role and its lag
\tSHOW ROUTES [<n>]     statements by frequency: where they run and why
\tSHOW READS [<n>]      reads that did not go to a replica: why, and what would change it
\tSHOW PINS             sessions that are tied to one server connection, and by what
\tSHOW HOLDS            statements that wait
\tSHOW FAILOVERS        changes of primary, step by step
\tSHOW EVENTS [<n>]     the last events
\tEXPLAIN ROUTE <sql>   where a statement would go now, and why
\tSET key = arg
\tRELOAD
\tPAUSE [<db>]
\tRESUME [<db>]
\tDISABLE <db>
\tENABLE <db>
\tRECONNECT [<db>]
\tKILL [<db>]
\tKILL_CLIENT <client_id>
\tSHUTDOWN
\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS
\tWAIT_CLOSE [<db>]
";

#[cfg(test)]
mod tests {
    use super::TEXT;
    use crate::console::command::SHOWS;

    #[test]
    fn help_names_everything_that_can_be_shown() {
        for (word, _) in SHOWS {
            let named = TEXT
                .split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
                .any(|name| name == word);
            assert!(named, "{word}");
        }
    }
}
