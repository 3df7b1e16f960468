//! Imports go downwards only: each part of `src` names none that stands above it in [`ROOMS`].

use std::fs;
use std::path::Path;

/// The parts of `src` from the lowest to the highest: a folder, or a file that stands apart from its
/// folder. The longest one that a path begins with counts. Parts of one line stand side by side, and
/// import each other neither way.
const ROOMS: &[&[&str]] = &[
    &["sync", "clock", "cold_box", "suppress", "redaction", "session", "traceparent"],
    &["random", "otlp", "feedback"],
    &["outbox", "settings"],
    &["record"],
    &["otlp/packed", "otlp/span", "otlp/request", "feedback/carrier"],
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

/// The paths after `crate::` in the code of a file, comments and unit tests left out.
fn imports(code: &str) -> Vec<String> {
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let is_path = |c: char| c == '_' || c == ':' || c.is_ascii_alphanumeric();
    lines
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.split(|c| !is_path(c)).next().unwrap_or_default())
        .map(|path| path.trim_end_matches(':').replace("::", "/"))
        .collect()
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
        let (rank, own) = place(file).unwrap_or_else(|| panic!("{file}: not in ROOMS"));
        for import in imports(code) {
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
