//! Which sockets come and go in the folder of registrations, by inotify as the kubelet does it: a socket that is
//! removed and created at once is another one, a mode that changes is nothing.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::FileTypeExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};

/// What has become of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A socket was created here, or has been moved here, maybe over another one.
    Created(PathBuf),
    /// Something was removed here. Moving it away does not count.
    Removed(PathBuf),
}

/// A watch on a folder and all below.
pub(crate) struct Watcher {
    inotify: OwnedFd,
    folders: BTreeMap<i32, PathBuf>,
}

impl Watcher {
    /// Makes the folder if it is missing; gives the sockets that are there already.
    pub(crate) fn new(folder: &Path) -> io::Result<(Self, Vec<Change>)> {
        fs::create_dir_all(folder)?;
        let mut watcher = Self {
            inotify: init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
            folders: BTreeMap::new(),
        };
        let mut found = Vec::new();
        watcher.walk(folder, &mut found)?;
        Ok((watcher, found))
    }

    /// What has changed since it was last asked.
    pub(crate) fn changes(&mut self) -> io::Result<Vec<Change>> {
        let mut events = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes().to_owned());
                    events.push((event.wd(), event.events(), name.unwrap_or_default()));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => break,
                Err(other) => return Err(other.into()),
            }
        }
        let mut changes = Vec::new();
        for (watch, what, name) in events {
            let Some(folder) = self.folders.get(&watch) else {
                continue;
            };
            let path = folder.join(OsStr::from_bytes(&name));
            if what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                if !name.starts_with(b".") {
                    self.created(path, &mut changes);
                }
            } else if what.contains(ReadFlags::DELETE) {
                changes.push(Change::Removed(path));
            } else if what.contains(ReadFlags::IGNORED) {
                self.folders.remove(&watch);
            }
        }
        Ok(changes)
    }

    /// What is no socket and no folder is nothing, and so is what is gone again.
    fn created(&mut self, path: PathBuf, changes: &mut Vec<Change>) {
        let Ok(about) = fs::metadata(&path) else {
            return;
        };
        if about.is_dir() {
            // A folder that goes meanwhile had nothing in it.
            drop(self.walk(&path, changes));
        } else if about.file_type().is_socket() {
            changes.push(Change::Created(path));
        }
    }

    fn walk(&mut self, folder: &Path, changes: &mut Vec<Change>) -> io::Result<()> {
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        let watch = add_watch(&self.inotify, folder, flags)?;
        self.folders.insert(watch, folder.to_owned());
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if !entry.file_name().as_bytes().starts_with(b".") {
                self.created(entry.path(), changes);
            }
        }
        Ok(())
    }
}
