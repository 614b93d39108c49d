//! The one macro that turns a list of C functions into a struct of optional function pointers.

/// Declares a table: for every line `rust_name = "amdName" | "nvidiaName"(argument: Type, ..)` one private pointer and
/// one `unsafe fn rust_name(&self, ..) -> Result<(), CallError>` that calls it.
///
/// All listed functions return a [`Status`](crate::Status); the few that do not are looked up by hand.
macro_rules! table {
    (
        $(#[$outer:meta])*
        pub struct $table:ident {
            $( $(#[$doc:meta])* $name:ident = $symbol:literal | $twin:literal ( $($argument:ident : $type:ty),* $(,)? ); )*
        }
    ) => {
        $(#[$outer])*
        pub struct $table {
            library_name: String,
            vendor: $crate::Vendor,
            error_name: Option<unsafe extern "C" fn($crate::Status) -> *const std::ffi::c_char>,
            $( $name: Option<unsafe extern "C" fn($($type),*) -> $crate::Status>, )*
        }

        impl $table {
            /// Every C function of AMD's that this table knows, present or not; empty where only NVIDIA has one.
            pub const SYMBOLS: &'static [&'static str] = &[$($symbol),*];

            fn from_opened(opened: $crate::load::Opened, vendor: $crate::Vendor, error_name: &str) -> Self {
                let library = opened.library;
                let table = Self {
                    library_name: opened.name,
                    vendor,
                    // SAFETY: both libraries declare this as `const char *(int-sized enum)`.
                    error_name: unsafe { library.get(error_name.as_bytes()) }.ok().map(|symbol| *symbol),
                    $(
                        // SAFETY: the types are those of the C header for this name, unchanged from
                        // ROCm 5 to 7 and from CUDA 12 to 13; no library has a function without a name.
                        $name: unsafe { library.get(vendor.name($symbol, $twin).as_bytes()) }.ok().map(|symbol| *symbol),
                    )*
                };
                // The pointers above live as long as the library. It is never closed: ROCm's exit
                // handlers run at process end and crash when their code is gone.
                std::mem::forget(library);
                table
            }

            /// The file name that was loaded.
            pub fn library_name(&self) -> &str {
                &self.library_name
            }

            /// Whose library this is.
            pub fn vendor(&self) -> $crate::Vendor {
                self.vendor
            }

            /// The C functions that this release of the library lacks.
            pub fn missing(&self) -> Vec<&'static str> {
                let mut missing = Vec::new();
                $( if self.$name.is_none() { missing.push(self.vendor.name($symbol, $twin)); } )*
                missing.retain(|name| !name.is_empty());
                missing
            }

            /// The library's own name of a status, e.g. `hipErrorNoDevice`.
            pub fn status_name(&self, status: $crate::Status) -> Option<String> {
                let call = self.error_name?;
                // SAFETY: takes a number, returns null or a string that is constant in the library.
                let text = unsafe { call(status) };
                if text.is_null() {
                    return None;
                }
                // SAFETY: not null, and C's promise is a terminated string.
                Some(unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned())
            }

            fn check(&self, symbol: &'static str, status: $crate::Status) -> Result<(), $crate::CallError> {
                match status {
                    0 => Ok(()),
                    _ => Err($crate::CallError::Failed { symbol, status, name: self.status_name(status) }),
                }
            }

            $(
                $(#[$doc])*
                ///
                /// # Safety
                /// Pointers and handles must be what the C function of this name asks for, alive and of
                /// the sizes given beside them.
                #[allow(clippy::too_many_arguments)] // as many as the C function has
                pub unsafe fn $name(&self, $($argument: $type),*) -> Result<(), $crate::CallError> {
                    let call = self.$name.ok_or_else(|| $crate::CallError::MissingSymbol {
                        library: self.library_name.clone(),
                        symbol: self.vendor.name($symbol, $twin),
                    })?;
                    // SAFETY: passed on to the caller of this function.
                    let status = unsafe { call($($argument),*) };
                    self.check(self.vendor.name($symbol, $twin), status)
                }
            )*
        }
    };
}

pub(crate) use table;
