//! Reads compressed bytes within bounds: a few bytes can ask for more than a machine has.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

/// More than the unpacked list of files of the largest distribution.
pub(crate) const LARGEST_METADATA: u64 = 4 << 30;

/// Unpacks `bytes` as the ending of `name` says, up to `limit` bytes.
pub(crate) fn unpacked<'a>(
    name: &str,
    bytes: &'a [u8],
    limit: u64,
) -> io::Result<Box<dyn BufRead + 'a>> {
    let ending = name.rsplit('.').next().unwrap_or_default();
    let reader: Box<dyn Read> = match ending {
        "gz" => Box::new(MultiGzDecoder::new(bytes)),
        "xz" => Box::new(XzReader::new_mem_limit(bytes, true, XZ_MEMORY_KIB)),
        "zst" => {
            let mut reader = zstd::Decoder::with_buffer(bytes)?;
            reader.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(reader)
        }
        "bz2" | "lzma" | "zck" | "lz4" => {
            let problem = format!("it is packed as .{ending}; .gz, .xz and .zst are read");
            return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
        }
        _ => Box::new(bytes),
    };
    Ok(Box::new(BufReader::new(Bounded {
        reader,
        left: limit,
        limit,
    })))
}

/// Fails where there is more than the limit, rather than ending as if all had been read.
struct Bounded<R> {
    reader: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let Some(left) = self.left.checked_sub(count as u64) else {
            let problem = format!("more than {} bytes when unpacked", self.limit);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
        };
        self.left = left;
        Ok(count)
    }
}

/// What `xz -9` needs, and some more.
const XZ_MEMORY_KIB: u32 = 128 << 10;
/// 128 MiB: what zstd itself takes unasked.
const ZSTD_WINDOW_LOG: u32 = 27;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn a_bomb_is_an_error_and_not_a_short_file() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert!(bomb.len() < 4096);
        let mut all = Vec::new();
        let mut reader = unpacked("primary.xml.gz", &bomb, 1 << 16).unwrap();
        let error = reader.read_to_end(&mut all).unwrap_err();
        assert!(error.to_string().contains("more than 65536"), "{error}");
        assert!(all.len() <= 1 << 16);
    }

    #[test]
    fn each_packing_is_read_and_a_strange_one_is_named() {
        let read = |name: &str, bytes: &[u8]| {
            let mut all = Vec::new();
            unpacked(name, bytes, 1 << 16)?.read_to_end(&mut all)?;
            io::Result::Ok(all)
        };
        assert_eq!(read("a.gz", &gzip(b"gz")).unwrap(), b"gz");
        let zst = zstd::encode_all(&b"zst"[..], 3).unwrap();
        assert_eq!(read("a.zst", &zst).unwrap(), b"zst");
        // printf xz | xz --check=crc32
        let xz = [
            0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x00,
            0x21, 0x01,
        ];
        assert!(read("a.xz", &xz).is_err(), "cut");
        assert_eq!(read("Packages", b"plain").unwrap(), b"plain");
        let error = read("a.bz2", b"BZh9").unwrap_err().to_string();
        assert!(error.contains(".bz2"), "{error}");
        for name in ["a.gz", "a.xz", "a.zst"] {
            assert!(read(name, b"not packed at all").is_err(), "{name}");
        }
    }
}
