//! What to export, and how to import.

use super::fields::Fields;
use crate::error::{ErrorKind, Result};
use crate::id::OwnerId;
use crate::message::Metadata;
use crate::transfer::{ExportOptions, ImportOptions, OnConflict};

/// What to export, from `everyone` (else only what is `owner`'s), `since` (a time, RFC 3339) and
/// `skip_damaged`.
///
/// # Errors
/// `invalid_input`, naming the member.
pub fn export_options(members: Metadata, owner: &OwnerId) -> Result<ExportOptions> {
    let mut fields = Fields::new("export", ErrorKind::InvalidInput, members);
    let everyone = fields.flag("everyone")?;
    let options = ExportOptions {
        owner: (!everyone).then(|| owner.clone()),
        since: fields.parsed("since", "a time such as 2026-01-31T09:00:00Z")?,
        skip_damaged: fields.flag("skip_damaged")?,
        ..ExportOptions::default()
    };
    fields.end()?;
    Ok(options)
}

/// How to import, from `everyone` (else everything becomes `owner`'s) and `on_conflict`: `fail` if
/// absent, `keep` or `replace`.
///
/// # Errors
/// `invalid_input`, naming the member.
pub fn import_options(members: Metadata, owner: &OwnerId) -> Result<ImportOptions> {
    let mut fields = Fields::new("import", ErrorKind::InvalidInput, members);
    let everyone = fields.flag("everyone")?;
    let on_conflict: Option<OnConflict> = fields.parsed("on_conflict", "fail, keep or replace")?;
    let options = ImportOptions {
        owner: (!everyone).then(|| owner.clone()),
        on_conflict: on_conflict.unwrap_or_default(),
    };
    fields.end()?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn map(value: Value) -> Metadata {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_handle_carries_what_is_its_own_unless_it_is_told_to_carry_everything() {
        let owner = OwnerId::new("ada").unwrap();
        let export = export_options(Metadata::new(), &owner).unwrap();
        assert_eq!(export.owner, Some(owner.clone()));
        let all = map(json!({"everyone": true, "since": "2026-01-31T09:00:00Z"}));
        let export = export_options(all, &owner).unwrap();
        assert!(export.owner.is_none() && export.since.is_some());
        let import = import_options(map(json!({"on_conflict": "keep"})), &owner).unwrap();
        assert_eq!(import.owner, Some(owner));
        assert_eq!(import.on_conflict, OnConflict::Keep);
    }

    #[test]
    fn a_wrong_option_is_named() {
        let owner = OwnerId::default();
        let error = export_options(map(json!({"since": "canary"})), &owner).unwrap_err();
        assert_eq!(error.context_value("field"), Some("since"));
        assert!(!format!("{error:?}").contains("canary"));
        assert!(import_options(map(json!({"on_conflict": "ask"})), &owner).is_err());
    }
}
