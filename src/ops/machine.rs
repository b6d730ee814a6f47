//! What this machine has, against what the configuration may ask of it: memory, open files, disk, clock.
//!
//! Every probe compares one number of the machine with one of ours, and where it is not enough says which setting, or which
//! limit of the machine, to change. What cannot be read (another system, a container that hides it) is not held against it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::config::Config;
use crate::model::probe::Probe;
use crate::store::config::{StoreConfig, StoreKind};

/// What the worker itself takes besides its children, bytes.
const OURS: u64 = 100 * 1024 * 1024;

/// Least free space of a folder that is written to, bytes.
const LEAST_FREE: u64 = 1024 * 1024 * 1024;

/// Least free files of a file system that counts them.
const LEAST_FILES: u64 = 10_000;

/// Open files of the process at rest: runtime, sockets, database, logs.
const FILES_AT_REST: u64 = 64;

/// Open files per item that is looked at: its bytes, the child's pipes and pidfd.
const FILES_PER_CHILD: u64 = 12;

/// Open files per job under way: spool, store and Gazelle connections.
const FILES_PER_JOB: u64 = 32;

/// Clocks further apart than this make wrong deadlines, seconds. Signed requests to S3 are refused from 15 minutes.
const CLOCK_SKEW_S: u64 = 30;

/// This program was written after this: a clock before it is wrong.
const WRITTEN: &str = "2026-11-01T00:00:00Z";

/// How long a server is asked for its time.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// Memory, open files and clock: what any check needs.
pub async fn probes(config: &Config, now: Timestamp) -> Vec<Probe> {
    let needed = memory_needed(config);
    let mut probes = vec![memory_available(needed, std::fs::read_to_string("/proc/meminfo").ok().as_deref())];
    probes.extend(control_group(needed, Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")));
    probes.push(open_files(files_needed(config), rustix::process::getrlimit(rustix::process::Resource::Nofile).current));
    probes.push(clock(now));
    probes
}

/// The folders that a worker writes to, and the clocks of the stores.
pub async fn worker_probes(config: &Config, now: Timestamp) -> Vec<Probe> {
    let mut probes: Vec<Probe> = folders(config).into_iter().map(|(name, folder)| disk(&name, &folder, config)).collect();
    for (section, store) in [("staging", &config.staging), ("vault", &config.vault)] {
        match store.kind {
            StoreKind::Directory => probes.extend(file_system_clock(section, &store.path)),
            StoreKind::S3 => probes.push(s3_clock(section, store, now).await),
        }
    }
    probes
}

/// What the children may take together, and we besides, bytes.
fn memory_needed(config: &Config) -> u64 {
    let children = config.sandbox.memory_bytes.saturating_mul(config.check.jobs() as u64);
    let children = match config.worker.memory_budget_bytes {
        0 => children,
        // One child always finds room: with less, nothing would ever be looked at.
        budget => children.min(budget.max(config.sandbox.memory_bytes)),
    };
    children.saturating_add(OURS)
}

fn memory_available(needed: u64, meminfo: Option<&str>) -> Probe {
    let name = "memory";
    let Some(available) = meminfo.and_then(available) else {
        return Probe::passed(name, format!("{needed} bytes may be needed; what is available cannot be read"));
    };
    let detail = format!("{needed} bytes may be needed, {available} are available");
    if available >= needed {
        return Probe::passed(name, detail);
    }
    Probe::failed(name, format!("{detail}: lower check.jobs, sandbox.memory_bytes or worker.memory_budget_bytes, or add memory"))
}

/// `MemAvailable` of proc(5), bytes.
fn available(meminfo: &str) -> Option<u64> {
    let kib: u64 = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?.trim().trim_end_matches(" kB").parse().ok()?;
    kib.checked_mul(1024)
}

/// The memory limit of the control group, where there is one: a container is killed at it whatever the machine has left.
fn control_group(needed: u64, own: &Path, mount: &Path) -> Option<Probe> {
    let name = "memory of the control group";
    let limit = control_group_limit(&std::fs::read_to_string(own).ok()?, mount)?;
    let detail = format!("{needed} bytes may be needed, the limit (memory.max) is {limit}");
    if limit >= needed {
        return Some(Probe::passed(name, detail));
    }
    Some(Probe::failed(
        name,
        format!("{detail}: raise the container's memory limit, or lower check.jobs, sandbox.memory_bytes or worker.memory_budget_bytes"),
    ))
}

/// The lowest `memory.max` (version 2) or `memory.limit_in_bytes` (version 1) from our group up to the root; see cgroups(7).
fn control_group_limit(own: &str, mount: &Path) -> Option<u64> {
    let mut lowest: Option<u64> = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (mount.to_owned(), "memory.max"),
            one if one.split(',').any(|c| c == "memory") => (mount.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        // Inside a container the group often is the mount's root, and the path names it from outside.
        let inner = root.join(path.trim_start_matches('/'));
        for folder in inner.ancestors().take_while(|a| a.starts_with(&root)) {
            let limit = std::fs::read_to_string(folder.join(file)).ok().and_then(|text| text.trim().parse::<u64>().ok());
            lowest = match (lowest, limit) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
    // Version 1 writes « no limit » as the largest number of pages.
    lowest.filter(|l| *l < 1 << 60)
}

fn files_needed(config: &Config) -> u64 {
    let jobs = u64::from(config.worker.interactive_jobs) + u64::from(config.worker.submission_jobs) + u64::from(config.worker.replay_jobs);
    let per_child = FILES_PER_CHILD + config.antivirus.engines.len() as u64;
    let connections =
        if config.http.listen.is_empty() { 0 } else { u64::from(config.http.max_connections) + super::listen::RESERVED as u64 };
    FILES_AT_REST + connections + per_child * config.check.jobs() as u64 + FILES_PER_JOB * jobs
}

/// `limit`: the soft RLIMIT_NOFILE; `None` where there is none.
fn open_files(needed: u64, limit: Option<u64>) -> Probe {
    let name = "open files";
    match limit {
        None => Probe::passed(name, format!("{needed} may be needed, without a limit")),
        Some(limit) if limit >= needed => Probe::passed(name, format!("{needed} may be needed, {limit} are allowed")),
        Some(limit) => Probe::failed(
            name,
            format!(
                "{needed} may be needed, {limit} are allowed: raise the limit (ulimit -n, LimitNOFILE=) or lower check.jobs and worker.*_jobs"
            ),
        ),
    }
}

/// The folders that a worker writes to, by the setting that names them.
fn folders(config: &Config) -> Vec<(String, PathBuf)> {
    let mut folders = Vec::new();
    let directory = |store: &StoreConfig| (store.kind == StoreKind::Directory).then(|| store.path.clone());
    let spool = match (config.worker.spool.as_os_str().is_empty(), directory(&config.vault)) {
        (false, _) => Some(config.worker.spool.clone()),
        // Beside the vault: the vault's own line says it.
        (true, Some(_)) => None,
        (true, None) => Some(std::env::temp_dir()),
    };
    folders.extend(spool.map(|path| ("disk of worker.spool".to_owned(), path)));
    folders.extend(directory(&config.vault).map(|path| ("disk of vault.path".to_owned(), path)));
    if config.queue.kind == crate::queue::config::QueueKind::Embedded {
        let folder = config.queue.path.parent().unwrap_or(Path::new("."));
        folders.push(("disk of queue.path".to_owned(), folder.to_owned()));
    }
    folders
}

/// Free space and files below a folder, and whether it can be written to. A folder that does not exist yet is judged by the
/// nearest one above it.
fn disk(name: &str, folder: &Path, config: &Config) -> Probe {
    let Some(existing) = std::path::absolute(folder).ok().and_then(|f| f.ancestors().find(|a| a.exists()).map(Path::to_owned)) else {
        return Probe::failed(name, format!("{} cannot be looked at", folder.display()));
    };
    if let Err(e) = tempfile::tempfile_in(&existing) {
        return Probe::failed(name, format!("{} cannot be written to ({e}): change its owner, or the setting", existing.display()));
    }
    let at = match rustix::fs::statvfs(&existing) {
        Ok(at) => at,
        Err(e) => return Probe::failed(name, format!("{}: {e}", existing.display())),
    };
    let free = at.f_bavail.saturating_mul(at.f_frsize);
    if free < LEAST_FREE {
        return Probe::failed(name, format!("{}: {free} bytes free, at least {LEAST_FREE} are needed: make room", existing.display()));
    }
    // Some file systems (btrfs) do not count files and say zero of zero.
    if at.f_files > 0 && at.f_favail < LEAST_FILES {
        return Probe::failed(
            name,
            format!("{}: room for {} more files (inodes), {LEAST_FILES} are needed", existing.display(), at.f_favail),
        );
    }
    let jobs = u64::from(config.worker.interactive_jobs) + u64::from(config.worker.submission_jobs);
    let most = config.worker.max_submission_bytes.saturating_mul(jobs);
    if free < most {
        let detail = format!(
            "{}: {free} bytes free; {jobs} submissions of worker.max_submission_bytes at once would take {most}",
            existing.display()
        );
        return Probe::passed(name, detail);
    }
    Probe::passed(name, format!("{}: {free} bytes free", existing.display()))
}

fn clock(now: Timestamp) -> Probe {
    let name = "clock";
    match WRITTEN.parse::<Timestamp>() {
        Ok(written) if now < written => {
            Probe::failed(name, format!("{now} is before this program was written: set the clock (timedatectl)"))
        }
        _ => Probe::passed(name, now.to_string()),
    }
}

/// The clock of the file system that a folder is on: another machine's, where the folder is mounted from there.
fn file_system_clock(section: &str, folder: &Path) -> Option<Probe> {
    let name = format!("clock of {section}.path");
    let existing = std::path::absolute(folder).ok()?.ancestors().find(|a| a.exists())?.to_owned();
    let file = tempfile::tempfile_in(existing).ok()?;
    std::io::Write::write_all(&mut &file, b"x").ok()?;
    let theirs = Timestamp::try_from(file.metadata().ok()?.modified().ok()?).ok()?;
    Some(clocks(&name, Timestamp::now(), theirs))
}

/// The clock of an S3 server, as the `Date` of whatever it answers tells it.
async fn s3_clock(section: &str, store: &StoreConfig, now: Timestamp) -> Probe {
    let name = format!("clock of {section}");
    crate::tls::install_tls_provider();
    let url = store.endpoint.clone().unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", store.region));
    let asking = async {
        let client = reqwest::Client::builder().timeout(CLOCK_TIMEOUT).redirect(reqwest::redirect::Policy::none()).build()?;
        client.head(&url).send().await
    };
    let started = std::time::Instant::now();
    match asking.await {
        Err(e) => {
            Probe::failed(name, format!("{url} does not answer ({}): correct {section}.endpoint or start the server", e.without_url()))
        }
        Ok(answer) => {
            let date = answer.headers().get("date").and_then(|d| d.to_str().ok()).unwrap_or_default();
            // `now` plus what asking took: the caller's clock is used once.
            let asked = now.saturating_add(started.elapsed()).unwrap_or(now);
            http_date(date).map_or_else(|| Probe::passed(&name, "the server tells no time"), |theirs| clocks(&name, asked, theirs))
        }
    }
}

/// `Date` of an HTTP answer (RFC 9110 §5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

fn clocks(name: &str, ours: Timestamp, theirs: Timestamp) -> Probe {
    let apart = ours.duration_since(theirs).unsigned_abs().as_secs();
    if apart <= CLOCK_SKEW_S {
        return Probe::passed(name, format!("{apart} s from ours"));
    }
    Probe::failed(name, format!("{theirs}, {apart} s from ours ({ours}): let NTP set both (timedatectl)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_compared_with_what_all_children_may_take() {
        let meminfo = "MemTotal:       24684000 kB\nMemAvailable:    2000000 kB\n";
        assert!(memory_available(2_048_000_000, Some(meminfo)).ok);
        let short = memory_available(2_048_000_001, Some(meminfo));
        assert!(!short.ok && short.detail.contains("check.jobs"), "{short:?}");
        assert!(memory_available(u64::MAX, Some("nonsense")).ok);
        let mut config = Config::default();
        config.check.jobs = 4;
        config.sandbox.memory_bytes = 1000;
        assert_eq!(memory_needed(&config), 4000 + OURS);
        config.worker.memory_budget_bytes = 2500;
        assert_eq!(memory_needed(&config), 2500 + OURS);
        config.worker.memory_budget_bytes = 10;
        assert_eq!(memory_needed(&config), 1000 + OURS);
    }

    #[test]
    fn the_lowest_limit_on_the_way_to_the_root_counts() {
        let mount = tempfile::tempdir().unwrap();
        let group = mount.path().join("pod/container");
        std::fs::create_dir_all(&group).unwrap();
        let limit = |own: &str| control_group_limit(own, mount.path());
        assert_eq!(limit("0::/pod/container\n"), None);
        std::fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(limit("0::/pod/container\n"), None);
        std::fs::write(mount.path().join("pod/memory.max"), "1000000\n").unwrap();
        assert_eq!(limit("0::/pod/container\n"), Some(1_000_000));
        std::fs::write(group.join("memory.max"), "2000000\n").unwrap();
        assert_eq!(limit("0::/pod/container\n"), Some(1_000_000));
        // A path seen from outside the container: the mount's own root holds the limit.
        std::fs::write(mount.path().join("memory.max"), "500000\n").unwrap();
        assert_eq!(limit("0::/../../elsewhere\n"), Some(500_000));
        let own = mount.path().join("own");
        std::fs::write(&own, "0::/pod/container\n").unwrap();
        assert!(control_group(500_000, &own, mount.path()).unwrap().ok);
        assert!(!control_group(500_001, &own, mount.path()).unwrap().ok);
    }

    #[test]
    fn version_1_control_groups_are_read_too() {
        let mount = tempfile::tempdir().unwrap();
        let group = mount.path().join("memory/docker/abc");
        std::fs::create_dir_all(&group).unwrap();
        let own = "12:cpu,cpuacct:/docker/abc\n11:memory:/docker/abc\n0::/\n";
        std::fs::write(group.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert_eq!(control_group_limit(own, mount.path()), None);
        std::fs::write(group.join("memory.limit_in_bytes"), "536870912\n").unwrap();
        assert_eq!(control_group_limit(own, mount.path()), Some(536_870_912));
    }

    #[test]
    fn open_files_grow_with_jobs() {
        let mut config = Config::default();
        config.check.jobs = 2;
        let few = files_needed(&config);
        config.check.jobs = 100;
        assert!(files_needed(&config) > few);
        assert!(open_files(few, None).ok && open_files(few, Some(few)).ok);
        let short = open_files(few, Some(few - 1));
        assert!(!short.ok && short.detail.contains("LimitNOFILE"), "{short:?}");
    }

    #[test]
    fn clocks_that_are_apart_are_told() {
        let ours: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        assert_eq!(http_date("Tue, 24 Nov 2026 11:59:58 GMT").unwrap(), "2026-11-24T11:59:58Z".parse::<Timestamp>().unwrap());
        assert_eq!(http_date("yesterday"), None);
        assert!(clocks("c", ours, http_date("Tue, 24 Nov 2026 12:00:30 GMT").unwrap()).ok);
        assert!(!clocks("c", ours, http_date("Tue, 24 Nov 2026 12:00:31 GMT").unwrap()).ok);
        assert!(!clocks("c", ours, http_date("Tue, 24 Nov 2026 11:30:00 GMT").unwrap()).ok);
        assert!(clock(ours).ok && !clock(Timestamp::UNIX_EPOCH).ok);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_the_one_above() {
        let dir = tempfile::tempdir().unwrap();
        let probe = disk("d", &dir.path().join("not/there/yet"), &Config::default());
        assert!(probe.detail.contains(dir.path().to_str().unwrap()), "{probe:?}");
        assert!(!dir.path().join("not").exists(), "a probe makes nothing");
    }
}
