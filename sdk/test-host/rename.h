/* SPDX-License-Identifier: MIT */
/* rename - names of the core inside the installed test host: a test may have functions of the same names. */
#pragma once
#define fields_compile  ss_test_host_fields_compile_
#define fields_decode   ss_test_host_fields_decode_
#define fields_free     ss_test_host_fields_free_
#define fields_integer  ss_test_host_fields_integer_
#define fields_number   ss_test_host_fields_number_
#define fields_read     ss_test_host_fields_read_
#define fields_service  ss_test_host_fields_service_
#define fields_unescape ss_test_host_fields_unescape_
#define stream_accept   ss_test_host_stream_accept_
#define stream_cover    ss_test_host_stream_cover_
#define stream_end      ss_test_host_stream_end_
#define stream_fail     ss_test_host_stream_fail_
#define stream_offer    ss_test_host_stream_offer_
#define streams_at      ss_test_host_streams_at_
#define streams_find    ss_test_host_streams_find_
#define streams_free    ss_test_host_streams_free_
#define streams_get     ss_test_host_streams_get_
#define streams_load    ss_test_host_streams_load_
#define streams_new     ss_test_host_streams_new_
#define streams_save    ss_test_host_streams_save_
#define streams_uncover ss_test_host_streams_uncover_

#define test_loop           ss_test_host_loop_
#define test_loop_post      ss_test_host_loop_post_
#define test_loop_run_posts ss_test_host_loop_run_posts_
#define test_positions      ss_test_host_positions_
