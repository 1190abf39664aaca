"""What a server counts, in the form that Prometheus reads. Routes are named as they are listed, never as asked for."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
MODEL_S = (0.001, 0.0025, *REQUEST_S)
BATCH = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        r: CollectorRegistry = CollectorRegistry()
        self.registry = r
        self.requests = Counter("foveate_requests", "Requests answered.", ["route", "code"], registry=r)
        self.duration = Histogram(
            "foveate_request_duration_seconds", "From headers to answer.", ["route"], buckets=REQUEST_S, registry=r
        )
        self.queue = Gauge("foveate_queue_length", "Pictures admitted and not yet answered.", registry=r)
        self.batches = Histogram("foveate_batch_size", "Pictures a run of the model.", buckets=BATCH, registry=r)
        self.inference = Histogram(
            "foveate_inference_seconds", "Of one run of the model.", ["model"], buckets=MODEL_S, registry=r
        )
        self.rejected = Counter("foveate_rejected", "Requests that were refused.", ["reason"], registry=r)
        self.cancelled = Counter("foveate_cancelled", "Pictures whose client left before their turn.", registry=r)
        self.failures = Counter("foveate_decode_failures", "Pictures that can not be had.", ["reason"], registry=r)
        self.restarts = Counter("foveate_worker_restarts", "Decoder processes that died.", registry=r)
        self.decoder_start = Histogram("foveate_worker_start_seconds", "Until a decoder can be asked.", registry=r)
        self.model_info = Gauge("foveate_model_info", "Models that answer.", ["name", "fingerprint"], registry=r)
        self.unknown = Counter("foveate_unknown", "Pictures that were called unknown.", ["model"], registry=r)
        self.reloads = Counter("foveate_reloads", "Changes of a model's file.", ["model", "result"], registry=r)
        self.log_lost = Counter("foveate_log_lost", "Predictions that could not be logged.", registry=r)

    def text(self) -> bytes:
        """All of them."""
        from prometheus_client import generate_latest

        return bytes(generate_latest(self.registry))
