//! Ends the servers of a temporary cluster when this program is gone, even when it was killed.
//!
//! A small shell process reads from a pipe whose other end only we hold. When we close it, or the kernel closes it
//! for us, the shell kills what the `*.pid` files in the directory's subdirectories name, `postmaster.pid` above all,
//! and removes the directory. No unsafe code, no polling, and a process is signalled only if it works in the
//! subdirectory that holds its file (where /proc can tell). Its children end by themselves when they see that it is gone,
//! which a frozen one does only once it is woken.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::PostgresError;

/// `$1` is the directory of the cluster. Whatever runs for it works in a subdirectory that has its process id in a file.
const SCRIPT: &str = r#"
cat >/dev/null
for file in "$1"/*/*.pid; do
    [ -f "$file" ] || continue
    read -r pid <"$file" || continue
    home=$(cd "${file%/*}" && pwd -P)
    [ -d /proc/self ] && [ "$(readlink "/proc/$pid/cwd")" != "$home" ] && continue
    children=
    read -r children <"/proc/$pid/task/$pid/children" 2>/dev/null
    kill -KILL "$pid" 2>/dev/null
    [ -n "$children" ] && kill -CONT $children 2>/dev/null
done
tries=0
until rm -rf "$1" 2>/dev/null || [ "$tries" -ge 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
"#;

/// While this lives the servers in the directory may run; dropping it kills them and removes the directory.
#[derive(Debug)]
pub struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Watches over the cluster in `dir`, which is removed in the end, with everything in it.
    pub fn over(dir: &Path) -> Result<Self, PostgresError> {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(SCRIPT).arg("watchdog").arg(dir).current_dir("/");
        // A group of its own: Ctrl-C at the terminal must not end it before its work is done.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let shell = command.spawn();
        let shell = shell.map_err(|source| PostgresError::Spawn { program: "/bin/sh".into(), source })?;
        Ok(Self { shell })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().ok();
    }
}
