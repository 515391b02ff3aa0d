//! Trees of files: names that came from outside, and copies that stay inside.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// The longest name of a file on the file systems that matter.
const MAX_NAME: usize = 255;

/// Whether `name` can be the name of a file in a folder: one normal component.
pub fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME && !name.contains(['/', '\0'])
}

/// A path from outside that stays below where it is joined: relative, without `..`. `.` parts are dropped, so the
/// result may be empty: the place itself. The error is a sentence.
pub fn inner_path(path: &str) -> Result<PathBuf, String> {
    let mut inner = PathBuf::new();
    if path.contains('\0') {
        return Err(format!("path {path:?} contains a NUL; remove it"));
    }
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) if part.len() <= MAX_NAME => inner.push(part),
            Component::Normal(_) => return Err("a part of a path is longer than 255 bytes".to_owned()),
            Component::CurDir => {}
            Component::ParentDir => {
                return Err(format!("path {path:?} contains `..`; write it relative to the step's directory, without"));
            }
            Component::RootDir | Component::Prefix(_) => {
                return Err(format!("path {path:?} is absolute; write it relative to the step's directory"));
            }
        }
    }
    Ok(inner)
}

/// Makes the folder `inner` below `root`, which exists, and those above it. No symbolic link is followed: a link in
/// the way is an error.
pub fn make_dirs(root: &Path, inner: &Path) -> io::Result<PathBuf> {
    let mut at = root.to_owned();
    for part in inner.components() {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(io::Error::other(format!("{} is in the way: it is not a directory", at.display())));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir(&at)?,
            Err(e) => return Err(e),
        }
    }
    Ok(at)
}

/// The folder `inner` below `root` if it is there and no symbolic link leads to it.
pub fn existing_dir(root: &Path, inner: &Path) -> Option<PathBuf> {
    let mut at = root.to_owned();
    for part in inner.components() {
        at.push(part);
        if !fs::symlink_metadata(&at).is_ok_and(|found| found.is_dir()) {
            return None;
        }
    }
    Some(at)
}

/// Copies what is in `from` into `to`, which exists: folders, files with modes and times, symbolic links as they
/// are. Sockets, pipes and devices are left out. Nothing is written through a link that is in `to`.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    // Folders get their times when they are full, so from the innermost out.
    let mut folders = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inner) = open.pop() {
        let source = from.join(&inner);
        for entry in with_path(&source, fs::read_dir(&source))? {
            let entry = with_path(&source, entry)?;
            let inner = inner.join(entry.file_name());
            let target = to.join(&inner);
            let kind = with_path(&target, entry.file_type())?;
            if kind.is_dir() {
                match fs::symlink_metadata(&target) {
                    Ok(found) if found.is_dir() => {}
                    Ok(_) => {
                        fs::remove_file(&target)?;
                        with_path(&target, fs::create_dir(&target))?;
                    }
                    Err(_) => with_path(&target, fs::DirBuilder::new().mode(0o700).create(&target))?,
                }
                open.push(inner);
            } else if kind.is_symlink() || kind.is_file() {
                with_path(&target, copy_one(&entry.path(), &target, kind.is_symlink()))?;
            }
        }
        folders.push(inner);
    }
    for inner in folders.iter().rev() {
        let (source, target) = (fs::metadata(from.join(inner))?, to.join(inner));
        let times = FileTimes::new().set_modified(source.modified()?);
        let writable = source.permissions().mode() | 0o700;
        fs::set_permissions(&target, fs::Permissions::from_mode(writable))?;
        File::open(&target)?.set_times(times)?;
    }
    Ok(())
}

fn copy_one(source: &Path, target: &Path, link: bool) -> io::Result<()> {
    match fs::symlink_metadata(target) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(target)?,
        Ok(_) => fs::remove_file(target)?,
        Err(_) => {}
    }
    if link {
        return std::os::unix::fs::symlink(fs::read_link(source)?, target);
    }
    fs::copy(source, target)?;
    let modified = fs::metadata(source)?.modified()?;
    match File::options().append(true).open(target) {
        Ok(file) => file.set_times(FileTimes::new().set_modified(modified)),
        // A file that its owner may not write: opening it for reading does as well.
        Err(_) => File::open(target)?.set_times(FileTimes::new().set_modified(modified)),
    }
}

fn with_path<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

/// Removes a tree, also one with folders that their owner may not write. It may be gone already.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => return fs::remove_file(path),
        Err(_) => {}
    }
    let mut open = vec![path.to_owned()];
    while let Some(folder) = open.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(path)
}

/// Names of what is in a folder, sorted; names that are not text are left out. A folder that is not there is empty.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Some(name) = OsStr::to_str(&entry?.file_name()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
