"""What a program says reaches Dagster whole, however it is cut on its way."""

import json
import time

from orchestration.experiments.live import WholeLines, whole_lines


class Heard:
    def __init__(self) -> None:
        self.messages: list[dict] = []
        self.faults: list[object] = []

    def handle_message(self, message: dict) -> None:
        self.messages.append(message)

    def report_pipes_framework_exception(self, where: str, fault: object) -> None:
        self.faults.append((where, fault))


def test_a_message_that_is_half_written_is_waited_for(tmp_path):
    heard, path = Heard(), tmp_path / "messages"
    said = [{"step": n, "text": "x\u00e4" * 20} for n in range(30)]
    with WholeLines(str(path)).read_messages(heard) as _, path.open("ab", buffering=0) as file:
        for message in said:
            line = json.dumps(message, ensure_ascii=False).encode() + b"\n"
            for half in (line[:21], line[21:]):  # within a letter of two bytes, too
                file.write(half)
                time.sleep(0.005)
    assert heard.messages == said
    assert not heard.faults


def test_lines_that_come_right_before_the_end_are_read_and_half_a_line_is_none(tmp_path):
    path = tmp_path / "messages"
    path.write_bytes(b"")

    def has_ended() -> bool:  # the writer's last words come right before its end
        path.write_bytes(b"one\ntwo\nthr")
        return True

    assert list(whole_lines(str(path), has_ended)) == [b"one\n", b"two\n"]
