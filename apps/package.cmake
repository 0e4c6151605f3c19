# cmake --install, and cpack: a .deb for the Debian or Ubuntu that it is built on.
include(GNUInstallDirs)

# Manual pages and completions, as the binary's own options give them.
set(written ${PROJECT_BINARY_DIR}/written)
add_custom_command(OUTPUT ${written}/blockgtq.fish
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${written}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${written}/man1
  COMMAND blockgtq manual ${written}/man1
  COMMAND blockgtq completion bash > ${written}/blockgtq
  COMMAND blockgtq completion zsh > ${written}/_blockgtq
  COMMAND blockgtq completion fish > ${written}/blockgtq.fish
  DEPENDS blockgtq VERBATIM)
add_custom_target(blockgtq_written ALL DEPENDS ${written}/blockgtq.fish)

set(zsh_folder zsh/site-functions)
if(CMAKE_INSTALL_PREFIX STREQUAL "/usr" AND EXISTS /etc/debian_version)  # where Debian's zsh looks
  set(zsh_folder zsh/vendor-completions)
endif()
install(TARGETS blockgtq)
if(BLOCKGTQ_SHARED_LIBRARY)
  install(TARGETS blockgtq_capi EXPORT blockgtq LIBRARY INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(FILES ${PROJECT_SOURCE_DIR}/lib/capi/blockgtq.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  file(RELATIVE_PATH blockgtq_up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)  # the package may go below another prefix
  configure_file(${PROJECT_SOURCE_DIR}/lib/capi/blockgtq.pc.in ${PROJECT_BINARY_DIR}/blockgtq.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/blockgtq.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  install(EXPORT blockgtq NAMESPACE blockgtq:: FILE blockgtq-config.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/blockgtq)
  install(FILES ${PROJECT_SOURCE_DIR}/lib/capi/example.c DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
endif()
install(DIRECTORY ${written}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
install(FILES ${written}/blockgtq DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${written}/_blockgtq DESTINATION ${CMAKE_INSTALL_DATADIR}/${zsh_folder})
install(FILES ${written}/blockgtq.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
install(FILES ${PROJECT_SOURCE_DIR}/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/data/texts DESTINATION ${CMAKE_INSTALL_DATADIR}/blockgtq)
install(PROGRAMS ${PROJECT_SOURCE_DIR}/apps/slurm/run.sh DESTINATION ${CMAKE_INSTALL_DATADIR}/blockgtq/slurm)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME blockgtq)
set(CPACK_PACKAGE_CONTACT "The authors of blockgtq")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "quantizes the key-value caches of language models")
set(processor "a processor with AVX2 and FMA (x86-64-v3)")
if(BLOCKGTQ_NATIVE)
  set(processor "the kind of processor that it was built on")
endif()
set(CPACK_PACKAGE_DESCRIPTION "Measures the energies of RoPE's frequency blocks and gives every block of the key cache its own
number of bits; reports what that does to attention logits and to the next token.
It needs ${processor}.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
include(CPack)
