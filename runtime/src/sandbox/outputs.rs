use std::collections::BTreeSet;

use super::WorldError;
use super::vfs::{MAX_NAME, MAX_PATH};
use crate::step::GuestPath;

/// Checks that each output is below `/out`, and that none is inside another.
pub(crate) fn check_outputs(names: &BTreeSet<&str>) -> Result<(), WorldError> {
    for name in names {
        let path = GuestPath::try_from(format!("/out/{name}")).ok();
        let fits = |path: &GuestPath| path.as_str().len() <= MAX_PATH && path.parts().all(|part| part.len() <= MAX_NAME);
        if !path.is_some_and(|path| fits(&path)) {
            let name = (*name).to_owned();
            return Err(WorldError::Output { name });
        }
        let mut outer = name.match_indices('/').map(|(end, _)| &name[..end]);
        if let Some(outer) = outer.find(|outer| names.contains(outer)) {
            return Err(WorldError::Nested {
                name: (*name).to_owned(),
                outer: outer.to_owned(),
            });
        }
    }
    Ok(())
}
