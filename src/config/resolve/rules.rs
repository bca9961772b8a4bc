//! `[[hba]]`, `auth.hba_file`, `auth.maps` and `proxy_protocol`: who may try to sign in, and whose word counts for where
//! a client comes from.

use std::path::Path;

use super::under;
use crate::config::check::Checker;
use crate::config::written::{Document, HbaRule};
use crate::proxy::hba::{self, Hba, Mapping, Network, Rule, Written};

/// Largest file of rules.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Most rules, and most networks of balancers.
const RULES_MAX: usize = 10_000;

pub(super) fn hba(document: &Document, base: &Path, check: &mut Checker) -> Hba {
    let auth = &document.auth;
    let file = auth.hba_file.as_deref().map(|file| under(base, file));
    let rules = match (&file, document.hba.is_empty()) {
        (Some(_), false) => {
            check.problem("auth.hba_file", "both an hba_file and [[hba]]", "one of them", None);
            Vec::new()
        }
        (Some(file), true) => from_file("auth.hba_file", file, hba::parse_hba, check),
        (None, _) => {
            let numbered = document.hba.iter().enumerate().take(RULES_MAX);
            numbered.filter_map(|(number, written)| rule(number, written, check)).collect()
        }
    };
    let mut maps: Vec<Mapping> = Vec::new();
    if let Some(file) = &auth.ident_file {
        maps = from_file("auth.ident_file", &under(base, file), hba::parse_ident, check);
    }
    for (number, written) in auth.maps.iter().enumerate() {
        let [Some(map), Some(identity), Some(user)] = [&written.map, &written.identity, &written.user] else {
            check.problem(&format!("auth.maps[{number}]"), "not all of them", "map, identity and user", None);
            continue;
        };
        maps.push(Mapping { map: map.clone(), identity: identity.clone(), user: user.clone() });
    }
    if file.is_none() && document.hba.is_empty() {
        return Hba { maps, ..hba::password_for_everybody() };
    }
    Hba { rules, maps }
}

fn from_file<T>(
    key: &str,
    file: &Path,
    parse: impl Fn(&str) -> Result<Vec<T>, hba::HbaFileError>,
    check: &mut Checker,
) -> Vec<T> {
    let text = std::fs::metadata(file).and_then(|about| {
        if about.len() > FILE_BYTES_MAX {
            return Err(std::io::Error::other("larger than 1 MiB"));
        }
        std::fs::read_to_string(file)
    });
    let shown = file.display();
    match text.map(|text| parse(&text)) {
        Ok(Ok(parsed)) => parsed,
        Ok(Err(error)) => {
            let hint = "a rule that is left out would let in whom it stops, so it is not";
            check.problem(key, format!("{shown}, {error}"), "rules that can be applied exactly", Some(hint));
            Vec::new()
        }
        Err(error) => {
            check.problem(key, format!("cannot read {shown}: {error}"), "a readable file", None);
            Vec::new()
        }
    }
}

fn rule(number: usize, written: &HbaRule, check: &mut Checker) -> Option<Rule> {
    let words = |given: &Option<_>| -> Vec<(String, bool)> {
        let given = given.as_ref().map_or(&[][..], crate::config::written::OneOrMany::as_slice);
        given.iter().map(|word| (word.clone(), false)).collect()
    };
    let texts = |given: &Option<crate::config::written::OneOrMany>| {
        given.as_ref().map_or_else(Vec::new, |given| given.as_slice().to_vec())
    };
    let options =
        [("clientcert", &written.clientcert), ("clientname", &written.clientname), ("map", &written.map)];
    let given = options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
    let rule = Rule::new(&Written {
        kind: written.kind.clone().unwrap_or_else(|| "host".to_owned()),
        databases: words(&written.database),
        users: words(&written.user),
        addresses: texts(&written.address),
        mask: None,
        method: written.method.clone().unwrap_or_default(),
        options: given.collect(),
    });
    rule.map_err(|error| check.problem(&format!("hba[{number}]"), error, "as in pg_hba.conf", None)).ok()
}

/// Networks of balancers.
pub(super) fn balancers(document: &Document, check: &mut Checker) -> Vec<Network> {
    let Some(written) = &document.proxy_protocol else { return Vec::new() };
    let mut networks = Vec::new();
    for text in written.as_slice().iter().take(RULES_MAX) {
        match Network::parse(text) {
            Some(network) if !network.is_everybody() => networks.push(network),
            _ => check.problem(
                "proxy_protocol",
                format!("found {text:?}"),
                "addresses or networks of your balancers, like \"10.0.0.5\" or \"10.0.0.0/24\"",
                Some("whoever connects from there can claim any address"),
            ),
        }
    }
    networks
}
