# SPDX-License-Identifier: MIT
"""Write a GGUF file again with all its weights dequantised to F32."""
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize


def write(source, path):
    r = GGUFReader(source)
    w = GGUFWriter(path, r.fields["general.architecture"].contents())
    w.data_alignment = r.alignment
    for f in r.fields.values():
        if f.name.startswith("GGUF.") or f.name == "general.architecture":
            continue
        value = 0 if f.name == "general.file_type" else f.contents()
        array = f.types[0] == GGUFValueType.ARRAY
        w.add_key_value(f.name, value, f.types[0],
                        f.types[-1] if array else None)
    for t in r.tensors:
        w.add_tensor_info(t.name, [int(n) for n in reversed(t.shape)],
                          np.dtype(np.float32), 4 * int(np.prod(t.shape)),
                          GGMLQuantizationType.F32)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for t in r.tensors:
        w.write_tensor_data(dequantize(t.data, t.tensor_type).astype(
            np.float32).reshape([int(n) for n in reversed(t.shape)]))
    w.close()
