/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "archive.h"

DEFINE_TRACE(in_an_archive, TP_PROTO(int n), TP_ARGS(n));
