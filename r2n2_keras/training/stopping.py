"""SIGTERM and SIGINT: a run saves and stops after the step that it is at."""

import os
import signal
import socket
import threading

_NOTE = b"\nStopping after this step, with a checkpoint; SIGINT (Ctrl-C) again stops at once.\n"


class StopRequest:
    """Notes that the process was told to stop, while the context that it makes is entered.

    A second SIGINT ends the process at once, also where a step takes long: signals are awaited in a
    thread, because Python's own handlers run only when TensorFlow has returned.
    """

    def __init__(self):
        self.signal = 0  # number of the first signal

    def __enter__(self):
        self._wake, wakened = socket.socketpair()
        self._wake.setblocking(False)
        self._before = {
            number: signal.signal(number, lambda *_: None)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        self._wakeup_before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._await, args=[wakened], daemon=True).start()
        return self

    def __exit__(self, *_):
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._wake.close()

    def _await(self, wakened):
        with wakened:
            while received := wakened.recv(1):  # nothing more once the other end is closed
                number = received[0]
                if number not in (signal.SIGTERM, signal.SIGINT):
                    continue
                if self.signal and number == signal.SIGINT:
                    os._exit(128 + number)
                if not self.signal:
                    self.signal = number
                    os.write(2, _NOTE)
