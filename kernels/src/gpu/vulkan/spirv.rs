//! WGSL to SPIR-V, with every addition and multiplication marked so that drivers neither contract nor reorder it.

use super::super::GpuError;
use super::super::source::Source;
use naga::back::spv;
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// What compiles, for keys: naga's release and our own pass over its output.
pub(super) const COMPILER: &str = "naga 30, no contraction";

/// Compiles the text to SPIR-V words as bytes.
pub(super) fn compile(source: &Source, fused: bool) -> Result<Vec<u8>, GpuError> {
    let text = source.wgsl_text(fused);
    let failed = |log: String| GpuError::Compile {
        op: source.op.to_owned(),
        log,
    };
    let module =
        naga::front::wgsl::parse_str(&text).map_err(|e| failed(e.emit_to_string(&text)))?;
    let info = Validator::new(
        ValidationFlags::all(),
        Capabilities::IMMEDIATES | Capabilities::SHADER_FLOAT16_IN_FLOAT32,
    )
    .validate(&module)
    .map_err(|e| failed(e.emit_to_string(&text)))?;
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::empty(),
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..spv::Options::default()
    };
    let entry = spv::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: "main".to_owned(),
    };
    let words = spv::write_vec(&module, &info, &options, Some(&entry))
        .map_err(|e| failed(e.to_string()))?;
    Ok(uncontracted(&words)
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect())
}

/// Words of SPIR-V's header.
const HEADER: usize = 5;

/// Opcodes of SPIR-V that this pass looks at.
mod op {
    pub(super) const TYPE_FIRST: u16 = 19;
    pub(super) const TYPE_LAST: u16 = 39;
    pub(super) const CONSTANTS: std::ops::RangeInclusive<u16> = 41..=52;
    pub(super) const VARIABLE: u16 = 59;
    pub(super) const FUNCTION: u16 = 54;
    pub(super) const DECORATE: u16 = 71;
    pub(super) const MEMBER_DECORATE: u16 = 72;
    pub(super) const F_ADD: u16 = 129;
    pub(super) const F_SUB: u16 = 131;
    pub(super) const F_MUL: u16 = 133;
    pub(super) const F_DIV: u16 = 136;
    /// The decoration.
    pub(super) const NO_CONTRACTION: u32 = 42;
}

/// Adds `NoContraction` to the result of every floating-point addition, subtraction, multiplication and division.
/// Decorations stand before types in a module.
fn uncontracted(words: &[u32]) -> Vec<u32> {
    let (mut place, mut marked) = (None, Vec::new());
    let mut at = HEADER;
    while at < words.len() {
        let (length, opcode) = ((words[at] >> 16) as usize, words[at] as u16);
        let before_types = matches!(
            opcode,
            op::TYPE_FIRST..=op::TYPE_LAST | op::VARIABLE | op::FUNCTION
        ) || op::CONSTANTS.contains(&opcode);
        if place.is_none() && before_types {
            place = Some(at);
        }
        if matches!(opcode, op::DECORATE | op::MEMBER_DECORATE) {
            place = None;
        }
        if matches!(opcode, op::F_ADD | op::F_SUB | op::F_MUL | op::F_DIV) {
            marked.push(words[at + 2]);
        }
        at += length.max(1);
    }
    let place = place.unwrap_or(words.len());
    let mut out = words[..place].to_vec();
    for id in marked {
        out.extend([3 << 16 | u32::from(op::DECORATE), id, op::NO_CONTRACTION]);
    }
    out.extend(&words[place..]);
    out
}
