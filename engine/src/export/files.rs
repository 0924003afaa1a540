//! The files that a table's exported rows lie in.

use std::sync::Arc;

use super::Exported;
use crate::codec::Malformed;

/// How far a table was exported, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exports {
    pub(crate) base: Option<Exported>,
    /// The files that hold rows which count, ascending by number.
    files: Vec<NumberedFile>,
    /// No file had this number or a greater one.
    next_number: u32,
    /// How often rows got locations since the start: what orders locations of one key in memory.
    pub(crate) placement_count: u64,
}

/// A file that exported rows lie in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NumberedFile {
    /// What locations call it.
    pub(crate) number: u32,
    pub(crate) path: Arc<str>,
    /// Rows that count; `None` where an older build did not count them.
    pub(crate) live_count: Option<u64>,
}

/// What became of a table's files between two states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileChanges {
    /// Files with the next numbers, as format 4 and older had it.
    Appended(Vec<Arc<str>>),
    /// Files that are new or count other rows, and those that are gone.
    Numbered {
        next_number: u32,
        gone: Vec<u32>,
        changed: Vec<NumberedFile>,
    },
}

impl Exports {
    /// The number that the next file gets.
    pub(crate) fn next_number(&self) -> u32 {
        self.next_number
    }

    pub(crate) fn file(&self, number: u32) -> Option<&NumberedFile> {
        self.files.get(self.find(number).ok()?)
    }

    pub(crate) fn file_at(&self, path: &str) -> Option<&NumberedFile> {
        self.files.iter().find(|file| &*file.path == path)
    }

    fn find(&self, number: u32) -> Result<usize, usize> {
        self.files.binary_search_by_key(&number, |file| file.number)
    }

    /// Takes a file, under the next number.
    pub(crate) fn add(&mut self, path: Arc<str>, live_count: Option<u64>) -> u32 {
        let number = self.next_number;
        self.next_number += 1;
        self.files.push(NumberedFile {
            number,
            path,
            live_count,
        });
        number
    }

    /// Rows of a file count no more. One without any that counts goes. Where the numbers don't agree, nothing is known of the
    /// file's any more: the rows' own locations are what counts.
    pub(crate) fn take_rows(&mut self, number: u32, row_count: u64) {
        let file = self.find(number).ok().and_then(|i| self.files.get_mut(i));
        let Some(file) = file else {
            tracing::warn!(number, "rows of an unknown export file are gone");
            return;
        };
        let Some(live_count) = file.live_count else {
            return;
        };
        file.live_count = live_count.checked_sub(row_count);
        match file.live_count {
            Some(0) => self.remove(number),
            Some(_) => {}
            None => {
                tracing::warn!(path = %file.path, "more rows of an export file are gone than there were")
            }
        }
    }

    /// How many rows of each file count is not known any more.
    pub(crate) fn forget_counts(&mut self) {
        self.files
            .iter_mut()
            .for_each(|file| file.live_count = None);
    }

    pub(crate) fn remove(&mut self, number: u32) {
        if let Ok(i) = self.find(number) {
            self.files.remove(i);
        }
    }

    /// Whether rows lie in the same files, as of the same export.
    pub(crate) fn is_as(&self, old: &Exports) -> bool {
        (&self.base, &self.files, self.next_number) == (&old.base, &old.files, old.next_number)
    }

    /// The paths of the files that hold rows which count.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Arc<str>> {
        self.files.iter().map(|file| &file.path)
    }

    /// What became different since.
    pub(crate) fn changes_since(&self, old: &Exports) -> FileChanges {
        let is_gone = |file: &&NumberedFile| self.file(file.number).is_none();
        let is_same = |file: &NumberedFile| old.file(file.number) == Some(file);
        FileChanges::Numbered {
            next_number: self.next_number,
            gone: old
                .files
                .iter()
                .filter(is_gone)
                .map(|file| file.number)
                .collect(),
            changed: self
                .files
                .iter()
                .filter(|file| !is_same(file))
                .cloned()
                .collect(),
        }
    }

    pub(crate) fn apply(&mut self, changes: FileChanges) -> Result<(), Malformed> {
        match changes {
            FileChanges::Appended(paths) => {
                for path in paths {
                    self.add(path, None);
                }
            }
            FileChanges::Numbered {
                next_number,
                gone,
                changed,
            } => {
                gone.into_iter().for_each(|number| self.remove(number));
                if next_number < self.next_number
                    || changed.iter().any(|file| file.number >= next_number)
                {
                    return Err(Malformed("an export file has a number that can't be"));
                }
                self.next_number = next_number;
                for file in changed {
                    match self.find(file.number) {
                        Ok(i) => self
                            .files
                            .iter_mut()
                            .skip(i)
                            .take(1)
                            .for_each(|old| old.clone_from(&file)),
                        Err(i) => self.files.insert(i, file),
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_between_two_states_make_the_second_of_the_first() {
        let mut old = Exports::default();
        for path in ["a", "b", "c"] {
            old.add(path.into(), Some(3));
        }
        let mut new = old.clone();
        new.take_rows(0, 3);
        new.take_rows(1, 1);
        assert_eq!(new.add("d".into(), Some(1)), 3);
        let paths: Vec<_> = new.files.iter().map(|file| &*file.path).collect();
        assert_eq!(paths, ["b", "c", "d"]);
        let changes = new.changes_since(&old);
        let FileChanges::Numbered { gone, changed, .. } = &changes else {
            panic!("{changes:?}");
        };
        assert_eq!((gone.len(), changed.len()), (1, 2));
        old.apply(changes).unwrap();
        assert_eq!(old, new);
        old.apply(FileChanges::Appended(vec!["e".into()])).unwrap();
        assert_eq!(old.file(4).unwrap().live_count, None);
        // Numbers that can't be make the count unknown.
        old.take_rows(1, 9);
        old.take_rows(77, 1);
        assert_eq!(old.file(1).unwrap().live_count, None);
        let back = FileChanges::Numbered {
            next_number: 4,
            gone: Vec::new(),
            changed: Vec::new(),
        };
        assert!(old.apply(back).is_err());
    }
}
