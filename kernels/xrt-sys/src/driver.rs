//! The amdxdna driver's GET_INFO call on `/dev/accel/accelN`: firmware, clocks, sensors, power mode.
//!
//! Layouts are those of the kernel's `drm/amdxdna_accel.h` (in tree since 6.14): little-endian
//! integers at fixed offsets, read here from bytes, so that no struct crosses the boundary.

use std::ffi::{c_int, c_ulong};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// `_IOWR('d', DRM_COMMAND_BASE + 7, 16 bytes)`: direction 3, size 16, group 'd', number 0x47.
const GET_INFO: c_ulong = 3 << 30 | 16 << 16 | (b'd' as c_ulong) << 8 | 0x47;

const QUERY_AIE_METADATA: u32 = 1;
const QUERY_CLOCKS: u32 = 3;
const QUERY_SENSORS: u32 = 4;
const QUERY_FIRMWARE: u32 = 8;
const GET_POWER_MODE: u32 = 9;

/// Four tile kinds of 16 bytes behind a 16-byte head.
const METADATA_BYTES: usize = 64;
/// Two clocks of 16 bytes name, frequency and padding.
const CLOCK_BYTES: usize = 24;
/// Label 64, four numbers, status 64, units 16, exponent, type, padding 6.
const SENSOR_BYTES: usize = 168;
/// Drivers report one or two sensors; room for more costs nothing.
const SENSORS_MAX: usize = 8;

unsafe extern "C" {
    fn ioctl(fd: c_int, request: c_ulong, argument: *mut Request) -> c_int;
}

/// `struct amdxdna_drm_get_info`.
#[repr(C)]
struct Request {
    param: u32,
    buffer_bytes: u32,
    buffer: u64,
}

/// Why the driver gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum NpuError {
    /// The device file cannot be opened: absent, or no right to it.
    #[error("{}: {source}; the user must be in the group that owns the file", path.display())]
    Open {
        /// The device file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The driver refused the question (older drivers know fewer).
    #[error("{} does not tell its {what}: {source}", path.display())]
    Query {
        /// The device file.
        path: PathBuf,
        /// What was asked.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// An NPU's device file, opened for questions.
pub struct Npu {
    path: PathBuf,
    file: File,
}

/// A firmware release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firmware {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
    /// Fourth number.
    pub build: u32,
}

/// A clock and its present rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// The driver's name for it.
    pub name: String,
    /// MHz now.
    pub mhz: u32,
}

/// One reading; its value is `input * 10^exponent` of `units`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sensor {
    /// The driver's name for it.
    pub label: String,
    /// The raw reading.
    pub input: u32,
    /// The power of ten to multiply by.
    pub exponent: i8,
    /// The driver's unit.
    pub units: String,
}

impl Sensor {
    /// The reading in [`Sensor::units`].
    pub fn value(&self) -> f64 {
        f64::from(self.input) * 10f64.powi(i32::from(self.exponent))
    }
}

/// The array of compute tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Columns that can be given to contexts.
    pub columns: u16,
    /// Rows, memory and shim rows included.
    pub rows: u16,
    /// Rows of compute tiles.
    pub compute_rows: u16,
}

/// How fast the NPU is allowed to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerMode {
    /// The driver decides.
    Default,
    /// Slowest.
    Low,
    /// Between.
    Medium,
    /// Fast.
    High,
    /// Fastest.
    Turbo,
    /// A mode newer than this table.
    Unknown(u8),
}

impl Npu {
    /// Opens a device file such as `/dev/accel/accel0`.
    ///
    /// # Errors
    /// [`NpuError::Open`] when it is absent or not allowed.
    pub fn open(path: &Path) -> Result<Self, NpuError> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file,
            }),
            Err(source) => Err(NpuError::Open {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// The firmware that runs on the NPU.
    ///
    /// # Errors
    /// [`NpuError::Query`] when the driver refuses.
    pub fn firmware(&self) -> Result<Firmware, NpuError> {
        let bytes = self.ask::<16>("firmware version", QUERY_FIRMWARE)?;
        Ok(Firmware {
            major: u32_at(&bytes, 0),
            minor: u32_at(&bytes, 4),
            patch: u32_at(&bytes, 8),
            build: u32_at(&bytes, 12),
        })
    }

    /// The two clocks: the controller's and the array's.
    ///
    /// # Errors
    /// [`NpuError::Query`] when the driver refuses.
    pub fn clocks(&self) -> Result<Vec<Clock>, NpuError> {
        let bytes = self.ask::<{ 2 * CLOCK_BYTES }>("clocks", QUERY_CLOCKS)?;
        Ok(bytes.chunks_exact(CLOCK_BYTES).map(clock_of).collect())
    }

    /// Every sensor the driver has (power, on the chips known).
    ///
    /// # Errors
    /// [`NpuError::Query`] when the driver refuses.
    pub fn sensors(&self) -> Result<Vec<Sensor>, NpuError> {
        let bytes = self.ask::<{ SENSORS_MAX * SENSOR_BYTES }>("sensors", QUERY_SENSORS)?;
        // Records that the driver left untouched are zero, and no sensor is without a label.
        Ok(bytes
            .chunks_exact(SENSOR_BYTES)
            .map(sensor_of)
            .filter(|sensor| !sensor.label.is_empty())
            .collect())
    }

    /// The tile array's size.
    ///
    /// # Errors
    /// [`NpuError::Query`] when the driver refuses.
    pub fn grid(&self) -> Result<Grid, NpuError> {
        Ok(grid_of(
            &self.ask::<METADATA_BYTES>("tile array", QUERY_AIE_METADATA)?,
        ))
    }

    /// The power mode in force.
    ///
    /// # Errors
    /// [`NpuError::Query`] when the driver refuses.
    pub fn power_mode(&self) -> Result<PowerMode, NpuError> {
        let bytes = self.ask::<8>("power mode", GET_POWER_MODE)?;
        Ok(match bytes[0] {
            0 => PowerMode::Default,
            1 => PowerMode::Low,
            2 => PowerMode::Medium,
            3 => PowerMode::High,
            4 => PowerMode::Turbo,
            other => PowerMode::Unknown(other),
        })
    }

    fn ask<const N: usize>(&self, what: &'static str, param: u32) -> Result<[u8; N], NpuError> {
        let mut bytes = [0u8; N];
        let mut request = Request {
            param,
            buffer_bytes: N as u32,
            buffer: bytes.as_mut_ptr() as u64,
        };
        // SAFETY: the descriptor is open; the request is alive and tells the driver the length of a live
        // buffer. Another driver behind the same path answers ENOTTY and writes nothing.
        let status = unsafe { ioctl(self.file.as_raw_fd(), GET_INFO, &mut request) };
        if status != 0 {
            return Err(NpuError::Query {
                path: self.path.clone(),
                what,
                source: io::Error::last_os_error(),
            });
        }
        Ok(bytes)
    }
}

fn clock_of(bytes: &[u8]) -> Clock {
    Clock {
        name: text(&bytes[..16]),
        mhz: u32_at(bytes, 16),
    }
}

fn sensor_of(bytes: &[u8]) -> Sensor {
    Sensor {
        label: text(&bytes[..64]),
        input: u32_at(bytes, 64),
        units: text(&bytes[144..160]),
        exponent: i8::from_le_bytes([bytes[160]]),
    }
}

/// Head: u32 column bytes, u16 columns, u16 rows, u32 + u32 version; then core, memory and shim tiles,
/// each beginning with its u16 row count.
fn grid_of(bytes: &[u8; METADATA_BYTES]) -> Grid {
    Grid {
        columns: u16_at(bytes, 4),
        rows: u16_at(bytes, 6),
        compute_rows: u16_at(bytes, 16),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Text up to the first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_number_is_the_kernels() {
        assert_eq!(GET_INFO, 0xC010_6447);
        assert_eq!(std::mem::size_of::<Request>(), 16);
    }

    #[test]
    fn an_absent_device_and_a_foreign_one_are_told_apart() {
        let absent = Npu::open(Path::new("/dev/accel/onebit-absent"))
            .err()
            .unwrap();
        assert!(matches!(absent, NpuError::Open { .. }), "{absent}");
        let foreign = Npu::open(Path::new("/dev/null")).unwrap();
        let error = foreign.firmware().unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/dev/null does not tell its firmware version"),
            "{error}"
        );
    }

    #[test]
    fn records_are_read_at_the_headers_offsets() {
        let mut clock = [0u8; CLOCK_BYTES];
        clock[..7].copy_from_slice(b"H Clock");
        clock[16..20].copy_from_slice(&1800u32.to_le_bytes());
        assert_eq!(
            clock_of(&clock),
            Clock {
                name: "H Clock".into(),
                mhz: 1800
            }
        );

        let mut sensor = [0u8; SENSOR_BYTES];
        sensor[..5].copy_from_slice(b"Power");
        sensor[64..68].copy_from_slice(&4300u32.to_le_bytes());
        sensor[144..146].copy_from_slice(b"mW");
        sensor[160] = (-3i8) as u8;
        let sensor = sensor_of(&sensor);
        assert_eq!(
            (sensor.label.as_str(), sensor.units.as_str()),
            ("Power", "mW")
        );
        assert!((sensor.value() - 4.3).abs() < 1e-9);

        let mut grid = [0u8; METADATA_BYTES];
        grid[4] = 8;
        grid[6] = 6;
        grid[16] = 4;
        assert_eq!(
            grid_of(&grid),
            Grid {
                columns: 8,
                rows: 6,
                compute_rows: 4
            }
        );
    }
}
