"""Imports without torch's compiler: nothing loads it by the way, and whoever needs it has it."""

import subprocess
import sys


def run(*lines: str) -> str:
    """What these lines print in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PREPARED = "from clipmill.core.startup import prepare_process; prepare_process()"
LOADED = "print('torch._dynamo' in sys.modules)"


def test_what_embeds_and_searches_does_not_load_the_compiler() -> None:
    assert run(
        PREPARED,
        "import sys, clipmill.encoders.model, clipmill.engine.embed, clipmill.embedding.unit, clipmill.source.decode",
        "import torchvision, open_clip, timm",
        LOADED,
    ).split() == ["False"]


def test_without_this_it_would_be_loaded() -> None:
    assert run("import sys, open_clip", LOADED).split() == ["True"]


def test_a_model_of_timm_is_made_and_computes_as_it_does_with_the_compiler() -> None:
    make = (
        "import sys, torch, timm",
        "torch.manual_seed(0)",
        "network = timm.create_model('vit_tiny_patch16_224', num_classes=3).eval()",
        "print(network(torch.linspace(0, 1, 3 * 224 * 224).reshape(1, 3, 224, 224)).tolist())",
    )
    assert run(PREPARED, *make, LOADED) == run("import torch._dynamo", *make, "print(False)")


def test_whoever_compiles_afterwards_has_the_compiler() -> None:
    assert run(
        PREPARED,
        "import sys, open_clip, torch",
        LOADED,
        "print(torch._dynamo.is_compiling(), torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item())",
        "from torchvision.ops.roi_align import is_compile_supported",
        "print(is_compile_supported('cpu'))",
        LOADED,
    ).split() == ["False", "False", "2.0", "True", "True"]


def test_asking_the_stand_in_for_more_brings_the_compiler_itself() -> None:
    assert run(
        "import sys, torch",
        "from clipmill.core.compiler import _stand_in",
        "with _stand_in():",
        "    import torch._dynamo as stand_in",
        "    print(stand_in.config is sys.modules['torch._dynamo'].config)",
    ).split() == ["True"]


def test_open_clip_leaves_timm_out_until_a_model_needs_it() -> None:
    assert run(
        PREPARED,
        "import sys, open_clip",
        "print('timm' in sys.modules)",
        "from clipmill.core.compiler import bring_timm",
        "bring_timm(); bring_timm()",
        "network = open_clip.create_model('MobileCLIP-S1', load_weights=False)",
        "print(type(network.visual).__name__, 'timm' in sys.modules, 'torch._dynamo' in sys.modules)",
    ).split() == ["False", "TimmModel", "True", "False"]
