# An nvcc that rejects the host compiler is told in one line; one that compiles, and none at all, are not.
include(${CMAKE_CURRENT_LIST_DIR}/../../kernels/nvcc_complaint.cmake)

function(expect script pattern)
  set(nvcc ${CMAKE_CURRENT_BINARY_DIR}/fake_nvcc)
  file(WRITE ${nvcc} "#!/bin/sh\n${script}\n")
  file(CHMOD ${nvcc} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
  set(ENV{CUDACXX} ${nvcc})
  blockgtq_nvcc_complaint(complaint)
  file(REMOVE ${nvcc})
  if(NOT complaint MATCHES "${pattern}")
    message(FATAL_ERROR "expected ${pattern}, found: ${complaint}")
  endif()
endfunction()

expect("echo 'In file included from x'; echo 'host_config.h:137:2: error: #error -- unsupported GNU version! gcc versions later than 12 are not supported! The nvcc flag can help.'; exit 1"
  "^[^\n]*fake_nvcc rejects the host compiler [^\n]*: host_config.h:137:2: error: #error -- unsupported GNU version! gcc versions later than 12 are not supported!$")
expect("echo \"nvcc fatal   : No such host compiler $2\" >&2; exit 1" "nvcc fatal   : No such host compiler")
expect("exit 0" "^$")
