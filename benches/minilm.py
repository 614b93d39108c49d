"""all-MiniLM-L6-v2 as somebody else computes it: its safetensors in a graph of ONNX, run by onnxruntime, cut into tokens by tokenizers.

The yardstick of `benches/embedder`, and the embedder of the peers, so that all pipelines see the same vectors.
"""
import json

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import BertWordPieceTokenizer

TOKENS_MAX = 256  # what the model was trained on, and where our own encoder cuts


def graph(weights, config):
    """The encoder without its pooling, made of the operators that onnxruntime has for transformers (its fastest)."""
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(numpy.ascontiguousarray(value), name))
        return name

    def node(kind, inputs, output, domain='', **attributes):
        nodes.append(helper.make_node(kind, inputs, [output] if isinstance(output, str) else output, domain=domain, **attributes))
        return output if isinstance(output, str) else output[0]

    def tensor(name, transpose=False):
        value = weights[name] if name in weights else weights['bert.' + name]
        return constant(name, value.T if transpose else value)

    def dense(input, name, output):
        return node('MatMul', [input, tensor(name + '.weight', True)], output)

    own, epsilon = 'com.microsoft', config['layer_norm_eps']
    word = node('Gather', [tensor('embeddings.word_embeddings.weight'), 'ids'], 'word')
    place = node('Gather', [tensor('embeddings.position_embeddings.weight'), 'places'], 'place')
    segment = weights.get('embeddings.token_type_embeddings.weight', weights.get('bert.embeddings.token_type_embeddings.weight'))
    sum = node('Add', [word, node('Add', [place, constant('segment', segment[0])], 'placed')], 'sum')
    norm = 'embeddings.LayerNorm'
    state = node('LayerNormalization', [sum, tensor(norm + '.weight'), tensor(norm + '.bias')], 'state', epsilon=epsilon)
    for at in range(config['num_hidden_layers']):
        layer = f'encoder.layer.{at}.'
        parts = [layer + 'attention.self.' + part for part in ('query', 'key', 'value')]
        get = lambda name: weights[name] if name in weights else weights['bert.' + name]
        qkv = constant(f'qkv{at}', numpy.concatenate([get(part + '.weight').T for part in parts], axis=1))
        bias = constant(f'qkv_bias{at}', numpy.concatenate([get(part + '.bias') for part in parts]))
        mixed = node('Attention', [state, qkv, bias, 'mask'], f'mixed{at}', own, num_heads=config['num_attention_heads'])

        def skip(input, name, output, state=state):
            norm = name.replace('.dense', '.LayerNorm')
            inputs = [input, state, tensor(norm + '.weight'), tensor(norm + '.bias'), tensor(name + '.bias')]
            return node('SkipLayerNormalization', inputs, output, own, epsilon=epsilon)

        name = layer + 'attention.output.dense'
        state = skip(dense(mixed, name, f'out{at}'), name, f'attended{at}')
        name = layer + 'intermediate.dense'
        wide = node('BiasGelu', [dense(state, name, f'up{at}'), tensor(name + '.bias')], f'wide{at}', own)
        name = layer + 'output.dense'
        state = skip(dense(wide, name, f'down{at}'), name, f'state{at}', state)
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in (
        ('ids', TensorProto.INT64, ['texts', 'tokens']), ('places', TensorProto.INT64, ['tokens']), ('mask', TensorProto.INT32, ['texts', 'tokens']))]
    output = helper.make_tensor_value_info(state, TensorProto.FLOAT, ['texts', 'tokens', config['hidden_size']])
    imports = [helper.make_opsetid('', 17), helper.make_opsetid(own, 1)]
    return helper.make_model(helper.make_graph(nodes, 'minilm', inputs, [output], constants), opset_imports=imports, ir_version=8)


class Reference:
    """Texts to vectors of length one."""

    def __init__(self, folder, threads):
        config = json.loads((folder / 'config.json').read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = graph(load_file(folder / 'model.safetensors'), config)
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider'])
        self.tokenizer = BertWordPieceTokenizer(str(folder / 'vocab.txt'), lowercase=True)
        self.tokenizer.enable_truncation(TOKENS_MAX)
        self.tokenizer.enable_padding()

    def count(self, text):
        return len(BertWordPieceTokenizer.encode(self.tokenizer, text).ids)

    def embed(self, texts):
        cut = self.tokenizer.encode_batch(list(texts))
        ids = numpy.array([one.ids for one in cut], dtype=numpy.int64)
        mask = numpy.array([one.attention_mask for one in cut], dtype=numpy.int32)
        (states,) = self.session.run(None, {'ids': ids, 'places': numpy.arange(ids.shape[1]), 'mask': mask})
        mean = (states * mask[:, :, None]).sum(axis=1)
        return mean / numpy.linalg.norm(mean, axis=1, keepdims=True)
