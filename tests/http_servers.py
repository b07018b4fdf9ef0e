"""HTTP servers of this machine, which answer while a test goes on."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer


@contextlib.contextmanager
def answering(server: ThreadingHTTPServer) -> Iterator[str]:
    """A block in which a server answers: its address. It is closed at the end."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:  # else the thread keeps a process alive whose test has failed
        server.shutdown()
        thread.join()
        server.server_close()
