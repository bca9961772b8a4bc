//! Nodes' facts -> findings: what would not work, and what to do about it. Pure.

use std::collections::BTreeSet;

use super::Finding;
use super::facts::{AuthAnswer, NodeAnswer, NodeFacts};
use crate::config::Settings;
use crate::failover::Durability;

/// The oldest version that is supported (and tested).
const VERSION_MIN: i32 = 140_000;

/// Everything there is to say about the nodes.
pub(super) fn judge(settings: &Settings, answers: &[NodeAnswer]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for answer in answers {
        match &answer.facts {
            Ok(facts) => node(&answer.name, facts, &mut findings),
            Err(why) => findings.push(unreachable(&answer.name, why)),
        }
    }
    let known: Vec<(&str, &NodeFacts)> =
        answers.iter().filter_map(|answer| Some((&*answer.name, answer.facts.as_ref().ok()?))).collect();
    // Roles and functions are the same on every node of a cluster: one of them speaks for all, the primary if it answers.
    if let Some((name, facts)) = known.iter().find(|(_, facts)| !facts.in_recovery).or(known.first()) {
        privileges(name, facts, &settings.proxy.service.user, &mut findings);
        auth(name, facts, &mut findings);
        cluster(&known, &mut findings);
        quorum(settings, &known, &mut findings);
    }
    findings
}

fn unreachable(name: &str, why: &str) -> Finding {
    let hint = if why.contains("28P01") || why.contains("password") {
        "check service.user and service.password"
    } else if why.contains("28000") || why.contains("pg_hba") {
        "let primacy's role in from this machine in the server's pg_hba.conf"
    } else if why.contains("3D000") {
        "set service.database to a database that exists"
    } else if why.contains("TLS") {
        "check sslmode and sslrootcert of the node"
    } else {
        "is the server running, and its address right?"
    };
    Finding::error(name, format!("cannot be asked: {why}"), hint)
}

fn node(name: &str, facts: &NodeFacts, findings: &mut Vec<Finding>) {
    let role = if facts.in_recovery { "replica" } else { "primary" };
    let (major, minor) = (facts.version / 10_000, facts.version % 10_000);
    findings
        .push(Finding::ok(name, format!("PostgreSQL {major}.{minor}, {role}, timeline {}", facts.timeline)));
    if facts.version < VERSION_MIN {
        findings.push(Finding::error(
            name,
            "is older than PostgreSQL 14",
            "upgrade it: 14 is the oldest version that is supported",
        ));
    }
    if facts.wal_level == "minimal" {
        let hint = "set wal_level = replica and restart it";
        findings.push(Finding::error(name, "wal_level is minimal: nothing can stream from it", hint));
    }
    if facts.wal_senders_max < 2 || facts.slots_max < 2 {
        let text =
            format!("max_wal_senders {}, max_replication_slots {}", facts.wal_senders_max, facts.slots_max);
        let hint = "every node needs as many as there are other nodes, for the day when it is the primary";
        findings.push(Finding::warning(name, text, hint));
    }
    if !facts.can_be_rewound {
        let hint = "enable checksums (pg_checksums) or wal_log_hints, or a diverged node must be cloned anew";
        findings.push(Finding::warning(name, "pg_rewind cannot work on it", hint));
    }
    if ["off", "local", "remote_write"].contains(&&*facts.sync_commit) {
        let text = format!("synchronous_commit is {}: an acknowledged commit may be lost", facts.sync_commit);
        findings.push(Finding::warning(name, text, "set it to on"));
    }
    if !facts.in_recovery && !facts.lowered.is_empty() {
        let text = format!(
            "synchronous_commit is lowered for {}: their acknowledged commits may be lost in a failover",
            facts.lowered.join(", ")
        );
        findings.push(Finding::warning(name, text, "fine if that is meant; else RESET it there"));
    }
    if facts.in_recovery && !facts.receives {
        let hint = "check its primary_conninfo and its log (without pg_monitor this cannot be seen)";
        findings.push(Finding::warning(name, "is a replica and does not stream", hint));
    }
}

fn privileges(name: &str, facts: &NodeFacts, role: &str, findings: &mut Vec<Finding>) {
    if !facts.superuser && !facts.replication {
        let hint = "or set [replication] to a role that has it";
        let finding = Finding::warning(name, "the service role cannot be used for replication", hint);
        findings.push(finding.mended_by(vec![format!("ALTER ROLE {} REPLICATION;", identifier(role))]));
    }
    if !facts.superuser && facts.version < 150_000 {
        let hint = "before PostgreSQL 15 nobody else may ALTER SYSTEM";
        let finding = Finding::error(name, "the service role is no superuser", hint);
        findings.push(finding.mended_by(vec![format!("ALTER ROLE {} SUPERUSER;", identifier(role))]));
    } else if facts.lacking.is_empty() {
        findings.push(Finding::ok(name, "the service role has the privileges for a failover"));
    } else {
        let text = "the service role lacks privileges that a failover needs";
        let grants = facts.lacking.iter().map(|grant| format!("{grant} TO {};", identifier(role))).collect();
        findings.push(Finding::error(name, text, "run the statements below").mended_by(grants));
    }
    if !facts.superuser && !facts.can_restart {
        let text = "after a switchover the former primary waits for a person to restart it as a replica";
        let hint = "the last statement below lets primacy do it, if it may";
        let grant =
            format!("GRANT pg_execute_server_program, pg_write_server_files TO {};", identifier(role));
        findings.push(Finding::warning(name, text, hint).mended_by(vec![grant]));
    }
}

/// A name as SQL writes it.
fn identifier(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn auth(name: &str, facts: &NodeFacts, findings: &mut Vec<Finding>) {
    match &facts.auth {
        AuthAnswer::NotAsked => {}
        AuthAnswer::Verifier("plain text") => {
            let hint = "store verifiers: password_encryption = scram-sha-256";
            findings.push(Finding::warning(name, "auth.query gives passwords in plain text", hint));
        }
        AuthAnswer::Verifier(kind) => {
            findings.push(Finding::ok(name, format!("auth.query gives verifiers ({kind})")));
        }
        AuthAnswer::Nothing => {
            let hint =
                "fine if the service role has no password; else auth.query must give name and verifier";
            findings.push(Finding::warning(name, "auth.query gives no verifier for the service role", hint));
        }
        AuthAnswer::Failed(why) => {
            let hint = "clients could not sign in: let the service role run it (a SECURITY DEFINER function), or use auth.users_file";
            findings.push(Finding::error(name, format!("auth.query fails: {why}"), hint));
        }
    }
}

fn cluster(known: &[(&str, &NodeFacts)], findings: &mut Vec<Finding>) {
    let systems: BTreeSet<&str> = known.iter().map(|(_, facts)| &*facts.system_id).collect();
    if systems.len() > 1 {
        let list: Vec<String> =
            known.iter().map(|(name, facts)| format!("{name} {}", facts.system_id)).collect();
        let text = format!("the nodes are not one cluster; system identifiers: {}", list.join(", "));
        findings.push(Finding::error(
            "cluster",
            text,
            "replicas are made with pg_basebackup from the primary",
        ));
    }
    let primaries: Vec<&str> =
        known.iter().filter(|(_, facts)| !facts.in_recovery).map(|(name, _)| *name).collect();
    findings.push(match primaries.as_slice() {
        [] => Finding::error("cluster", "no primary among the nodes", "add it, or promote one of them"),
        [primary] => Finding::ok("cluster", format!("{primary} is the primary")),
        several => {
            let text = format!("several primaries: {}", several.join(", "));
            Finding::error("cluster", text, "stop all but the right one, and make them replicas again")
        }
    });
    let majors: BTreeSet<i32> = known.iter().map(|(_, facts)| facts.version / 10_000).collect();
    if majors.len() > 1 {
        let text = "the nodes have different major versions";
        findings.push(Finding::error("cluster", text, "streaming replication needs the same one"));
    }
}

fn quorum(settings: &Settings, known: &[(&str, &NodeFacts)], findings: &mut Vec<Finding>) {
    let failover = &settings.control.failover;
    let nodes = settings.proxy.nodes.len();
    if failover.durability == Durability::Async {
        let hint = "with two replicas or more, set failover.durability = \"quorum\"";
        findings.push(Finding::warning("durability", "async: a failover may lose the last commits", hint));
        return;
    }
    let k = failover.durability.standbys_for(nodes);
    findings.push(Finding::ok(
        "durability",
        format!("quorum: a commit counts when {k} of {} replicas have it", nodes - 1),
    ));
    let Some((primary, facts)) = known.iter().find(|(_, facts)| !facts.in_recovery) else { return };
    let strangers: Vec<&str> = facts
        .standbys
        .iter()
        .map(String::as_str)
        .filter(|standby| !settings.proxy.nodes.iter().any(|node| &*node.name == *standby))
        .collect();
    if !strangers.is_empty() {
        let text = format!("streams to standbys that are not nodes here: {}", strangers.join(", "));
        let hint = "a replica's application_name (in its primary_conninfo) must be its node's name; primacy sets it when it \
                    takes over, and standbys that are none of its nodes do not count";
        findings.push(Finding::warning(primary, text, hint));
    }
    if !failover.manage_sync_names && facts.sync_names.is_empty() {
        let hint = "set it on every node, or failover.manage_sync_names = true";
        findings.push(Finding::error(
            primary,
            "synchronous_standby_names is empty: nothing waits for replicas",
            hint,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::config;

    fn settings() -> Settings {
        let urls: Vec<String> = ["a", "b", "c"].map(|host| format!("postgres://ha@{host}")).into();
        config::from_nodes(&urls).expect("valid")
    }

    fn facts(in_recovery: bool) -> NodeFacts {
        NodeFacts {
            version: 150_018,
            in_recovery,
            system_id: "7".into(),
            timeline: 1,
            wal_level: "replica".into(),
            wal_senders_max: 10,
            slots_max: 10,
            sync_commit: "on".into(),
            can_be_rewound: true,
            receives: in_recovery,
            superuser: true,
            auth: AuthAnswer::Verifier("SCRAM-SHA-256"),
            ..NodeFacts::default()
        }
    }

    fn three(change: impl Fn(usize, &mut NodeFacts)) -> Vec<Finding> {
        let answers: Vec<NodeAnswer> = ["a", "b", "c"]
            .iter()
            .enumerate()
            .map(|(n, name)| {
                let mut facts = facts(n > 0);
                change(n, &mut facts);
                NodeAnswer { name: (*name).to_owned(), facts: Ok(facts) }
            })
            .collect();
        judge(&settings(), &answers)
    }

    fn errors(findings: &[Finding]) -> Vec<&str> {
        findings
            .iter()
            .filter(|finding| finding.level == Level::Error)
            .map(|finding| &*finding.text)
            .collect()
    }

    #[test]
    fn a_healthy_cluster_has_nothing_wrong() {
        let findings = three(|_, _| {});
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
    }

    #[test]
    fn what_would_not_work_is_an_error() {
        let foreign = three(|n, facts| {
            if n == 2 {
                facts.system_id = "8".into();
            }
        });
        assert!(errors(&foreign)[0].contains("not one cluster"));
        let headless = three(|_, facts| facts.in_recovery = true);
        assert!(errors(&headless)[0].contains("no primary"));
        let torn = three(|_, facts| facts.in_recovery = false);
        assert!(errors(&torn)[0].contains("several primaries: a, b, c"));
        let old = three(|_, facts| facts.version = 120_001);
        assert_eq!(errors(&old).len(), 3);
        let weak = three(|_, facts| {
            facts.superuser = false;
            facts.lacking = vec!["GRANT pg_monitor".into()];
        });
        assert_eq!(errors(&weak).len(), 1, "one node speaks for all");
        let sql: Vec<&String> = weak.iter().flat_map(|finding| &finding.sql).collect();
        assert!(sql.contains(&&"GRANT pg_monitor TO ha;".to_owned()), "to be pasted: {sql:?}");
        let hasty = three(|_, facts| facts.lowered = vec!["role batch".into()]);
        let warned = hasty.iter().filter(|finding| finding.text.contains("lowered for role batch")).count();
        assert_eq!(warned, 1, "the primary speaks for all: {hasty:#?}");
        let before_15 = three(|_, facts| {
            facts.superuser = false;
            facts.version = 140_012;
        });
        assert!(errors(&before_15)[0].contains("no superuser"));
        let locked = three(|n, facts| {
            if n == 0 {
                facts.auth = AuthAnswer::Failed("permission denied".into());
            }
        });
        assert!(errors(&locked)[0].contains("auth.query fails"));
    }

    #[test]
    fn names_are_quoted_where_sql_needs_it() {
        assert_eq!(identifier("primacy_2"), "primacy_2");
        assert_eq!(identifier("Ha \"x\""), "\"Ha \"\"x\"\"\"");
        assert_eq!(identifier("2nd"), "\"2nd\"");
    }

    #[test]
    fn a_node_that_does_not_answer_is_named_with_what_to_do() {
        let answers =
            [NodeAnswer { name: "b".into(), facts: Err("28P01: password authentication failed".into()) }];
        let findings = judge(&settings(), &answers);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].hint.as_deref().is_some_and(|hint| hint.contains("service.password")));
    }
}
