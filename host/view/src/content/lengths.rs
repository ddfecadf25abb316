use arrow_ipc::{Block, CompressionType, MetadataVersion, RecordBatch, root_as_footer, root_as_message};

/// How many times longer than its compressed form a buffer can be: LZ4 has a limit of its own, and 2 GiB is enough for any batch.
const LZ4_RATIO: u64 = 256;
const LONGEST: u64 = 2 << 30;

/// Returns whether the lengths of compressed buffers in an Arrow stream or file are plausible. The reader of the crate `arrow-ipc` reserves
/// that much memory before it decompresses them, and ends the process if there is not so much.
///
/// Returns true for anything else that is malformed, which the reader notices.
pub fn are_plausible(bytes: &[u8]) -> bool {
    let checked = match bytes.starts_with(b"ARROW1") {
        true => of_file(bytes),
        false => of_stream(bytes),
    };
    checked != Some(false)
}

/// <https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format>
fn of_stream(mut bytes: &[u8]) -> Option<bool> {
    loop {
        if let Some(rest) = bytes.strip_prefix(&[0xff; 4]) {
            bytes = rest;
        }
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (metadata, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        if metadata.is_empty() {
            return Some(true);
        }
        let len = usize::try_from(root_as_message(metadata).ok()?.bodyLength()).ok()?;
        let body = &rest[..len.min(rest.len())];
        if !is_plausible(metadata, body)? {
            return Some(false);
        }
        bytes = rest.get(len..)?;
    }
}

/// <https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format>
fn of_file(bytes: &[u8]) -> Option<bool> {
    let (rest, end) = bytes.split_last_chunk::<10>()?;
    let len = u32::from_le_bytes([end[0], end[1], end[2], end[3]]) as usize;
    let footer = root_as_footer(rest.get(rest.len().checked_sub(len)?..)?).ok()?;
    let blocks = footer.dictionaries().into_iter().chain(footer.recordBatches()).flatten();
    for block in blocks {
        if !of_block(bytes, block)? {
            return Some(false);
        }
    }
    Some(true)
}

fn of_block(bytes: &[u8], block: &Block) -> Option<bool> {
    let message = bytes.get(usize::try_from(block.offset()).ok()?..)?;
    let (metadata, body) = message.split_at_checked(usize::try_from(block.metaDataLength()).ok()?)?;
    let metadata = metadata.strip_prefix(&[0xff; 4]).unwrap_or(metadata);
    is_plausible(metadata.get(4..)?, body)
}

fn is_plausible(metadata: &[u8], body: &[u8]) -> Option<bool> {
    let message = root_as_message(metadata).ok()?;
    if message.version() < MetadataVersion::V4 {
        return None;
    }
    let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
    match message.header_as_record_batch().or(dictionary) {
        Some(batch) => Some(has_plausible_buffers(&batch, body)),
        None => Some(true),
    }
}

fn has_plausible_buffers(batch: &RecordBatch, body: &[u8]) -> bool {
    let Some(compression) = batch.compression() else { return true };
    // an empty buffer has no length of its own
    let mut buffers = batch.buffers().into_iter().flatten().filter(|buffer| buffer.length() != 0);
    buffers.all(|buffer| {
        let compressed = usize::try_from(buffer.offset()).ok().and_then(|start| body.get(start..));
        let Some((len, _)) = compressed.and_then(|bytes| bytes.split_first_chunk::<8>()) else {
            return true;
        };
        let most = match compression.codec() {
            CompressionType::LZ4_FRAME => u64::try_from(buffer.length()).unwrap_or(0).saturating_mul(LZ4_RATIO),
            _ => LONGEST,
        };
        // -1 means that the buffer is not compressed
        i64::from_le_bytes(*len) <= most.min(LONGEST) as i64
    })
}
