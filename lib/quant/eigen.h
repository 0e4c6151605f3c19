#pragma once
// Eigen as all of us include it, so that a function has one body in every file: on one thread (threads are
// over tiles, so that no result depends on their number), and with no more than 32 KB of a caller's stack
// (128 KB an array by default, which a thread under a small `ulimit -s` does not have).
#define EIGEN_DONT_PARALLELIZE
#define EIGEN_STACK_ALLOCATION_LIMIT 32768
#include <Eigen/Dense>
