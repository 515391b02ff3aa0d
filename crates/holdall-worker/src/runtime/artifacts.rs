//! The artifacts of a build: `WORKDIR/builds/BUILD/artifacts/NAME` is a symbolic link to a folder that never changes
//! again, `../volumes/ATTEMPT.NAME`. Setting an artifact anew moves the link; who copies the old one is not disturbed.
//!
//! Nothing waits until an artifact has reached the disk, and after a power cut files may be there that are empty or half
//! written. So what was made before the machine was started anew is not used: its link leads nowhere then, and who needs
//! the artifact is told, also who could do without one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::tree;

/// The largest file that a step may name as its configuration.
const MAX_CONFIG: u64 = 1024 * 1024;

/// The artifacts of one build.
#[derive(Debug, Clone)]
pub struct Artifacts {
    dir: PathBuf,
}

impl Artifacts {
    /// Those of the build whose folder is `dir`; nothing is made yet.
    pub fn new(dir: PathBuf) -> Artifacts {
        Artifacts { dir }
    }

    /// The folder of an artifact; `None` where no step has made one of that name. The error, for one that was made and is
    /// not to be used, is a sentence.
    pub fn get(&self, name: &str) -> Result<Option<PathBuf>, String> {
        if !tree::is_file_name(name) {
            return Ok(None);
        }
        let link = self.dir.join("artifacts").join(name);
        match fs::canonicalize(&link) {
            Ok(place) => Ok(Some(place)),
            Err(_) if link.is_symlink() => Err(format!(
                "the artifact `{name}` was made before the worker's machine was started anew, and whether all of it had \
                 reached the disk by then is not known; run the build again"
            )),
            Err(_) => Ok(None),
        }
    }

    /// The names of all.
    pub fn names(&self) -> io::Result<Vec<String>> {
        tree::names(&self.dir.join("artifacts"))
    }

    /// Makes the folder `from` the artifact `name`, by moving it. Done twice by the same attempt it changes nothing,
    /// also when the first time broke off in the middle.
    pub fn put(&self, name: &str, attempt: &str, from: &Path) -> io::Result<()> {
        let volumes = self.dir.join("volumes");
        fs::create_dir_all(&volumes)?;
        // A name may be as long as a file's, so the volume's is not made of it.
        let volume = super::digest(&[attempt, name]);
        let place = volumes.join(&volume);
        if !place.is_dir() {
            fs::rename(from, &place)?;
        }
        self.link_to(name, &volume, &Path::new("../volumes").join(&volume))
    }

    /// Makes the folder `target`, which others use too, the artifact `name`.
    pub fn link(&self, name: &str, attempt: &str, target: &Path) -> io::Result<()> {
        self.link_to(name, &super::digest(&[attempt, name]), target)
    }

    /// Notes that the artifact `name` was made and is not to be used: see [`Artifacts::get`].
    pub fn lose(&self, name: &str, attempt: &str) -> io::Result<()> {
        self.link_to(name, &super::digest(&[attempt, name]), Path::new("../volumes/lost"))
    }

    /// Where the artifacts are.
    pub fn targets(&self) -> io::Result<Vec<PathBuf>> {
        let links = self.dir.join("artifacts");
        Ok(tree::names(&links)?.iter().filter_map(|name| fs::read_link(links.join(name)).ok()).collect())
    }

    fn link_to(&self, name: &str, unique: &str, target: &Path) -> io::Result<()> {
        let (volumes, links) = (self.dir.join("volumes"), self.dir.join("artifacts"));
        fs::create_dir_all(&volumes)?;
        fs::create_dir_all(&links)?;
        let link = volumes.join(format!("{unique}.link"));
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link)?;
        fs::rename(&link, links.join(name))
    }

    /// The text of `artifact/path`, which may not lie outside of the artifact, by symbolic links neither. The error
    /// is a sentence as the reference has it (section 1.8), where it has one.
    pub fn read_config(&self, file: &str) -> Result<String, String> {
        let Some((name, path)) = file.split_once('/') else {
            return Err(format!("config path '{file}' does not specify where the file lives; write ARTIFACT/PATH"));
        };
        let root = self.get(name)?.ok_or_else(|| {
            format!("unknown artifact source: '{name}' in file path '{file}'; no step before this one made it")
        })?;
        let inner = tree::inner_path(path)?;
        let Ok(found) = fs::canonicalize(root.join(inner)) else {
            return Err(format!("task config '{file}' not found"));
        };
        if !found.starts_with(&root) {
            return Err(format!("task config '{file}' is a link that leads out of the artifact '{name}'"));
        }
        let mut text = String::new();
        let read = File::open(&found).and_then(|open| {
            if !open.metadata()?.is_file() {
                return Err(io::Error::other("it is not a file"));
            }
            open.take(MAX_CONFIG + 1).read_to_string(&mut text)
        });
        match read {
            Err(e) => Err(format!("task config '{file}' cannot be read: {e}")),
            Ok(length) if length as u64 > MAX_CONFIG => Err(format!("task config '{file}' is larger than 1 MiB")),
            Ok(_) => Ok(text),
        }
    }
}
