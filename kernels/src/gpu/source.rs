//! A kernel's text with its parameters: what is compiled, and what its code is filed under.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// One kernel to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The operation, as in file names.
    pub op: &'static str,
    /// WGSL files, joined in this order.
    pub wgsl: Vec<&'static str>,
    /// HIP files, joined in this order.
    pub hip: Vec<&'static str>,
    /// Constants, all of them whole numbers (floats as their bits).
    pub defines: Vec<(&'static str, u32)>,
    /// Constant tables.
    pub tables: Vec<(&'static str, Vec<u32>)>,
    /// Bindings of memory.
    pub buffers: u32,
    /// Numbers passed by value.
    pub args: u32,
}

impl Source {
    /// The whole WGSL text, for a device whose multiply-add rounds once or not.
    pub fn wgsl_text(&self, fused: bool) -> String {
        let mut text = format!("const FUSED: u32 = {}u;\n", u32::from(fused));
        for (name, value) in &self.defines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        }
        for (name, values) in &self.tables {
            let list: Vec<String> = values.iter().map(|v| format!("{v}u")).collect();
            let _ = writeln!(
                text,
                "var<private> {name}: array<u32, {}> = array<u32, {0}>({});",
                values.len(),
                list.join(", ")
            );
        }
        for file in &self.wgsl {
            text.push_str(file);
        }
        text
    }

    /// The whole HIP text.
    pub fn hip_text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.defines {
            let _ = writeln!(text, "#define {name} {value}u");
        }
        for (name, values) in &self.tables {
            let list: Vec<String> = values.iter().map(|v| format!("{v}u")).collect();
            let _ = writeln!(text, "#define {name}_VALUES {}", list.join(", "));
        }
        for file in &self.hip {
            text.push_str(file);
        }
        text
    }

    /// A constant by name.
    pub fn constant(&self, name: &str) -> Option<u32> {
        let found = self.defines.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| *value)
    }

    /// Its name with its parameters, for people: `gemv p2 576x1536 split 4 tokens 1`.
    pub fn name(&self) -> String {
        let parameters: Vec<String> = self
            .defines
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!("{} {}", self.op, parameters.join(" "))
    }

    /// What its code is filed under: text, constants, backend, compiler, driver and device.
    pub fn key(&self, identity: &super::Identity) -> String {
        let text = match identity.backend {
            "hip" | "cuda" => self.hip_text(),
            _ => self.wgsl_text(identity.fused),
        };
        let mut hash = Sha256::new();
        for part in [
            &text,
            identity.backend,
            &identity.compiler,
            &identity.driver,
            &identity.device,
        ] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hex(&hash.finalize())
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
