"""Prepare labelled video, train on it, evaluate and register the model: one job, which goes on where it stopped.

    python jobs/train_archive.py DATA HELD_OUT OUTPUT NAME [option of train ...]

The model is registered as OUTPUT/models/NAME.safetensors, a path for every ``--model``, with NAME.json, its evaluation.
"""

import sys

from checkout import find

if __name__ == "__main__":
    find()
    from specktrack.cli.main import main  # only now can it be found
    from specktrack.storage import open_store

    data, held_out, output, name, *options = sys.argv[1:]
    prepare = ["data", "prepare", data, f"{output}/packs", "--address", "auto"]
    train = ["train", "--data", f"{output}/packs", "--output", f"{output}/run", "--name", name, *options]
    evaluate = ["evaluate", "--model", f"{output}/run", "--data", held_out, "--output", f"{output}/evaluation"]
    for command in (prepare, train, evaluate):
        if (code := main([*command, "--json"])) and (code, command) != (5, prepare):  # 5: some clips were set aside
            sys.exit(code)
    store = open_store(output)
    store.put(f"models/{name}.json", store.get("evaluation/evaluation.json"))
    store.put(f"models/{name}.safetensors", store.get("run/model.safetensors"))
