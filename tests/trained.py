"""A finished run in a moment: fresh weights, heads made loud so that there is something to detect, validated like a trained one."""
import json

import torch

from detlib import runs
from detlib.data.loader import channel_statistics
from detlib.evaluate.coco import evaluate
from detlib.experiments import rung
from detlib.files import write_atomic, write_json
from detlib.models.detector import build
from detlib.predict import predict
from detlib.train import configuration


def make_run(data, name="adam", loud=5.0, seed=0):
    experiment = rung(name, "smoke", seed)
    spec = runs.anchor_set(experiment, data)
    run = runs.open_run(experiment, data, configuration(experiment, data, spec), "float32")
    torch.manual_seed(seed)
    model = build(experiment, spec, len(data.categories), *channel_statistics(data["train"])).eval()
    for tower in [*model.head.classify, *model.head.regress]:
        tower[-1].weight.data *= loud
    run.save_weights(model.state_dict())
    found, _ = predict(model, data["val"], "float32")
    write_atomic(run.folder / "detections.json", json.dumps(found.to_coco(data["val"])))
    write_json(run.folder / "metrics.json", {**evaluate(found, data["val"], data), "steps": experiment.sizes.steps})
    return run
