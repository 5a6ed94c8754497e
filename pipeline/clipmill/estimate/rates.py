"""What one row takes: from an earlier run, or from operations that were published for the model."""

from dataclasses import dataclass

from clipmill.core.errors import UserError
from clipmill.core.gpus import TERAFLOPS
from clipmill.core.manifests import EmbeddingsManifest
from clipmill.embedding.steps import DECODED_THERE
from clipmill.estimate.machine import Machine
from clipmill.estimate.workload import ModelCost, Workload
from clipmill.source.cutting import rows_per_unit

GPU_SHARE = (0.10, 0.30, 0.50)
"""Share of a GPU's peak that encoders reach: least, likely, most. Small models reach less than large ones."""
CORE_GFLOPS = (40.0, 80.0, 120.0)
"""10⁹ operations a second that one core does in an encoder in 32 bits; the most is with AVX-512."""
DECODED_PIXELS = (50e6, 80e6, 120e6)
"""Pixels of JPEG that a core decodes and resizes a second: 430 images of 500 × 375 were measured."""
READ_BYTES = (50e6, 200e6, 1e9)
"""Encoded bytes that a core reads a second, from S3 at the least and from a local disk at the most."""
START_UP_SECONDS = (10.0, 20.0, 60.0)
CALIBRATED_RANGE = 1.2
"""Two runs of the same command on the same machine differ by so much where other work goes on there."""


@dataclass(frozen=True)
class Rates:
    """Seconds per row: ``encode`` of one encoder (a GPU where ``on_gpu``, else a core), ``feed`` of a core that reads,
    decodes and writes, ``cores`` of a core for all of it (encoding too, where that is on cores). A unit of images of
    ``image_size`` (height, width) is encoded by one encoder: of a few units, some encoders have none."""

    on_gpu: bool
    encode: float
    feed: float
    cores: float
    start_up: float
    image_size: tuple[int, int]
    basis: str

    def wall_seconds(self, rows: int, machine: Machine) -> float:
        """Start-up, then the encoders' time or the cores', whichever is longer."""
        units = -(-rows // rows_per_unit(*self.image_size, rows))
        encoders, cores = min(machine.gpus if self.on_gpu else machine.cores, units), min(machine.cores, units)
        return self.start_up + rows * max(self.encode / encoders, self.cores / cores)

    @property
    def cores_for_a_gpu(self) -> float:
        """Cores that read and decode as fast as one GPU encodes."""
        return self.feed / self.encode if self.on_gpu and self.encode else 0.0


@dataclass(frozen=True)
class RateRange:
    """The rates of the best, the likely and the worst case."""

    best: Rates
    likely: Rates
    worst: Rates


def calibrated(manifest: EmbeddingsManifest, model: ModelCost, workload: Workload, machine: Machine) -> RateRange:
    """From the last run of a dataset: seconds of each stage a row, and start-up, which is what is left of its wall time.

    Encoding scales with images and captions apart. Raises UserError where that run says nothing of this machine.
    """
    run, speed, hardware = manifest.runs[-1], manifest.throughput, manifest.hardware
    rows, encoders, cores = run.rows_encoded, float(hardware.get("encoders", 0)), float(hardware.get("cpus", 0))
    if rows == 0 or not encoders or not cores:
        raise UserError("--calibrate: its last run encoded nothing; give the embeddings of a run that did")
    if any(DECODED_THERE in how for how in manifest.encoded_with):
        raise UserError("--calibrate: that run decoded on GPUs, which is not told apart; calibrate with --decode cpu")
    on_gpu = any(not how.startswith("cpu") for how in manifest.encoded_with)
    if on_gpu and not machine.gpus:
        raise UserError("--calibrate: that run encoded on GPUs, and --machine has none; calibrate with a run on cores")
    if machine.gpus and not on_gpu:
        raise UserError("--calibrate: that run encoded on cores, and --machine has GPUs; calibrate with a run on GPUs")
    seconds = speed.stage_seconds
    captions_a_row = manifest.counts.captions / manifest.counts.rows
    captions = workload.captions_a_row / captions_a_row if captions_a_row else 1.0
    images_seconds = seconds.get("encode_images", 0.0)
    encoding_then = images_seconds + seconds.get("encode_captions", 0.0)
    encoding = images_seconds + seconds.get("encode_captions", 0.0) * captions
    feed = sum(seconds.get(stage, 0.0) for stage in ("read", "decode", "tokenise", "write", "compact"))
    grown = encoding / encoding_then if encoding_then else 1.0
    busy = 0.0 if on_gpu else seconds.get("cpu", 0.0)
    units = -(-rows // rows_per_unit(*model.image_size, rows))
    # An encoder of one thread shares its core: seconds on its clock are also those of others, its CPU seconds are not.
    alone = not on_gpu and encoders >= cores
    steady = max(busy, feed) / min(cores, units)
    if not alone:
        steady = max(steady, encoding_then / min(encoders, units))
    start_up = max(0.0, speed.wall_seconds - steady)
    parallel = float(hardware.get("gpus") or encoders) if on_gpu else cores
    encode = encoding / rows * parallel / encoders
    core_seconds = max(busy * grown, feed) / rows
    if alone and busy:
        encode = min(encode, core_seconds)
    basis = (
        f"{rows:,} rows of the calibrating run: {encoding_then / rows * 1e3:.3g} ms of an encoder and "
        f"{feed / rows * 1e3:.3g} ms of reading and decoding a row, {start_up:.1f} s to start"
    )

    def scaled(factor: float) -> Rates:
        return Rates(
            on_gpu,
            encode * factor,
            feed / rows * factor,
            core_seconds * factor,
            start_up * factor,
            model.image_size,
            basis,
        )

    return RateRange(scaled(1 / CALIBRATED_RANGE), scaled(1.0), scaled(CALIBRATED_RANGE))


def published(model: ModelCost, workload: Workload, machine: Machine) -> RateRange:
    """From the model's operations and assumed shares of what the hardware can do.

    Raises UserError where the operations or the kind of GPU are not known.
    """
    if model.image_gflops is None or model.text_gflops is None:
        raise UserError(f"--model {model.name}: its operations are not published; give --calibrate with a run of it")
    if machine.gpus and machine.gpu is None:
        raise UserError(f"--machine {machine.name}: say which GPUs ({', '.join(TERAFLOPS)}): 32,4,L4")
    gflops = model.image_gflops + workload.captions_a_row * model.text_gflops

    def rates(case: int) -> Rates:
        if machine.gpu is not None and machine.gpus:
            encode = gflops / (TERAFLOPS[machine.gpu] * 1e3 * GPU_SHARE[case])
            said = f"{GPU_SHARE[case]:.0%} of {TERAFLOPS[machine.gpu]:g} TFLOPS in 16 bits"
        else:
            encode = gflops / CORE_GFLOPS[case]
            said = f"{CORE_GFLOPS[case]:g} GFLOPS a core in 32 bits"
        feed = workload.image_pixels / DECODED_PIXELS[case] + workload.image_bytes / READ_BYTES[case]
        basis = (
            f"{gflops:.4g} GFLOPs a row ({model.source}) at {said}; decoding at {DECODED_PIXELS[case] / 1e6:g} megapixels "
            "a core second"
        )
        start_up = START_UP_SECONDS[2 - case]
        core_seconds = feed if machine.gpus else feed + encode
        return Rates(bool(machine.gpus), encode, feed, core_seconds, start_up, model.image_size, basis)

    return RateRange(best=rates(2), likely=rates(1), worst=rates(0))
