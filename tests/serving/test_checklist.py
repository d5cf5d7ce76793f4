"""What the server promises, line by line of the checklist it was built from (its lines 1 to 38 and
63 to 82), and the tests that hold it to it; or whose promise a line is.
"""

import re
from pathlib import Path

import pytest

OPENAI, TASKS, PAGE = "test_openai", "test_tasks", "test_page"
OPERATIONS, SAFETY = "test_operations", "test_safety"

Held = dict[str, list[str]]  # tests by their file
PROMISES: dict[str, Held] = {
    "1 models": {OPENAI: ["test_the_model_is_listed_and_goes_by_its_name"]},
    "2 a completion": {OPENAI: ["test_a_completion_is_the_models_own"]},
    "3 stream = whole": {OPENAI: ["test_a_stream_says_what_the_whole_reply_says"]},
    "4 frames": {OPENAI: ["test_a_stream_is_server_sent_events"]},
    "5 usage in streams": {
        OPENAI: ["test_usage_is_told_at_the_end_of_a_stream_where_it_is_asked_for"]
    },
    "6 n and seed": {OPENAI: ["test_choices_differ_and_a_seed_brings_them_back"]},
    "7 kinds of prompt": {OPENAI: ["test_a_prompt_is_a_text_or_ids_or_many_of_either"]},
    "8 stop": {
        OPENAI: [
            "test_a_text_ends_before_its_stop_string",
            "test_a_stop_string_is_found_in_what_the_model_writes",
        ]
    },
    "9 logprobs": {OPENAI: ["test_log_probabilities_are_the_models"]},
    "10 echo": {OPENAI: ["test_echo_gives_the_prompt_back"]},
    "11 characters": {OPENAI: ["test_no_character_is_torn"]},
    "12 limits of a request": {OPENAI: ["test_a_refusal_says_the_numbers_and_the_limits"]},
    "13 shape of errors": {OPENAI: ["test_every_error_has_openais_shape"]},
    "14 unknown and unsupported": {
        OPENAI: [
            "test_another_models_name_is_not_found",
            "test_what_cannot_be_done_is_refused_by_name",
        ]
    },
    "15 tasks": {
        TASKS: [
            "test_a_label_is_what_scoring_says_of_the_record",
            "test_every_word_of_a_long_text_is_in_a_window",
            "test_every_route_is_described",
        ]
    },
    "16 loading": {OPERATIONS: ["test_while_it_loads_it_lives_and_takes_nothing"]},
    "17 keys": {
        OPERATIONS: [
            "test_every_route_that_is_not_public_wants_a_key",
            "test_what_is_almost_a_key_is_none",
            "test_keys_come_from_a_file_and_the_environment",
        ],
    },
    "18 figures": {
        OPERATIONS: [
            "test_figures_are_exact",
            "test_names_have_units_and_labels_come_from_fixed_sets",
        ]
    },
    "19, 20 a full house": {
        OPERATIONS: ["test_who_finds_no_place_is_told_at_once_and_before_any_work"]
    },
    "21, 22 clients that leave": {OPERATIONS: ["test_a_client_that_leaves_frees_its_row"]},
    "23 deadline": {OPERATIONS: ["test_a_request_has_its_time"]},
    "24 SIGTERM": {OPERATIONS: ["test_a_signal_lets_what_was_begun_end"]},
    "25 without patience": {
        OPERATIONS: [
            "test_without_patience_everyone_is_told_and_it_ends",
            "test_a_second_signal_does_not_wait",
        ]
    },
    "26, 27 the engine fails": {
        OPERATIONS: [
            "test_an_error_of_the_engine_is_told_to_everyone_and_ends_the_process",
            "test_a_reply_without_numbers_ends_alone",
        ]
    },
    "28 large bodies": {
        OPERATIONS: ["test_a_body_that_is_too_large_is_neither_kept_nor_a_riddle"]
    },
    "29 bytes": {
        SAFETY: ["test_no_bytes_of_a_body_break_it", "test_what_is_no_request_is_turned_away"]
    },
    "30 long texts": {SAFETY: ["test_a_text_that_cannot_fit_is_refused_before_any_work"]},
    "31 the same in any company": {OPERATIONS: ["test_everyone_gets_what_they_get_alone"]},
    "32 many at once": {
        OPERATIONS: ["test_many_rows_do_more_and_a_short_reply_passes_a_long_one"]
    },
    "33 rows are clean": {OPERATIONS: ["test_nothing_of_a_secret_is_in_the_row_behind_it"]},
    "34 headers and pings": {
        OPENAI: ["test_a_stream_is_server_sent_events"],
        OPERATIONS: ["test_a_silent_stream_is_kept_open"],
    },
    "35 CORS": {OPERATIONS: ["test_only_a_site_that_is_named_may_ask"]},
    "36 the page": {
        OPERATIONS: ["test_the_page_runs_its_own_script_and_nothing_else"],
        PAGE: [
            "test_no_reply_becomes_markup",
            "test_one_script_one_style_and_nothing_from_outside",
        ],
    },
    "37 hours": {OPERATIONS: ["test_it_holds_out"]},
    "38 it cannot start": {OPERATIONS: ["test_what_cannot_be_served_is_said_in_a_line"]},
    "63 no code is read": {SAFETY: ["test_nothing_in_the_code_runs_what_it_reads"]},
    "64 pickles": {"test_model": ["test_a_pickle_is_not_executed"]},
    "65, 67, 68 weights": {
        OPERATIONS: ["test_what_cannot_be_served_is_said_in_a_line"],
        "test_model": ["test_bad_weights_are_refused_by_name"],
        "test_checkpoint": ["test_damage_is_named"],
    },
    "66 an old torch": {SAFETY: ["test_an_old_torch_is_refused_and_none_is_asked_for"]},
    "69 names are only text": {
        SAFETY: [
            "test_no_name_of_a_file_or_an_address_is_opened",
            "test_the_witness_sees_what_is_opened",
        ]
    },
    "72 nothing is kept": {
        SAFETY: [
            "test_no_secret_is_left_anywhere",
            "test_refusals_and_a_crash_tell_nothing",
            "test_telemetry_of_the_machine_gets_nothing",
        ],
        TASKS: ["test_nothing_that_was_sent_is_in_the_log"],
    },
    "73 nothing is echoed": {
        SAFETY: ["test_no_secret_is_left_anywhere"],
        TASKS: ["test_an_error_in_the_server_says_nothing_of_the_text"],
    },
    "74 POST alone, not cached": {
        SAFETY: ["test_texts_go_by_post_alone_and_nothing_is_cached"]
    },
    "75 a typed end of text": {
        SAFETY: ["test_a_typed_end_of_text_is_only_text"],
        OPENAI: ["test_a_text_has_no_end_of_text_in_it_and_nothing_is_one"],
        "test_tokenizer": ["test_typed_end_of_text_is_only_text", "test_decoding_undoes_encoding"],
    },
    "80 intended use": {SAFETY: ["test_the_intended_use_is_said_everywhere"]},
    "82 caps": {OPENAI: ["test_what_cannot_be_done_is_refused_by_name"]},
}  # fmt: skip
OF_OTHERS = {
    "70, 71": "data that is read and tables that are written: prepare.py and eval.py",
    "76, 77, 78, 79": "what a model has learned by heart: an audit of training",
    "81": "the container: deploy/",
}


def lines_of(key: str) -> list[int]:
    """The numbers that it begins with."""
    found = re.match(r"\d+(, \d+)*", key)
    assert found, f"{key} names no line"
    return [int(number) for number in found[0].split(", ")]


def test_every_line_has_its_place() -> None:
    placed = [line for key in (*PROMISES, *OF_OTHERS) for line in lines_of(key)]
    assert sorted(placed) == [*range(1, 39), *range(63, 83)]


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_has_its_tests(promise: str) -> None:
    for name, tests in PROMISES[promise].items():
        source = (Path(__file__).parent / f"{name}.py").read_text("utf-8")
        there = set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
        assert tests and not set(tests) - there
