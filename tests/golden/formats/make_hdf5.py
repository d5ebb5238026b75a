"""Makes the HDF5 files of this folder, with the reference library: `python tests/golden/formats/make_hdf5.py`.

It needs h5py (3.16 with HDF5 2.0 was used), which the tests do not: they hold what is written here as literals. Files
are compressed, as HDF5 leaves large gaps of zeros. The files of Keras (3.15 on torch) need keras, torch and h5py.
"""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np

HERE = Path(__file__).parent


def write(name: str, data: bytes) -> None:
    """One golden file, compressed, without a time in it."""
    with gzip.GzipFile(HERE / f"{name}.gz", "wb", mtime=0) as file:
        file.write(data)


def structures(libver: str | tuple[str, str], user_block: int) -> bytes:
    """Every kind of dataset, link and attribute that the reader knows or refuses."""
    made = io.BytesIO()
    with h5py.File(made, "w", libver=libver, userblock_size=user_block) as file:
        matrix = np.arange(12, dtype="f4").reshape(3, 4)
        grid = np.arange(7 * 9, dtype="f4").reshape(7, 9)
        file["plain"] = matrix
        file["scalar"] = np.float64(2.5)
        file["big_endian"] = np.arange(5, dtype=">f4")
        file["half"] = np.arange(3, dtype="f2")
        file["switch"] = np.array([True, False])
        file["bytes"] = np.arange(4, dtype="u1")
        file.create_dataset("opaque", data=np.array([0x3F80, 0x4000], "<u2").view("V2"))
        file["opaque"].attrs["dtype"] = "bfloat16"
        file.create_dataset("packed", data=grid, chunks=(3, 4), compression="gzip", shuffle=True, fletcher32=True)
        file.create_dataset("chunked", data=grid.astype("i2"), chunks=(3, 4))
        file.create_dataset("one_chunk", data=np.zeros((40, 40), "f4"), chunks=(40, 40), compression="gzip")
        file.create_dataset("many_chunks", data=np.arange(1100, dtype="i2"), chunks=(1,))
        file.create_dataset("grows_both_ways", data=grid, chunks=(4, 4), maxshape=(None, None), compression="gzip")
        file.create_dataset("grows_one_way", data=np.arange(9.0), chunks=(2,), maxshape=(None,))
        file.create_dataset("grows_to", data=grid, chunks=(3, 4), maxshape=(10, 20))
        file.create_dataset("lzf", data=np.zeros((40, 40), "f4"), compression="lzf")
        file.create_dataset("empty", data=np.zeros((0, 3), "f4"))
        file.create_dataset("null", data=h5py.Empty("f4"))
        file.create_dataset("never_written", shape=(2**20, 2**20), dtype="f4")
        file.create_dataset("texts", data=[b"a", b"bc"])
        file.create_dataset("complex", data=np.zeros(3, "c8"))
        file["type"] = np.dtype("f8")
        file.create_dataset("of_type", data=[1.0, 2.0, 3.0], dtype=file["type"])
        file.create_dataset("elsewhere", shape=(4,), dtype="f4", external=[("/etc/passwd", 0, 16)])
        layout = h5py.VirtualLayout((3, 4), "f4")
        layout[:] = h5py.VirtualSource("/etc/other.h5", "plain", (3, 4))
        file.create_virtual_dataset("virtual", layout)
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        h5py.Dataset(h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F32LE, space, dcpl=properties))[...] = [1, 2, 3]
        file["hard"] = file["plain"]
        file["soft"] = h5py.SoftLink("/plain")
        file["other_file"] = h5py.ExternalLink("/etc/other.h5", "/x")
        file.create_group("circle")["up"] = file["/"]
        members = file.create_group("members")
        for number in range(300):
            members[f"layer_{number:03d}_with_a_long_name"] = np.float32(number)
        ordered = file.create_group("ordered", track_order=True)
        for number in range(12):
            ordered[str(number)] = np.float32(number)
        file.attrs["fixed"] = [b"a", b"bcd"]
        file.attrs["variable"] = ["q", "long ä"]
        file.attrs["one"] = "x" * 3000
        file.attrs["number"] = 7
        for number in range(20):
            members.attrs[f"names{number}"] = [f"n{number}".encode()] * 3
        if libver == "latest":
            ordered.attrs["large"] = np.array([b"z" * 100] * 1000)
    return made.getvalue()


def old_keras() -> bytes:
    """Weights as Keras 2 saves them, with a list of names cut in two and an optimizer's state."""
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file.attrs["model_config"] = b'{"class_name": "Sequential", "config": []}'
        file.attrs["keras_version"] = b"2.4.0"
        file.attrs["backend"] = b"tensorflow"
        top = file.create_group("model_weights")
        top.attrs["layer_names0"] = [b"second", b"first"]
        top.attrs["layer_names1"] = [b"norm", b"none"]
        shapes: dict[str, dict[str, tuple[int, ...]]] = {
            "second": {"second/kernel:0": (4, 2), "second/bias:0": (2,)},
            "first": {"first/kernel:0": (3, 4), "first/bias:0": (4,)},
            "norm": {f"norm/{part}:0": (4,) for part in ("gamma", "beta", "moving_mean", "moving_variance")},
            "none": {},
        }
        for layer, weights in shapes.items():
            group = top.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, shape in weights.items():
                group[name] = np.ones(shape, "f4")
        state = file.create_group("optimizer_weights")
        state.attrs["weight_names"] = [b"training/Adam/m:0"]
        state["training/Adam/m:0"] = np.zeros((3, 4), "f4")
    return made.getvalue()


def new_keras() -> dict[str, bytes]:
    """A small model with normalisations, as Keras 3 saves it in its three ways."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras  # type: ignore[import-not-found,import-untyped,unused-ignore]

    entry = keras.Input((6,))
    layers: list[Any] = [
        keras.layers.Dense(4, name="first"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.1),
        keras.layers.Normalization(), keras.layers.BatchNormalization(scale=False), keras.layers.LayerNormalization(),
        keras.layers.Dense(2),
    ]  # fmt: skip
    out = entry
    for layer in layers:
        out = layer(out)
    model = keras.Model(entry, out)
    model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/keras3.keras")
        model.save(f"{folder}/keras3_whole.h5")
        model.save_weights(f"{folder}/keras3.weights.h5")
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


if __name__ == "__main__":
    write("old.h5", structures("earliest", 512))
    write("new.h5", structures("latest", 0))
    write("keras2.h5", old_keras())
    for file_name, content in new_keras().items():
        write(file_name, content)
