"""The server's guarantees, and the tests that check each of them.

The numbers are those of the checklist that the server was built from, lines 1 to 38 and 63 to 82.
"""

import re

import pytest

from tests.helpers.commands import ROOT

FILES = {
    **{
        name: f"serving/test_{name}.py"
        for name in ("openai", "operations", "page", "safety", "tasks")
    },
    "model": "test_model.py",
    "checkpoint": "nn/test_checkpoint.py",
    "tokenizer": "text/test_tokenizer.py",
}
GUARANTEES = {
    "1 models": ["openai::test_models_lists_the_model_under_its_name"],
    "2 completion": ["openai::test_completion_matches_greedy_decoding_of_the_model"],
    "3 stream equals reply": ["openai::test_stream_matches_the_complete_reply"],
    "4 server-sent events": ["openai::test_stream_uses_server_sent_events"],
    "5 usage in streams": ["openai::test_stream_ends_with_usage_on_request"],
    "6 n and seed": ["openai::test_choices_differ_and_a_seed_reproduces_them"],
    "7 kinds of prompt": ["openai::test_prompt_may_be_text_or_ids_or_a_list_of_either"],
    "8 stop": [
        "openai::test_text_ends_before_its_stop_string",
        "openai::test_stop_string_across_tokens_is_found",
    ],
    "9 logprobs": ["openai::test_log_probabilities_match_the_model"],
    "10 echo": ["openai::test_echo_repeats_the_prompt"],
    "11 characters": ["openai::test_streamed_characters_are_never_split"],
    "12 limits of a request": ["openai::test_refusal_states_the_value_and_the_limit"],
    "13 shape of errors": ["openai::test_every_error_has_openais_shape"],
    "14 unknown and unsupported": [
        "openai::test_unknown_model_is_not_found",
        "openai::test_invalid_fields_are_refused_by_name",
    ],
    "15 tasks": [
        "tasks::test_label_matches_the_evaluation",
        "tasks::test_windows_contain_every_word_of_a_long_report",
        "tasks::test_openapi_describes_every_route",
    ],
    "16 loading": ["operations::test_loading_server_is_alive_but_not_ready"],
    "17 keys": [
        "operations::test_every_private_route_requires_a_key",
        "operations::test_almost_correct_keys_are_refused",
        "operations::test_keys_come_from_a_file_and_the_environment",
    ],
    "18 metrics": [
        "operations::test_metrics_are_exact",
        "operations::test_metric_names_have_units_and_labels_come_from_fixed_sets",
    ],
    "19, 20 a full queue": ["operations::test_full_queue_refuses_at_once_and_before_any_work"],
    "21, 22 disconnects": ["operations::test_disconnected_client_frees_its_row"],
    "23 deadline": ["operations::test_request_times_out"],
    "24 SIGTERM": ["operations::test_first_signal_lets_running_requests_finish"],
    "25 shutdown timeout": [
        "operations::test_shutdown_timeout_sends_errors_and_exits",
        "operations::test_second_signal_exits_at_once",
    ],
    "26, 27 engine errors": [
        "operations::test_engine_crash_fails_every_request_and_ends_the_process",
        "operations::test_non_finite_logits_fail_only_their_own_reply",
    ],
    "28 large bodies": ["operations::test_oversized_body_is_discarded_and_answered"],
    "29 malformed input": [
        "safety::test_malformed_bodies_are_refused",
        "safety::test_malformed_http_is_rejected",
    ],
    "30 long texts": ["safety::test_oversized_text_is_refused_before_tokenising"],
    "31 batch invariance": ["operations::test_replies_do_not_depend_on_concurrent_requests"],
    "32 concurrency": [
        "operations::test_more_rows_are_faster_and_short_replies_overtake_long_ones",
    ],
    "33 row isolation": ["operations::test_a_reused_row_contains_nothing_of_its_previous_prompt"],
    "34 headers and pings": [
        "openai::test_stream_uses_server_sent_events",
        "operations::test_silent_stream_is_kept_open_by_pings",
    ],
    "35 CORS": ["operations::test_only_configured_origins_pass_cors"],
    "36 the page": [
        "operations::test_content_policy_allows_only_the_pages_own_script",
        "page::test_replies_never_become_markup",
        "page::test_page_has_one_script_one_style_and_no_external_resources",
    ],
    "37 endurance": ["operations::test_memory_and_latency_stay_stable_under_load"],
    "38 failure to start": ["operations::test_unservable_checkpoint_is_refused_in_one_line"],
    "63 data is never executed": ["safety::test_code_never_executes_data"],
    "64 pickles": [
        "model::test_loading_a_pickle_executes_nothing",
        "checkpoint::test_loading_training_state_executes_nothing",
    ],
    "65, 67, 68 weights": [
        "operations::test_unservable_checkpoint_is_refused_in_one_line",
        "model::test_bad_weights_are_refused_by_name",
        "checkpoint::test_a_damaged_file_is_named",
    ],
    "66 an old torch": ["safety::test_old_torch_is_refused_and_not_pinned"],
    "69 names in texts": [
        "safety::test_file_names_and_urls_in_requests_are_never_opened",
        "safety::test_witness_records_opened_files",
    ],
    "72 nothing is stored": [
        "safety::test_no_secret_is_left_behind",
        "safety::test_refusals_and_a_crash_reveal_nothing",
        "safety::test_telemetry_receives_nothing",
        "tasks::test_log_contains_nothing_that_was_sent",
    ],
    "73 errors quote nothing": [
        "safety::test_no_secret_is_left_behind",
        "tasks::test_internal_error_does_not_quote_the_text",
    ],
    "74 only POST, no caching": ["safety::test_texts_are_accepted_only_by_post_and_never_cached"],
    "75 typed end of text": [
        "safety::test_typed_end_of_text_is_only_text",
        "openai::test_typed_end_of_text_is_text_and_an_empty_prompt_is_end_of_text",
        "tokenizer::test_typed_end_of_text_stays_ordinary_text",
        "tokenizer::test_decode_inverts_encode",
    ],
    "80 intended use": ["safety::test_intended_use_is_stated_everywhere"],
    "82 limits": ["openai::test_invalid_fields_are_refused_by_name"],
}
ELSEWHERE = {
    "70, 71": "input data and tables: prepare.py and eval.py",
    "76, 77, 78, 79": "memorisation: audit.py",
    "81": "the container: tests/deploy",
}


def test_every_line_of_the_checklist_is_covered() -> None:
    keys = " ".join((*GUARANTEES, *ELSEWHERE))
    assert sorted(map(int, re.findall(r"\d+", keys))) == [*range(1, 39), *range(63, 83)]


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_guarantee_has_tests(guarantee: str) -> None:
    for test in GUARANTEES[guarantee]:
        file, name = test.split("::")
        source = (ROOT / "tests" / FILES[file]).read_text("utf-8")
        assert f"\ndef {name}(" in source, test
