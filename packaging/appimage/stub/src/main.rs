//! The program in front of onebit's AppImage: finds the file system behind itself, unpacks it once into a cache
//! and becomes what lies in it.
//!
//! A type 2 AppImage is an ELF file with a squashfs appended (<https://github.com/AppImage/AppImageSpec>). The
//! usual runtime mounts it, which needs FUSE's helper and breaks under a hardened service; this one unpacks it, so
//! that paths stay what they are for engines and caches. The cache's key is the payload's SHA-256, which stands
//! behind the payload and is compared before anything of it is run.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's own front door"
)]

mod cache;
mod image;

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use cache::Cache;
use image::Image;

/// What ends this program early, as one line.
type Failed = String;

const HELP: &str = "\
An AppImage of onebit. Every argument goes to onebit, but for these:
  --appimage-help              this text
  --appimage-version           the version inside
  --appimage-offset            where the file system begins, in bytes
  --appimage-extract [PATH]    unpack everything, or PATH alone, into squashfs-root
  --appimage-portable-home     keep what onebit writes beside this file, in FILE.home
  --appimage-updateinformation where updates come from: `onebit update` knows
  --appimage-signature         releases are signed as a whole: see SHA256SUMS.minisig beside the file
  --appimage-mount             refused: this image is unpacked, not mounted
It is unpacked once, into XDG_CACHE_HOME or ~/.cache, below onebit/appimage.";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(why) => {
            eprintln!("onebit: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Failed> {
    let file = own_path()?;
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let first = arguments
        .first()
        .and_then(|text| text.to_str())
        .unwrap_or("");
    let Some(option) = first.strip_prefix("--appimage-") else {
        return start(&file, &arguments);
    };
    match option {
        "help" => println!("{HELP}"),
        "version" => println!("{}", env!("CARGO_PKG_VERSION")),
        "offset" => println!("{}", Image::open(&file)?.offset()),
        "extract" => {
            let image = Image::open(&file)?;
            image.verify()?;
            let only = arguments.get(1).map(Path::new);
            let count = image.extract(Path::new("squashfs-root"), only)?;
            if count == 0 {
                return Err(format!(
                    "nothing inside is called {}",
                    only.unwrap_or(Path::new("")).display()
                ));
            }
            println!("squashfs-root: {count} files");
        }
        "portable-home" => {
            let home = portable_home(&file);
            std::fs::create_dir_all(&home)
                .map_err(|why| format!("cannot make {}: {why}", home.display()))?;
            println!("{}", home.display());
        }
        "updateinformation" | "signature" => {}
        "mount" => {
            return Err("this image is unpacked, not mounted; use --appimage-extract".into());
        }
        other => {
            return Err(format!(
                "--appimage-{other} is unknown; see --appimage-help"
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The AppImage: what `TARGET_APPIMAGE` names, or this very program.
fn own_path() -> Result<PathBuf, Failed> {
    if let Some(target) = env::var_os("TARGET_APPIMAGE") {
        return Ok(target.into());
    }
    env::current_exe()
        .map_err(|why| format!("cannot find this program's own file: {why}; is /proc mounted?"))
}

fn portable_home(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".home");
    name.into()
}

/// Unpacks what is not unpacked yet and becomes its `AppRun`; returns only when that fails.
fn start(file: &Path, arguments: &[OsString]) -> Result<ExitCode, Failed> {
    let image = Image::open(file)?;
    let folder = Cache::find()?.folder_of(&image)?;
    let name = env::args_os().next().unwrap_or_else(|| "onebit".into());
    let mut program = Command::new(folder.join("AppRun"));
    program
        // A link to this file is called what its caller called it: `1bit` stays `1bit`.
        .arg0(Path::new(&name).file_name().unwrap_or(OsStr::new("onebit")))
        .args(arguments)
        .env("APPIMAGE", file)
        .env("APPDIR", &folder)
        .env("ARGV0", &name);
    if let Ok(here) = env::current_dir() {
        program.env("OWD", here);
    }
    let home = portable_home(file);
    if home.is_dir() {
        program.env("HOME", home);
    }
    Err(format!(
        "cannot run {}: {}",
        folder.join("AppRun").display(),
        program.exec()
    ))
}
