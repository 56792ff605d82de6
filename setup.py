"""Package metadata and the entry points by which every plugin is found."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ENTRY_POINTS = {
    "console_scripts": ["ofav2 = ofav2_plugins.cli.main:main"],
    "ofav2.backbones": [
        "mobilenet_v3 = ofav2_plugins.backbones.mobilenet_v3:MobileNetV3",
        "proxyless = ofav2_plugins.backbones.proxyless:Proxyless",
        "resnet50 = ofav2_plugins.backbones.resnet50:ResNet50",
    ],
    "ofav2.branches": [
        "conv1x1 = ofav2_plugins.branches.conv1x1:Conv1x1",
        "dilated = ofav2_plugins.branches.dilated:Dilated",
        "eca = ofav2_plugins.branches.eca:ECA",
        "ghost = ofav2_plugins.branches.ghost:Ghost",
        "identity = ofav2_plugins.branches.identity:Identity",
        "se = ofav2_plugins.branches.se:SE",
        "transform = ofav2_plugins.branches.transform:Transform",
    ],
    "ofav2.skips": [
        "residual = ofav2_plugins.skips.residual:Residual",
        "dense = ofav2_plugins.skips.dense:Dense",
        "stochastic = ofav2_plugins.skips.stochastic:Stochastic",
    ],
    "ofav2.exits": [
        "final = ofav2_plugins.exits.final:Final",
        "every_stage = ofav2_plugins.exits.every_stage:EveryStage",
    ],
    "ofav2.phases": [
        "full = ofav2_plugins.phases.full:Full",
        "kernel = ofav2_plugins.phases.kernel:Kernel",
        "level = ofav2_plugins.phases.level:Level",
        "height = ofav2_plugins.phases.height:Height",
        "depth = ofav2_plugins.phases.depth:Depth",
        "width = ofav2_plugins.phases.width:Width",
        "sandwich = ofav2_plugins.phases.sandwich:Sandwich",
    ],
    "ofav2.distillation": [
        "none = ofav2_plugins.distillation.none:NoDistillation",
        "soft_ce = ofav2_plugins.distillation.soft_ce:SoftCrossEntropy",
        "mse = ofav2_plugins.distillation.mse:MeanSquaredError",
    ],
    "ofav2.teachers": [
        "none = ofav2_plugins.teachers.none:NoTeacher",
        "fixed = ofav2_plugins.teachers.fixed:Fixed",
        "progressive = ofav2_plugins.teachers.progressive:Progressive",
        "ema = ofav2_plugins.teachers.ema:EMA",
    ],
    "ofav2.datasets": [
        "fashion-mini = ofav2_plugins.data.fashion_mini:FashionMini",
        "fashion-mnist = ofav2_plugins.data.fashion_mnist:FashionMNIST",
        "cifar10 = ofav2_plugins.data.cifar10:CIFAR10",
        "cifar100 = ofav2_plugins.data.cifar100:CIFAR100",
        "tiny-imagenet = ofav2_plugins.data.tiny_imagenet:TinyImageNet",
        "image-folder = ofav2_plugins.data.image_folder:ImageFolder",
    ],
    "ofav2.augmentations": [
        "crop_flip = ofav2_plugins.augmentation.crop_flip:CropFlip",
        "randaugment = ofav2_plugins.augmentation.randaugment:RandAugment",
        "trivialaugment = ofav2_plugins.augmentation.trivialaugment:TrivialAugment",
        "mixup = ofav2_plugins.augmentation.mixup:MixUp",
        "cutmix = ofav2_plugins.augmentation.cutmix:CutMix",
    ],
    "ofav2.optimizers": [
        "sgd = ofav2_plugins.optimizers.sgd:SGD",
        "adamw = ofav2_plugins.optimizers.adamw:AdamW",
    ],
    "ofav2.loggers": [
        "jsonl = ofav2_plugins.loggers.jsonl:JsonLines",
        "tensorboard = ofav2_plugins.loggers.tensorboard:TensorBoard",
        "energy = ofav2_plugins.loggers.energy:Energy",
        "mlflow = ofav2_plugins.loggers.mlflow:MLflow",
    ],
    "ofav2.exit_rules": [
        "max_prob = ofav2_plugins.exit_rules.max_prob:MaxProbability",
        "entropy = ofav2_plugins.exit_rules.entropy:Entropy",
        "margin = ofav2_plugins.exit_rules.margin:Margin",
        "patience = ofav2_plugins.exit_rules.patience:Patience",
    ],
    "ofav2.exporters": [
        "onnx = ofav2_plugins.exporters.onnx:Onnx",
        "torch_export = ofav2_plugins.exporters.torch_export:TorchExport",
        "executorch = ofav2_plugins.exporters.executorch:ExecuTorch",
        "openvino = ofav2_plugins.exporters.openvino:OpenVino",
    ],
    "ofav2.predictors": [
        "gbm = ofav2_plugins.predictors.gbm:GradientBoosting",
        "mlp = ofav2_plugins.predictors.mlp:MultiLayerPerceptron",
    ],
    "ofav2.searchers": [
        "random = ofav2_plugins.searchers.random:Random",
        "evolution = ofav2_plugins.searchers.evolution:Evolution",
        "nsga2 = ofav2_plugins.searchers.nsga2:NSGA2",
        "nsga3 = ofav2_plugins.searchers.nsga3:NSGA3",
        "local = ofav2_plugins.searchers.local:Local",
    ],
    "ofav2.executors": [
        "serial = ofav2_plugins.executors.serial:Serial",
        "processes = ofav2_plugins.executors.processes:Processes",
        "ray = ofav2_plugins.executors.ray:Ray",
        "slurm = ofav2_plugins.executors.slurm:Slurm",
    ],
}

REQUIRES = [
    "torch>=2.4",
    "torchvision>=0.19",
    "ofa>=0.1.0.post202307202001",
    "gdown>=4.7",  # imported by ofa, not declared there; so are tqdm and PyYAML
    "tqdm>=4.60",
    "PyYAML>=6.0",
    "stevedore>=5.0",
    "scipy>=1.11",
    "ruamel.yaml>=0.18",
    "filelock>=3.12",
    "numpy>=1.26",
    "lightning-fabric>=2.4",
    "torchmetrics>=1.4",
    "pydantic>=2.7",
    "safetensors>=0.4.3",
    "packaging>=23.0",  # safetensors' torch door imports it undeclared
    "typer>=0.12",
    "rich>=13.0",
    "jinja2>=3.1",
    "matplotlib>=3.8",
    "psutil>=5.9",
]

SEARCH = ["lightgbm>=4.3", "scikit-learn>=1.4", "pymoo>=0.6.1.6"]

NOTEBOOKS = ["nbclient>=0.10", "nbformat>=5.10", "ipykernel>=6.29"]

EXPORT = ["onnx>=1.16", "onnxscript>=0.2", "onnxruntime>=1.18"]

RAY = ["ray>=2.40", "fsspec>=2024.6"]

SLURM = ["submitit>=1.5"]

EXTRAS = {
    "test": [
        "pytest>=8.0",
        "pytest-benchmark>=4.0",
        "pytest-xdist>=3.5",
        "hypothesis>=6.100",
        "pandas>=2.1",  # an independent truth for the statistics
        "jsonschema>=4.20",  # an independent truth for the JSON schemas
        "ruff>=0.6",
        "mypy>=1.11",
        "types-psutil",
        "setuptools>=68",
        "wheel",
        "pytest-cov>=7.0",
        "codecarbon>=2.7",
        "tensorboard>=2.16",
        "mlflow-skinny>=2.14",  # the client of mlflow, without its server
        *SEARCH,
        *EXPORT,
        *RAY,
        *SLURM,
        "s3fs>=2024.6",
        "moto[server]>=5.0",  # a local S3 server
        *NOTEBOOKS,
    ],
    "ray": RAY,
    "slurm": SLURM,
    "search": SEARCH,
    "export": EXPORT,
    "executorch": ["executorch>=1.0"],
    "openvino": ["openvino>=2025.0"],
    "energy": ["codecarbon>=2.7"],
    "tensorboard": ["tensorboard>=2.16"],
    "mlflow": ["mlflow>=2.14"],
    "notebooks": [*NOTEBOOKS, "jupyterlab>=4.0"],
    "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.25"],
    "release": ["build>=1.0", "twine>=5.0", "pre-commit>=3.5"],
}

INIT = Path(__file__).parent / "ofav2_plugins" / "__init__.py"
VERSION = re.findall(r'^__version__ = "(.+)"$', INIT.read_text(encoding="utf-8"), re.MULTILINE)[0]

setup(
    name="ofav2-plugins",
    version=VERSION,
    description="OFAv2 as plugins for once-for-all: parallel blocks, dense skips, early exits, paired studies",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    keywords=["neural architecture search", "once-for-all", "OFAv2", "early exits", "weight sharing", "pytorch"],
    project_urls={
        "Paper": "https://arxiv.org/abs/2302.01888",
        "Upstream": "https://github.com/mit-han-lab/once-for-all",
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["ofav2_plugins", "ofav2_plugins.*", "upstream_patches"]),
    package_data={
        "ofav2_plugins": [
            "py.typed",
            "recipes/*.yaml",
            "study/studies/*.yaml",
            "report/templates/*",
            "search/templates/*",
            "data/embedded/*",
        ],
    },
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points=ENTRY_POINTS,
)
