"""A recipe and a study that are small enough for tests."""

RECIPE = """
width_mult: 0.25
resolutions: [16]
batch_size: 512
teacher: progressive
evaluation: {bn_images: 64, selection_draws: 1, max_subnets: 2, final_trunks: 2, batch_size: 500}
phases:
  full: {epochs: 1, lr: 0.05}
  kernel: {epochs: 1, warmup_epochs: 0}
"""
STUDY = """
dataset: fashion-mini
recipe: mine.yaml
baseline: a
arms:
  - {name: a, supernet: SE_B, teacher: fixed}
  - {name: b, supernet: SE_D}
"""
