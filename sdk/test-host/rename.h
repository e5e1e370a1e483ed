/* SPDX-License-Identifier: MIT */
/* rename - names of the core inside the installed test host: a test may have functions of the same names. */
#pragma once
#define fields_compile       ss_test_host_fields_compile_
#define fields_decode        ss_test_host_fields_decode_
#define fields_free          ss_test_host_fields_free_
#define fields_integer       ss_test_host_fields_integer_
#define fields_number        ss_test_host_fields_number_
#define fields_read          ss_test_host_fields_read_
#define fields_service       ss_test_host_fields_service_
#define fields_unescape      ss_test_host_fields_unescape_
#define stream_accept        ss_test_host_stream_accept_
#define stream_cover         ss_test_host_stream_cover_
#define stream_end           ss_test_host_stream_end_
#define stream_fail          ss_test_host_stream_fail_
#define stream_is_saved      ss_test_host_stream_is_saved_
#define stream_log_committed ss_test_host_stream_log_committed_
#define stream_log_free      ss_test_host_stream_log_free_
#define stream_log_load      ss_test_host_stream_log_load_
#define stream_log_new       ss_test_host_stream_log_new_
#define stream_log_read      ss_test_host_stream_log_read_
#define stream_log_restart   ss_test_host_stream_log_restart_
#define stream_log_save      ss_test_host_stream_log_save_
#define stream_log_sync      ss_test_host_stream_log_sync_
#define stream_offer         ss_test_host_stream_offer_
#define stream_position      ss_test_host_stream_position_
#define streams_changed      ss_test_host_streams_changed_
#define streams_clock        ss_test_host_streams_clock_
#define streams_copy         ss_test_host_streams_copy_
#define streams_count        ss_test_host_streams_count_
#define streams_find         ss_test_host_streams_find_
#define streams_forget       ss_test_host_streams_forget_
#define streams_free         ss_test_host_streams_free_
#define streams_get          ss_test_host_streams_get_
#define streams_load         ss_test_host_streams_load_
#define streams_new          ss_test_host_streams_new_
#define streams_next         ss_test_host_streams_next_
#define streams_put          ss_test_host_streams_put_
#define streams_save         ss_test_host_streams_save_
#define streams_set_limits   ss_test_host_streams_set_limits_
#define streams_uncover      ss_test_host_streams_uncover_

#define test_loop           ss_test_host_loop_
#define test_loop_post      ss_test_host_loop_post_
#define test_loop_run_posts ss_test_host_loop_run_posts_
#define test_positions      ss_test_host_positions_
