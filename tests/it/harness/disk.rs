//! A small disk of its own, to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, unmounted when this is dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Makes it at `dir`, which is created. `None`, and a word about it: whoever runs the tests may not mount anything here.
    pub(crate) fn mount(dir: &Path, kilobytes: u32) -> Option<Self> {
        std::fs::create_dir(dir).unwrap();
        let size = format!("size={kilobytes}k");
        let made = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "primacy-test"]).arg(dir).output();
        if made.is_ok_and(|made| made.status.success()) {
            return Some(Self { at: dir.to_path_buf() });
        }
        eprintln!("SKIPPED: no tmpfs can be mounted by this account");
        None
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        // Down to the last page; an error is what is wanted.
        for chunk in [1 << 20, 4096] {
            while file.write_all(&vec![0; chunk]).is_ok() {}
        }
    }

    /// Gives it back.
    pub(crate) fn clear(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server may still work in it, and is ended after this.
        Command::new("umount").arg("-l").arg(&self.at).status().ok();
    }
}
