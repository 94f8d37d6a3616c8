//! What a server has to know of others on the same store.

use std::time::Duration;

use tutor_core::{Error, ErrorKind, Limits, Result};

use super::layers::{Layers, Setting};
use crate::shared::RedisUrl;

const REDIS: Setting = Setting {
    key: "redis",
    var: "REDIS_URL",
    form: "a URL such as redis://127.0.0.1:6379",
};

const REDIS_CA: Setting = Setting {
    key: "redis_ca",
    var: "REDIS_CA",
    form: "the path of a PEM file",
};

const LEASE: Setting = Setting {
    key: "lease_seconds",
    var: "LEASE_SECONDS",
    form: "a whole number from 3 to 3600",
};

/// Where Redis is, if there is one.
pub(super) fn pick_redis(layers: &mut Layers<'_>) -> Result<Option<RedisUrl>> {
    let url = layers.pick_read(
        REDIS,
        None,
        |url| url.parse().map(Some),
        |url: &Option<RedisUrl>| {
            let shown = url.as_ref().map(ToString::to_string);
            shown.unwrap_or_default().into()
        },
        || None,
    )?;
    let authorities = layers.pick_file(REDIS_CA, None, |path| {
        let shown = path.display().to_string();
        match std::fs::read(path) {
            Ok(pem) => Ok((shown, pem)),
            Err(error) => Err(Error::new(
                ErrorKind::Config,
                format!("{shown} cannot be read: {error}"),
            )),
        }
    })?;
    match (url, authorities) {
        (Some(url), Some((path, pem))) => {
            let trusting = url.trusting(&pem);
            trusting.map(Some).map_err(|error| {
                let said = format!("redis_ca is {path}: {}", error.message());
                Error::new(error.kind(), said)
            })
        }
        (None, Some(_)) => Err(Error::new(
            ErrorKind::Config,
            "redis_ca is of use only with REDIS_URL: set it, or leave redis_ca out",
        )),
        (url, None) => Ok(url),
    }
}

/// Reads the settings.
pub(super) fn pick(layers: &mut Layers<'_>, limits: &mut Limits) -> Result<Option<RedisUrl>> {
    let redis = pick_redis(layers)?;
    let lease = layers.pick(LEASE, None, limits.lease.as_secs())?;
    if !(3..=3600).contains(&lease) {
        return Err(Error::new(
            ErrorKind::Config,
            format!("lease_seconds is {lease}: write {}", LEASE.form),
        ));
    }
    limits.lease = Duration::from_secs(lease);
    Ok(redis)
}
