"""The list of networks: complete, and read without Keras."""

import json
import subprocess
import sys

from click.testing import CliRunner

from models.registry import NETWORKS
from pipeline.commands.networks import command


def test_every_network_is_listed_with_its_published_figures_and_their_split() -> None:
    output = CliRunner().invoke(command, [], env={"COLUMNS": "200"}).output
    for network in NETWORKS.values():
        assert f"{network.name} " in output
        assert f"{network.parameters:,}" in output
    assert "0.891 / - (MTAT, paper)" in output


def test_json_has_sources_and_front_ends() -> None:
    listed = json.loads(CliRunner().invoke(command, ["--json"]).output)
    assert [row["name"] for row in listed] == list(NETWORKS)
    assert listed[0]["front_end"]["n_mels"] == 128
    assert all(row["source"] for row in listed)


def test_the_list_is_read_without_keras() -> None:
    program = "import sys; sys.modules['keras'] = sys.modules['tensorflow'] = None\n"
    program += "from click.testing import CliRunner\nfrom pipeline.commands.networks import command\n"
    program += "sys.exit(CliRunner().invoke(command, []).exit_code)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
