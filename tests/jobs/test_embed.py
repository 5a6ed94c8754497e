"""What is wrong with the input of an embed is told before anything heavy is imported or started."""

import subprocess
import sys


def test_a_mistake_in_the_input_is_told_without_torch_and_without_a_cluster() -> None:
    lines = (
        "import sys, ray",
        "from click.testing import CliRunner",
        "from clipmill_jobs.embed import command",
        "done = CliRunner().invoke(command, ['--input', 'not/there', '--output', 'out'])",
        "print(done.exit_code, 'not/there' in done.output, 'torch' in sys.modules, ray.is_initialized())",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["2", "True", "False", "False"]
