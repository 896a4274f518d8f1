/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CONTRACT_CONTRACT_H
#define TESTS_CONTRACT_CONTRACT_H

#include "harness.h"

/* Each runs its group and returns how many tests failed. */
int contract_file_tests(void);
int contract_stream_tests(void);

#endif
