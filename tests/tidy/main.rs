//! The house's walls, checked: who imports whom, what pure rooms may name, sizes, headers, words. Source read as data.
//!
//! Such walls fall silently otherwise. Each rule is a function from a file's path and text to complaints, and is shown to
//! complain on made-up files before it is run on the real ones.

#![allow(
    clippy::expect_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test fails by panicking, and our files' names are in lower case"
)]

mod code;
mod imports;
mod rules;
mod supply;

use std::fs;
use std::path::{Path, PathBuf};

use code::Code;

/// A file of the repository: its path from the root, and its text.
struct File {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under a directory whose name ends so; directories that hold no source of ours are left out.
fn files(dir: &str, ends: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    walk(&root().join(dir), &mut |path| {
        let name = path.to_string_lossy();
        if ends.iter().any(|end| name.ends_with(end)) {
            let text = fs::read_to_string(path).expect("source is text");
            let path = path.strip_prefix(root()).expect("under the root").to_string_lossy().into_owned();
            found.push(File { path, text });
        }
    });
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(path: &Path, visit: &mut impl FnMut(&Path)) {
    if path.is_file() {
        visit(path);
    } else if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory that can be read") {
            walk(&entry.expect("an entry").path(), visit);
        }
    }
}

/// Files of `src` but for test modules: those may start a clock, and import what they test against.
fn sources() -> Vec<File> {
    let mut files = files("src", &[".rs"]);
    files.retain(|file| !rules::is_test(&file.path));
    assert!(files.len() > 50, "the source was found");
    files
}

fn refuse(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let files = sources();
    let complaints: Vec<String> =
        files.iter().flat_map(|file| imports::complaints(&file.path, &Code::of(&file.text))).collect();
    refuse(&complaints);
}

#[test]
fn no_two_rooms_import_each_other() {
    let files = sources();
    let edges = files.iter().flat_map(|file| imports::edges(&file.path, &Code::of(&file.text))).collect();
    refuse(&imports::knots(&edges));
}

#[test]
fn pure_rooms_name_no_outside_world() {
    let files = sources();
    let complaints: Vec<String> =
        files.iter().flat_map(|file| rules::impurities(&file.path, &Code::of(&file.text))).collect();
    refuse(&complaints);
}

#[test]
fn files_are_short_and_say_first_what_they_are_for() {
    let mut sources = files("src", &[".rs"]);
    let mut complaints: Vec<String> =
        sources.iter().filter_map(|file| rules::too_long(&file.path, &file.text)).collect();
    sources.extend(files("tests", &[".rs"]));
    sources.extend(files("benches", &[".rs"]));
    complaints.extend(sources.iter().filter_map(|file| rules::headless(&file.path, &file.text)));
    refuse(&complaints);
}

#[test]
fn some_words_do_not_appear() {
    let mut everything = files("src", &[".rs", ".html", ".sql"]);
    for dir in ["tests", "benches", "config", "scripts", "proto-notes"] {
        everything.extend(files(dir, &[""]));
    }
    for file in ["README.md", "CHANGELOG.md", "Cargo.toml", "Makefile"] {
        everything.extend(files(file, &[""]));
    }
    let complaints: Vec<String> =
        everything.iter().flat_map(|file| rules::banned_words(&file.path, &file.text)).collect();
    refuse(&complaints);
}
