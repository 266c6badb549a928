//! Makes the files of `web/` part of the program.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const FOLDER: &str = "../web";

/// What a browser is told that a file of this kind is. Others are left out, and so are tests.
const MEDIA_TYPES: [(&str, &str); 4] = [
    ("css", "text/css; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("svg", "image/svg+xml"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FOLDER}");
    let folder = Path::new(FOLDER).canonicalize()?;
    let mut files = Vec::new();
    for item in std::fs::read_dir(&folder)? {
        let path = item?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        let known = MEDIA_TYPES.iter().find(|(extension, _)| *extension == kind);
        if let Some((_, media_type)) = known.filter(|_| path.is_file() && !name.contains(".test.")) {
            println!("cargo::rerun-if-changed={FOLDER}/{name}");
            files.push((name, *media_type, path));
        }
    }
    files.sort();
    let mut table = String::from("static FILES: &[(&str, &str, &[u8])] = &[\n");
    for (name, media_type, path) in files {
        let path = path.to_str().ok_or("the path of a file is no text")?;
        writeln!(table, "    ({name:?}, {media_type:?}, include_bytes!({path:?})),")?;
    }
    table.push_str("];\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    std::fs::write(out.join("console.rs"), table)?;
    Ok(())
}
