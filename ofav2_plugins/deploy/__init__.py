"""From an architecture to a verified bundle of runnable files: fine-tuning, early exits, export, prediction.

- Source: `architecture_file` (JSON files), `source` (a subnet of a run, with its data), `finetune` (further training;
  `fixed_network` lets the training engine train a static network).
- Exits: `segments` (a network split at its exits), `early_exit` (inference), `calibration` (temperatures),
  `exit_choice` (exits and thresholds), `decision` (the choice for one bundle).
- Export: `export` (the whole process), `quantization`, `measure`, `card`, `verification`.
- Bundle: `bundle_config` (its format), `bundle` (open, check, run), `network` (as a torch module), `preprocessing`,
  `predict`, `bench`.
"""
