use crate::step::MediaType;

/// Returns whether an output of media type `made` can be read as `read`.
///
/// Bytes are compatible with everything but directories. Text formats can be read as text, and formats that the SDK's `Table` reads can
/// be read as tables.
pub(super) fn fits(made: &MediaType, read: &MediaType) -> bool {
    let (made, read) = (essence(made), essence(read));
    let json = |text: &str| text == MediaType::JSON || text.ends_with("+json");
    let directory = |text: &str| text == MediaType::DIRECTORY;
    match (made, read) {
        (made, read) if made == read => true,
        (MediaType::BYTES, _) => true,
        (made, read) if directory(made) || directory(read) => false,
        (_, MediaType::BYTES) => true,
        (made, MediaType::TEXT) => made.starts_with("text/") || json(made) || made == MediaType::FIGURE,
        (made, MediaType::TABLE) => matches!(made, MediaType::CSV | MediaType::PARQUET),
        (made, MediaType::JSON) => json(made),
        (made, MediaType::METRICS) => made == MediaType::JSON,
        (made, MediaType::CSV) => made == MediaType::TEXT,
        _ => false,
    }
}

/// Returns the type without its parameters: `text/csv` for `text/csv; header=present`.
fn essence(media_type: &MediaType) -> &str {
    let text = media_type.as_str();
    text.split_once(';').map_or(text, |(essence, _)| essence.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_fits() {
        use MediaType as M;
        let fits = |made: &str, read: &str| fits(&M::new(made), &M::new(read));
        for (made, read) in [
            (M::CSV, M::TEXT),
            (M::CSV, M::TABLE),
            (M::METRICS, M::JSON),
            (M::METRICS, M::TEXT),
            (M::BYTES, M::DIRECTORY),
            (M::TABLE, M::BYTES),
            ("text/csv; header=present", M::CSV),
        ] {
            assert!(fits(made, read), "{made} as {read}");
        }
        for (made, read) in [
            (M::TABLE, M::CSV),
            (M::CSV, M::FIGURE),
            (M::DIRECTORY, M::BYTES),
            (M::CSV, M::DIRECTORY),
            (M::VALUE, M::TABLE),
            (M::DIRECTORY, M::JSON),
        ] {
            assert!(!fits(made, read), "{made} as {read}");
        }
    }
}
