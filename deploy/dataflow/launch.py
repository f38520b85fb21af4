"""What Dataflow's template launcher runs; all of it is in the installed package, where the workers find it too."""

from pipeline.dataflow_template import launch

if __name__ == "__main__":
    launch()
