"""The background writer: order, the bound on its queue, and errors that reach the one who submits."""

import threading

import pytest

from specdyn.storage.access.writer import BackgroundWriter

SOON = 10.0


def test_writes_happen_in_order_and_before_the_context_ends() -> None:
    written: list[int] = []
    with BackgroundWriter() as writer:
        for i in range(20):
            writer.submit(lambda i=i: written.append(i))
    assert written == list(range(20))


def test_submit_waits_while_the_queue_is_full() -> None:
    started, go_on, submitted = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        assert go_on.wait(SOON)

    def submit_one_more() -> None:
        writer.submit(lambda: None)
        submitted.set()

    with BackgroundWriter(pending=2) as writer:
        writer.submit(slow)
        assert started.wait(SOON)
        writer.submit(lambda: None)
        writer.submit(lambda: None)
        late = threading.Thread(target=submit_one_more)
        late.start()
        assert not submitted.wait(0.2)
        go_on.set()
        assert submitted.wait(SOON)
        late.join()


def test_the_first_error_stops_later_writes_and_is_raised_by_submit() -> None:
    failed, written = threading.Event(), []

    def fail() -> None:
        failed.set()
        raise OSError("disk full")

    def submit_until_refused() -> None:
        with BackgroundWriter(pending=1) as writer:
            writer.submit(fail)
            assert failed.wait(SOON)
            for _ in range(100):
                writer.submit(lambda: written.append(1))

    with pytest.raises(OSError, match="disk full"):
        submit_until_refused()
    assert written == []


def test_an_error_of_the_last_write_is_raised_at_the_end() -> None:
    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), BackgroundWriter() as writer:
        writer.submit(fail)


def test_an_error_of_the_body_goes_first_and_what_was_queued_is_written() -> None:
    written: list[int] = []

    def submit_and_fail() -> None:
        writer.submit(lambda: written.append(1))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), BackgroundWriter() as writer:
        submit_and_fail()
    assert written == [1]


def test_no_thread_is_left() -> None:
    with BackgroundWriter() as writer:
        writer.submit(lambda: None)
    assert "checkpoint-writer" not in {thread.name for thread in threading.enumerate()}
