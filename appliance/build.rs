//! Makes sure that the page is there to be embedded; says which command makes it where it is not.

use std::path::Path;
use std::{env, fs};

/// For developers of everything but the page: build without it, and `/app/` says so.
const WITHOUT: &str = "ONEBIT_WITHOUT_PAGE";

const NOTICE: &str = "<!doctype html><title>onebit</title><p>This onebit was built without its page \
    (ONEBIT_WITHOUT_PAGE). Run `just web` and build again.</p>\n";

fn main() {
    // Relative to the package, as cargo runs this and as the page is embedded: checkouts that share a target folder
    // share this answer too, and have a page each.
    let dist = Path::new("../web/dist");
    println!("cargo::rerun-if-env-changed={WITHOUT}");
    println!("cargo::rerun-if-changed={}", dist.display());
    if dist.join("index.html").is_file() {
        println!("cargo::rustc-env=ONEBIT_PAGE={}", dist.display());
        return;
    }
    if env::var_os(WITHOUT).is_none() {
        println!(
            "cargo::error=the page is not built: run `npm ci --ignore-scripts && npm run build` in web/ \
             (or `just web`); to build without it set {WITHOUT}=1"
        );
        return;
    }
    let made = env::var_os("OUT_DIR").map(|out| Path::new(&out).join("page"));
    let Some(folder) = made else {
        println!("cargo::error=OUT_DIR is not set; run this through cargo");
        return;
    };
    match fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("index.html"), NOTICE)) {
        Ok(()) => println!("cargo::rustc-env=ONEBIT_PAGE={}", folder.display()),
        Err(error) => println!("cargo::error=cannot write {}: {error}", folder.display()),
    }
}
