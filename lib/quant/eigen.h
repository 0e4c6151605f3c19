#pragma once
// Every file includes Eigen through this header, so that a function has one body in every file. Eigen runs on
// one thread, because our threads divide the work into tiles, which keeps results independent of their
// number.
// It puts at most 32 KB on the stack: by default that is 128 KB an array, which a thread under a small
// `ulimit -s` does not have.
#define EIGEN_DONT_PARALLELIZE
#define EIGEN_STACK_ALLOCATION_LIMIT 32768
#include <Eigen/Dense>
