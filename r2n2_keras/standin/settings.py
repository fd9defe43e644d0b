"""How the server is to behave, in one place."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `process.run` is given, by the names of TensorFlow Serving's flags where it has them."""

    model_config_file: str = ""  # what is served; empty: the versions of one model, as follows
    model_name: str = ""  # as in URLs
    base_path: str = ""  # folder of the version folders
    file_system_poll_wait_seconds: float = 1  # how often to look for new versions
    model_config_file_poll_wait_seconds: float = 0  # how often to read the file again; 0: never
    monitoring_config_file: str = ""  # switches the Prometheus page on; empty: there is none
    rest_api_host: str = "127.0.0.1"  # address to listen on
    rest_api_port: int = 8501  # 0 picks a free one
    rest_api_enable_cors_support: bool = False  # let pages of other origins ask
    rest_api_timeout_in_ms: float = 30_000  # longest time of a request, its arrival included
    rest_api_max_body: int = 64 * 2**20  # bytes
    rest_api_max_requests: int = 64  # how many may be in work or wait
    rest_api_num_threads: int = 0  # how many are in work at once; 0: as many as there are cores
