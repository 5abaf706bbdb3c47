"""TensorFlow, imported when first needed: it takes seconds and half a gigabyte."""

import os
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def tensorflow() -> Any:
    """The TensorFlow module: quiet, and on one thread of its own.

    A network of a few hundred weights gains nothing from a second thread, and the process shares
    its cores with the rest of the pipeline.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    # It warns of retracing when several models have been loaded, each with a graph of its own.
    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf
