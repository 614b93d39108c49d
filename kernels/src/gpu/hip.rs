//! HIP texts to code objects through hipRTC and NVRTC, and what an AMD code object says it needs. Runs nothing.
//!
//! hipRTC is known to end the process on targets it does not know: compile in a child.

use super::driver::GpuError;
use super::source::Source;
use hip_sys::Rtc;

/// The name of every kernel's entry.
pub const ENTRY: &std::ffi::CStr = c"main_kernel";

/// Targets that every text must compile for: the first is Strix Halo, the others are current cards.
pub const TARGETS: [&str; 3] = ["gfx1151", "gfx1100", "gfx1201"];

/// Compiles a source for a target such as `gfx1151`.
///
/// # Errors
/// [`GpuError::Compile`] with the compiler's words.
pub fn compile(rtc: &Rtc, source: &Source, target: &str) -> Result<Vec<u8>, GpuError> {
    let architecture = format!("--offload-arch={target}");
    let options = [
        architecture.as_str(),
        "-O3",
        "-std=c++17",
        "-ffp-contract=off",
    ];
    Ok(compiled(rtc, source, &options)?.0)
}

/// Compiles a source for an NVIDIA target such as `sm_90`, with NVRTC.
///
/// # Errors
/// [`GpuError::Compile`] with the compiler's words.
pub fn compile_nvidia(rtc: &Rtc, source: &Source, target: &str) -> Result<Vec<u8>, GpuError> {
    Ok(compile_nvidia_verbose(rtc, source, target)?.0)
}

/// As [`compile_nvidia`], with what the assembler says of registers and spills.
///
/// # Errors
/// As [`compile_nvidia`].
pub fn compile_nvidia_verbose(
    rtc: &Rtc,
    source: &Source,
    target: &str,
) -> Result<(Vec<u8>, String), GpuError> {
    let architecture = format!("--gpu-architecture={target}");
    let options = [
        architecture.as_str(),
        "-std=c++17",
        "--fmad=false",
        "--ptxas-options=-v",
    ];
    compiled(rtc, source, &options)
}

/// The ISA of the first GPU that the kernel's compute driver lists: `gfx1151`.
pub(super) fn first_target() -> Option<String> {
    let nodes = std::fs::read_dir("/sys/class/kfd/kfd/topology/nodes").ok()?;
    let mut targets: Vec<(String, u32)> = nodes
        .filter_map(|node| {
            let path = node.ok()?.path();
            let text = std::fs::read_to_string(path.join("properties")).ok()?;
            let version = text
                .lines()
                .find_map(|line| line.strip_prefix("gfx_target_version "))?;
            let name = path.file_name()?.to_str()?.to_owned();
            Some((name, version.trim().parse().ok()?))
        })
        .filter(|(_, version)| *version > 0)
        .collect();
    targets.sort();
    let (_, version) = targets.first()?;
    Some(target_name(*version))
}

/// `gfx1151` for 110501: major times 10,000, minor times 100, step; the last two in hexadecimal.
fn target_name(version: u32) -> String {
    let (major, minor, step) = (version / 10_000, version / 100 % 100, version % 100);
    format!("gfx{major}{minor:x}{step:x}")
}

fn compiled(rtc: &Rtc, source: &Source, options: &[&str]) -> Result<(Vec<u8>, String), GpuError> {
    let failed = |log: String| GpuError::Compile {
        op: source.op.to_owned(),
        log,
    };
    let compiled = rtc
        .compile(&format!("{}.hip", source.op), &source.hip_text(), options)
        .map_err(|error| failed(error.to_string()))?;
    match compiled.code {
        Ok(code) => Ok((code, compiled.log)),
        Err(error) => Err(failed(format!("{error}\n{}", compiled.log))),
    }
}

/// What a compiled kernel takes of a compute unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Vector registers of a lane.
    pub vgprs: u32,
    /// Scalar registers of a wave.
    pub sgprs: u32,
    /// Registers of both kinds that did not fit and went to memory.
    pub spills: u32,
    /// Bytes of private memory of a lane.
    pub scratch_bytes: u32,
    /// Bytes of shared memory of a workgroup.
    pub lds_bytes: u32,
    /// Bytes of instructions.
    pub code_bytes: u32,
    /// Four-byte dot products in the code.
    pub dots: u32,
    /// Lanes of a wave.
    pub wave: u32,
}

impl Resources {
    /// Reads a code object (an AMD ELF file with its metadata note); `None` if it is not one.
    pub fn of(code: &[u8]) -> Option<Resources> {
        let text = section(code, ".text")?;
        let number = |key: &str| metadata(code, key);
        Some(Resources {
            vgprs: number(".vgpr_count")?,
            sgprs: number(".sgpr_count")?,
            spills: number(".vgpr_spill_count")? + number(".sgpr_spill_count")?,
            scratch_bytes: number(".private_segment_fixed_size")?,
            lds_bytes: number(".group_segment_fixed_size")?,
            wave: number(".wavefront_size")?,
            code_bytes: text.len() as u32,
            dots: text
                .as_chunks::<4>()
                .0
                .iter()
                .filter(|w| is_dot(**w))
                .count() as u32,
        })
    }

    /// Waves that a SIMD of 1536 registers a lane holds at once, at most 16; registers are given out by 24.
    pub fn waves(&self) -> u32 {
        (1536 / self.vgprs.max(1).next_multiple_of(24)).clamp(1, 16)
    }
}

/// Whether a word begins `v_dot4_i32_iu8` (VOP3P, opcode 22) as gfx11 and gfx12 encode it.
fn is_dot(word: [u8; 4]) -> bool {
    u32::from_le_bytes(word) >> 16 == 0xcc16
}

/// The whole number that follows a key of the metadata note (MessagePack).
fn metadata(code: &[u8], key: &str) -> Option<u32> {
    let found = code
        .windows(key.len())
        .position(|window| window == key.as_bytes())?;
    let value = &code[found + key.len()..];
    Some(match *value.first()? {
        small @ 0..=0x7f => u32::from(small),
        0xcc => u32::from(*value.get(1)?),
        0xcd => u32::from(u16::from_be_bytes(value.get(1..3)?.try_into().ok()?)),
        0xce => u32::from_be_bytes(value.get(1..5)?.try_into().ok()?),
        _ => return None,
    })
}

/// A section of a 64-bit ELF file.
fn section<'a>(file: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let u64_at =
        |at: usize| Some(u64::from_le_bytes(file.get(at..at + 8)?.try_into().ok()?) as usize);
    let u32_at =
        |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?) as usize);
    let u16_at =
        |at: usize| Some(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?) as usize);
    if file.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let (table, size, count, names) = (u64_at(0x28)?, u16_at(0x3a)?, u16_at(0x3c)?, u16_at(0x3e)?);
    let names = u64_at(table + names * size + 0x18)?;
    (0..count).find_map(|i| {
        let header = table + i * size;
        let name = names + u32_at(header)?;
        let end = name + wanted.len();
        if file.get(name..end)? != wanted.as_bytes() || *file.get(end)? != 0 {
            return None;
        }
        let (at, bytes) = (u64_at(header + 0x18)?, u64_at(header + 0x20)?);
        file.get(at..at + bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_named_as_the_compiler_names_them() {
        assert_eq!(target_name(110_501), "gfx1151");
        assert_eq!(target_name(120_001), "gfx1201");
        assert_eq!(target_name(90_010), "gfx90a");
    }

    #[test]
    fn metadata_numbers_are_read_in_every_width() {
        let note = b"..\xab.vgpr_count\x40\xa9.small\x07\xaa.wide\xcd\x12\x34\xaa.byte\xcc\xff";
        assert_eq!(metadata(note, ".vgpr_count"), Some(0x40));
        assert_eq!(metadata(note, ".wide"), Some(0x1234));
        assert_eq!(metadata(note, ".byte"), Some(255));
        assert_eq!(metadata(note, ".absent"), None);
        assert_eq!(Resources::of(note), None);
    }
}
