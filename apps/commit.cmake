# cmake -DSOURCE=DIR -DDATE=YYYY-MM-DD -DFILE=commit.h -P commit.cmake, before every build: writes which commit is
# built, and its date; DATE where that is not known. The file changes only where they do.
set(commit "")
find_program(GIT git)
if(GIT AND EXISTS ${SOURCE}/.git)
  execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --abbrev=12 --dirty --exclude=*
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  execute_process(COMMAND ${GIT} -C ${SOURCE} log -1 --format=%cs
    OUTPUT_VARIABLE date OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT commit)
  set(date ${DATE})
endif()
file(CONFIGURE OUTPUT ${FILE} CONTENT "#define BLOCKGTQ_COMMIT \"${commit}\"\n#define BLOCKGTQ_DATE \"${date}\"\n")
