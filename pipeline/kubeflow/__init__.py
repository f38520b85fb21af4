"""The pipeline on Kubeflow Pipelines: compiling it, what its steps run, and the cluster's API server."""
