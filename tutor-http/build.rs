//! Takes what the documentation's page needs out of the archive of Swagger UI, and packs it: the
//! archive is mostly other builds of the same.

use std::borrow::Cow;
use std::env;
use std::error::Error;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

const ASSETS: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var("OUT_DIR")?;
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    let names = archive.file_names().map(|name| name.map(Cow::into_owned));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    for asset in ASSETS {
        let inside = format!("/dist/{asset}");
        let name = names.iter().find(|name| name.ends_with(&inside));
        let name = name.ok_or_else(|| format!("Swagger UI has no {asset}"))?;
        let mut content = Vec::new();
        archive.by_name(name)?.read_to_end(&mut content)?;
        let file = fs::File::create(Path::new(&out).join(format!("{asset}.gz")))?;
        let mut packed = GzEncoder::new(file, Compression::best());
        packed.write_all(&content)?;
        packed.finish()?;
    }
    Ok(())
}
