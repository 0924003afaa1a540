//! What a job is called, and the files that it works on.

use super::super::super::values::{FadviseHint, Fallocate};
use super::super::OptionSpec;
use super::super::Takes::Value as Text;
use super::{NUMBER, SIZE, SIZE_OR_PERCENT, YES_NO, option, set};

pub(super) const OPTIONS: &[OptionSpec] = &[
    option(
        "name",
        &[],
        (Text, "text"),
        "the section's name",
        "Name of the job",
        |draft, value| {
            draft.job.name = value.text()?.to_owned();
            Ok(())
        },
    ),
    option(
        "description",
        &[],
        (Text, "text"),
        "none",
        "Text that the reports repeat",
        |draft, value| {
            draft.report.description = Some(value.text()?.to_owned());
            Ok(())
        },
    ),
    option(
        "directory",
        &[],
        (Text, "folder"),
        "the working folder",
        "Where files without a path lie",
        |draft, value| {
            match value.names()?.as_slice() {
                [folder] => draft.job.directory = Some(folder.into()),
                _ => return Err("one folder; write \\: for a colon in its name".to_owned()),
            }
            Ok(())
        },
    ),
    option(
        "filename",
        &[],
        (Text, "files, with colons between them"),
        "NAME.THREAD.FILE",
        "Files that all threads of the job share",
        |draft, value| {
            draft.job.filenames = value.names()?.into_iter().map(Into::into).collect();
            Ok(())
        },
    ),
    option(
        "nrfiles",
        &["nr_files"],
        (Text, NUMBER),
        "1",
        "Files that each thread has, where filename is not given",
        |draft, value| set(&mut draft.job.nrfiles, value.small_count(1..=1_000_000)),
    ),
    option(
        "filesize",
        &[],
        (Text, SIZE),
        "size over the files",
        "Size of each file",
        |draft, value| {
            draft.job.filesize_bytes = Some(value.size_at_least(1)?);
            Ok(())
        },
    ),
    option(
        "size",
        &[],
        (Text, SIZE_OR_PERCENT),
        "that of the files there are",
        "Size of a thread's files together, and how much it does",
        |draft, value| {
            draft.job.size = Some(value.extent()?);
            Ok(())
        },
    ),
    option(
        "io_size",
        &["io_limit"],
        (Text, SIZE_OR_PERCENT),
        "size",
        "How much a thread does, where that is not size",
        |draft, value| {
            draft.job.io_size = Some(value.extent()?);
            Ok(())
        },
    ),
    option(
        "number_ios",
        &[],
        (Text, NUMBER),
        "no limit",
        "Ends a thread after so many I/Os",
        |draft, value| {
            let count = value.count(0..=u64::MAX)?;
            draft.job.number_ios = (count > 0).then_some(count);
            Ok(())
        },
    ),
    option(
        "offset",
        &["fileoffset"],
        (Text, SIZE_OR_PERCENT),
        "0",
        "Where in each file the job begins",
        |draft, value| set(&mut draft.job.offset, value.extent()),
    ),
    option(
        "offset_increment",
        &[],
        (Text, SIZE_OR_PERCENT),
        "0",
        "How much later each further thread begins",
        |draft, value| {
            draft.job.offset_increment = Some(value.extent()?);
            Ok(())
        },
    ),
    option(
        "fallocate",
        &[],
        (Text, "none, native, posix, keep, truncate"),
        "native",
        "How room is made for files that are laid out",
        |draft, value| {
            set(
                &mut draft.job.fallocate,
                value.choice(&[
                    ("none", Fallocate::None),
                    ("native", Fallocate::Native),
                    ("posix", Fallocate::Posix),
                    ("keep", Fallocate::Keep),
                    ("truncate", Fallocate::Truncate),
                    ("0", Fallocate::None),
                    ("1", Fallocate::Posix),
                ]),
            )
        },
    ),
    option(
        "fadvise_hint",
        &[],
        (Text, "none, by_pattern, random, sequential"),
        "by_pattern",
        "What the kernel is told of the order of the I/O",
        |draft, value| {
            set(
                &mut draft.job.fadvise_hint,
                value.choice(&[
                    ("0", FadviseHint::None),
                    ("none", FadviseHint::None),
                    ("1", FadviseHint::ByPattern),
                    ("by_pattern", FadviseHint::ByPattern),
                    ("random", FadviseHint::Random),
                    ("sequential", FadviseHint::Sequential),
                ]),
            )
        },
    ),
    option(
        "overwrite",
        &[],
        (Text, YES_NO),
        "0",
        "Writes the files before a job that writes begins",
        |draft, value| set(&mut draft.job.overwrite, value.flag()),
    ),
    option(
        "unlink",
        &[],
        (Text, YES_NO),
        "0",
        "Removes the job's files afterwards",
        |draft, value| set(&mut draft.job.unlink, value.flag()),
    ),
    option(
        "invalidate",
        &[],
        (Text, YES_NO),
        "1",
        "Drops the files from the page cache before the job begins",
        |draft, value| set(&mut draft.job.invalidate, value.flag()),
    ),
];
