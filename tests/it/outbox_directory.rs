//! What others may have put into the directory of an outbox is neither read, written, deleted nor waited for.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tracing::info_span;
use tracing_feedback::collector::Answer;
use tracing_feedback::{BuildError, enrich, enrich_span};

use crate::Rig;
use crate::outbox::Directory;
use crate::show::{eventually, with_timeout};

/// The name of a directory of a process that has ended.
const ENDED: &str = "00000000deadbeef";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn private_directory(path: &Path) {
    fs::create_dir_all(path).unwrap();
    set_mode(path, 0o700);
}

fn fifo(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The files of an ended process, written by an outbox while its collector was gone. The directory is
/// empty otherwise. Returns the part of that process.
fn leave_spans(directory: &Directory) -> PathBuf {
    let rig = Rig::with(|builder| {
        builder.with_timeout(Duration::from_millis(200)).with_outbox(directory.ahead())
    });
    rig.collector.answer_all(Some(Answer::Unavailable { retry_after: None }));
    tracing::dispatcher::with_default(&rig.dispatch, || {
        info_span!("left behind").in_scope(|| {
            assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
        });
    });
    rig.telemetry.shutdown_within(Duration::from_secs(10)).unwrap();
    let mut parts = fs::read_dir(&directory.0).unwrap().map(|entry| entry.unwrap().path());
    parts.find(|path| path.file_name().is_some_and(|name| name != "rejected")).unwrap()
}

/// Uses the outbox in `directory`: feedback is written ahead and arrives, without a wait.
fn use_outbox(directory: &Directory) -> Rig {
    let options = directory.ahead();
    with_timeout(move || {
        let rig = Rig::with(|builder| {
            builder.with_schedule_delay(Duration::from_millis(50)).with_outbox(options)
        });
        rig.run(|| {
            info_span!("answer").in_scope(|| {
                assert!(enrich_span!(feedback = { "rating": true }).is_ok());
                enrich::persist(Duration::from_secs(10)).unwrap();
            });
        });
        rig
    })
}

fn refused(directory: &Path) -> String {
    let built = tracing_feedback::builder()
        .with_endpoint("http://127.0.0.1:9")
        .with_outbox(directory)
        .build();
    match built {
        Err(BuildError::Outbox { path, source }) => {
            assert_eq!(path, directory);
            source.to_string()
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{} was used", directory.display()),
    }
}

#[test]
fn a_planted_fifo_is_not_waited_for() {
    for planted in ["lock", "feedback/0000000001.segment", "feedback/0000000001.acks"] {
        let directory = Directory::new();
        let part = match planted {
            "feedback/0000000001.acks" => leave_spans(&directory),
            _ => directory.0.join(ENDED),
        };
        private_directory(&directory.0);
        private_directory(&part);
        private_directory(&part.join("feedback"));
        if planted != "lock" && !part.join("lock").exists() {
            fs::write(part.join("lock"), "").unwrap();
        }
        fifo(&part.join(planted));
        let rig = use_outbox(&directory);
        eventually(|| rig.collector.spans().iter().any(|span| span.name == "answer"));
        rig.telemetry.shutdown().unwrap();
    }
}

#[test]
fn links_are_not_followed() {
    let (directory, foreign) = (Directory::new(), Directory::new());
    private_directory(&directory.0);
    let part = directory.0.join(ENDED);
    // The files of another program, in the layout of an outbox.
    let theirs = leave_spans(&foreign);
    let kept: Vec<_> = ["feedback/a.acks", "feedback/b.segment", "spans/c.acks", "lock"]
        .map(|name| theirs.join(name))
        .into();
    kept.iter().for_each(|path| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "theirs").unwrap();
    });
    let segment = foreign.files("segment").into_iter().find(|path| !kept.contains(path)).unwrap();
    let before = fs::read(&segment).unwrap();

    // A link to the whole directory, to one of its logs, and to one of its files.
    symlink(&theirs, directory.0.join("00000000deadbee0")).unwrap();
    private_directory(&part);
    fs::write(part.join("lock"), "").unwrap();
    symlink(theirs.join("feedback"), part.join("feedback")).unwrap();
    private_directory(&part.join("spans"));
    symlink(&segment, part.join("spans/0000000001.segment")).unwrap();

    let rig = use_outbox(&directory);
    rig.telemetry.shutdown().unwrap();
    let names: Vec<_> = rig.collector.spans().iter().map(|span| span.name.clone()).collect();
    assert!(!names.contains(&"left behind".to_owned()), "{names:?}");
    for path in kept {
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs", "{}", path.display());
    }
    assert_eq!(fs::read(&segment).unwrap(), before);
}

#[test]
fn a_directory_that_others_may_write_to_is_refused_by_name_with_a_remedy() {
    for mode in [0o777, 0o770, 0o1777, 0o702] {
        let directory = Directory::new();
        private_directory(&directory.0);
        set_mode(&directory.0, mode);
        let error = refused(&directory.0);
        assert!(error.contains(&*directory.0.to_string_lossy()), "{error}");
        assert!(error.contains("written to by other users"), "{error}");
        assert!(error.contains("chmod go-w"), "{error}");
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0, "nothing was left there");
        // A directory of its own in there is fine, as in `/tmp`.
        let inside = Directory(directory.0.join("outbox"));
        let rig = use_outbox(&inside);
        rig.telemetry.shutdown().unwrap();
        assert_eq!(fs::metadata(&inside.0).unwrap().permissions().mode() & 0o7777, 0o700);
    }
}

#[test]
fn what_is_in_the_way_of_rejected_spans_is_refused() {
    let (directory, foreign) = (Directory::new(), Directory::new());
    private_directory(&directory.0);
    private_directory(&foreign.0);
    symlink(&foreign.0, directory.0.join("rejected")).unwrap();
    let error = refused(&directory.0);
    assert!(error.contains("rejected is not a directory"), "{error}");
}

#[test]
fn a_link_of_the_user_to_a_directory_of_the_user_is_fine() {
    let (directory, real) = (Directory::new(), Directory::new());
    private_directory(&real.0);
    symlink(&real.0, &directory.0).unwrap();
    use_outbox(&directory).telemetry.shutdown().unwrap();
    fs::remove_file(&directory.0).unwrap();
}

#[test]
fn a_segment_of_an_impossible_size_is_left_alone() {
    let directory = Directory::new();
    let part = leave_spans(&directory);
    let planted = part.join("spans/0000000009.segment");
    fs::create_dir_all(planted.parent().unwrap()).unwrap();
    fs::File::create(&planted).unwrap().set_len(1 << 36).unwrap(); // sparse
    let rig = use_outbox(&directory);
    eventually(|| rig.collector.spans().iter().any(|span| span.name == "left behind"));
    rig.telemetry.shutdown().unwrap();
    assert_eq!(fs::metadata(&planted).unwrap().len(), 1 << 36);
}

/// Needs the right to give files away.
#[test]
fn what_belongs_to_another_user_is_not_used() {
    const OTHER: Option<u32> = Some(12_345);
    let directory = Directory::new();
    let part = leave_spans(&directory);
    let segments = directory.files("segment");
    if chown(&segments[0], OTHER, None).is_err() {
        return; // not the administrator
    }
    let rig = use_outbox(&directory);
    assert!(rig.collector.spans().iter().all(|span| span.name != "left behind"));
    rig.telemetry.shutdown().unwrap();
    assert!(segments[0].exists(), "it was left in place");

    // The same for a directory in the outbox, the outbox, and a link to it.
    chown(&segments[0], Some(0), None).unwrap();
    chown(&part, OTHER, None).unwrap();
    let rig = use_outbox(&directory);
    assert!(rig.collector.spans().iter().all(|span| span.name != "left behind"));
    rig.telemetry.shutdown().unwrap();

    chown(&directory.0, OTHER, None).unwrap();
    let error = refused(&directory.0);
    assert!(error.contains("belongs to user 12345") && error.contains("chown"), "{error}");

    let (link, real) = (Directory::new(), Directory::new());
    private_directory(&real.0);
    symlink(&real.0, &link.0).unwrap();
    lchown(&link.0, OTHER, None).unwrap();
    let error = refused(&link.0);
    assert!(error.contains("is a link of user 12345"), "{error}");
    fs::remove_file(&link.0).unwrap();
}
