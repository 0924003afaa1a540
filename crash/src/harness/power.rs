//! File systems that lose power: on a loop device, shut down by the ioctl that their own tests use.
//!
//! `XFS_IOC_GOINGDOWN`, which ext4 knows as well, stops a mounted file system at once: nothing more reaches the device. The
//! device itself, a file in memory, loses nothing of what reached it.
//!
//! An `fdatasync` that is under way at that moment may answer that all is well though nothing was written: plain files show
//! that on ext4 and on XFS. So what is told from then on need not be there.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::life::{Life, Run};
use super::{Request, Totals, Violation, keep};
use crate::told::Ends;
use crate::workload::draw;

/// A file system may refuse to be filled by so much less than it says that it has room for.
const FILLED_LESS_BYTES_MAX: u64 = 16 << 20;

/// So many losses see the same file system.
const LOSSES_PER_IMAGE: u64 = 8;
/// The image has holes; XFS wants no less.
const IMAGE_SIZE_BYTES: u64 = 400 << 20;
/// No child lives longer.
const LIFE_MAX_MS: u64 = 1500;
/// `_IOR('X', 125, u32)` with the flags of the second argument: 1 flushes the journal first, 2 does not.
const SHUTDOWN: &str = "import fcntl,os,struct,sys
folder=os.open(sys.argv[1],os.O_RDONLY)
print('ready',flush=True)
sys.stdin.readline()
fcntl.ioctl(folder,0x8004587d,struct.pack('I',int(sys.argv[2])))";

/// A kind of file system: its name, how it is made, how it is mounted.
pub struct Kind(&'static str, &'static [&'static str], &'static str);

/// What there is most of, without the blocks that it keeps for the superuser. What is deleted leaves a hole in the image.
pub const EXT4: Kind = Kind(
    "ext4",
    &["mkfs.ext4", "-q", "-F", "-m", "0"],
    "noatime,discard",
);
const KINDS: [Kind; 3] = [
    EXT4,
    Kind(
        "ext4 data=writeback",
        &["mkfs.ext4", "-q", "-F"],
        "noatime,data=writeback",
    ),
    Kind("xfs", &["mkfs.xfs", "-q", "-f"], "noatime"),
];

fn call(words: &[&str]) -> Result<String, String> {
    let ran = Command::new(words[0])
        .args(&words[1..])
        .output()
        .map_err(|error| format!("{} does not start: {error}", words[0]))?;
    match ran.status.success() {
        true => Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned()),
        false => Err(format!(
            "{}: {}",
            words.join(" "),
            String::from_utf8_lossy(&ran.stderr).trim()
        )),
    }
}

/// A file system on a loop device; it goes with this.
pub struct Mounted {
    image: PathBuf,
    device: String,
    /// Where it is mounted.
    pub folder: PathBuf,
    options: &'static str,
}

impl Mounted {
    /// Makes one of that size, in a folder that holds its image.
    ///
    /// # Errors
    /// In words, why it can't be: it takes the superuser and loop devices.
    pub fn new(kind: &Kind, place: &Path, size_bytes: u64) -> Result<Self, String> {
        let image = place.join("image");
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(size_bytes)
            .map_err(|error| error.to_string())?;
        let image_name = image.display().to_string();
        let mut words = kind.1.to_vec();
        words.push(&image_name);
        call(&words)?;
        let device = call(&["losetup", "--find", "--show", &image_name])?;
        let folder = place.join("mounted");
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let mounted = Mounted {
            image,
            device,
            folder,
            options: kind.2,
        };
        mounted.mount()?;
        Ok(mounted)
    }

    fn mount(&self) -> Result<(), String> {
        let folder = self.folder.display().to_string();
        call(&["mount", "-o", self.options, &self.device, &folder]).map(|_| ())
    }

    fn unmount(&self) -> Result<(), String> {
        let folder = self.folder.display().to_string();
        let mut unmounted = Ok(String::new());
        for _ in 0..100 {
            unmounted = call(&["umount", &folder]);
            if unmounted.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        unmounted.map(|_| ())
    }

    /// Leaves no more free than that; the file that takes the rest.
    ///
    /// # Errors
    /// In words, as the system answers.
    pub fn fill(&self, free_bytes: u64) -> Result<PathBuf, String> {
        let ballast = self.folder.join("ballast");
        let found = rustix::fs::statvfs(&self.folder).map_err(|error| error.to_string())?;
        let mut all = (found.f_bavail * found.f_frsize).saturating_sub(free_bytes);
        let name = ballast.display().to_string();
        // XFS counts as free what it needs itself to write down whose the rest is.
        let least = all.saturating_sub(FILLED_LESS_BYTES_MAX);
        loop {
            match call(&["fallocate", "--length", &all.to_string(), &name]) {
                Ok(_) => return Ok(ballast),
                Err(error) if all <= least => return Err(error),
                Err(_) => all = all.saturating_sub(1 << 20).max(least),
            }
        }
    }

    /// Shuts it down; what `just_before` does is done before that begins.
    fn shut_down(&self, flags: &str, just_before: impl FnOnce()) -> Result<(), String> {
        let mut python = Command::new("python3")
            .args(["-c", SHUTDOWN, &self.folder.display().to_string(), flags])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("python3 does not start: {error}"))?;
        let mut ready = [0; 5];
        if let Some(out) = &mut python.stdout {
            let _ = out.read_exact(&mut ready);
        }
        just_before();
        let ended = python
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        match ended.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&ended.stderr).into_owned()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = call(&["umount", "--lazy", &self.folder.display().to_string()]);
        let _ = call(&["losetup", "--detach", &self.device]);
        let _ = std::fs::remove_file(&self.image);
    }
}

/// Why it can't be done here, if so; by kind of file system.
pub fn missing() -> Vec<(&'static str, String)> {
    let mut missing = Vec::new();
    for kind in &KINDS {
        let tried = tempfile::tempdir()
            .map_err(|error| error.to_string())
            .and_then(|place| {
                Mounted::new(kind, place.path(), IMAGE_SIZE_BYTES)?.shut_down("2", || ())
            });
        if let Err(why) = tried {
            missing.push((kind.0, why));
        }
    }
    missing
}

/// Has file systems lose power so many times, those that there are in turn. `place` holds their images.
///
/// # Errors
/// What was found that must not be.
pub fn run(request: &Request, losses: u64, totals: &mut Totals) -> Result<(), Box<Violation>> {
    let missing = missing();
    for (name, why) in &missing {
        eprintln!("SKIPPED: {name}: {why}");
    }
    let is_there = |kind: &&Kind| missing.iter().all(|(name, _)| *name != kind.0);
    let kinds: Vec<&Kind> = KINDS.iter().filter(is_there).collect();
    let mut lost = 0;
    let mut image = 0;
    while lost < losses && !kinds.is_empty() {
        let kind = kinds[image as usize % kinds.len()];
        let count = LOSSES_PER_IMAGE.min(losses - lost);
        lost += one_image(request, kind, image, count, totals)?;
        image += 1;
    }
    Ok(())
}

fn one_image(
    request: &Request,
    kind: &Kind,
    image: u64,
    losses: u64,
    totals: &mut Totals,
) -> Result<u64, Box<Violation>> {
    // As many losses as it takes to come to this image.
    let count = (image + 1) * LOSSES_PER_IMAGE;
    let forgotten = request.forget_syncs.iter();
    let forgotten: String = forgotten
        .map(|ending| format!(" --forget-syncs {ending}"))
        .collect();
    let command = format!("power --losses {count} --seed {}{forgotten}", request.seed);
    let place = request.folder.join(format!("image-{image}"));
    let failed = |what: String| keep(format!("{}: {what}", kind.0), command.clone(), None);
    std::fs::create_dir_all(&place).map_err(|error| failed(error.to_string()))?;
    let mounted = Mounted::new(kind, &place, IMAGE_SIZE_BYTES).map_err(failed)?;
    let seed = draw(request.seed, &[23, image]);
    let mut life = Life::new(request, mounted.folder.join("life"), seed).map_err(failed)?;
    // The folder itself is no part of what is tested.
    call(&["sync", "-f", &mounted.folder.display().to_string()]).map_err(failed)?;
    let mut done = 0;
    for loss in 0..losses {
        let found = one_loss(&mounted, &mut life, loss, totals);
        let goes_on = found.map_err(|what| {
            let what = format!("{}, loss {loss} of image {image}: {what}", kind.0);
            keep(what, command.clone(), Some(&life))
        })?;
        if !goes_on {
            break;
        }
        done += 1;
        totals.count(&format!("losses of {}", kind.0));
        if request.is_verbose {
            eprintln!("{} {image}.{loss}: {:?}", kind.0, life.told.floor());
        }
    }
    drop(mounted);
    let _ = std::fs::remove_dir_all(place);
    Ok(done)
}

/// Whether the file system can be used further: an export that was told while the power went is in the catalog or isn't.
fn one_loss(
    mounted: &Mounted,
    life: &mut Life,
    loss: u64,
    totals: &mut Totals,
) -> Result<bool, String> {
    let drawn = draw(life.seed, &[24, loss]);
    let fraction = (drawn % 1000) as f64 / 1000.0;
    let after = Duration::from_micros((fraction.powi(2) * LIFE_MAX_MS as f64 * 1000.0) as u64);
    // Every fourth time the file system is full for the first half.
    let has_errors = drawn >> 40 & 3 == 0;
    let run = Run {
        has_errors,
        ..Run::default()
    };
    let ballast = match has_errors {
        true => Some(mounted.fill(((drawn >> 50) % 8) << 20)?),
        false => None,
    };
    let mut process = life.start(&run)?;
    let mut ended = process.hear(after / 2);
    if let Some(ballast) = &ballast {
        std::fs::remove_file(ballast).map_err(|error| error.to_string())?;
        totals.count("full file systems");
    }
    ended |= process.hear(after / 2);
    let mut heard = 0;
    let flags = if drawn >> 32 & 3 == 0 { "1" } else { "2" };
    mounted.shut_down(flags, || {
        ended |= process.hear(Duration::ZERO);
        heard = process.heard();
    })?;
    // Long enough for it to say that something was done, which then was not.
    process.hear(Duration::from_millis(40));
    let lines = process.end();
    mounted.unmount()?;
    mounted.mount()?;
    // That it was removed may be lost with the power.
    if let Some(ballast) = ballast.filter(|ballast| ballast.exists()) {
        std::fs::remove_file(ballast).map_err(|error| error.to_string())?;
    }
    let lines = lines?;
    let (before, late) = lines.split_at(heard);
    let told = life.told.take(before, Ends::Power, has_errors);
    if ended && !has_errors {
        return Err(format!(
            "it ended before the power did: {:?}",
            life.told.failures
        ));
    }
    told?;
    if !life.told.take_late(late) {
        totals.count("losses with an export under way");
        return Ok(false);
    }
    life.verify(totals).map(|()| true)
}
