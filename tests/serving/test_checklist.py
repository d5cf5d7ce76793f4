"""The server's guarantees, and the tests that check each of them.

The numbers are those of the checklist that the server was built from, lines 1 to 38 and 63 to 82.
"""

import re
from pathlib import Path

import pytest

OPENAI, TASKS, PAGE = "test_openai", "test_tasks", "test_page"
OPERATIONS, SAFETY = "test_operations", "test_safety"

Tests = dict[str, list[str]]  # names of tests by file
GUARANTEES: dict[str, Tests] = {
    "1 models": {OPENAI: ["test_models_lists_the_model_under_its_name"]},
    "2 completion": {OPENAI: ["test_completion_matches_greedy_decoding_of_the_model"]},
    "3 stream equals reply": {OPENAI: ["test_stream_matches_the_complete_reply"]},
    "4 server-sent events": {OPENAI: ["test_stream_uses_server_sent_events"]},
    "5 usage in streams": {OPENAI: ["test_stream_ends_with_usage_on_request"]},
    "6 n and seed": {OPENAI: ["test_choices_differ_and_a_seed_reproduces_them"]},
    "7 kinds of prompt": {OPENAI: ["test_prompt_may_be_text_or_ids_or_a_list_of_either"]},
    "8 stop": {
        OPENAI: [
            "test_text_ends_before_its_stop_string",
            "test_stop_string_across_tokens_is_found",
        ]
    },
    "9 logprobs": {OPENAI: ["test_log_probabilities_match_the_model"]},
    "10 echo": {OPENAI: ["test_echo_repeats_the_prompt"]},
    "11 characters": {OPENAI: ["test_streamed_characters_are_never_split"]},
    "12 limits of a request": {OPENAI: ["test_refusal_states_the_value_and_the_limit"]},
    "13 shape of errors": {OPENAI: ["test_every_error_has_openais_shape"]},
    "14 unknown and unsupported": {
        OPENAI: [
            "test_unknown_model_is_not_found",
            "test_invalid_fields_are_refused_by_name",
        ]
    },
    "15 tasks": {
        TASKS: [
            "test_label_matches_the_evaluation",
            "test_windows_contain_every_word_of_a_long_report",
            "test_openapi_describes_every_route",
        ]
    },
    "16 loading": {OPERATIONS: ["test_loading_server_is_alive_but_not_ready"]},
    "17 keys": {
        OPERATIONS: [
            "test_every_private_route_requires_a_key",
            "test_almost_correct_keys_are_refused",
            "test_keys_come_from_a_file_and_the_environment",
        ],
    },
    "18 metrics": {
        OPERATIONS: [
            "test_metrics_are_exact",
            "test_metric_names_have_units_and_labels_come_from_fixed_sets",
        ]
    },
    "19, 20 a full queue": {OPERATIONS: ["test_full_queue_refuses_at_once_and_before_any_work"]},
    "21, 22 disconnects": {OPERATIONS: ["test_disconnected_client_frees_its_row"]},
    "23 deadline": {OPERATIONS: ["test_request_times_out"]},
    "24 SIGTERM": {OPERATIONS: ["test_first_signal_lets_running_requests_finish"]},
    "25 shutdown timeout": {
        OPERATIONS: [
            "test_shutdown_timeout_sends_errors_and_exits",
            "test_second_signal_exits_at_once",
        ]
    },
    "26, 27 engine errors": {
        OPERATIONS: [
            "test_engine_crash_fails_every_request_and_ends_the_process",
            "test_non_finite_logits_fail_only_their_own_reply",
        ]
    },
    "28 large bodies": {OPERATIONS: ["test_oversized_body_is_discarded_and_answered"]},
    "29 malformed input": {
        SAFETY: ["test_malformed_bodies_are_refused", "test_malformed_http_is_rejected"]
    },
    "30 long texts": {SAFETY: ["test_oversized_text_is_refused_before_tokenising"]},
    "31 batch invariance": {OPERATIONS: ["test_replies_do_not_depend_on_concurrent_requests"]},
    "32 concurrency": {
        OPERATIONS: ["test_more_rows_are_faster_and_a_short_reply_overtakes_a_long_one"]
    },
    "33 row isolation": {OPERATIONS: ["test_a_reused_row_holds_nothing_of_its_previous_prompt"]},
    "34 headers and pings": {
        OPENAI: ["test_stream_uses_server_sent_events"],
        OPERATIONS: ["test_silent_stream_is_kept_open_by_pings"],
    },
    "35 CORS": {OPERATIONS: ["test_only_configured_origins_pass_cors"]},
    "36 the page": {
        OPERATIONS: ["test_content_policy_allows_only_the_pages_own_script"],
        PAGE: [
            "test_replies_never_become_markup",
            "test_page_has_one_script_one_style_and_no_external_resources",
        ],
    },
    "37 endurance": {OPERATIONS: ["test_memory_and_latency_stay_stable_under_load"]},
    "38 failure to start": {OPERATIONS: ["test_unservable_checkpoint_is_refused_in_one_line"]},
    "63 data is never executed": {SAFETY: ["test_code_never_executes_data"]},
    "65, 67, 68 weights": {
        OPERATIONS: ["test_unservable_checkpoint_is_refused_in_one_line"],
    },
    "66 an old torch": {SAFETY: ["test_old_torch_is_refused_and_not_pinned"]},
    "69 names in texts": {
        SAFETY: [
            "test_file_names_and_urls_in_requests_are_never_opened",
            "test_witness_records_opened_files",
        ]
    },
    "72 nothing is stored": {
        SAFETY: [
            "test_secrets_are_left_nowhere",
            "test_refusals_and_a_crash_reveal_nothing",
            "test_telemetry_receives_nothing",
        ],
        TASKS: ["test_log_contains_nothing_that_was_sent"],
    },
    "73 errors quote nothing": {
        SAFETY: ["test_secrets_are_left_nowhere"],
        TASKS: ["test_internal_error_does_not_quote_the_text"],
    },
    "74 only POST, no caching": {SAFETY: ["test_texts_are_accepted_only_by_post_and_never_cached"]},
    "75 typed end of text": {
        SAFETY: ["test_typed_end_of_text_is_only_text"],
        OPENAI: ["test_typed_end_of_text_is_text_and_an_empty_prompt_is_end_of_text"],
    },
    "80 intended use": {SAFETY: ["test_intended_use_is_stated_everywhere"]},
    "82 limits": {OPENAI: ["test_invalid_fields_are_refused_by_name"]},
}
ELSEWHERE = {
    "64": "pickles are never executed: tests/test_model.py",
    "70, 71": "input data and tables: prepare.py and eval.py",
    "76, 77, 78, 79": "memorisation: audit.py",
    "81": "the container: tests/deploy",
}


def lines_of(key: str) -> list[int]:
    """Return the numbers that a key starts with."""
    found = re.match(r"\d+(, \d+)*", key)
    assert found, f"{key} names no line"
    return [int(number) for number in found[0].split(", ")]


def test_every_line_of_the_checklist_is_covered() -> None:
    lines = [line for key in (*GUARANTEES, *ELSEWHERE) for line in lines_of(key)]
    assert sorted(lines) == [*range(1, 39), *range(63, 83)]


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_guarantee_has_tests(guarantee: str) -> None:
    for name, tests in GUARANTEES[guarantee].items():
        source = (Path(__file__).parent / f"{name}.py").read_text("utf-8")
        defined = set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
        assert tests and not set(tests) - defined
