//! What the program is built from, and what the threat model and the page of hazards promise: `Cargo.lock` against `deny.toml`,
//! and every test that `proto-notes/threat-model.md` and `failover-hazards.md` name against the tests that there are.

use std::collections::BTreeSet;

use super::{File, files, refuse, root};

fn table(file: &str) -> toml::Table {
    std::fs::read_to_string(root().join(file)).expect("it is there").parse().expect("TOML")
}

/// Packages that come from elsewhere than allowed, or are banned.
fn unwanted(lock: &toml::Table, deny: &toml::Table) -> Vec<String> {
    let texts = |value: Option<&toml::Value>| -> BTreeSet<String> {
        let list = value.and_then(toml::Value::as_array).into_iter().flatten();
        list.filter_map(|item| item.as_str().or_else(|| item.get("name")?.as_str()))
            .map(str::to_owned)
            .collect()
    };
    let allowed = texts(deny.get("sources").and_then(|sources| sources.get("allow-registry")));
    let banned = texts(deny.get("bans").and_then(|bans| bans.get("deny")));
    let packages = lock.get("package").and_then(toml::Value::as_array).expect("packages");
    let mut complaints = Vec::new();
    for package in packages {
        let text = |key: &str| package.get(key).and_then(toml::Value::as_str);
        let name = text("name").expect("a name");
        if banned.contains(name) {
            complaints.push(format!("{name} is banned"));
        }
        match text("source") {
            // Our own.
            None => {}
            Some(source) if source.strip_prefix("registry+").is_some_and(|from| allowed.contains(from)) => {
                let bare = text("checksum").is_none();
                complaints.extend(bare.then(|| format!("{name} has no checksum")));
            }
            Some(source) => complaints.push(format!("{name} comes from {source}")),
        }
    }
    complaints
}

#[test]
fn dependencies_come_from_where_they_may() {
    refuse(&unwanted(&table("Cargo.lock"), &table("deny.toml")));
}

#[test]
fn a_foreign_and_a_banned_dependency_are_seen() {
    let lock: toml::Table = "package = [
        { name = 'ours' },
        { name = 'fine', source = 'registry+here', checksum = 'x' },
        { name = 'bare', source = 'registry+here' },
        { name = 'bad', source = 'registry+here', checksum = 'x' },
        { name = 'forked', source = 'git+https://elsewhere' },
    ]"
    .parse()
    .expect("TOML");
    let deny: toml::Table = "sources = { allow-registry = ['here'] }\nbans = { deny = [{ name = 'bad' }] }"
        .parse()
        .expect("TOML");
    let complaints = unwanted(&lock, &deny);
    assert_eq!(
        complaints,
        ["bare has no checksum", "bad is banned", "forked comes from git+https://elsewhere"]
    );
}

/// What stands in backticks in the last column of the table's rows.
fn named_tests(page: &str) -> Vec<String> {
    let rows =
        page.lines().filter(|line| line.starts_with('|')).skip_while(|line| !line.contains("guarded by"));
    rows.skip(2)
        .take_while(|line| line.starts_with('|'))
        .filter_map(|row| row.trim_end_matches('|').rsplit('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Names that no test has.
fn missing(named: &[String], sources: &[File]) -> Vec<String> {
    let exists = |name: &str| {
        if name.contains('/') {
            return root().join(name).exists();
        }
        let written = format!("fn {name}(");
        sources.iter().any(|file| file.text.contains(&written))
    };
    named.iter().filter(|name| !exists(name)).map(|name| format!("no test is called {name}")).collect()
}

#[test]
fn every_test_of_the_threat_model_exists() {
    let page = std::fs::read_to_string(root().join("proto-notes/threat-model.md")).expect("it is there");
    let named = named_tests(&page);
    assert!(named.len() > 40, "{} tests are named", named.len());
    let mut sources = files("src", &[".rs"]);
    sources.extend(files("tests", &[".rs"]));
    refuse(&missing(&named, &sources));
    // Every row names one.
    let rows: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| ") && line.contains(" | ")).collect();
    let bare: Vec<String> = rows
        .iter()
        .filter(|row| row.matches(" | ").count() == 2 && !row.contains('`') && !row.contains("guarded by"))
        .map(|row| format!("no test: {row}"))
        .collect();
    refuse(&bare);
}

/// Every hazard has its row, with a test that is there.
#[test]
fn every_test_of_the_hazards_exists() {
    let page = std::fs::read_to_string(root().join("proto-notes/failover-hazards.md")).expect("it is there");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
    // `room::the_test`, in whatever column.
    let tests = |row: &str| -> Vec<String> {
        let quoted = row.split('`').skip(1).step_by(2);
        quoted.filter_map(|text| Some(text.rsplit_once("::")?.1.to_owned())).collect()
    };
    let named: Vec<String> =
        rows.iter().flat_map(|row| tests(row)).filter(|name| name != "without").collect();
    assert!(named.len() > 40, "{} tests are named", named.len());
    let mut sources = files("src", &[".rs"]);
    sources.extend(files("tests", &[".rs"]));
    refuse(&missing(&named, &sources));
    for number in 1..=16 {
        let row = rows.iter().find(|row| row.starts_with(&format!("| T{number} ")));
        let row = row.unwrap_or_else(|| panic!("T{number} has no row"));
        // T13 is what no failover keeps: documented, and looked for by `primacy check`.
        assert!(number == 13 || row.contains('`'), "T{number} names no test: {row}");
    }
}

#[test]
fn a_test_that_does_not_exist_is_seen() {
    let page =
        "| threat | answer | guarded by |\n|---|---|---|\n| a | b | `one_that_is`, `one_that_is_not` |\n";
    let named = named_tests(page);
    assert_eq!(named, ["one_that_is", "one_that_is_not"]);
    let file = File { path: "a.rs".into(), text: "fn one_that_is() {}".into() };
    assert_eq!(missing(&named, &[file]), ["no test is called one_that_is_not"]);
}
