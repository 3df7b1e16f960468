//! The JSON documents of a file: one a line, as the Collector's file exporter writes them, or over many lines,
//! as people and other programs do. Compressed files are read, too.

use std::io::{self, BufRead, BufReader, Read};

/// A document that is longer is no request: the receiver takes no more either.
const LONGEST: usize = 64 << 20;
/// The largest window of a zstd frame, 128 MiB, as the command line tool has it by default.
const MAX_WINDOW_LOG: u32 = 27;

/// A document, or what is wrong with it, and the line where it begins.
pub(super) struct JsonDocument {
    pub(super) line: u64,
    pub(super) text: Result<Vec<u8>, String>,
}

/// Reads the documents of a file one after the other.
pub(super) struct JsonDocuments<'a> {
    reader: Box<dyn BufRead + 'a>,
    /// Whether each line is a document: if the first one is.
    is_by_line: Option<bool>,
    line: u64,
}

impl<'a> JsonDocuments<'a> {
    /// The documents of a file that may be compressed with gzip or zstd, and may begin with a byte order mark.
    ///
    /// # Errors
    ///
    /// The file can't be read, or is no text in UTF-8.
    pub(super) fn of(mut file: impl BufRead + 'a) -> io::Result<Self> {
        let begin = file.fill_buf()?;
        let mut reader: Box<dyn BufRead> = match begin {
            [0x1f, 0x8b, ..] => {
                Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file)))
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(BufReader::new(decoder))
            }
            _ => Box::new(file),
        };
        let begin = reader.fill_buf()?;
        if let Some(reason) = unreadable(begin) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        if begin.starts_with(&[0xef, 0xbb, 0xbf]) {
            reader.consume(3);
        }
        Ok(Self { reader, is_by_line: None, line: 0 })
    }

    /// The next document, `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<JsonDocument>> {
        let (mut text, mut extent) = (Vec::new(), Extent::default());
        let mut line = 0;
        loop {
            let begin = text.len();
            let most = (LONGEST - begin) as u64;
            let read = self.reader.by_ref().take(most).read_until(b'\n', &mut text)?;
            if read == 0 && text.len() < LONGEST {
                // Parsing says what is missing.
                return Ok((begin > 0).then_some(JsonDocument { line, text: Ok(text) }));
            }
            self.line += 1;
            if begin == 0 {
                line = self.line;
            }
            if text.len() >= LONGEST {
                self.skip_line()?;
                let reason = format!("longer than {LONGEST} bytes");
                return Ok(Some(JsonDocument { line, text: Err(reason) }));
            }
            if text.trim_ascii().is_empty() {
                text.clear();
                continue;
            }
            extent.feed(&text[begin..]);
            let is_by_line = *self.is_by_line.get_or_insert(extent.is_complete());
            if is_by_line || extent.is_complete() {
                return Ok(Some(JsonDocument { line, text: Ok(text) }));
            }
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let rest = self.reader.fill_buf()?;
            let end = rest.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(rest.len(), |end| end + 1);
            self.reader.consume(length);
            if end.is_some() || length == 0 {
                return Ok(());
            }
        }
    }
}

/// What a file is that has no text in UTF-8, and what to do, by how it begins.
fn unreadable(begin: &[u8]) -> Option<&'static str> {
    let has_zero = begin.iter().take(64).any(|byte| *byte == 0);
    match begin {
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Some("the file is compressed twice: decompress it")
        }
        [b'B', b'Z', b'h', ..] => Some("the file is compressed with bzip2: decompress it"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Some("the file is compressed with xz: decompress it")
        }
        [b'P', b'K', 3, 4, ..] => Some("the file is a zip archive: unpack it"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("the text is in UTF-16: convert it to UTF-8"),
        [b'{' | b'[', 0, ..] | [0, b'{' | b'[', ..] => {
            Some("the text is in UTF-16: convert it to UTF-8")
        }
        _ if has_zero => Some(
            "this is no text: the Collector's file exporter writes what is read here with `format: json`",
        ),
        _ => None,
    }
}

/// Whether all brackets of a JSON text have been closed.
#[derive(Default)]
struct Extent {
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl Extent {
    fn feed(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_string => self.is_escaped = true,
                b'"' => self.is_in_string = !self.is_in_string,
                b'{' | b'[' if !self.is_in_string => self.depth += 1,
                b'}' | b']' if !self.is_in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.depth == 0 && !self.is_in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(file: &[u8]) -> Vec<(u64, String)> {
        let mut documents = JsonDocuments::of(file).unwrap();
        let mut found = Vec::new();
        while let Some(JsonDocument { line, text }) = documents.next().unwrap() {
            let text = String::from_utf8(text.unwrap()).unwrap();
            found.push((line, text.split_whitespace().collect()));
        }
        found
    }

    #[test]
    fn documents_are_found_line_by_line_or_over_many() {
        let of = |text: &str| documents(text.as_bytes());
        let expected = |documents: &[(u64, &str)]| -> Vec<(u64, String)> {
            documents.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
        };
        assert_eq!(of(""), []);
        assert_eq!(of("\n \n"), []);
        assert_eq!(of("{}\n\n{\"a\":1}"), expected(&[(1, "{}"), (3, "{\"a\":1}")]));
        // A line that is broken off costs no other.
        assert_eq!(of("{}\n{\"a\"\n{}"), expected(&[(1, "{}"), (2, "{\"a\""), (3, "{}")]));
        assert_eq!(
            of("{\n  \"a\": \"}\\\"{\"\n}\n{\n}\n"),
            expected(&[(1, "{\"a\":\"}\\\"{\"}"), (4, "{}")])
        );
        assert_eq!(of("\n[{},\n{}]"), expected(&[(2, "[{},{}]")]));
        assert_eq!(of("{\n\"never\": \"closed\n"), expected(&[(1, "{\"never\":\"closed")]));
        assert_eq!(of("\u{feff}{}"), expected(&[(1, "{}")]));
    }

    #[test]
    fn a_document_that_is_too_long_is_named_by_its_first_line() {
        let mut file = b"\n{\n\"a\":\"".to_vec();
        file.resize(LONGEST + 100, b'x');
        file.extend_from_slice(b"\n{}\n");
        let mut documents = JsonDocuments::of(file.as_slice()).unwrap();
        let Some(JsonDocument { line, text }) = documents.next().unwrap() else { panic!("none") };
        assert_eq!((line, text.is_err()), (2, true));
        assert_eq!(documents.next().unwrap().unwrap().text.unwrap(), b"{}\n");
    }

    #[test]
    fn compressed_files_are_read() {
        let text = b"{}\n{}\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        io::Write::write_all(&mut gzip, text).unwrap();
        assert_eq!(documents(&gzip.finish().unwrap()).len(), 2);
        assert_eq!(documents(&zstd::encode_all(&text[..], 0).unwrap()).len(), 2);
    }
}
