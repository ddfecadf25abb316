/// Returns the name in a string that is exactly one `{{ name }}`.
pub(super) fn only_name(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    (!inner.contains("{{")).then(|| inner.trim())
}
