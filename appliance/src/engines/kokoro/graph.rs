//! The graph as the runtime computes it rightly: what stands around a quantised row is its zero, not the number 0.
//!
//! ONNX pads the input of `ConvInteger` with its zero point; rten 0.27 pads it with 0, which is a loud value there. The
//! sound then begins with a click, and the first and last sounds of a sentence are spoiled, so that "the salt" is heard
//! as "assault". Here each such node gets a `Pad` before it that says what is meant. Everything else stays byte for byte
//! as it is. Knows ONNX's messages by their field numbers and nothing of the model.

/// Fields of ONNX's messages, by number.
const MODEL_GRAPH: u64 = 7;
const GRAPH_NODE: u64 = 1;
const GRAPH_INITIALIZER: u64 = 5;
const NODE_INPUT: u64 = 1;
const NODE_OUTPUT: u64 = 2;
const NODE_NAME: u64 = 3;
const NODE_OPERATION: u64 = 4;
const NODE_ATTRIBUTE: u64 = 5;
const ATTRIBUTE_NAME: u64 = 1;
const ATTRIBUTE_INTS: u64 = 8;
const ATTRIBUTE_TYPE: u64 = 20;
/// The type of an attribute that is a list of whole numbers.
const INTS: u64 = 7;
const TENSOR_DIMS: u64 = 1;
const TENSOR_TYPE: u64 = 2;
const TENSOR_NAME: u64 = 8;
const TENSOR_RAW: u64 = 9;
/// The element type of whole numbers of 64 bits.
const INT64: u64 = 7;

/// A field of a message: its number, all its bytes, and what it holds.
struct Field<'a> {
    number: u64,
    whole: &'a [u8],
    value: Value<'a>,
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes, which nothing here reads.
    Fixed,
}

impl<'a> Value<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Number(_) | Value::Fixed => &[],
        }
    }
}

/// The model with what its convolutions mean said.
///
/// # Errors
/// It is no ONNX model.
pub(super) fn padded(model: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(model.len() + (64 << 10));
    for field in fields(model) {
        let field = field?;
        if field.number == MODEL_GRAPH {
            let mut graph = Vec::with_capacity(field.whole.len() + (64 << 10));
            for field in fields(field.value.bytes()) {
                let field = field?;
                let padded = match field.number {
                    GRAPH_NODE => convolution(field.value.bytes())?,
                    _ => None,
                };
                match padded {
                    Some(fields) => graph.extend(fields),
                    None => graph.extend_from_slice(field.whole),
                }
            }
            put(&mut out, MODEL_GRAPH, &graph);
        } else {
            out.extend_from_slice(field.whole);
        }
    }
    Ok(out)
}

/// A node that pads whole numbers, as fields of the graph: the padding, its amounts, and the node without it. `None` for
/// every other node.
fn convolution(node: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let (mut inputs, mut output, mut operation, mut pads) = (Vec::new(), None, None, Vec::new());
    for field in fields(node) {
        let field = field?;
        match field.number {
            NODE_INPUT => inputs.push(field.value.bytes()),
            NODE_OUTPUT => output = output.or(Some(field.value.bytes())),
            NODE_OPERATION => operation = Some(field.value.bytes()),
            NODE_ATTRIBUTE => pads = attribute_pads(field.value.bytes())?.unwrap_or(pads),
            _ => {}
        }
    }
    let (Some(output), true) = (output, operation == Some(b"ConvInteger".as_slice())) else {
        return Ok(None);
    };
    let Some((input, more)) = inputs.split_first() else {
        return Ok(None);
    };
    if pads.iter().all(|amount| *amount == 0) {
        return Ok(None);
    }
    let named = |what: &[u8]| [output, what].concat();
    let (amounts, padded) = (named(b"/pads"), named(b"/padded"));

    // The batch and the channels come first and are not padded.
    let (begin, end) = pads.split_at(pads.len() / 2);
    let all = [&[0, 0], begin, &[0, 0], end].concat();
    let raw: Vec<u8> = all.iter().flat_map(|amount| amount.to_le_bytes()).collect();
    let mut tensor = Vec::new();
    put_number(&mut tensor, TENSOR_DIMS, all.len() as u64);
    put_number(&mut tensor, TENSOR_TYPE, INT64);
    put(&mut tensor, TENSOR_NAME, &amounts);
    put(&mut tensor, TENSOR_RAW, &raw);

    let mut pad = Vec::new();
    put(&mut pad, NODE_INPUT, input);
    put(&mut pad, NODE_INPUT, &amounts);
    // The zero point is the third input of the convolution; without one it is 0, as a padding's value is.
    if let Some(zero) = more.get(1).filter(|name| !name.is_empty()) {
        put(&mut pad, NODE_INPUT, zero);
    }
    put(&mut pad, NODE_OUTPUT, &padded);
    put(&mut pad, NODE_NAME, &padded);
    put(&mut pad, NODE_OPERATION, b"Pad");

    let mut bare = Vec::new();
    let mut first = true;
    for field in fields(node) {
        let field = field?;
        match field.number {
            NODE_INPUT if std::mem::take(&mut first) => put(&mut bare, NODE_INPUT, &padded),
            NODE_ATTRIBUTE if attribute_pads(field.value.bytes())?.is_some() => {
                // Left out it would mean as much, but not to every reader.
                put(
                    &mut bare,
                    NODE_ATTRIBUTE,
                    &ints(b"pads", &vec![0; pads.len()]),
                );
            }
            _ => bare.extend_from_slice(field.whole),
        }
    }

    let mut out = Vec::new();
    put(&mut out, GRAPH_INITIALIZER, &tensor);
    put(&mut out, GRAPH_NODE, &pad);
    put(&mut out, GRAPH_NODE, &bare);
    Ok(Some(out))
}

/// An attribute that is a list of whole numbers.
fn ints(name: &[u8], numbers: &[u64]) -> Vec<u8> {
    let mut attribute = Vec::new();
    put(&mut attribute, ATTRIBUTE_NAME, name);
    for number in numbers {
        put_number(&mut attribute, ATTRIBUTE_INTS, *number);
    }
    put_number(&mut attribute, ATTRIBUTE_TYPE, INTS);
    attribute
}

/// The numbers of an attribute that is called `pads`.
fn attribute_pads(attribute: &[u8]) -> Result<Option<Vec<i64>>, String> {
    let (mut is_pads, mut ints) = (false, Vec::new());
    for field in fields(attribute) {
        let field = field?;
        match (field.number, field.value) {
            (ATTRIBUTE_NAME, Value::Bytes(name)) => is_pads = name == b"pads",
            (ATTRIBUTE_INTS, Value::Number(one)) => ints.push(one.cast_signed()),
            // Writers may put a list's numbers into one field.
            (ATTRIBUTE_INTS, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    ints.push(number(&mut packed)?.cast_signed());
                }
            }
            _ => {}
        }
    }
    Ok(is_pads.then_some(ints))
}

/// The fields of a message, in their order.
fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, String>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, String> {
    let all = *rest;
    let key = number(rest)?;
    let value = match key & 7 {
        0 => Value::Number(number(rest)?),
        1 => take(rest, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = usize::try_from(number(rest)?).map_err(|_| cut_off())?;
            Value::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Value::Fixed)?,
        _ => return Err("the graph is no ONNX model".to_owned()),
    };
    Ok(Field {
        number: key >> 3,
        whole: &all[..all.len() - rest.len()],
        value,
    })
}

/// A number of protobuf's: seven bits a byte, the lowest first.
fn number(rest: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, more) = rest.split_first().ok_or_else(cut_off)?;
        *rest = more;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Ok(value);
        }
    }
    Err("the graph is no ONNX model".to_owned())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, more) = rest.split_at_checked(length).ok_or_else(cut_off)?;
    *rest = more;
    Ok(taken)
}

fn cut_off() -> String {
    "the graph is cut off".to_owned()
}

fn put(to: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    write_number(to, (field << 3) | 2);
    write_number(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn put_number(to: &mut Vec<u8>, field: u64, value: u64) {
    write_number(to, field << 3);
    write_number(to, value);
}

fn write_number(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rten_tensor::prelude::*;
    use rten_tensor::{NdTensor, Tensor};

    const VALUE_NAME: u64 = 1;
    const VALUE_TYPE: u64 = 2;

    fn message(parts: &[(u64, &[u8])]) -> Vec<u8> {
        let mut all = Vec::new();
        for (field, bytes) in parts {
            put(&mut all, *field, bytes);
        }
        all
    }

    /// A value's name and element type.
    fn value(name: &[u8], element: u64) -> Vec<u8> {
        let mut tensor = Vec::new();
        put_number(&mut tensor, 1, element);
        message(&[(VALUE_NAME, name), (VALUE_TYPE, &message(&[(1, &tensor)]))])
    }

    /// A row of bytes, summed in threes with one more on either side.
    fn sums_of_three() -> Vec<u8> {
        let node = message(&[
            (NODE_INPUT, b"x"),
            (NODE_INPUT, b"w"),
            (NODE_INPUT, b"zero"),
            (NODE_OUTPUT, b"y"),
            (NODE_OPERATION, b"ConvInteger"),
            (NODE_ATTRIBUTE, &ints(b"pads", &[1, 1])),
            (NODE_ATTRIBUTE, &ints(b"strides", &[1])),
            (NODE_ATTRIBUTE, &ints(b"dilations", &[1])),
        ]);
        let mut weights = Vec::new();
        for size in [1, 1, 3] {
            put_number(&mut weights, TENSOR_DIMS, size);
        }
        put_number(&mut weights, TENSOR_TYPE, 3);
        put(&mut weights, TENSOR_NAME, b"w");
        put(&mut weights, TENSOR_RAW, &[1, 1, 1]);
        let graph = message(&[
            (GRAPH_NODE, &node),
            (2, b"sums"),
            (GRAPH_INITIALIZER, &weights),
            (11, &value(b"x", 2)),
            (11, &value(b"zero", 2)),
            (12, &value(b"y", 6)),
        ]);
        let mut version = Vec::new();
        put_number(&mut version, 2, 20);
        let mut model = Vec::new();
        put_number(&mut model, 1, 9);
        put(&mut model, MODEL_GRAPH, &graph);
        put(&mut model, 8, &version);
        model
    }

    fn computed(model: Vec<u8>) -> Vec<i32> {
        let graph = rten::Model::load(model).unwrap();
        let inputs = vec![
            (
                graph.find_node("x").unwrap(),
                NdTensor::from_data([1, 1, 3], vec![201_u8, 202, 203]).into(),
            ),
            (
                graph.find_node("zero").unwrap(),
                Tensor::<u8>::from(200).into(),
            ),
        ];
        let outputs = graph.run(inputs, graph.output_ids(), None).unwrap();
        let sums: Tensor<i32> = outputs.into_iter().next().unwrap().try_into().unwrap();
        sums.to_vec()
    }

    #[test]
    fn around_a_row_stands_its_zero() {
        assert_eq!(
            computed(padded(&sums_of_three()).unwrap()),
            [3, 6, 5],
            "the runtime pads with what is no zero"
        );
    }

    #[test]
    fn what_needs_nothing_stays_as_it_is_and_garbage_is_refused() {
        let once = padded(&sums_of_three()).unwrap();
        assert_ne!(once, sums_of_three());
        assert_eq!(padded(&once).unwrap(), once);
        assert!(padded(&once[..once.len() - 1]).is_err());
        assert!(padded(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
        assert!(padded(b"\x0b").is_err());
    }
}
