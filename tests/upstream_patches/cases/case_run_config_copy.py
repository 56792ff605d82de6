from pathlib import Path

from ofa.imagenet_classification.run_manager import DistributedImageNetRunConfig, ImagenetRunConfig

SYMPTOM = r"TypeError: .* unexpected keyword argument 'n_worker'"


def run(_: Path) -> None:
    for config in (
        ImagenetRunConfig(n_worker=3, image_size=[24, 32]),
        DistributedImageNetRunConfig(n_epochs=7, num_replicas=2, rank=1),
    ):
        config.__dict__["_data_provider"] = object()
        twin = config.copy()
        assert type(twin) is type(config)
        assert twin.config == config.config
        assert "_data_provider" not in twin.__dict__
        assert twin.__dict__.get("_rank") == config.__dict__.get("_rank")
        twin.n_epochs = 1
        assert config.n_epochs != 1
