//! Imports go downwards only: each part of `src` names none that stands above it in [`ROOMS`], and no
//! files or folders that stand side by side import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The parts of `src` from the lowest to the highest: a folder, or a file that stands apart from its
/// folder. The longest one that a path begins with counts. Parts of one line stand side by side, and
/// import each other neither way.
const ROOMS: &[&[&str]] = &[
    &["active_context", "fork", "formatted", "printable", "user_code"],
    &["sync", "clock", "cold_box", "suppress", "redaction", "traceparent"],
    &["random"],
    &["session"],
    &["otlp", "feedback"],
    &["outbox", "settings"],
    &["record"],
    &["otlp/span", "otlp/log_record", "otlp/request", "feedback/carrier"],
    &["otlp/packed", "feedback/event"],
    &["export", "ticket"],
    &["span"],
    &["layer"],
    &["propagation"],
    &["enrich"],
    &["setup", "web"],
    &["collector"],
    &["desk"],
];

/// The rank of a path below `src`, without `.rs`, and the part it belongs to.
fn place(path: &str) -> Option<(usize, &'static str)> {
    let parts = ROOMS
        .iter()
        .enumerate()
        .flat_map(|(rank, parts)| parts.iter().map(move |part| (rank, *part)));
    let holds = |part: &str| {
        path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    parts.filter(|(_, part)| holds(part)).max_by_key(|(_, part)| part.len())
}

/// The paths after `crate::` and `super::` in the code of `file`, from the crate's root on; comments and
/// unit tests are left out.
fn imports(file: &str, code: &str) -> Vec<String> {
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let parent = file.rsplit_once('/').map_or("", |(parent, _)| parent);
    let mut found = Vec::new();
    for (start, base) in [("crate::", ""), ("super::", parent)] {
        for (at, _) in code.match_indices(start) {
            // Part of a longer path or name, `super::super::` among them, which no file needs.
            if code[..at].ends_with(|c: char| c == ':' || c == '_' || c.is_ascii_alphanumeric()) {
                continue;
            }
            expand(&code[at + start.len()..], base, &mut found);
        }
    }
    found
}

/// Adds the paths that the beginning of `text` stands for: one, or those of a list in braces.
fn expand<'t>(text: &'t str, base: &str, found: &mut Vec<String>) -> &'t str {
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let mut path = base.to_owned();
    let mut rest = text;
    loop {
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        if end > 0 {
            path = [path.as_str(), &rest[..end]].join("/");
        }
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(after) if end > 0 => rest = after,
            _ => break,
        }
    }
    let Some(mut list) = rest.strip_prefix('{') else {
        found.push(path.trim_start_matches('/').to_owned());
        return rest;
    };
    loop {
        list = list.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        if let Some(after) = list.strip_prefix('}') {
            return after;
        }
        let after = expand(list, &path, found);
        if after.len() == list.len() {
            return after; // no list of paths
        }
        list = after;
    }
}

fn visit(directory: &Path, root: &Path, see: &mut impl FnMut(&str, &str)) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            visit(&path, root, see);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().with_extension("");
            let name = name.to_str().unwrap().replace('\\', "/");
            see(name.trim_end_matches("/mod"), &fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn imports_go_downwards_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut upwards, mut seen) = (Vec::new(), 0);
    visit(&root, &root, &mut |file, code| {
        let is_test = file.ends_with("tests") || file.contains("/tests/");
        if is_test || file == "lib" || file.starts_with("bin/") {
            return;
        }
        let mut lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        if !file.starts_with("desk") && lines.any(|line| line.contains("desk")) {
            upwards.push(format!("{file} mentions the desk"));
        }
        let (rank, own) = place(file).unwrap_or_else(|| panic!("{file}: not in ROOMS"));
        for import in imports(file, code) {
            let Some((other, room)) = place(&import) else { continue }; // an item of the crate's root
            seen += 1;
            if room != own && other >= rank {
                upwards.push(format!("{file} imports {import}"));
            }
        }
    });
    assert!(seen > 300, "only {seen} imports were found");
    assert!(upwards.is_empty(), "{upwards:#?}");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    visit(&root, &root, &mut |file, code| {
        let is_test =
            file.ends_with("tests") || file.contains("/tests/") || file.ends_with("_tests");
        if !is_test && file != "lib" && !file.starts_with("bin/") {
            files.insert(file.to_owned(), imports(file, code));
        }
    });
    // In each folder: which of the files and folders in it import which others.
    let parts: BTreeSet<&str> = files
        .keys()
        .flat_map(|file| file.match_indices('/').map(|(at, _)| &file[..at]).chain([file.as_str()]))
        .collect();
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, imports) in &files {
        for import in imports {
            if place(file).map(|(_, room)| room) != place(import).map(|(_, room)| room) {
                continue; // `imports_go_downwards_only` looks at these
            }
            let common = file
                .split('/')
                .zip(import.split('/'))
                .take_while(|(own, other)| own == other)
                .map(|(own, _)| own.len() + 1)
                .sum::<usize>();
            let part = |path: &str| {
                let end = path.get(common..)?.find('/').map_or(path.len(), |at| common + at);
                parts.get(&path[..end]).copied()
            };
            if let (Some(own), Some(other)) = (part(file), part(import)) {
                arrows.entry(own).or_default().insert(other);
            }
        }
    }
    let count: usize = arrows.values().map(BTreeSet::len).sum();
    assert!(count > 250, "only {count} arrows were found");
    // What imports nothing that is left can be taken away; what remains in the end stands in a circle.
    while let Some(lowest) = arrows
        .iter()
        .find(|(_, to)| to.iter().all(|it| !arrows.contains_key(it)))
        .map(|(part, _)| *part)
    {
        arrows.remove(lowest);
    }
    assert!(arrows.is_empty(), "{arrows:#?}");
}
