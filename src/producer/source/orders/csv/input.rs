//! Opening the orders: a file or standard input, compressed or not.
//!
//! **A file that changes while it is read is refused**: what was read of it may be half old and half new. One that is
//! replaced by renaming another to its name is read to its end as it was.

use super::Input;
use anyhow::{Context, anyhow, bail, ensure};
use flate2::read::MultiGzDecoder;
use std::fs::{File, Metadata};
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

/// The bytes of the orders, decompressed.
pub type Bytes = Box<dyn Read + Send>;

/// Opens an input.
pub fn open(input: &Input) -> anyhow::Result<(Bytes, Watch)> {
    match input {
        Input::StandardInput => Ok((decompressed(Box::new(io::stdin()))?, Watch(None))),
        Input::File(path) => {
            let file = Arc::new(open_file(path)?);
            let found = file.metadata().context("its size cannot be read")?;
            ensure!(!found.is_dir(), "it is a directory: give the path of a CSV file");
            let watch = Watch(found.is_file().then(|| (Arc::clone(&file), Version::of(&found))));
            Ok((decompressed(Box::new(file))?, watch))
        }
    }
}

fn open_file(path: &Path) -> anyhow::Result<File> {
    File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!("there is no such file (yet)"),
        ErrorKind::PermissionDenied => anyhow!("this user has no permission to read it"),
        _ => error.into(),
    })
}

/// A regular file, and its version when it was opened.
pub struct Watch(Option<(Arc<File>, Version)>);

/// What tells two versions of a file apart.
#[derive(PartialEq, Eq)]
struct Version {
    /// Its size in bytes.
    size: u64,
    /// When it was last written.
    modified: Option<SystemTime>,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self { size: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl Watch {
    /// Whether the file is as it was when it was opened.
    ///
    /// # Errors
    /// It was written to, and how to do that better.
    pub fn check(&self) -> anyhow::Result<()> {
        let Some((file, version)) = &self.0 else { return Ok(()) };
        let now = file.metadata().context("its size cannot be read again")?;
        if Version::of(&now) != *version {
            bail!(
                "it was written to while it was read ({} bytes before, {} now): write another file, and replace this \
                 one by renaming the other to its name",
                version.size,
                now.len()
            );
        }
        Ok(())
    }
}

/// Bytes whose last one is remembered.
pub struct Ending {
    /// The bytes.
    bytes: Bytes,
    /// The last one that was read; 0 before the first.
    last: Arc<AtomicU8>,
}

impl Ending {
    /// Remembers the last byte in `last`.
    pub fn new(bytes: Bytes, last: &Arc<AtomicU8>) -> Self {
        Self { bytes, last: Arc::clone(last) }
    }
}

impl Read for Ending {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.bytes.read(buffer)?;
        if let Some(last) = buffer.get(..length).and_then(<[u8]>::last) {
            self.last.store(*last, Ordering::Relaxed);
        }
        Ok(length)
    }
}

/// In which form the bytes are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Gzip,
    Zstd,
}

/// By the first bytes.
fn form(magic: &[u8]) -> anyhow::Result<Form> {
    Ok(match magic {
        [0x1f, 0x8b, ..] => Form::Gzip,
        // A frame, or one to be skipped, with which `pzstd` begins.
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Form::Zstd,
        b"PK\x03\x04" => bail!("it is a ZIP archive or a spreadsheet's own format: save it as CSV"),
        b"PAR1" => bail!("it is a Parquet file: DuckDB makes CSV of it, as in the guide"),
        [b'B', b'Z', b'h', b'1'..=b'9'] => bail!("it is compressed by bzip2: gzip and zstd are read"),
        [0xfd, b'7', b'z', b'X'] => bail!("it is compressed by xz: gzip and zstd are read"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => bail!("it is UTF-16: save it as UTF-8"),
        _ => Form::Plain,
    })
}

/// The bytes as they were before they were compressed, if they were.
fn decompressed(mut raw: Bytes) -> anyhow::Result<Bytes> {
    let mut magic = Vec::new();
    raw.by_ref().take(4).read_to_end(&mut magic)?;
    let form = form(&magic)?;
    let raw = Cursor::new(magic).chain(raw);
    Ok(match form {
        Form::Plain => Box::new(raw),
        Form::Gzip => {
            let raw = io::BufReader::with_capacity(64 << 10, raw);
            Box::new(Decompressed { bytes: MultiGzDecoder::new(raw), form: "gzip" })
        }
        Form::Zstd => Box::new(Decompressed { bytes: zstd::stream::read::Decoder::new(raw)?, form: "zstd" }),
    })
}

/// Says of errors that they are of compressed data.
struct Decompressed<R> {
    /// The decompressed bytes.
    bytes: R,
    /// What they are decompressed from.
    form: &'static str,
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer).map_err(|error| {
            let form = self.form;
            match error.kind() {
                ErrorKind::UnexpectedEof => {
                    io::Error::new(ErrorKind::UnexpectedEof, format!("the {form} data ends in the middle"))
                }
                // Errors of the file itself have a number, and `Interrupted` is to be tried again.
                ErrorKind::Interrupted => error,
                _ if error.raw_os_error().is_some() => error,
                kind => io::Error::new(kind, format!("the {form} data is damaged: {error}")),
            }
        })
    }
}
