// What torch's headers for CUDA name of libraries whose own headers are hundreds of megabytes away. Only pointers to these
// pass through declarations that the bridge never calls, so nothing of their inside is said here.
#pragma once

using cublasHandle_t = struct cublasContext*;
using cublasLtHandle_t = struct cublasLtContext*;
using cusparseHandle_t = struct cusparseContext*;
using cusolverDnHandle_t = struct cusolverDnContext*;
using cublasStatus_t = int;
using cusparseStatus_t = int;
using cusolverStatus_t = int;
