"""A third-party plugin package: a backbone, a branch, a distillation and a phase, found through entry points."""

from setuptools import setup

setup(
    name="ofav2-extras",
    version="0.1.0",
    description="Example plugins for ofav2-plugins",
    packages=["ofav2_extras"],
    install_requires=["ofav2-plugins"],
    entry_points={
        "ofav2.backbones": ["plain_cnn = ofav2_extras.plain_cnn:PlainCNN"],
        "ofav2.branches": ["avg_pool = ofav2_extras.avg_pool:AvgPool"],
        "ofav2.distillation": ["kl = ofav2_extras.kl:KullbackLeibler"],
        "ofav2.phases": ["polish = ofav2_extras.polish:Polish"],
    },
)
