//! hipRTC, and NVRTC for its twin: kernel text in, code object out. Needs no GPU. hipRTC is known to kill the process on texts and
//! targets it does not know, so callers compile in a child process.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use crate::load::{self, LoadError};
use crate::table::table;
use crate::{CallError, Program, Vendor};

/// File names of hipRTC. It became a library of its own in ROCm 5; older and Debian builds also carry
/// it inside the runtime, so those names follow.
pub const RTC_NAMES: &[&str] = &[
    "libhiprtc.so",
    "libhiprtc.so.7",
    "libhiprtc.so.6",
    "libhiprtc.so.5",
    "libamdhip64.so",
    "libamdhip64.so.7",
    "libamdhip64.so.6",
    "libamdhip64.so.5",
];

/// File names of NVIDIA's compiler.
pub const NVRTC_NAMES: &[&str] = &[
    "libnvrtc.so",
    "libnvrtc.so.13",
    "libnvrtc.so.12",
    "libnvrtc.so.11.2",
];

table! {
    /// hipRTC's functions, or NVRTC's of the same arguments.
    pub struct Rtc {
        /// Writes the compiler's major and minor version.
        get_version = "hiprtcVersion" | "nvrtcVersion"(major: *mut c_int, minor: *mut c_int);
        /// Makes a program from terminated text.
        create_program = "hiprtcCreateProgram" | "nvrtcCreateProgram"(
            program: *mut Program, text: *const c_char, name: *const c_char,
            n_headers: c_int, headers: *const *const c_char, include_names: *const *const c_char,
        );
        /// Compiles a program with terminated options.
        compile_program = "hiprtcCompileProgram" | "nvrtcCompileProgram"(program: Program, n_options: c_int, options: *const *const c_char);
        /// Writes the length of the compiler's messages, terminator included.
        get_program_log_size = "hiprtcGetProgramLogSize" | "nvrtcGetProgramLogSize"(program: Program, bytes: *mut usize);
        /// Writes the compiler's messages.
        get_program_log = "hiprtcGetProgramLog" | "nvrtcGetProgramLog"(program: Program, log: *mut c_char);
        /// Writes the length of the code object.
        get_code_size = "hiprtcGetCodeSize" | "nvrtcGetCUBINSize"(program: Program, bytes: *mut usize);
        /// Writes the code object.
        get_code = "hiprtcGetCode" | "nvrtcGetCUBIN"(program: Program, code: *mut c_char);
        /// Ends a program.
        destroy_program = "hiprtcDestroyProgram" | "nvrtcDestroyProgram"(program: *mut Program);
    }
}

/// What one compilation gave: the code object, or why there is none, and the compiler's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The code object (an AMD ELF file), or the failing call.
    pub code: Result<Vec<u8>, CallError>,
    /// Warnings and errors as the compiler wrote them.
    pub log: String,
}

impl Rtc {
    /// Loads the compiler from the usual names.
    ///
    /// # Errors
    /// [`LoadError`] when none opens, or when the one that opens holds no hipRTC.
    pub fn load() -> Result<Self, LoadError> {
        Self::load_from(RTC_NAMES)
    }

    /// Loads the compiler from the first of `names` that opens and has hipRTC inside.
    ///
    /// # Errors
    /// [`LoadError`] as for [`Rtc::load`].
    pub fn load_from(names: &[&str]) -> Result<Self, LoadError> {
        Self::first_of(names, Vendor::Amd, "hiprtcGetErrorString")
    }

    /// Loads NVIDIA's twin from the usual names.
    ///
    /// # Errors
    /// [`LoadError`] as for [`Rtc::load`].
    pub fn load_nvrtc() -> Result<Self, LoadError> {
        Self::first_of(NVRTC_NAMES, Vendor::Nvidia, "nvrtcGetErrorString")
    }

    fn first_of(names: &[&str], vendor: Vendor, error_name: &str) -> Result<Self, LoadError> {
        let mut error = None;
        for (i, name) in names.iter().enumerate() {
            match load::open(&[name]) {
                Ok(opened) => {
                    let table = Self::from_opened(opened, vendor, error_name);
                    if table.create_program.is_some() {
                        return Ok(table);
                    }
                    let reason = "it holds no run-time compiler".to_owned();
                    error.get_or_insert(LoadError::Broken {
                        name: names[i].to_owned(),
                        reason,
                    });
                }
                Err(broken @ LoadError::Broken { .. }) => error = error.or(Some(broken)),
                Err(LoadError::NotFound { .. }) => {}
            }
        }
        Err(error.unwrap_or_else(|| LoadError::NotFound {
            tried: names.iter().map(|n| (*n).to_owned()).collect(),
        }))
    }

    /// The compiler's major and minor version. Needs no GPU.
    ///
    /// # Errors
    /// [`CallError`] when the function is missing or fails.
    pub fn version(&self) -> Result<(u32, u32), CallError> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both pointers are to live integers.
        unsafe { self.get_version(&mut major, &mut minor) }?;
        Ok((major.unsigned_abs(), minor.unsigned_abs()))
    }

    /// Compiles `text` (named `name` in messages) with `options` such as `--offload-arch=gfx1151`.
    ///
    /// # Errors
    /// [`CallError`] when no program could be made; a text that does not compile is inside [`Compiled`].
    pub fn compile(&self, name: &str, text: &str, options: &[&str]) -> Result<Compiled, CallError> {
        let c = |what, s: &str| CString::new(s).map_err(|_| CallError::ZeroByte { what });
        let (name, text) = (c("the kernel's name", name)?, c("the kernel's text", text)?);
        let options = options
            .iter()
            .map(|o| c("a compiler option", o))
            .collect::<Result<Vec<_>, _>>()?;
        let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();

        let mut program: Program = ptr::null_mut();
        // SAFETY: terminated strings that outlive the call; no headers are passed.
        unsafe {
            self.create_program(
                &mut program,
                text.as_ptr(),
                name.as_ptr(),
                0,
                ptr::null(),
                ptr::null(),
            )
        }?;
        // SAFETY: the program was just made; the options outlive the call.
        let compiled =
            unsafe { self.compile_program(program, options.len() as c_int, options.as_ptr()) };
        let log = self.bytes(program, Self::get_program_log_size, Self::get_program_log);
        let code = compiled.and_then(|()| self.bytes(program, Self::get_code_size, Self::get_code));
        // SAFETY: made above and not used again.
        let _ended = unsafe { self.destroy_program(&mut program) };

        let log = log.map(|bytes| {
            String::from_utf8_lossy(&bytes)
                .trim_end_matches('\0')
                .to_owned()
        });
        Ok(Compiled {
            code,
            log: log.unwrap_or_default(),
        })
    }

    /// Asks for a length, then for that many bytes.
    fn bytes(
        &self,
        program: Program,
        size: unsafe fn(&Self, Program, *mut usize) -> Result<(), CallError>,
        fill: unsafe fn(&Self, Program, *mut c_char) -> Result<(), CallError>,
    ) -> Result<Vec<u8>, CallError> {
        let mut length = 0;
        // SAFETY: the program is alive and the pointer is to a live integer.
        unsafe { size(self, program, &mut length) }?;
        let mut bytes = vec![0u8; length];
        // SAFETY: the buffer has the length the library just asked for.
        unsafe { fill(self, program, bytes.as_mut_ptr().cast()) }?;
        Ok(bytes)
    }
}
