//! The tables against libraries that are not ROCm: one without any HIP symbol, and a stand-in
//! compiled here that answers as the runtime does on a machine without a GPU.

use std::path::PathBuf;
use std::process::Command;

use hip_sys::{CallError, DeviceAttribute, LoadError, Rtc, Runtime};

/// Is on every Linux with glibc and holds no HIP.
const NOT_HIP: &str = "libc.so.6";

#[test]
fn a_library_without_hip_names_the_missing_function() {
    let hip = Runtime::load_from(&[NOT_HIP]).expect("libc opens");
    let all: Vec<_> = Runtime::SYMBOLS
        .iter()
        .filter(|s| !s.is_empty())
        .copied()
        .collect();
    assert_eq!(hip.missing(), all);
    let error = hip.version().unwrap_err();
    assert_eq!(
        error,
        CallError::MissingSymbol {
            library: NOT_HIP.into(),
            symbol: "hipRuntimeGetVersion"
        }
    );
    assert_eq!(
        error.to_string(),
        "libc.so.6 has no hipRuntimeGetVersion; install another release of it"
    );
    assert!(hip.device_count().is_err());
    assert!(hip.status_name(100).is_none());
}

#[test]
fn a_library_without_a_compiler_is_not_taken_for_one() {
    let Err(LoadError::Broken { name, .. }) = Rtc::load_from(&["libonebit-absent.so", NOT_HIP])
    else {
        panic!("libc was taken for a compiler");
    };
    assert_eq!(name, NOT_HIP);
}

#[test]
fn a_runtime_without_a_gpu_counts_zero_and_tells_its_version() {
    let library = stand_in(
        "no_gpu",
        r#"
        #[unsafe(no_mangle)] pub extern "C" fn hipInit(_: u32) -> i32 { 100 }
        #[unsafe(no_mangle)] pub extern "C" fn hipRuntimeGetVersion(v: *mut i32) -> i32 { unsafe { *v = 60443483 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn hipGetDeviceCount(n: *mut i32) -> i32 { unsafe { *n = 0 }; 100 }
        #[unsafe(no_mangle)] pub extern "C" fn hipDeviceGetAttribute(_: *mut i32, _: i32, _: i32) -> i32 { 101 }
        #[unsafe(no_mangle)] pub extern "C" fn hipGetErrorName(e: i32) -> *const u8 {
            match e { 100 => b"hipErrorNoDevice\0".as_ptr(), 101 => b"hipErrorInvalidDevice\0".as_ptr(), _ => std::ptr::null() }
        }
        "#,
    );
    let hip = Runtime::load_from(&["libonebit-absent.so", library.to_str().unwrap()])
        .expect("the stand-in opens");
    assert_eq!(hip.version().unwrap().to_string(), "6.4.43483");
    assert_eq!(hip.device_count(), Ok(0));
    // SAFETY: takes a number.
    let error = unsafe { hip.init(0) }.unwrap_err();
    assert_eq!(
        error.to_string(),
        "hipInit failed with status 100 (hipErrorNoDevice)"
    );
    let error = hip
        .device_attribute(3, DeviceAttribute::WarpSize)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "hipDeviceGetAttribute failed with status 101 (hipErrorInvalidDevice)"
    );
    assert!(
        hip.missing().contains(&"hipMalloc"),
        "the stand-in has no hipMalloc"
    );
}

#[test]
fn a_compiler_gives_code_or_its_messages() {
    let library = stand_in(
        "compiler",
        r#"
        static mut FAILS: bool = false;
        #[unsafe(no_mangle)] pub extern "C" fn hiprtcVersion(a: *mut i32, b: *mut i32) -> i32 { unsafe { *a = 6; *b = 4 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn hiprtcCreateProgram(p: *mut *mut u8, text: *const std::ffi::c_char,
            _: *const u8, _: i32, _: *const u8, _: *const u8) -> i32 {
            unsafe { *p = 8 as *mut u8; FAILS = std::ffi::CStr::from_ptr(text).to_bytes() == b"bad" }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn hiprtcCompileProgram(_: *mut u8, n: i32, _: *const u8) -> i32 {
            if unsafe { FAILS } || n != 1 { 6 } else { 0 } }
        #[unsafe(no_mangle)] pub extern "C" fn hiprtcGetProgramLogSize(_: *mut u8, n: *mut usize) -> i32 { unsafe { *n = 6 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn hiprtcGetProgramLog(_: *mut u8, to: *mut u8) -> i32 {
            unsafe { b"noted\0".as_ptr().copy_to(to, 6) }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn hiprtcGetCodeSize(_: *mut u8, n: *mut usize) -> i32 { unsafe { *n = 4 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn hiprtcGetCode(_: *mut u8, to: *mut u8) -> i32 {
            unsafe { b"\x7fELF".as_ptr().copy_to(to, 4) }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn hiprtcDestroyProgram(_: *mut *mut u8) -> i32 { 0 }
        "#,
    );
    let rtc = Rtc::load_from(&[library.to_str().unwrap()]).expect("the stand-in opens");
    assert_eq!(rtc.version(), Ok((6, 4)));
    assert!(rtc.missing().is_empty());
    let good = rtc
        .compile("k.hip", "good", &["--offload-arch=gfx1151"])
        .unwrap();
    assert_eq!(good.code.as_deref(), Ok(&b"\x7fELF"[..]));
    assert_eq!(good.log, "noted");
    let bad = rtc
        .compile("k.hip", "bad", &["--offload-arch=gfx1151"])
        .unwrap();
    assert_eq!(
        bad.code,
        Err(CallError::Failed {
            symbol: "hiprtcCompileProgram",
            status: 6,
            name: None
        })
    );
    assert_eq!(
        rtc.compile("k.hip", "a\0b", &[]),
        Err(CallError::ZeroByte {
            what: "the kernel's text"
        })
    );
}

/// Compiles Rust text into a shared library beside the test binaries.
fn stand_in(name: &str, text: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let source = folder.join(format!("{name}.rs"));
    let library = folder.join(format!("lib{name}.so"));
    std::fs::write(&source, text).expect("the test folder is writable");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args([
            "--edition=2024",
            "--crate-type=cdylib",
            "-Aunsafe_op_in_unsafe_fn",
            "-Anon_snake_case",
            "-o",
        ])
        .arg(&library)
        .arg(&source)
        .output()
        .expect("rustc runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    library
}
